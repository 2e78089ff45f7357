"""Keep `bars_1m` equal to the committed trades; lives in the process that commits.

The slices of a commit are folded into running totals, and the touched bars appended as new
revisions. What totals cannot be trusted for is recomputed from the trades table: everything at
the first commit of a process or after another instance's, and, at the latest six commits later,
bars that a correction, a cancel or a late row touched (their new trades show at once).

The table carries the ledger numbers that it includes and up to which it is exact, so whatever a
crash interrupts is found and made good at the next start (`catch_up`).
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.bars import (
    BAR_KEY,
    BARS,
    DOCS,
    MINUTE_NS,
    ORDER,
    READ,
    TABLE,
    TOTALS,
    bar_keys,
    bar_rows,
    current_totals,
    is_in_bars,
    mark_bars,
    merge_totals,
    same_bars,
)
from stream.errors import CommitConflictError, RetryableError
from stream.failpoints import failpoint
from stream.feeds.contract import Contract
from stream.keyhash import Hashes
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake
from stream.lake.entries import Entry, ObjectRef
from stream.lake.layout import SilverKey
from stream.lake.ledger import Ledger
from stream.lake.store import ObjectFile, Store
from stream.silver import DataFile, build_files
from stream.sources.extract_lanes import STREAM_PREFIX

NUMBER = "headrace.bars.number"
EXACT = "headrace.bars.exact"
REVISION = "headrace.bars.revision"
KEPT_MINUTES = 30
INEXACT_COMMITS = 6
PART_ROWS = 65_536
"""Trades looked through at a time."""
PIECE_BYTES = 4_000_000
"""Asked for at a time, of one column of a file that is too large to be read whole."""
READ_AHEAD = 2
"""Threads that open Silver files, four files each."""
BATCH_MS = 600_000
"""So long the process of a replay or an extract may take to bring its bars."""
KEEPS_TRADES = frozenset({"start", "compact", "close"})
"""Entries after which the trades are what they were."""
FAR_FUTURE_US = 253_402_300_799_000_000
_Value = TypeVar("_Value", int, str)
_DICTIONARIES = ["venue", "symbol", "kind"]


@dataclass(slots=True)
class OpenBars:
    """Running totals from `since_ns` on: of the committed trades up to entry `number`, with
    corrections applied up to entry `exact`; `pending` names the bars that wait for theirs.
    """

    number: int = -1
    exact: int = 0
    since_ns: int = 1 << 62
    totals: pa.Table = field(default_factory=TOTALS.empty_table)
    pending: pa.Table = field(default_factory=TOTALS.empty_table)


class BarKeeper:
    """Appends revisions to `bars_1m` after each commit of trades."""

    def __init__(
        self,
        table: LakeTable,
        trades: LakeTable,
        ledger: Ledger,
        store: Store,
        *,
        leaves_batch: bool = False,
    ) -> None:
        """`leaves_batch`: the bars of replays and extracts are left to their own processes."""
        self._leaves_batch = leaves_batch
        self._table = table
        self._trades = trades
        self._ledger = ledger
        self._store = store
        self._open = OpenBars()
        self._sql = duckdb.connect(":memory:", config={"threads": 1})

    def apply(self, entry: Entry, totals: Sequence[pa.Table]) -> None:
        """Append revisions for everything that a landed commit of trades touched."""
        if self._leaves_batch and not self._is_next(entry) and self._is_batch_under_way(entry):
            self._open = OpenBars()  # the first commit after the batch's bars starts over
            return
        touched = merge_totals([TOTALS.empty_table(), *totals], self._sql)
        if self._is_next(entry):
            changed = self._merge(entry, touched)
        else:  # the first commit here, or another instance committed in between
            changed = self._start_over(entry, touched)
        self._append(changed, entry.number, self._open.exact)
        self._forget_old()

    def flush(self) -> None:
        """Apply corrections that still wait: at the end of a run."""
        if self._open.pending.num_rows:
            self._open.exact = self._open.number
            self._append(self._apply_pending(), self._open.number, self._open.exact)

    def catch_up(self) -> None:
        """Include what the ledger holds and this table does not: after a crash, a redrive."""
        self._table.refresh()
        done = self._included()
        if done >= self._ledger.head().number:
            return
        entries = self._ledger.entries(after=done)
        if entries:
            number = entries[-1].number
            self._append(self._recompute(self._touched_by(entries)), number, number)

    def _merge(self, entry: Entry, touched: pa.Table) -> pa.Table:
        """Fold a commit into the running totals; returns the bars to append."""
        is_touched = same_bars(self._open.totals, touched)
        untouched = self._open.totals.filter(pc.invert(is_touched))
        merged = merge_totals([self._open.totals.filter(is_touched), touched], self._sql)
        is_known = pc.greater_equal(merged["minute_ns"], self._open.since_ns)
        waits = pc.or_(merged["must_recompute"], pc.invert(is_known))
        self._open.totals = pa.concat_tables([untouched, merged.filter(is_known)])
        self._open.pending = pa.concat_tables([self._open.pending, merged.filter(waits)])
        self._open.number = entry.number
        shown = merged.filter(pc.and_(is_known, pc.greater(merged["trades"], 0)))
        if entry.number - self._open.exact < INEXACT_COMMITS:
            if not self._open.pending.num_rows:
                self._open.exact = entry.number
            return shown
        exact = self._apply_pending()
        self._open.exact = entry.number
        return pa.concat_tables([shown.filter(pc.invert(same_bars(shown, exact))), exact])

    def _start_over(self, entry: Entry, touched: pa.Table) -> pa.Table:
        """Trust nothing: recompute what was touched since the table's own number, keep totals
        of the last half hour from there on.
        """
        self._table.refresh()
        done = self._included()
        if done < entry.number - 1:
            missed = [e for e in self._ledger.entries(after=done) if e.number < entry.number]
            touched = merge_totals([touched, self._touched_by(missed)], self._sql)
        self._open = OpenBars(exact=entry.number)
        if not touched.num_rows:
            return touched  # nothing to keep totals from: the next commit starts over
        self._open.number = entry.number
        ends = pc.min_max(touched["minute_ns"]).as_py()
        since = max(ends["min"], ends["max"] - KEPT_MINUTES * MINUTE_NS)
        self._open.since_ns = since
        if done == entry.number - 1 and not self._has_older(entry, since):
            self._open = OpenBars(done, done, since)
            return self._merge(entry, touched)
        self._open.totals = self._recompute_since(since)
        is_old = pc.less(touched["minute_ns"], since)
        old, new = self._recompute(touched.filter(is_old)), touched.filter(pc.invert(is_old))
        live = self._open.totals.filter(same_bars(self._open.totals, touched))
        return pa.concat_tables([live, _emptied(new, self._open.totals), old])

    def _apply_pending(self) -> pa.Table:
        """Recompute the bars that wait; running totals then hold their exact values."""
        exact = self._recompute(self._open.pending)
        self._open.pending = TOTALS.empty_table()
        kept = self._open.totals.filter(pc.invert(same_bars(self._open.totals, exact)))
        live = exact.filter(pc.greater_equal(exact["minute_ns"], self._open.since_ns))
        self._open.totals = pa.concat_tables([kept, live])
        return exact

    def _included(self) -> int:
        """The ledger number up to which nothing is missing in the table as last read."""
        properties = self._table.properties
        return min(int(properties.get(NUMBER, "0")), int(properties.get(EXACT, "0")))

    def _has_older(self, entry: Entry, since_ns: int) -> bool:
        """Whether trades from `since_ns` on were committed before this entry."""
        own = {self._store.uri(item.path) for silver in _silver_of(entry) for item in silver}
        return bool(set(self._files_between(since_ns // 1000, FAR_FUTURE_US)) - own)

    def _is_next(self, entry: Entry) -> bool:
        """Whether nothing but maintenance, which keeps every trade, was committed in between."""
        if self._open.number < 0 or self._open.number == entry.number - 1:
            return self._open.number == entry.number - 1
        between = self._ledger.entries(after=self._open.number)
        return all(e.kind in KEEPS_TRADES for e in between if e.number < entry.number)

    def _is_batch_under_way(self, entry: Entry) -> bool:
        """Whether the process of a replay or an extract has committed and now brings its bars.

        An hour of bars takes minutes to recompute; a dataflow that did it would stall. If that
        process died, its bars are made here after all, a while later.
        """
        self._table.refresh()
        missed = self._ledger.entries(after=self._included())
        return any(
            entry.committed_ms - e.committed_ms < BATCH_MS
            for e in missed
            if e.number < entry.number and (e.kind == "replay" or _is_of_extracts(e))
        )

    def _touched_by(self, entries: Sequence[Entry]) -> pa.Table:
        """The bars of the rows that entries added or, as a replay does, took away: only their
        keys matter.
        """
        paths = [item.path for entry in entries for silver in _silver_of(entry) for item in silver]
        added = self._aggregate([self._store.uri(path) for path in paths])
        spans = {span for entry in entries for span in entry.event_spans}
        return merge_totals([added, *(self._known_bars(*s) for s in sorted(spans))], self._sql)

    def _known_bars(self, first_ns: int, last_ns: int) -> pa.Table:
        """The bars that this table holds between two event times."""
        self._table.refresh()
        low, high = first_ns // MINUTE_NS * MINUTE_NS, last_ns
        found = [TOTALS.empty_table()]
        files = self._table.data_files_between(low // 1000, high // 1000)
        for data in self._store.get_many([self._store.relative(uri) for uri in files]):
            if data is not None:
                rows = pq.read_table(io.BytesIO(data), columns=["venue", "symbol", "ts_event_ns"])
                is_within = pc.and_(
                    pc.greater_equal(rows["ts_event_ns"], low),
                    pc.less_equal(rows["ts_event_ns"], high),
                )
                found.append(mark_bars(rows.filter(is_within).combine_chunks()))
        return pa.concat_tables(found)

    def _recompute_since(self, since_ns: int) -> pa.Table:
        bars = self._aggregate(self._files_between(since_ns // 1000, FAR_FUTURE_US))
        return bars.filter(pc.greater_equal(bars["minute_ns"], since_ns))

    def _recompute(self, wanted: pa.Table) -> pa.Table:
        """The bars of `wanted`, computed from the committed trades; without any, an empty bar."""
        if not wanted.num_rows:
            return TOTALS.empty_table()
        ends = pc.min_max(wanted["minute_ns"]).as_py()
        last_us = (ends["max"] + MINUTE_NS) // 1000
        bars = self._aggregate(self._files_between(ends["min"] // 1000, last_us), wanted)
        return pa.concat_tables([bars, _emptied(wanted, bars)])

    def _files_between(self, first_us: int, last_us: int) -> list[str]:
        self._trades.refresh()
        return self._trades.data_files_between(first_us, last_us)

    def _aggregate(self, files: Sequence[str], wanted: pa.Table | None = None) -> pa.Table:
        """Bars of the trades in data files; only those in `wanted` if given."""
        paths = [self._store.relative(uri) for uri in files]
        bars = None if wanted is None else WantedBars.of(wanted)
        opened = self._store.open_many(paths, READ_AHEAD)
        trades = [SilverTrades(file, bars) for file in opened if file is not None]
        return current_totals(trades, self._sql)

    def _append(self, totals: pa.Table, number: int, exact: int) -> None:
        """Commit revisions, unless an instance that is further on has the say now."""
        for _ in range(20):
            properties = self._table.properties
            state = (int(properties.get(NUMBER, "0")), int(properties.get(EXACT, "0")))
            if state[0] > number or state >= (number, exact):
                return
            revision = int(properties.get(REVISION, "0")) + 1
            marks = {NUMBER: str(number), EXACT: str(exact), REVISION: str(revision)}
            files = self._files(totals, revision)
            try:
                staged = [file.write(self._store)[1] for file in files]
                failpoint("bars-send")
                self._table.append(staged, marks, marks)
            except CommitConflictError:
                self._table.refresh()
            except RetryableError:
                self._table.refresh()
                if int(self._table.properties.get(NUMBER, "0")) < number:
                    raise
            else:
                return
        raise CommitConflictError(f"table {TABLE}: 20 commits in a row lost to another writer")

    def _files(self, totals: pa.Table, revision: int) -> list[DataFile]:
        return build_files(
            bar_rows(totals, revision, self._sql),
            self._table.arrow_schema,
            "ts_event_ns",
            lambda day, digest: SilverKey(TABLE, day, f"r{revision:012d}", digest[:16]),
            ["venue", "symbol", "revision"],
        )

    def _forget_old(self) -> None:
        if not self._open.totals.num_rows:
            return
        newest: int = pc.max(self._open.totals["minute_ns"]).as_py()
        since = newest - KEPT_MINUTES * MINUTE_NS
        if since > self._open.since_ns:
            self._open.since_ns = since
            kept = pc.greater_equal(self._open.totals["minute_ns"], since)
            self._open.totals = self._open.totals.filter(kept)


def open_bars(
    lake: Lake, contract: Contract, ledger: Ledger, *, leaves_batch: bool = False
) -> BarKeeper | None:
    """The keeper of a feed's bars; None for a feed without bars."""
    if not contract.has_bars:
        return None
    table = lake.catalog.open_or_create(TABLE, BARS, ORDER, DOCS)
    trades = lake.table(contract)
    return BarKeeper(table, trades, ledger, lake.store, leaves_batch=leaves_batch)


