"""One feed as its lake and its stream show it; each is read by a thread of its own.

Between two commits a reading costs one look at the catalog. What changes slowly is read when the
ledger has moved on, and the table's files not more often than every `TABLE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.bar_keeper import NUMBER
from stream.bars import TABLE as BARS_TABLE
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError
from stream.feeds.contract import Contract
from stream.lag import LagReport, feed_lag
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import HEAD, Head
from stream.lake.ledger import Ledger
from stream.settings import Settings
from stream.sources import StreamReader
from stream.watch.commits import DayFacts, LedgerTail
from stream.watch.rejects import Rejects
from stream.watch.state import Commit, Gap, Reject, Throughput
from stream.watch.tables import TableFacts, read_table

TABLE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """What the lake says of a feed. `is_started` false: it has no ledger yet, all else is empty.

    `newest_ms`: the newest arrival that Silver holds, `bars_ms`: that the bars hold (None: no
    bars). `since_ms`: the oldest commit that was read. `recent_gaps`: named within a day.
    """

    is_started: bool = False
    head: Head | None = None
    commits: tuple[Commit, ...] = ()
    gaps: tuple[Gap, ...] = ()
    recent_gaps: int = 0
    rejects: tuple[Reject, ...] = ()
    days: Mapping[str, DayFacts] = field(default_factory=dict)
    throughput: Throughput = field(default_factory=Throughput)
    shard_rates: Mapping[str, float] = field(default_factory=dict)
    newest_ms: int | None = None
    bars_number: int | None = None
    bars_ms: int | None = None
    since_ms: int | None = None
    table: TableFacts = field(default_factory=TableFacts)


class FeedLake:
    """Reads one feed's side of the lake."""

    def __init__(self, settings: Settings, contract: Contract, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._contract, self._clock = settings, contract, clock
        self._life: object = None
        self._forget()

    def _forget(self) -> None:
        self._lake: Lake | None = None
        self._opened: tuple[LakeTable, Ledger] | None = None
        self._bars: LakeTable | None = None
        self._tail = LedgerTail()
        self._rejects: Rejects | None = None
        self._known_rejects: tuple[Reject, ...] = ()
        self._table = TableFacts()
        self._table_due = float("-inf")

    def read(self) -> FeedFacts:
        """The feed now. Raises: StoreUnavailableError, ConfigError, FatalError."""
        if (life := catalog_life(self._settings)) != self._life:
            self._forget()
            self._life = life
        opened = self._open()
        if opened is None:
            return FeedFacts()
        table, ledger = opened
        assert self._lake is not None
        if self._rejects is None:
            self._rejects = Rejects(self._contract, self._lake.store)
        before = self._tail.head.number if self._tail.head else 0
        if self._tail.update(table, ledger):
            if self._tail.head is not None and self._tail.head.number < before:
                self._rejects.clear()
            self._rejects.add(self._tail.new_entries)
            self._known_rejects = self._rejects.read()
        if self._bars_number() != self._tail.head.number:  # type: ignore[union-attr]
            self._read_bars()
        now = self._clock.monotonic()
        if now >= self._table_due:
            self._table = read_table(table, self._lake.store)
            self._table_due = now + max(TABLE_SECONDS, 50 * (self._clock.monotonic() - now))
        return self._facts()

    def _facts(self) -> FeedFacts:
        tail, now = self._tail, now_ms(self._clock)
        throughput, rates = tail.throughput(now)
        bars = self._bars_number()
        day_ago = now - 86_400_000
        recent = [f for f in tail.facts if f.gaps and f.committed_ms >= day_ago]
        return FeedFacts(
            is_started=True,
            head=tail.head,
            commits=tail.commits(),
            gaps=tail.gaps(),
            recent_gaps=sum(len(facts.gaps) for facts in recent),
            rejects=self._known_rejects,
            days={day: DayFacts(f.messages, f.rejected, f.gaps) for day, f in tail.days.items()},
            throughput=throughput,
            shard_rates=rates,
            newest_ms=tail.newest_arrival_ms(),
            bars_number=bars,
            bars_ms=None if bars is None else tail.newest_arrival_ms(up_to=bars),
            since_ms=tail.facts[0].committed_ms if tail.facts else None,
            table=self._table,
        )

    def _open(self) -> tuple[LakeTable, Ledger] | None:
        """The feed's table and ledger; None before its first start."""
        if self._opened is None:
            self._lake = self._lake or open_lake(self._settings)
            if self._lake is None or self._contract.feed not in self._lake.catalog.names():
                return None
            table = self._lake.catalog.open(self._contract.feed)
            if HEAD not in table.properties:
                return None
            self._opened = table, Ledger(self._contract.feed, table, self._lake.store, self._clock)
        return self._opened

    def _bars_number(self) -> int | None:
        """The ledger entry that the bars include; None without bars."""
        return None if self._bars is None else int(self._bars.properties.get(NUMBER, "0"))

    def _read_bars(self) -> None:
        """Bring the bars' table up to date, if the feed has bars and they exist."""
        if not self._contract.has_bars:
            return
        try:
            assert self._lake is not None
            if self._bars is None:
                self._bars = self._lake.catalog.open(BARS_TABLE)
            else:
                self._bars.refresh()
        except ConfigError:  # no bars yet: they begin with the first trades
            self._bars = None


class FeedStream:
    """Reads how far a feed's shards are behind: asks its stream, from the committed positions."""

    def __init__(self, settings: Settings, contract: Contract, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._contract, self._clock = settings, contract, clock
        self._life: object = None
        self._lake: Lake | None = None
        self._reader: StreamReader | None = None

    def read(self) -> LagReport | None:
        """Lag of every shard; None before the feed's first start.

        Raises: StoreUnavailableError, ThrottledError, ConfigError, FatalError.
        """
        if (life := catalog_life(self._settings)) != self._life:
            self._life, self._lake, self._reader = life, None, None
        self._lake = self._lake or open_lake(self._settings)
        if self._lake is None or self._contract.feed not in self._lake.catalog.names():
            return None
        if self._reader is None:
            from stream.sources.choose import open_reader  # noqa: PLC0415 - 0.3 s of import

            self._reader = open_reader(self._settings, self._contract.feed)
        try:
            return feed_lag(self._lake, self._contract, self._reader, clock=self._clock)
        except ConfigError:
            self._reader = None  # its stream is gone; the next one of that name is another stream
            raise


def catalog_life(settings: Settings) -> object:
    """Which catalog this is: a home that was deleted and made again has another one."""
    if settings.catalog != "sqlite":
        return settings.catalog
    try:
        return (settings.home / "catalog.db").stat().st_ino
    except OSError:
        return None


def open_lake(settings: Settings) -> Lake | None:
    """The lake, without making anything: None if this home has no catalog yet.

    Raises: as `connect_lake`.
    """
    if settings.catalog == "sqlite" and not (settings.home / "catalog.db").is_file():
        return None
    return connect_lake(settings)
