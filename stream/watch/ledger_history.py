"""Lag, freshness and throughput of any range, derived from the ledger: exact, however long ago.

Every commit says when it was made and when its records had arrived, per shard. So between two
commits the lag of a shard at time t is known: t minus the arrival of the first record of its next
commit, if that had arrived; and at each commit, how old its records had become before a query
could see them. The range is found by bisection over the ledger's numbers, so that a week in a year
of commits costs reading that week. Not here: drawing it (`plot`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stream.errors import ConfigError, FatalError
from stream.lake.connect import Lake
from stream.lake.entries import Entry, Head
from stream.lake.layout import LedgerKey, ledger_number
from stream.lake.store import Store
from stream.watch.commits import CommitFacts, entry_facts
from stream.watch.state import Gap

MAX_COMMITS = 100_000
"""A week and a half of commits every ten seconds."""
AFTER = 10
"""So many commits behind the range are read: each shard's next one is probably among them."""


@dataclass(frozen=True, slots=True)
class LagLine:
    """A shard's lag as corners of a line: `at_ms`, and ms behind there. Straight in between."""

    shard: str
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Delay:
    """A commit: how old its newest and its oldest record were when a query could see them."""

    at_ms: int
    newest_ms: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Records that arrived in [from_ms, to_ms) and were committed in between, per second."""

    from_ms: int
    to_ms: int
    records_per_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something to mark: a gap, or rejects of a commit."""

    at_ms: int
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class FeedHistory:
    """A feed over [from_ms, to_ms)."""

    feed: str
    from_ms: int
    to_ms: int
    lags: tuple[LagLine, ...]
    delays: tuple[Delay, ...]
    rates: tuple[Rate, ...]
    gaps: tuple[Event, ...]
    rejects: tuple[Event, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was committed in the range."""
        return not self.delays and not self.gaps


def read_history(lake: Lake, feed: str, from_ms: int, to_ms: int) -> FeedHistory:
    """A feed's history from its ledger.

    Raises: ConfigError (never started, an empty range, more than `MAX_COMMITS`), FatalError (the
    ledger is damaged), StoreUnavailableError.
    """
    if from_ms >= to_ms:
        raise ConfigError("the range is empty: --from is not before --to")
    _, ledger = lake.ledger(feed)
    head = ledger.head()
    numbers = _Numbers(lake.store, feed, head)
    first = max(1, numbers.first_at(from_ms) - 1)
    # The commit that ends a shard's last wait in the range lies after it, if not the next one.
    last = min(head.number, numbers.first_at(to_ms) + AFTER)
    if last - first > MAX_COMMITS:
        raise ConfigError(
            f"feed {feed}: {last - first:,} commits between these times, at most {MAX_COMMITS:,} "
            "are read. Choose a shorter range; Gold's fct_feed_day has whole days."
        )
    entries = numbers.chain(first, last)
    facts = [entry_facts(entry, path) for path, entry in entries]
    return derive_history(feed, facts, from_ms, to_ms)


def derive_history(
    feed: str, facts: Sequence[CommitFacts], from_ms: int, to_ms: int
) -> FeedHistory:
    """The history that commits tell, oldest first. Pure.

    Args: facts: those of the range, the one before it, and some after it.
    """
    inside = [f for f in facts if from_ms <= f.committed_ms < to_ms]
    shards = sorted({shard for f in facts for shard in f.shards})
    return FeedHistory(
        feed,
        from_ms,
        to_ms,
        lags=tuple(LagLine(s, tuple(lag_points(s, facts, from_ms, to_ms))) for s in shards),
        delays=tuple(_delays(inside)),
        rates=tuple(_rates(facts, from_ms, to_ms)),
        gaps=tuple(
            Event(f.committed_ms, len(f.gaps), "; ".join(map(_gap_text, f.gaps)))
            for f in inside
            if f.gaps
        ),
        rejects=tuple(
            Event(f.committed_ms, f.commit.rejected, f"{f.commit.rejected} rejected")
            for f in inside
            if f.commit.rejected
        ),
    )


def lag_points(
    shard: str, facts: Sequence[CommitFacts], from_ms: int, to_ms: int
) -> Iterator[tuple[int, int]]:
    """A shard's lag over the range, as corners of a saw: 0 until the next record arrives, then
    growing by a second a second until the commit that makes it durable. It ends with the last
    commit: what arrived since is in no ledger.
    """
    free_ms = from_ms
    known_ms = min(to_ms, max((fact.committed_ms for fact in facts), default=from_ms))
    for fact in facts:
        if shard not in fact.shards:
            continue
        arrived, committed = fact.shards[shard].arrival_ms[0], fact.committed_ms
        if committed < from_ms:
            continue
        begin = max(arrived, free_ms)  # what arrived before the last commit waits since then
        if begin >= to_ms:
            break
        if begin > free_ms or arrived >= free_ms:
            yield free_ms, 0
        yield begin, max(0, begin - arrived)
        end = min(committed, to_ms)
        yield max(end, begin), max(0, end - arrived)
        free_ms = max(end, begin)
        if committed >= to_ms:
            return
    if free_ms <= known_ms:
        yield free_ms, 0
        yield known_ms, 0


def _delays(facts: Sequence[CommitFacts]) -> Iterator[Delay]:
    for fact in facts:
        if (span := fact.arrival_ms) is not None:
            oldest, newest = (max(0, fact.committed_ms - at) for at in span)
            yield Delay(fact.committed_ms, newest, oldest)


def _rates(facts: Sequence[CommitFacts], from_ms: int, to_ms: int) -> Iterator[Rate]:
    """Per commit, over the time since the one before; over the arrival span for the first."""
    before: int | None = None
    for fact in facts:
        span = fact.arrival_ms
        if span is None:
            continue
        begin = max(before if before is not None else span[0], from_ms)
        records = sum(shard.records for shard in fact.shards.values())
        end = fact.committed_ms
        if begin < end and begin < to_ms and end > from_ms:
            yield Rate(begin, min(end, to_ms), records * 1000 / (end - begin))
        before = end


def _gap_text(gap: Gap) -> str:
    return f"{gap.shard}: {gap.reason} after {gap.after}"


class _Numbers:
    """The entries of one ledger by number; two writers may have written the same number."""

    def __init__(self, store: Store, feed: str, head: Head) -> None:
        self._store, self._feed, self._head = store, feed, head
        self._paths: dict[int, list[str]] = {}
        for info in store.list(LedgerKey.prefix(feed)):
            number = ledger_number(info.path)
            if number is not None and number <= head.number:
                self._paths.setdefault(number, []).append(info.path)

    def first_at(self, at_ms: int) -> int:
        """The first number that was committed at or after a time; one more than the head's if none.

        Writers' clocks differ by little, so the numbers count as ordered by time.
        """
        known = sorted(self._paths)
        at = bisect_left(known, at_ms, key=self._committed_ms)
        return known[at] if at < len(known) else self._head.number + 1

    def chain(self, first: int, last: int) -> list[tuple[str, Entry]]:
        """The true entries of [first, last], oldest first: those that the newer ones lead to.

        Raises: FatalError if one is missing or was changed.
        """
        top = last  # from a number that only one writer wrote, the links lead down
        while top < self._head.number and len(self._paths.get(top, ())) > 1:
            top += 1
        wanted = [p for n in range(first, top + 1) for p in self._paths.get(n, ())]
        read = self._read_all(wanted)
        path = self._top_path(top)
        found: list[tuple[str, Entry]] = []
        for number in range(top, max(first, 1) - 1, -1):
            if path not in read:
                raise FatalError(
                    f"ledger entry {number} of {self._feed} is missing ({path or 'no object'}). "
                    "Restore the object (bucket versioning keeps it)."
                )
            if number <= last:
                found.append((path, read[path]))
            path = read[path].previous or ""
        return found[::-1]

    def _top_path(self, number: int) -> str:
        if number == self._head.number:
            return self._head.path or ""
        return next(iter(self._paths.get(number, ())), "")

    def _read_all(self, paths: Sequence[str]) -> Mapping[str, Entry]:
        datas = self._store.get_many(list(paths))
        return {
            path: Entry.from_bytes(data)
            for path, data in zip(paths, datas, strict=True)
            if data is not None
        }

    def _committed_ms(self, number: int) -> int:
        data = self._store.get(self._paths[number][0])
        return Entry.from_bytes(data).committed_ms if data else 0