@dataclass(frozen=True, slots=True)
class WantedBars:
    """Which bars are wanted: their hashes, and what a row group's statistics can be held against.

    `minutes`, `venues` and `symbols` are distinct and sorted.
    """

    keys: Hashes
    minutes: list[int]
    venues: list[str]
    symbols: list[str]

    @classmethod
    def of(cls, bars: pa.Table) -> WantedBars:
        """Those of a table of totals; only (venue, symbol, minute) matter."""
        found = {name: sorted(pc.unique(bars[name]).to_pylist()) for name in BAR_KEY}
        return cls(bar_keys(bars), found["minute_ns"], found["venue"], found["symbol"])

    def may_be_in(self, group: pq.RowGroupMetaData) -> bool:
        """Whether a row group can hold a trade of one, by what its footer says."""
        ends = {
            column.path_in_schema: (column.statistics.min, column.statistics.max)
            for column in map(group.column, range(group.num_columns))
            if column.path_in_schema in READ and column.statistics and column.statistics.has_min_max
        }
        first, last = ends.get("ts_event_ns", (self.minutes[0], self.minutes[-1]))
        return (
            _has_between(self.minutes, first // MINUTE_NS * MINUTE_NS, last)
            and ("venue" not in ends or _has_between(self.venues, *ends["venue"]))
            and ("symbol" not in ends or _has_between(self.symbols, *ends["symbol"]))
        )

    def among(self, trades: pa.RecordBatch) -> pa.Array:
        """Mask of the trades that belong to one."""
        minutes = trades["ts_event_ns"].to_numpy() // MINUTE_NS * MINUTE_NS
        mask = (minutes >= self.minutes[0]) & (minutes <= self.minutes[-1])
        near = pa.Table.from_batches([trades]).filter(pa.array(mask))
        near = near.append_column("minute_ns", pa.array(minutes[mask]))
        mask[mask] = is_in_bars(near, self.keys).to_numpy(zero_copy_only=False)
        return pa.array(mask)


def _has_between(values: Sequence[_Value], first: _Value, last: _Value) -> bool:
    at = bisect_left(values, first)
    return at < len(values) and values[at] <= last


class SilverTrades:
    """The trades of one Silver file, or only those of the bars among `wanted`, read in parts.

    A few wanted bars may lie in files of a whole day, hundreds of MB each: only row groups that
    can hold one are looked at, column by column and a piece at a time; what is wanted is kept.
    """

    def __init__(self, file: ObjectFile, wanted: WantedBars | None) -> None:
        self._kept = None if wanted is None else _trades_in(file, wanted)
        self._stored = file if wanted is None else None

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The trades in parts, in the file's order."""
        if self._kept is not None and not self._kept.num_rows:
            return
        if self._kept is not None:
            yield self._kept.select(list(columns))
            return
        assert self._stored is not None
        with _open_parquet(self._stored) as file:
            for part in file.iter_batches(PART_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([part]).select(list(columns))


def _open_parquet(file: ObjectFile) -> pq.ParquetFile:
    if len(file.tail) == file.size:
        return pq.ParquetFile(pa.BufferReader(file.tail), read_dictionary=_DICTIONARIES)
    return pq.ParquetFile(file, read_dictionary=_DICTIONARIES, buffer_size=PIECE_BYTES)


def _trades_in(source: ObjectFile, wanted: WantedBars) -> pa.Table:
    """Prices are decoded only of row groups that hold a wanted bar."""
    with _open_parquet(source) as file:
        found = [file.schema_arrow.empty_table().select(list(READ))]
        groups = range(file.num_row_groups)
        for group in [g for g in groups if wanted.may_be_in(file.metadata.row_group(g))]:
            keys = file.iter_batches(PART_ROWS, [group], ["venue", "symbol", "ts_event_ns"])
            masks = [wanted.among(batch) for batch in keys]
            if any(pc.any(mask).as_py() for mask in masks):
                parts = file.iter_batches(PART_ROWS, [group], list(READ))
                rows = (pa.Table.from_batches([part]).select(list(READ)) for part in parts)
                found += [r.filter(mask) for r, mask in zip(rows, masks, strict=True)]
    return pa.concat_tables(found).unify_dictionaries().combine_chunks()


def _is_of_extracts(entry: Entry) -> bool:
    return any(record.shard.stream.startswith(STREAM_PREFIX) for record in entry.slices)


def _emptied(wanted: pa.Table, bars: pa.Table) -> pa.Table:
    """Bars of `wanted` that no trade is left of."""
    gone = wanted.filter(pc.invert(same_bars(wanted, bars)))
    keys = gone.select(["venue", "symbol", "minute_ns"])
    return mark_bars(keys.rename_columns(["venue", "symbol", "ts_event_ns"]))


def _silver_of(entry: Entry) -> list[tuple[ObjectRef, ...]]:
    return [*(s.silver for s in entry.slices), *(r.silver for r in entry.redriven)]
