"""Live messages from a venue's websocket, byte for byte, for as long as anyone listens.

Connects again after every loss, with back-off and jitter; drops a connection that is silent for
longer than the venue allows; names every hole in the ids of a product, across reconnects too.
Guarantees: what the venue sent as data leaves here unchanged and in order. What the venue did not
send again cannot be recovered: it is a named gap. Not here: the protocols (`venue_protocol`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.producers.address import THIS_MACHINE, is_allowed_by_name
from stream.producers.pack import DEFAULT_BUCKETS, partition_key
from stream.producers.route import route_key
from stream.producers.venue_protocol import Seen, Venue

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Larger frames end the connection; between Kinesis' limit and this they are named and refused."""


START_OVER_RUN = 50
"""So many consecutive ids below the highest one mean that the venue counts anew."""


@dataclass(frozen=True, slots=True)
class ConnectRule:
    """Patience of a connection. `stale_seconds` None: the venue's own."""

    open_seconds: float = 10.0
    ping_seconds: float = 20.0
    stale_seconds: float | None = None
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids that a venue used and that never arrived, both ends included."""

    venue: str
    product: str
    first_id: int
    last_id: int
    seen_at_ns: int


@dataclass(slots=True)
class VenueStats:
    """What a connection went through. `gaps` keeps the last 1,000; `gap_count` counts all."""

    connects: int = 0
    stale: int = 0
    messages: int = 0
    control_messages: int = 0
    repeated_ids: int = 0
    gap_count: int = 0
    missing_ids: int = 0
    gaps: list[Gap] = field(default_factory=list)


class GapDetector:
    """Watch the ids of each product of one venue; they must go up by one."""

    def __init__(self, venue: str, stats: VenueStats, clock: Clock = SYSTEM_CLOCK) -> None:
        self._venue = venue
        self._stats = stats
        self._clock = clock
        self._last: dict[str, int] = {}
        self._low_runs: dict[str, tuple[int, int]] = {}

    def observe(self, product: str, ids: tuple[int, int]) -> Gap | None:
        """Note a run of ids; return the hole before it, if there is one."""
        first, last = ids
        known = self._last.get(product)
        if known is not None and last <= known and not self._has_started_over(product, ids):
            self._stats.repeated_ids += 1
            return None
        if known is not None and last <= known:
            log.warning("venue %s: ids of %s start over at %d", self._venue, product, last)
            known = None
        self._last[product] = last
        self._low_runs.pop(product, None)
        if known is None or first <= known + 1:
            return None
        gap = Gap(self._venue, product, known + 1, first - 1, self._clock.now_ns())
        self._stats.gap_count += 1
        self._stats.missing_ids += gap.last_id - gap.first_id + 1
        self._stats.gaps.append(gap)
        del self._stats.gaps[:-1_000]
        log.error(
            "gap: venue=%s product=%s first_id=%d last_id=%d: the venue did not send them",
            gap.venue,
            gap.product,
            gap.first_id,
            gap.last_id,
        )
        return gap

    def _has_started_over(self, product: str, ids: tuple[int, int]) -> bool:
        """One wild id must not blind us: ids below it that go on counting are the new truth."""
        last, length = self._low_runs.get(product, (ids[0] - 1, 0))
        self._low_runs[product] = (ids[1], length + 1 if ids[0] == last + 1 else 1)
        return self._low_runs[product][1] >= START_OVER_RUN


class _ConnectHere(connect):
    """A connection to the host that was named: the library would follow redirects to any other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class VenueSource:
    """One venue, one feed, some products: an endless source of message batches."""

    def __init__(
        self,
        venue: Venue,
        feed: str,
        products: Sequence[str],
        *,
        url: str | None = None,
        rule: ConnectRule | None = None,
        buckets: int = DEFAULT_BUCKETS,
        jitter: random.Random | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not products:
            raise ConfigError(f"venue {venue.name}: name at least one product, such as BTC-USD")
        self.stats = VenueStats()
        if url is not None and not is_allowed_by_name(
            url, scheme="wss", hosts=None, private=THIS_MACHINE
        ):
            raise ConfigError(
                f"venue {venue.name}: expected wss:// and a public host (plain ws:// to this "
                "machine alone)"
            )
        self._venue = venue
        self._subscriptions = venue.subscriptions(feed, products)
        self._url = url or venue.url
        self._rule = rule or ConnectRule()
        self._buckets = buckets
        self._jitter = jitter or random.Random()
        self._gaps = GapDetector(venue.name, self.stats, clock)
        self._failures = 0

    async def batches(self) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Messages as they come, reconnecting for ever.

        Raises: ConfigError when the venue refuses us before it ever sent data: address, product.
        """
        while True:
            try:
                async with self._connect() as connection:
                    self.stats.connects += 1
                    for message in self._subscriptions:
                        await connection.send(message, text=True)
                    async for batch in self._receive(connection):
                        yield batch
            except InvalidURI as error:
                raise ConfigError(f"venue {self._venue.name}: {error}") from error
            except InvalidStatus as error:
                self._refuse(_explain_status(error), error)
            except TimeoutError:
                log.warning("venue %s: no connection in time", self._url)
            except (WebSocketException, OSError) as error:
                log.warning("venue %s: connection lost: %s", self._url, error)
            await self._back_off()

    def _connect(self) -> connect:
        return _ConnectHere(
            self._url,
            open_timeout=self._rule.open_seconds,
            ping_interval=self._rule.ping_seconds,
            ping_timeout=self._rule.ping_seconds,
            close_timeout=1.0,
            max_size=MAX_FRAME_BYTES,
        )

    async def _receive(
        self, connection: ClientConnection
    ) -> AsyncIterator[list[tuple[str, bytes]]]:
        silence = self._rule.stale_seconds or self._venue.stale_seconds
        while True:
            try:
                message = await asyncio.wait_for(connection.recv(decode=False), silence)
            except TimeoutError:
                self.stats.stale += 1
                log.warning("venue %s: silent for %.0f s, reconnecting", self._url, silence)
                return
            seen = self._venue.read(message)
            if seen.kind == "error":
                self._refuse(f"it answered: {seen.detail}", None)
                return
            if seen.kind == "control":
                self.stats.control_messages += 1
                continue
            yield [(self._accept(seen, message), message)]

    def _accept(self, seen: Seen, message: bytes) -> str:
        """Count a data message, look for a hole before it, and choose its partition key."""
        self.stats.messages += 1
        self._failures = 0
        if seen.ids is not None:
            self._gaps.observe(seen.product, seen.ids)
        if not seen.product:
            return route_key(message, self._buckets)
        name = "kraken" if self._venue.name == "kraken1" else self._venue.name
        return partition_key(name, seen.product, self._buckets)

    def _refuse(self, why: str, error: InvalidStatus | None) -> None:
        """Before any data a refusal is a wrong setting; later it is one more lost connection."""
        status = error.response.status_code if error is not None else 400
        if not self.stats.messages and 300 <= status < 500 and status not in (408, 429):
            raise ConfigError(
                f"venue {self._venue.name} at {self._url} refused the subscription: {why}. "
                "Check the address and the products."
            )
        log.warning("venue %s: refused: %s; trying again", self._url, why)

    async def _back_off(self) -> None:
        rule = self._rule
        full = min(rule.backoff_seconds * 2.0 ** min(self._failures, 20), rule.max_backoff_seconds)
        self._failures += 1
        await asyncio.sleep(full * (0.5 + self._jitter.random() / 2))


def _explain_status(error: InvalidStatus) -> str:
    status, headers = error.response.status_code, error.response.headers
    if 300 <= status < 400:
        host = urlsplit(headers.get("Location", "")).hostname
        return f"HTTP status {status} to {host}; redirects are not followed"
    return f"HTTP status {status}"
