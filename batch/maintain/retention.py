"""Drop whole UTC days that a table need not keep, and move long-closed shards aside.

A feed's days leave in one commit of its ledger: the entry names the files and says how many rows of
each slice are gone, so a proof stays equal. `bars_1m` has no ledger of its own: its files leave in
one commit that touches no property. Files stay in the store until they are orphans. Bronze keeps
the messages: a replay of the days into a table of their own shows the rows again.

Days are those of `ts_event`. Guarantees: atomic; safe while the stream commits (a file that a late
row added meanwhile is in the next attempt's plan); a second run finds nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

from batch.maintain.attempts import until_landed
from stream.bars import TABLE as BARS_TABLE
from stream.clock import SYSTEM_CLOCK, Clock, now_ms, to_utc
from stream.errors import ConfigError, FatalError
from stream.feeds.contract import Contract
from stream.lake.catalog import LakeTable
from stream.lake.catalog_maintenance import DayFile, count_slices, day_files
from stream.lake.connect import Lake
from stream.lake.entries import Head, Rewrite
from stream.lake.layout import LedgerKey
from stream.lake.ledger import Change, Ledger, open_ledger
from stream.lake.store import Store
from stream.prove.chain import Chain
from stream.prove.proof import Proof
from stream.slices import ShardPosition

KEEP_CLOSED_DAYS = 30
BEFORE = "headrace.retention.before"


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a retention dropped, or would drop: days before `first_kept` (None: no day is dropped).

    `days`: rows by dropped day. `closed_shards`: positions moved out of the table property.
    """

    table: str
    is_applied: bool
    first_kept: date | None
    days: dict[date, int]
    files_before: int
    files_after: int
    rows_before: int
    rows_after: int
    bytes_before: int
    bytes_after: int
    closed_shards: int = 0

    def to_row(self) -> dict[str, object]:
        """As a row of a table: the range of days, not each."""
        row = {name: value for name, value in asdict(self).items() if name != "days"}
        ends = {"first_dropped": min(self.days, default=None), "days": len(self.days)}
        return {**row, **ends, "rows": sum(self.days.values())}


