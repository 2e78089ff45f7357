"""One polite HTTP client for extracts: JSON by GET, within a budget, tried again when it pays.

Guarantees: all threads share one budget of calls; a failed attempt (429, 5xx, no or half an
answer, something other than JSON) is repeated a bounded number of times with growing, scattered
waits; Retry-After holds back every thread; an answer is whole and bounded in bytes and values; only
named hosts are asked and no redirect is followed, so the key goes nowhere else. The key travels in
a header: it is in no address, log line, error or object, and what the server says is shown without
it.
Not here: what is asked for and what an answer means (`fmp`), the budget (`budget`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx
import orjson
from pydantic import SecretStr

from batch.extracts.budget import CallBudget
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import (
    ConfigError,
    PipelineError,
    RetryableError,
    StoreUnavailableError,
    ThrottledError,
)
from stream.producers.address import THIS_MACHINE, is_allowed_by_name
from stream.producers.answer import ACCEPT_ENCODING, BoundedBody, UnreadableAnswerError
from stream.producers.retry_after import read_retry_after

log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200
_UNREADABLE = object()


@dataclass(frozen=True, slots=True)
class CallRule:
    """How often, how patiently and how much.

    Waits double from `backoff_seconds` to `max_backoff_seconds`; even the shortest of them add up
    to more than a minute, after which an API that counts by the minute counts anew. A server that
    asks for more than `max_retry_after_seconds` ends the extract: no worker sleeps for hours.
    `answer_seconds` bounds an answer that trickles, `timeout_seconds` the silence within one.
    `max_answer_values`: of JSON; an empty object costs 3 bytes to send and 64 to hold.
    """

    calls_per_minute: int = 300
    attempts: int = 7
    timeout_seconds: float = 30.0
    answer_seconds: float = 300.0
    backoff_seconds: float = 2.0
    max_backoff_seconds: float = 60.0
    max_retry_after_seconds: float = 900.0
    max_answer_bytes: int = 64 * 1024 * 1024
    max_answer_values: int = 5_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer: the exact bytes (without transport compression), and them as JSON."""

    data: bytes
    value: Any


Judge = Callable[[Any], PipelineError | None]
"""What is wrong with an answer's JSON, if anything: a RetryableError has it asked for again.

It is given back and not raised, so that no error keeps what a server may have said of the key.
"""


