"""Poll news politely and publish each item once.

Asks with ETag, If-Modified-Since and a since cursor; obeys Retry-After and its own rate limit;
backs off on errors. Remembers the items it handed out (bounded) in a small file, written only
after `commit`: when the items are stored. Guarantees: an item in an answer that was read leaves
at least once; a repeat needs a crash between storing and `commit`, or more than `MAX_SEEN` items
in between. A key is in no address, log line or error. No redirect is followed, an answer is
bounded in bytes and time, and a host that a user chose is asked only where it is public.
Not here: request and item shapes (`news_source`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, RetryableError, StoreUnavailableError, ThrottledError
from stream.producers.address import check_resolved
from stream.producers.answer import ACCEPT_ENCODING, BoundedBody, UnreadableAnswerError
from stream.producers.news_source import Item, NewsFeed
from stream.producers.retry_after import read_retry_after
from stream.producers.rss import MAX_ITEMS

log = logging.getLogger(__name__)

MAX_SEEN = MAX_ITEMS
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class PollRule:
    """How often and how patiently. `min_gap_seconds` lies between any two requests.

    `answer_seconds` bounds an answer that trickles, `timeout_seconds` the silence within one.
    """

    interval_seconds: float = 30.0
    min_gap_seconds: float = 0.25
    timeout_seconds: float = 20.0
    answer_seconds: float = 120.0
    max_pages: int = 10
    backoff_seconds: float = 1.0
    max_backoff_seconds: float = 300.0


@dataclass(slots=True)
class NewsStats:
    """What polling went through."""

    requests: int = 0
    not_modified: int = 0
    errors: int = 0
    items: int = 0
    repeated_items: int = 0


@dataclass(slots=True)
class _Memory:
    """What is remembered between polls and restarts; `seen` is an ordered set, oldest first."""

    etag: str = ""
    last_modified: str = ""
    since: str = ""
    seen: dict[str, None] = field(default_factory=dict)


class NewsSource:
    """One news feed as an endless source of message batches.

    `commit` must be called when everything handed out is stored (see `produce`).
    """

    def __init__(
        self,
        feed: NewsFeed,
        cursor_file: Path,
        *,
        rule: PollRule | None = None,
        jitter: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.stats = NewsStats()
        self._feed = feed
        self._file = cursor_file
        self._rule = rule or PollRule()
        self._jitter = jitter or random.Random()
        self._clock = clock
        self._memory = _load(cursor_file)
        self._is_dirty = False
        self._failures = 0
        self._next_at = 0.0
        self._where = _without_query(feed.url)
        # httpx logs whole addresses at INFO; an RSS address may carry a token.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    async def batches(self) -> AsyncIterator[list[tuple[str, bytes]]]:
        """New items, oldest first, for ever. Raises: ConfigError when the source refuses us."""
        timeout = httpx.Timeout(self._rule.timeout_seconds)
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False) as client:
            while True:
                try:
                    batch = await self._poll(client)
                except RetryableError as error:
                    self.stats.errors += 1
                    wait = self._back_off(error)
                    log.warning("news %s: %s; next try in %.1f s", self._where, error, wait)
                    await asyncio.sleep(wait)
                    continue
                self._failures = 0
                if batch:
                    yield batch
                await asyncio.sleep(self._rule.interval_seconds)

    def commit(self) -> None:
        """Write the cursor file; everything handed out so far will not come again."""
        if not self._is_dirty:
            return
        self._is_dirty = False
        memory = self._memory
        content = orjson.dumps(
            {
                "etag": memory.etag,
                "last_modified": memory.last_modified,
                "since": memory.since,
                "seen": list(memory.seen),
            }
        )
        fresh = self._file.with_suffix(".new")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        fresh.replace(self._file)

    async def _poll(self, client: httpx.AsyncClient) -> list[tuple[str, bytes]]:
        """All pages up to the first with nothing new. Memory changes only if every page came."""
        is_first = not self._memory.seen
        found: list[Item] = []
        validators: tuple[str, str] = ("", "")
        for page in range(1 if is_first else self._rule.max_pages):
            answer = await self._get(client, page)
            if answer is None:
                if page:
                    raise StoreUnavailableError(f"HTTP 304 for page {page}, which nobody asked for")
                self.stats.not_modified += 1
                return []
            if page == 0:
                headers = answer[1]
                validators = headers.get("ETag", ""), headers.get("Last-Modified", "")
            items = self._parse(answer[0])
            new = [item for item in items if _digest(item) not in self._memory.seen]
            found += new
            if not new or self._feed.page_items is None or len(items) < self._feed.page_items:
                break
        else:
            if not is_first:
                log.error(
                    "news %s: %d pages held only new items; older ones may be missing",
                    self._where,
                    self._rule.max_pages,
                )
        return self._remember(found, validators)

    def _remember(self, found: list[Item], validators: tuple[str, str]) -> list[tuple[str, bytes]]:
        memory, batch = self._memory, []
        for item in reversed(found):
            digest = _digest(item)
            if digest in memory.seen:
                self.stats.repeated_items += 1
                continue
            memory.seen[digest] = None
            batch.append((item.key, item.data))
            if item.published[:4].isdigit():  # only dates that sort as text can be a cursor
                memory.since = max(memory.since, item.published)
        while len(memory.seen) > MAX_SEEN:
            del memory.seen[next(iter(memory.seen))]
        memory.etag, memory.last_modified = validators
        self._is_dirty = True
        self.stats.items += len(batch)
        return batch

    async def _get(
        self, client: httpx.AsyncClient, page: int
    ) -> tuple[bytes, httpx.Headers] | None:
        """Body and headers; None if nothing changed. Raises: RetryableError, ConfigError."""
        await self._keep_gap()
        if not self._feed.has_fixed_host:
            await check_resolved(f"news {self._where}", self._feed.url, self._feed.private_hosts)
        request = self._feed.request(page, self._memory.since)
        headers = {**request.headers, "Accept-Encoding": ACCEPT_ENCODING}
        if page == 0 and self._memory.etag:
            headers["If-None-Match"] = self._memory.etag
        if page == 0 and self._memory.last_modified:
            headers["If-Modified-Since"] = self._memory.last_modified
        self.stats.requests += 1
        # An address given with its own query (a token, say) keeps it: httpx would replace it.
        params = dict(request.params) or None
        try:
            async with (
                asyncio.timeout(self._rule.answer_seconds),
                client.stream("GET", request.url, params=params, headers=headers) as answer,
            ):
                if answer.status_code == httpx.codes.NOT_MODIFIED:
                    return None
                self._check_status(answer)
                return await _read_bounded(answer), answer.headers
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise ConfigError(f"news {self._where}: not a usable http(s) address") from None
        except TimeoutError:
            raise StoreUnavailableError(
                f"no whole answer within {self._rule.answer_seconds:.0f} s"
            ) from None
        except UnreadableAnswerError as error:
            raise StoreUnavailableError(f"unreadable answer: {error}") from error
        except httpx.HTTPError as error:
            # Not the error's text: it may quote the whole address.
            raise StoreUnavailableError(f"no whole answer ({type(error).__name__})") from None

    def _check_status(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status == httpx.codes.OK:
            return
        if status in (429, 503):
            error = ThrottledError(f"HTTP {status}")
            asked = read_retry_after(answer.headers.get("Retry-After", ""), self._clock)
            self._next_at = self._clock.monotonic() + min(asked, MAX_RETRY_AFTER_SECONDS)
            raise error
        if status in (400, 401, 402, 403, 404, 410):
            raise ConfigError(
                f"news {self._where}: HTTP {status}; check the address, the API key and its plan"
            )
        if 300 <= status < 400:
            host = urlsplit(answer.headers.get("Location", "")).hostname
            raise StoreUnavailableError(
                f"HTTP {status} to {host}; redirects are not followed: check the address"
            )
        raise StoreUnavailableError(f"HTTP {status}")

    def _parse(self, body: bytes) -> list[Item]:
        try:
            return self._feed.parse(body)
        except UnreadableAnswerError as error:
            raise StoreUnavailableError(f"unreadable answer: {error}") from error

    async def _keep_gap(self) -> None:
        await asyncio.sleep(max(0.0, self._next_at - self._clock.monotonic()))
        self._next_at = self._clock.monotonic() + self._rule.min_gap_seconds

    def _back_off(self, error: RetryableError) -> float:
        rule = self._rule
        full = min(rule.backoff_seconds * 2.0 ** min(self._failures, 20), rule.max_backoff_seconds)
        self._failures += 1
        wait = full * (0.5 + self._jitter.random() / 2)
        asked = self._next_at - self._clock.monotonic()
        return max(wait, asked) if isinstance(error, ThrottledError) else wait


async def _read_bounded(answer: httpx.Response) -> bytes:
    """Raises: UnreadableAnswerError, StoreUnavailableError (too large)."""
    body = BoundedBody(answer.headers.get("Content-Encoding", ""), MAX_ANSWER_BYTES)
    async for part in answer.aiter_raw():
        body.feed(part)
        if body.is_too_large:
            raise StoreUnavailableError(f"an answer above {MAX_ANSWER_BYTES} bytes was refused")
    body.check_whole()
    return body.data


def _digest(item: Item) -> str:
    """The whole item: a changed story under the same address is another item."""
    return blake2b(item.data, digest_size=16).hexdigest()


def _without_query(url: str) -> str:
    """Scheme, host and path: user, password and query may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _load(path: Path) -> _Memory:
    if not path.exists():
        return _Memory()
    try:
        value = orjson.loads(path.read_bytes())
        seen = dict.fromkeys(map(str, value["seen"]))
        return _Memory(value["etag"], value["last_modified"], value["since"], seen)
    except (orjson.JSONDecodeError, LookupError, TypeError):
        log.warning("news cursor %s: unreadable; starting over, some items come twice", path)
        return _Memory()
    except OSError as error:
        raise ConfigError(f"news cursor {path}: {error.strerror}") from error
