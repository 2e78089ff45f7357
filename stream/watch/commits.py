"""What the ledger says, kept up to date entry by entry: commits, arrivals, gaps, rejects per day.

The first look reads the newest `LIMIT` entries, later ones only what was committed since. Only
counts are kept, never rows. Positions, numbers and times are those of the ledger, so they are true
whether or not anything runs. Not here: how far behind that is (`stream.lag`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream.clock import to_utc
from stream.lake.catalog import LakeTable
from stream.lake.entries import Entry, Head, SliceRecord
from stream.lake.ledger import Ledger
from stream.sources.extract_lanes import STREAM_PREFIX
from stream.watch.state import Commit, Gap, Throughput

LIMIT = 5_000
"""Fourteen hours of commits every ten seconds: what a screen can use; Gold knows the rest."""
RATE_MS = 60_000
"""Throughput is a mean over so long: several epochs, so that it does not jump at each commit."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What one commit brought of one shard. `arrival_ms`: of its first and its last record."""

    records: int
    arrival_ms: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One ledger entry in numbers. `shards`: those of the stream; extracts and replays have none.

    `arrival_ms`: of the oldest and the newest record of those shards; None without any.
    """

    commit: Commit
    messages: int
    payload_bytes: int
    shards: Mapping[str, ShardFacts]
    gaps: tuple[Gap, ...]

    @property
    def committed_ms(self) -> int:
        return self.commit.committed_ms

    @property
    def arrival_ms(self) -> tuple[int, int] | None:
        spans = [shard.arrival_ms for shard in self.shards.values()]
        if not spans:
            return None
        return min(low for low, _ in spans), max(high for _, high in spans)


@dataclass(slots=True)
class DayFacts:
    """What the ledger says of a UTC day: by arrival; gaps on the day of the commit naming them."""

    messages: int = 0
    rejected: int = 0
    gaps: int = 0


@dataclass(slots=True)
class LedgerTail:
    """The newest entries of one feed. `update` is called from one thread, the rest reads."""

    limit: int = LIMIT
    head: Head | None = None
    facts: deque[CommitFacts] = field(default_factory=deque)
    days: dict[str, DayFacts] = field(default_factory=dict)
    new_entries: Sequence[Entry] = ()

    def update(self, table: LakeTable, ledger: Ledger) -> bool:
        """Read what was committed since the last call; whether there was anything.

        Raises: what `Ledger.entries` raises.
        """
        known = self.head.number if self.head else 0
        number = ledger.head().number
        if number < known:  # another life of the lake under the same name
            self.head, known = None, 0
            self.facts.clear()
            self.days.clear()
        if self.head is not None and number == known:
            self.new_entries = ()
            return False
        entries = ledger.entries(after=max(known, number - self.limit))
        self.head = Head.of(table.properties)
        self.new_entries = entries
        for entry, path in zip(entries, _paths(entries, self.head), strict=True):
            self._add(entry_facts(entry, path), entry)
        return True

    @property
    def first_number(self) -> int:
        """The oldest entry that is known; what was before is not counted."""
        return self.facts[0].commit.number if self.facts else 0

    def newest_arrival_ms(self, up_to: int | None = None) -> int | None:
        """The newest arrival in the stream's commits, up to an entry if one is given."""
        found = (
            facts.arrival_ms[1]
            for facts in reversed(self.facts)
            if facts.arrival_ms and (up_to is None or facts.commit.number <= up_to)
        )
        # The newest commit has the newest arrival, but for shards that are behind: a few suffice.
        return max((arrival for arrival, _ in zip(found, range(SHOWN), strict=False)), default=None)

    def commits(self, count: int = SHOWN) -> tuple[Commit, ...]:
        """The last commits, newest first."""
        return tuple(facts.commit for facts, _ in zip(reversed(self.facts), range(count)))  # noqa: B905

    def gaps(self) -> tuple[Gap, ...]:
        """Every gap that the known entries name, newest first."""
        return tuple(gap for facts in reversed(self.facts) for gap in facts.gaps)

    def throughput(self, now_ms: int) -> tuple[Throughput, dict[str, float]]:
        """The rates of the last minute, and the records per second of each shard in it."""
        if not self.facts:
            return Throughput(), {}
        span = max(1_000, min(RATE_MS, now_ms - self.facts[0].committed_ms))
        records = messages = payload = 0
        shards: Counter[str] = Counter()
        for facts in reversed(self.facts):
            if facts.committed_ms <= now_ms - span:
                break
            if facts.shards:
                records += sum(shard.records for shard in facts.shards.values())
                messages, payload = messages + facts.messages, payload + facts.payload_bytes
                shards.update({name: shard.records for name, shard in facts.shards.items()})
        seconds = span / 1000
        rate = Throughput(records / seconds, messages / seconds, payload / seconds, span)
        return rate, {name: count / seconds for name, count in shards.items()}

    def _add(self, facts: CommitFacts, entry: Entry) -> None:
        self.facts.append(facts)
        if len(self.facts) > self.limit:
            self.facts.popleft()
        if entry.kind == "replay":  # its counts replace older ones, which the rejects' view does
            return
        for record in entry.slices:
            if record.rows:
                day = self.days.setdefault(day_of(record.arrival_ns[0] // 1_000_000), DayFacts())
                day.messages += record.messages
                day.rejected += sum(record.rejected.values())
        if entry.gaps:
            self.days.setdefault(day_of(entry.committed_ms), DayFacts()).gaps += len(entry.gaps)


def entry_facts(entry: Entry, path: str) -> CommitFacts:
    """An entry in numbers. Pure."""
    streamed = [] if entry.kind == "replay" else [s for s in entry.slices if is_streamed(s)]
    return CommitFacts(
        Commit(
            number=entry.number,
            kind=entry.kind,
            committed_ms=entry.committed_ms,
            slices=len(entry.slices),
            records=sum(s.rows for s in entry.slices),
            silver_rows=sum(s.silver_rows for s in entry.slices)
            + sum(r.silver_rows for r in entry.redriven),
            rejected=sum(sum(s.rejected.values()) for s in entry.slices),
            duplicates=sum(s.duplicates for s in entry.slices)
            + sum(r.duplicates for r in entry.redriven),
            entry=path,
        ),
        messages=sum(s.messages for s in entry.slices),
        payload_bytes=sum(s.payload_bytes for s in entry.slices),
        shards=_by_shard(streamed),
        gaps=tuple(
            Gap(g.shard.shard, g.reason, g.after, g.first_kept, entry.number) for g in entry.gaps
        ),
    )


def is_streamed(record: SliceRecord) -> bool:
    """Whether a slice has records that came through the stream, not from an extract."""
    return record.rows > 0 and not record.shard.stream.startswith(STREAM_PREFIX)


def day_of(at_ms: int) -> str:
    """The UTC day of a time.

    >>> day_of(1_764_000_000_000)
    '2025-11-24'
    """
    return to_utc(at_ms * 1_000_000).date().isoformat()


def _by_shard(records: Iterable[SliceRecord]) -> dict[str, ShardFacts]:
    found: dict[str, ShardFacts] = {}
    for record in records:
        low, high = (at // 1_000_000 for at in record.arrival_ns)
        rows = record.rows
        if (known := found.get(record.shard.shard)) is not None:
            rows += known.records
            low, high = min(low, known.arrival_ms[0]), max(high, known.arrival_ms[1])
        found[record.shard.shard] = ShardFacts(rows, (low, high))
    return found


def _paths(entries: Sequence[Entry], head: Head) -> list[str]:
    """Each entry's object: the next one names it, the last is the head."""
    return [
        *(entry.previous or "" for entry in entries[1:]),
        *([head.path or ""] if entries else []),
    ]
