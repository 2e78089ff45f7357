"""The lanes that the dataflow schedules: fixed hash-key ranges, each with the shards in it.

A shard belongs to the lane that its first hash key falls into, for ever; lanes never change, so
the engine's partitions do not either. One thread lists shards all the time and opens those whose
parents are applied to their end *in the ledger*; one thread per open shard fetches (`fetcher`).
`poll` only pops what is ready. Nothing here knows the engine.

The work is steps that never wait: `tend` lists and opens, `step` moves one shard on; `start` runs
them in threads, a simulation calls them itself, in an order of its own.

Memory: what is ready stays below `queue_bytes` plus one answer per shard whose answers grew;
the open slice of each shard (at most one slice and one answer) comes on top. Counting open
slices too could stop every shard short of a complete slice, for ever.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import PipelineError, RetryableError
from stream.slices import ShardPosition, ShardRef, Slice, SliceRule, empty_records
from stream.sources import ShardInfo, StreamReader
from stream.sources.credit import Credit, StopRequestedError
from stream.sources.fetcher import Gap, Pace, SealedSlices, ShardFetcher, ShardStatus
from stream.sources.starts import choose_start, is_blocked, parse_start, skipped_shards
from stream.telemetry.logs import bind_log_context

__all__ = ["CommittedPositions", "Gap", "Lanes", "SealedSlices", "ShardStatus", "lane_of"]

log = logging.getLogger(__name__)

GATE_SECONDS = 0.5
"""How often the ledger is asked while a shard waits for its parents."""
STOP_SECONDS = 0.9


class CommittedPositions(Protocol):
    """The ledger's positions of this life of the stream."""

    def read(self) -> Mapping[str, ShardPosition]:
        """Shard id -> position, fresh from the catalog. Called from one thread."""
        ...


def lane_of(first_hash_key: int, lanes: int) -> int:
    """The lane that a shard belongs to.

    >>> lane_of(0, 64), lane_of((1 << 128) - 1, 64)
    (0, 63)
    """
    return first_hash_key * lanes >> 128