def apply_retention(
    lake: Lake,
    contract_or_table: Contract | str,
    *,
    keep_days: int | None,
    keep_closed_days: int = KEEP_CLOSED_DAYS,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> RetentionReport:
    """Drop the days of a table that lie more than `keep_days` before today; only say which they
    are unless `apply`.

    Args: keep_days: None keeps every day. keep_closed_days: shards that ended longer ago leave the
    table property.

    Raises: ConfigError (no such table, a limit below one day), FatalError (rows of slices that the
    ledger does not know), CommitConflictError, StoreUnavailableError.
    """
    name = contract_or_table if isinstance(contract_or_table, str) else contract_or_table.feed
    if keep_closed_days < 1 or (keep_days is not None and keep_days < 1):
        raise ConfigError(
            f"keep_days {keep_days}, keep_closed_days {keep_closed_days}: expected at least 1"
        )
    today = to_utc(clock.now_ns()).date()
    first_kept = None if keep_days is None else today - timedelta(days=keep_days)
    ledger: Ledger | None = None
    drop: Callable[[date], Sequence[DayFile]]
    table = lake.catalog.open(name)
    if name == BARS_TABLE:
        drop = _BarsDrop(table, clock).commit
    else:
        ledger = open_ledger(name, table, lake.store, clock)
        drop = _FeedDrop(table, ledger, lake.store).commit
    before = day_files(table)
    dropped: Sequence[DayFile] = _old(before, first_kept)
    if apply and dropped and first_kept is not None:
        dropped = drop(first_kept)
    closed = 0
    if ledger is not None:
        closed = _close_shards(ledger, now_ms(clock) - keep_closed_days * 86_400_000, apply=apply)
    return _report(name, before, dropped, first_kept, closed, is_applied=apply)


class _FeedDrop:
    """Drops days of a feed's table through its ledger."""

    def __init__(self, table: LakeTable, ledger: Ledger, store: Store) -> None:
        self._table = table
        self._ledger = ledger
        self._store = store
        self._counts: dict[str, Counter[str]] = {}
        self._known: set[str] = set()
        self._dropped: Sequence[DayFile] = ()

    def commit(self, first_kept: date) -> Sequence[DayFile]:
        """Drop every day before `first_kept`; returns the files that left."""
        self._ledger.commit(lambda head: self._plan(head, first_kept))
        return self._dropped

    def _plan(self, head: Head, first_kept: date) -> Change | None:
        self._dropped = day_files(self._table, first_kept)
        if not self._dropped:
            return None
        rows = self._count()
        self._check_slices(rows, head)
        paths = tuple(sorted(self._store.relative(file.uri) for file in self._dropped))
        entry = replace(
            self._ledger.entry(head, "retention"),
            rewrites=(Rewrite(removed=paths),),
            dropped=dict(sorted(rows.items())),
        )
        return Change(entry, remove=[file.uri for file in self._dropped])

    def _count(self) -> Counter[str]:
        """Rows per slice; a file is read once, however often the commit loses its race."""
        for file in self._dropped:
            if file.uri not in self._counts:
                self._counts[file.uri] = count_slices(self._table, file.uri)
        return sum((self._counts[file.uri] for file in self._dropped), Counter())

    def _check_slices(self, rows: Counter[str], head: Head) -> None:
        """An entry that drops rows of a slice that the ledger lacks could never be read back."""
        unknown = rows.keys() - self._known
        if not unknown or not head.path:
            return
        proof = Proof(self._ledger.feed, None, None)
        feed = LedgerKey.parse(head.path).feed
        for entry in Chain(feed, head, self._store, proof).walk(0):
            self._known |= unknown & {record.slice_id for record in entry.slices}
            unknown -= self._known
            if not unknown:
                return
        raise FatalError(
            f"table {self._table.name}: {len(unknown)} slices with rows to drop are not in its "
            f"ledger, e.g. {min(unknown)}. Nothing was dropped; run `headrace prove "
            f"{self._ledger.feed}` and settle what it names first."
        )


class _BarsDrop:
    """Drops days of a table that has no ledger."""

    def __init__(self, table: LakeTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._dropped: Sequence[DayFile] = ()

    def commit(self, first_kept: date) -> Sequence[DayFile]:
        """Drop every day before `first_kept`; returns the files that left."""

        def attempt() -> None:
            self._table.refresh()
            old = day_files(self._table, first_kept)
            if old:  # none: an attempt without an answer had landed, or another run was first
                self._dropped = old
                summary = {BEFORE: first_kept.isoformat()}
                self._table.replace([file.uri for file in old], [], {}, summary)

        until_landed(attempt, self._clock, f"retention of table {self._table.name}")
        return self._dropped


def _close_shards(ledger: Ledger, before_ms: int, *, apply: bool) -> int:
    def is_old(_shard: str, position: ShardPosition) -> bool:
        return position.is_ended and position.arrival_ms < before_ms

    if apply:
        return ledger.close_shards(is_old)
    return sum(is_old(shard, position) for shard, position in ledger.head().positions.items())


def _old(files: Sequence[DayFile], first_kept: date | None) -> list[DayFile]:
    return [file for file in files if first_kept is not None and file.day < first_kept]


def _report(
    name: str,
    before: Sequence[DayFile],
    dropped: Sequence[DayFile],
    first_kept: date | None,
    closed_shards: int,
    *,
    is_applied: bool,
) -> RetentionReport:
    days: Counter[date] = Counter()
    for file in sorted(dropped, key=lambda file: file.day):
        days[file.day] += file.rows
    rows, size = sum(file.rows for file in before), sum(file.bytes for file in before)
    return RetentionReport(
        table=name,
        is_applied=is_applied,
        first_kept=first_kept,
        days=dict(days),
        files_before=len(before),
        files_after=len(before) - len(dropped),
        rows_before=rows,
        rows_after=rows - sum(days.values()),
        bytes_before=size,
        bytes_after=size - sum(file.bytes for file in dropped),
        closed_shards=closed_shards,
    )