class JsonClient:
    """Calls one API with one key. Thread-safe; to be closed."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        hosts: Collection[str],
        key_header: str,
        api_key: SecretStr,
        rule: CallRule | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`name` is what errors call the API; `hosts` are all that it has: no other one is asked,
        except a server on this machine. Raises: ConfigError (address or key unusable).
        """
        check_address(name, base_url, hosts)
        check_key(name, api_key)
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._key_header = key_header
        self._api_key = api_key
        self._rule = rule or CallRule()
        self._clock = clock
        self._budget = CallBudget(self._rule.calls_per_minute, clock)
        self._http = httpx.Client(
            timeout=self._rule.timeout_seconds,
            follow_redirects=False,
            headers={"Accept-Encoding": ACCEPT_ENCODING},
        )
        # httpx logs every address at INFO: thousands of lines an extract that say nothing.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str], judge: Judge) -> Answer:
        """One whole answer that `judge` accepts.

        Raises: ConfigError (refused, no such address, too large), ThrottledError or
        StoreUnavailableError (after the rule's attempts).
        """
        where = f"{self._name} {path}?{urlencode(params, safe=',')}"
        for attempt in range(1, self._rule.attempts + 1):
            self._budget.wait()
            try:
                return self._try(where, path, params, judge)
            except _AskedToLeaveError:
                raise
            except RetryableError as error:
                last = error
            if attempt < self._rule.attempts:
                wait = self._back_off(where, attempt)
                log.warning("%s; attempt %d failed, next in %.1f s", last, attempt, wait)
                self._clock.sleep(wait)
        raise type(last)(f"{last}; gave up after {self._rule.attempts} attempts")

    def _try(self, where: str, path: str, params: Mapping[str, str], judge: Judge) -> Answer:
        status, headers, data = self._fetch(where, path, params)
        self._check_status(where, status, headers, data)
        if len(data) > self._rule.max_answer_bytes:
            raise ConfigError(
                f"{where}: the answer has more than {self._rule.max_answer_bytes:,} bytes; ask for "
                "fewer days or symbols"
            )
        if _count_values(data) > self._rule.max_answer_values:
            raise ConfigError(
                f"{where}: the answer has more than {self._rule.max_answer_values:,} values; ask "
                "for fewer days or symbols"
            )
        value = _parse(data)
        if value is _UNREADABLE:
            kind = self._redact(headers.get("Content-Type", "none"))
            found = f"{where}: expected JSON, found content type {kind!r} and {self._show(data)}"
            if "html" in kind.lower():  # a page for people: asking again gives the same
                raise ConfigError(f"{found}; check the address, the key and its plan")
            raise StoreUnavailableError(found)
        problem = judge(value)
        if problem is not None:
            raise type(problem)(f"{where}: {self._redact(str(problem))}")
        return Answer(data, value)

    def _fetch(
        self, where: str, path: str, params: Mapping[str, str]
    ) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body; of a body that is too large only so much as shows it."""
        body = BoundedBody("", 0)
        until = self._clock.monotonic() + self._rule.answer_seconds
        failure = ""
        try:
            with self._http.stream(
                "GET", f"{self._base_url}/{path}", params=dict(params), headers=self._key()
            ) as answer:
                encoding = answer.headers.get("Content-Encoding", "")
                body = BoundedBody(encoding, self._rule.max_answer_bytes)
                for chunk in answer.iter_raw():
                    body.feed(chunk)
                    if self._clock.monotonic() > until:
                        failure = f"not whole after {self._rule.answer_seconds:.0f} s"
                        break
                    if body.is_too_large:
                        break
                else:
                    body.check_whole()
        except UnreadableAnswerError as error:
            failure = str(error)
        except httpx.HTTPError as error:
            # Its name alone, and raised outside: the error holds the request, that holds the key.
            failure = type(error).__name__
        if failure:
            raise StoreUnavailableError(f"{where}: no whole answer ({failure})")
        return answer.status_code, answer.headers, body.data

    def _key(self) -> dict[str, str]:
        return {self._key_header: self._api_key.get_secret_value()}

    def _check_status(self, where: str, status: int, headers: httpx.Headers, data: bytes) -> None:
        if status == httpx.codes.OK:
            return
        found = f"{where}: HTTP {status}, {self._show(data)}"
        if status in (429, 503):
            self._hold_back(where, status, headers)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise ThrottledError(found)
        if status in (401, 402, 403):
            raise ConfigError(
                f"{found}: the API key was refused, or its plan does not hold this data"
            )
        if 300 <= status < 400:
            raise ConfigError(
                f"{where}: HTTP {status} to {urlsplit(headers.get('Location', '')).hostname}; "
                "redirects are not followed, for the key would travel along. Check the address."
            )
        if 400 <= status < 500 and status != httpx.codes.REQUEST_TIMEOUT:
            raise ConfigError(f"{found}: the API does not take this request")
        raise StoreUnavailableError(found)

    def _hold_back(self, where: str, status: int, headers: httpx.Headers) -> None:
        """Let all threads wait as long as the server asks. Raises: _AskedToLeaveError."""
        seconds = read_retry_after(headers.get("Retry-After", ""), self._clock)
        longest = self._rule.max_retry_after_seconds
        self._budget.hold_back(min(seconds, longest))
        if seconds > longest:
            raise _AskedToLeaveError(
                f"{where}: HTTP {status}, to be asked again in {seconds:.0f} s; an extract waits "
                f"{longest:.0f} s at most. Run it again later."
            )

    def _back_off(self, where: str, attempt: int) -> float:
        """Doubling waits, half of each scattered: threads that failed together come back apart."""
        full = min(
            self._rule.backoff_seconds * 2.0 ** (attempt - 1), self._rule.max_backoff_seconds
        )
        seed = f"{self._clock.now_ns()} {where} {attempt}".encode()
        share = int.from_bytes(blake2b(seed, digest_size=4).digest(), "big") / 2**32
        return full * (0.5 + share / 2)

    def _show(self, data: bytes) -> str:
        return repr(self._redact(data.decode(errors="replace"))) if data else "an empty body"

    def _redact(self, text: str) -> str:
        """The beginning without the key. Redacted before it is cut: half a key is a secret, too."""
        return text.replace(self._api_key.get_secret_value(), "***")[:_SHOWN_CHARACTERS]


class _AskedToLeaveError(ThrottledError):
    """The server wants no call for longer than an extract waits."""


def check_address(name: str, base_url: str, hosts: Collection[str]) -> None:
    """Refuse an address that would show the key, holds one itself, or is of a host that is none of
    the API's. Raises: ConfigError.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    is_known = is_allowed_by_name(base_url, hosts=hosts, private=THIS_MACHINE)
    if not url.host or not is_known or url.userinfo or url.query:
        raise ConfigError(
            f"{name}: base address with scheme {url.scheme!r} and host {url.host!r}; expected "
            f"https://host/path of {', '.join(hosts)} without user, password or query (plain http, "
            "which shows the key, only to this machine)"
        )


def check_key(name: str, api_key: SecretStr) -> None:
    """Refuse what no header can carry, before a library quotes it. Raises: ConfigError."""
    key = api_key.get_secret_value()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        found = f"{len(key)} characters, some of them no visible ASCII" if key else "an empty one"
        raise ConfigError(f"{name}: an API key is visible ASCII without spaces, found {found}")


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _UNREADABLE


def _count_values(data: bytes) -> int:
    """At least as many as the JSON has; commas in texts count, too."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")