class Lanes:
    """All lanes of one feed in this process."""

    def __init__(
        self,
        feed: str,
        reader: StreamReader,
        positions: CommittedPositions,
        seals: SealedSlices,
        rule: SliceRule,
        *,
        lanes: int = 64,
        grace_ms: int = 500,
        poll_ms: int = 250,
        list_shards_seconds: float = 5.0,
        start: str = "TRIM_HORIZON",
        queue_bytes: int = 64_000_000,
        clock: Clock = SYSTEM_CLOCK,
        only: Collection[int] | None = None,
        reads_per_second: float = 5.0,
    ) -> None:
        """`only`: the lanes of this process; None: all of them."""
        self._feed, self._reader, self._positions = feed, reader, positions
        self._clock, self._count = clock, lanes
        self._list_shards_seconds = list_shards_seconds
        self._first_start = parse_start(start, now_ms(clock))
        self._only = frozenset(range(lanes) if only is None else only)
        self._credit = Credit(queue_bytes)
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._build_fetcher = partial(
            ShardFetcher,
            rule=rule,
            pace=Pace(poll_ms, grace_ms, reads_per_second),
            reader=reader,
            seals=seals,
            credit=self._credit,
            stopping=self._stopping,
            deliver=self._deliver,
            report_gap=self._add_gap,
            clock=clock,
        )
        self._ready: list[deque[tuple[Slice, int] | BaseException]] = [
            deque() for _ in range(lanes)
        ]
        self._gaps: deque[Gap] = deque()
        self._listed: dict[str, ShardInfo] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._fetchers: dict[str, ShardFetcher] = {}
        self._done: set[str] = set()
        self._vanished: set[str] = set()
        self._waiting: tuple[ShardInfo, ...] = ()
        self._threads: list[threading.Thread] = []
        self._next_listing = clock.monotonic()
        self._has_listed = self._has_looked_back = False
        self._listing_retries = self._past_retries = self._listing_attempt = 0
        self._opened: deque[ShardFetcher] = deque()

    @property
    def names(self) -> list[str]:
        """One name per lane, the same for ever."""
        return [f"lane-{lane:02d}" for lane in range(self._count)]

    def start(self) -> None:
        """Begin to list and fetch."""
        self._run("list", self._watch, self._fail_all)

    def stop(self) -> None:
        """End all threads; what was read but not polled is read again by the next start."""
        self._stopping.set()
        self._wake.set()
        self._credit.close()
        deadline = self._clock.monotonic() + STOP_SECONDS
        for thread in list(self._threads):
            # A thread inside a network call ends with its answer; it is a daemon.
            thread.join(max(0.0, min(STOP_SECONDS, deadline - self._clock.monotonic())))

    def poll(self, lane: int) -> Slice | None:
        """The next slice of a lane, or None if none is ready. Never waits.

        Raises: what a thread of the lane died of, after the slices that were ready before.
        """
        ready = self._ready[lane]
        if not ready:
            return None
        item = ready[0]
        if isinstance(item, BaseException):
            raise item
        ready.popleft()
        self._credit.give_back(item[1])
        return item[0]

    def has_shards(self, lane: int) -> bool:
        """Whether the lane has anything to wait for soon."""
        if self._ready[lane]:
            return True
        fetchers = list(self._fetchers.values())
        return any(f.lane == lane and f.state != "ended" for f in fetchers)

    def is_finished(self, lane: int) -> bool:  # noqa: ARG002
        """Live lanes never end; replayed ones do."""
        return False

    def parents_of(self, shard: ShardRef) -> tuple[str, ...]:
        """The parents of a shard, as the stream ever listed it here."""
        return self._parents.get(shard.shard, ())

    def ancestors_of(self, shard: ShardRef) -> frozenset[str]:
        """All parents, grandparents ... of a shard, as far as they were ever listed here: a shard
        at hand still has them when retention has removed both from the list.
        """
        found: set[str] = set()
        queue = list(self.parents_of(shard))
        while queue:
            if (name := queue.pop()) not in found:
                found.add(name)
                queue.extend(self._parents.get(name, ()))
        return frozenset(found)

    def gaps(self) -> list[Gap]:
        """Retention losses found since the last call."""
        found = []
        while self._gaps:
            found.append(self._gaps.popleft())
        return found

    @property
    def retries(self) -> int:
        """Calls to the stream, the store or the catalog that these threads repeated."""
        open_now = sum(fetcher.retries for fetcher in list(self._fetchers.values()))
        return self._listing_retries + self._past_retries + open_now

    def status(self) -> list[ShardStatus]:
        """Every shard of these lanes that is not applied to its end."""
        waiting = [
            ShardStatus(self._ref(info), self._lane(info), "waiting", detail="parents not ended")
            for info in self._waiting
        ]
        return [fetcher.status() for fetcher in list(self._fetchers.values())] + waiting

    def tend(self) -> float:
        """Step: list if it is time, open what may be opened. Never waits.

        Returns: seconds until the next look; the end of a shard makes it worth one at once.
        Raises: ConfigError, FatalError. What may pass is repeated after the time returned.
        """
        try:
            pause = self._tend()
        except RetryableError as error:
            log.warning("feed %s: listing shards or reading positions: %s", self._feed, error)
            self._listing_retries += 1
            pause = min(0.25 * 2**self._listing_attempt, 10.0)
            self._listing_attempt = min(self._listing_attempt + 1, 6)
        else:
            self._listing_attempt = 0
        return pause

    def take_opened(self) -> list[ShardFetcher]:
        """The shards that `tend` opened since the last call: whoever takes them steps them."""
        return [self._opened.popleft() for _ in range(len(self._opened))]

    def step(self, fetcher: ShardFetcher) -> float | None:
        """Step: move one shard on (`ShardFetcher.step`); None: it has ended or failed, and `poll`
        tells of it.
        """
        try:
            pause = fetcher.step()
        except PipelineError as error:
            self._fail(fetcher, error)
            return None
        if fetcher.state == "ended":
            self._wake.set()  # its children are in the list by now
            return None
        return pause

    @property
    def wants_tending(self) -> bool:
        """Whether a shard has ended since `tend`."""
        return self._wake.is_set()

    def _watch(self) -> None:
        """The listing thread."""
        while not self._stopping.is_set():
            pause = self.tend()
            for fetcher in self.take_opened():
                self._run(
                    fetcher.shard.shard, partial(self._fetch, fetcher), partial(self._fail, fetcher)
                )
            self._wake.wait(pause)

    def _fetch(self, fetcher: ShardFetcher) -> None:
        fetcher.run()
        self._wake.set()  # its children are in the list by now

    def _fail(self, fetcher: ShardFetcher, error: BaseException) -> None:
        fetcher.state, fetcher.detail = "failed", str(error)
        self._ready[fetcher.lane].append(error)

    def _tend(self) -> float:
        """List if it is time, open what may be opened; return the seconds until the next look."""
        now = self._clock.monotonic()
        if self._wake.is_set() or now >= self._next_listing or not self._has_listed:
            self._wake.clear()
            self._list()
            self._next_listing = now + self._list_shards_seconds
        if self._new_shards() or self._vanished or not self._has_looked_back:
            positions = self._positions.read()
            self._end_lost(positions)
            self._open_ready(positions)
        pause = max(0.0, self._next_listing - now)
        return min(pause, GATE_SECONDS) if self._waiting else pause

    def _list(self) -> None:
        self._listed = {info.shard: info for info in self._reader.list_shards()}
        self._has_listed = True
        self._parents |= {shard: info.parents for shard, info in self._listed.items()}
        for shard in [s for s, f in self._fetchers.items() if f.state == "ended"]:
            if shard not in self._listed:
                self._past_retries += self._fetchers.pop(shard).retries
                self._done.add(shard)
        self._vanished |= {info.shard for info in self._waiting} - self._listed.keys()

    def _end_lost(self, positions: Mapping[str, ShardPosition]) -> None:
        """Shards that left the list unread: a gap each, and their end, so that it is named once."""
        lost = self._unlisted(positions)
        if lost:
            # The list may be older than the positions: another instance can have begun a shard in
            # between, and ending that one would lose everything in it.
            self._list()
            lost = self._unlisted(positions)
        self._has_looked_back = True
        for shard in lost:
            ref = ShardRef(self._feed, str(self._reader.identity), shard)
            after = positions[shard].sequence_number if shard in positions else None
            reason = (
                "retention removed the shard before it was read to its end: records may be lost"
            )
            log.error("%s: gap after %s: %s", ref, after or "its start", reason)
            self._add_gap(Gap(ref, after, None, reason))
            self._deliver(min(self._only), Slice(ref, after, empty_records(), ends_shard=True))
            self._done.add(shard)

    def _unlisted(self, positions: Mapping[str, ShardPosition]) -> list[str]:
        """Shards that the stream no longer lists and the ledger has not applied to their end.

        Those that waited here; parents of new shards that nobody ever listed; and, whose hash keys
        are unknown, so whoever has lane 0 answers for them: those with a position, at the first
        look, and numbers that were skipped.
        """
        parents = [p for info in self._new_shards() for p in info.parents]
        unseen = [p for p in parents if p not in positions] if positions else []
        found = dict.fromkeys([*sorted(self._vanished), *unseen])
        if 0 in self._only:
            found |= dict.fromkeys(skipped_shards(self._listed, positions))
            found |= {} if self._has_looked_back else dict.fromkeys(positions)
        return [
            shard
            for shard in found
            if shard not in self._listed
            and shard not in self._done
            and not (shard in positions and positions[shard].is_ended)
        ]

    def _new_shards(self) -> list[ShardInfo]:
        return [
            info
            for shard, info in self._listed.items()
            if self._lane(info) in self._only
            and shard not in self._fetchers
            and shard not in self._done
        ]

    def _open_ready(self, positions: Mapping[str, ShardPosition]) -> None:
        waiting = []
        for info in self._new_shards():
            position = positions.get(info.shard)
            if position is not None and position.is_ended:
                self._done.add(info.shard)
            elif is_blocked(info, self._listed, positions):
                waiting.append(info)
            else:
                self._open(info, positions)
        self._waiting = tuple(waiting)

    def _open(self, info: ShardInfo, positions: Mapping[str, ShardPosition]) -> None:
        start = choose_start(info.shard, positions, self._first_start)
        lane, position = self._lane(info), positions.get(info.shard)
        known_ms = self._known_ms(info.shard, positions)
        fetcher = self._build_fetcher(self._ref(info), lane, start, position, known_ms)
        self._fetchers[info.shard] = fetcher
        self._opened.append(fetcher)
        log.info("%s: opened in lane %d at %s", fetcher.shard, lane, start)

    def _known_ms(self, shard: str, positions: Mapping[str, ShardPosition]) -> int | None:
        """Everything that had arrived in a shard by then is applied or was read here: what came
        later may be lost once it is older than the retention. None: nothing was promised yet.

        A shard begins when its parents end, so it holds nothing older than what they hold.
        """
        if not positions:
            return None
        position, fetcher = positions.get(shard, ShardPosition(None)), self._fetchers.get(shard)
        if position.start is not None and position.start.timestamp_ms is None:
            return position.arrival_ms or None  # pinned by an older version, without its time
        pinned_ms = position.start.timestamp_ms if position.start else None
        info = self._listed.get(shard)
        parents = [self._known_ms(name, positions) for name in info.parents] if info else []
        read_ms = fetcher.known_ms if fetcher else None
        return max(known or 0 for known in (position.arrival_ms, pinned_ms, read_ms, *parents))

    def _run(
        self, name: str, work: Callable[[], None], fail: Callable[[BaseException], None]
    ) -> None:
        def main() -> None:
            bind_log_context(feed=self._feed, shard=None if name == "list" else name)
            try:
                work()
            except StopRequestedError:
                pass
            except PipelineError as error:
                fail(error)
            except BaseException as error:
                fail(error)
                raise  # a bug: the traceback belongs on stderr as well

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=main, name=f"{self._feed}-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _deliver(self, lane: int, item: Slice) -> None:
        size = int(item.records.nbytes)
        self._credit.take(size)
        self._ready[lane].append((item, size))

    def _fail_all(self, error: BaseException) -> None:
        for ready in self._ready:
            ready.append(error)

    def _add_gap(self, gap: Gap) -> None:
        self._gaps.append(gap)

    def _lane(self, info: ShardInfo) -> int:
        return lane_of(info.first_hash_key, self._count)

    def _ref(self, info: ShardInfo) -> ShardRef:
        return ShardRef(self._feed, str(self._reader.identity), info.shard)
