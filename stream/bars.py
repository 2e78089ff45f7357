"""One-minute bars per (venue, symbol): open, high, low, close, volume, VWAP, trade count.

`bars_1m` is append-only: each commit of trades appends a new revision of every bar that it
touched; the current view takes the last revision. A bar is a function of the committed trades
alone: the slices of a commit are merged into running totals, and whatever those cannot be
trusted for (a cold start, a correction, a late row, another instance's commit) is recomputed
from the trades table. Exact decimals throughout; totals do not depend on arrival order.

The table carries the number of the ledger entry that it includes, so a crash between the two
commits is caught up from the ledger at the next one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.errors import CommitConflictError, RetryableError
from stream.lake.catalog import LakeTable
from stream.lake.layout import SilverKey
from stream.lake.ledger import Entry, Ledger, ObjectRef
from stream.lake.store import Store
from stream.ordering import group_codes
from stream.silver import build_files

TABLE = "bars_1m"
NUMBER = "headrace.bars.number"
MINUTE_NS = 60_000_000_000
KEPT_MINUTES = 30
ORDER = ("venue", "symbol", "ts_event_ns")
READ = ("venue", "symbol", "trade_id", "kind", "price", "size", "ts_event_ns", "known_at_ns")

TOTALS = pa.schema(
    [
        ("venue", pa.string()),
        ("symbol", pa.string()),
        ("minute_ns", pa.int64()),
        ("open", pa.decimal128(18, 8)),
        ("high", pa.decimal128(18, 8)),
        ("low", pa.decimal128(18, 8)),
        ("close", pa.decimal128(18, 8)),
        ("volume", pa.decimal128(38, 8)),
        ("notional", pa.decimal128(38, 16)),
        ("trades", pa.int64()),
        ("first_ns", pa.int64()),
        ("first_id", pa.string()),
        ("last_ns", pa.int64()),
        ("last_id", pa.string()),
        ("must_recompute", pa.bool_()),
    ]
)
"""Running totals of one bar; they merge in any order. Open is the trade with the lowest
(time, length of id, id), close the one with the highest."""

BARS = pa.schema(
    [
        pa.field("venue", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("open", pa.decimal128(18, 8)),
        pa.field("high", pa.decimal128(18, 8)),
        pa.field("low", pa.decimal128(18, 8)),
        pa.field("close", pa.decimal128(18, 8)),
        pa.field("volume", pa.decimal128(38, 8), nullable=False),
        pa.field("notional", pa.decimal128(38, 16), nullable=False),
        pa.field("vwap", pa.decimal128(18, 8)),
        pa.field("trades", pa.int64(), nullable=False),
        pa.field("first_trade_ns", pa.int64()),
        pa.field("last_trade_ns", pa.int64()),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("ts_event", pa.timestamp("us"), nullable=False),
    ]
)
DOCS = {
    "ts_event_ns": "Start of the minute, ns since the epoch, UTC",
    "ts_event": "Start of the minute, UTC",
    "volume": "Sum of sizes",
    "notional": "Sum of price x size, exact",
    "vwap": "notional / volume, rounded to 8 decimals",
    "trades": "Number of current trades; 0 when all of them were cancelled",
    "revision": "Ledger number of the trades commit that this revision includes; the last one wins",
}

_FIRST = "(first_ns, length(first_id), first_id)"
_LAST = "(last_ns, length(last_id), last_id)"
MERGE = f"""
SELECT venue, symbol, minute_ns,
       arg_min(open, {_FIRST}) AS open, max(high) AS high, min(low) AS low,
       arg_max(close, {_LAST}) AS close,
       sum(volume)::DECIMAL(38,8) AS volume, sum(notional)::DECIMAL(38,16) AS notional,
       sum(trades)::BIGINT AS trades,
       arg_min(first_ns, {_FIRST}) AS first_ns, arg_min(first_id, {_FIRST}) AS first_id,
       arg_max(last_ns, {_LAST}) AS last_ns, arg_max(last_id, {_LAST}) AS last_id,
       bool_or(must_recompute) AS must_recompute
FROM parts GROUP BY ALL
"""  # noqa: S608 - constants of this module

FROM_TRADES = """
WITH current AS (
  SELECT *, count(*) FILTER (kind <> 'new') OVER trade > 0 AS corrected
  FROM trades
  WINDOW trade AS (PARTITION BY venue, symbol, trade_id)
  QUALIFY row_number() OVER (
    PARTITION BY venue, symbol, trade_id
    ORDER BY known_at_ns DESC, CASE kind WHEN 'cancel' THEN 2 WHEN 'correct' THEN 1 ELSE 0 END DESC,
             ts_event_ns DESC, price DESC, size DESC) = 1
), priced AS (
  SELECT *, ts_event_ns // 60000000000 * 60000000000 AS minute_ns, kind <> 'cancel' AS live
  FROM current
)
SELECT venue, symbol, minute_ns,
       arg_min(price, (ts_event_ns, length(trade_id), trade_id)) FILTER (live) AS open,
       max(price) FILTER (live) AS high, min(price) FILTER (live) AS low,
       arg_max(price, (ts_event_ns, length(trade_id), trade_id)) FILTER (live) AS close,
       coalesce(sum(size) FILTER (live), 0)::DECIMAL(38,8) AS volume,
       coalesce(sum(price::DECIMAL(19,8) * size::DECIMAL(19,8)) FILTER (live), 0)
         ::DECIMAL(38,16) AS notional,
       (count(*) FILTER (live))::BIGINT AS trades,
       min(ts_event_ns) FILTER (live) AS first_ns,
       arg_min(trade_id, (ts_event_ns, length(trade_id), trade_id)) FILTER (live) AS first_id,
       max(ts_event_ns) FILTER (live) AS last_ns,
       arg_max(trade_id, (ts_event_ns, length(trade_id), trade_id)) FILTER (live) AS last_id,
       bool_or(corrected) AS must_recompute
FROM priced GROUP BY ALL
"""
"""Bars of the current trades: per trade the latest known version, cancelled ones left out.
The definition; the running totals must equal it (property-tested)."""


ROWS = """
SELECT venue, symbol, minute_ns AS ts_event_ns, open, high, low, close, volume, notional,
       CASE WHEN volume > 0 THEN round(notional / volume, 8) END::DECIMAL(18,8) AS vwap,
       trades, first_ns AS first_trade_ns, last_ns AS last_trade_ns, ?::BIGINT AS revision,
       make_timestamp(minute_ns // 1000) AS ts_event
FROM totals ORDER BY venue, symbol, minute_ns
"""


def slice_totals(rows: pa.Table) -> pa.Table:
    """Totals per (venue, symbol, minute) of one slice's Silver rows, which are sorted so.

    A group with a correction or a late row is marked: its bar must be recomputed.
    """
    if not rows.num_rows:
        return TOTALS.empty_table()
    codes = group_codes(rows, ("venue", "symbol"))
    times = rows["ts_event_ns"].combine_chunks().to_numpy()
    minutes = times // MINUTE_NS
    starts = np.flatnonzero((np.diff(codes, prepend=-1) != 0) | (np.diff(minutes, prepend=-1) != 0))
    ends = np.append(starts[1:], len(codes)) - 1
    run = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(codes))))
    price, size = rows["price"].combine_chunks(), rows["size"].combine_chunks()
    sums = (
        pa.table({"run": run, "price": price, "size": size, "notional": pc.multiply(price, size)})
        .group_by("run", use_threads=False)
        .aggregate([("price", "max"), ("price", "min"), ("size", "sum"), ("notional", "sum")])
    )
    odd = pc.or_(pc.not_equal(rows["kind"].cast(pa.string()), "new"), rows["is_late"])
    odd_runs = np.bincount(run, weights=odd.combine_chunks().to_numpy(zero_copy_only=False)) > 0
    first, last = pa.array(starts), pa.array(ends)
    columns = [
        rows["venue"].take(first),
        rows["symbol"].take(first),
        pa.array(minutes[starts] * MINUTE_NS),
        price.take(first),
        sums["price_max"],
        sums["price_min"],
        price.take(last),
        sums["size_sum"],
        sums["notional_sum"],
        pa.array(ends - starts + 1),
        pa.array(times[starts]),
        rows["trade_id"].take(first),
        pa.array(times[ends]),
        rows["trade_id"].take(last),
        pa.array(odd_runs),
    ]
    return pa.table(
        [_plain(c).cast(f.type) for c, f in zip(columns, TOTALS, strict=True)], schema=TOTALS
    )


def merge_totals(parts: Sequence[pa.Table], connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Combine totals of the same bars, in any order."""
    connection.register("parts", pa.concat_tables(parts))
    return connection.execute(MERGE).to_arrow_table().cast(TOTALS)


@dataclass(slots=True)
class OpenBars:
    """Running totals that equal the committed trades from `since_ns` on, up to entry `number`."""

    number: int = -1
    since_ns: int = 0
    totals: pa.Table = field(default_factory=TOTALS.empty_table)


class BarKeeper:
    """Keeps `bars_1m` equal to the committed trades. Lives in the process that commits."""

    def __init__(self, table: LakeTable, trades: LakeTable, ledger: Ledger, store: Store) -> None:
        self._table = table
        self._trades = trades
        self._ledger = ledger
        self._store = store
        self._open = OpenBars()
        self._sql = duckdb.connect(":memory:", config={"threads": 1})

    def committed_number(self) -> int:
        """The ledger entry that the table includes; 0 before the first commit."""
        self._table.refresh()
        return int(self._table.properties.get(NUMBER, "0"))

    def apply(self, entry: Entry, totals: Sequence[pa.Table]) -> None:
        """Append revisions for everything that a landed trades commit touched."""
        touched = merge_totals([TOTALS.empty_table(), *totals], self._sql)
        if self._open.number == entry.number - 1:
            changed = self._merge(entry, touched)
        else:  # a first commit, or another instance committed in between
            changed = self._start_over(entry, touched)
        self._append(changed, entry.number)
        self._forget_old()

    def catch_up(self) -> None:
        """After a start: include ledger entries whose bars a crash kept from being committed."""
        head = self._ledger.head()
        if self.committed_number() >= head.number:
            return
        entries = self._ledger.entries(after=self.committed_number())
        if entries:
            touched = self._touched(entries)
            self._append(self._recompute(touched), entries[-1].number)

    def _start_over(self, entry: Entry, touched: pa.Table) -> pa.Table:
        """Recompute everything since the table's own number; keep totals from there on."""
        missed = self._ledger.entries(after=self.committed_number())
        keys = self._touched([e for e in missed if e.number <= entry.number])
        touched = merge_totals([touched, keys], self._sql)
        since = self._reload_from(touched)
        self._open = OpenBars(entry.number, since, self._recompute_since(since))
        return self._recompute(touched)

    def _merge(self, entry: Entry, touched: pa.Table) -> pa.Table:
        """Fold a commit into the running totals; recompute what they cannot be trusted for."""
        is_touched = _same_bars(self._open.totals, touched)
        untouched = self._open.totals.filter(pc.invert(is_touched))
        merged = merge_totals([self._open.totals.filter(is_touched), touched], self._sql)
        odd = pc.or_(merged["must_recompute"], pc.less(merged["minute_ns"], self._open.since_ns))
        plain = merged.filter(pc.invert(odd))
        exact = self._recompute(merged.filter(odd))
        self._open.totals = pa.concat_tables([untouched, plain, exact])
        self._open.number = entry.number
        return pa.concat_tables([plain, exact])

    def _touched(self, entries: Sequence[Entry]) -> pa.Table:
        """Totals of the rows that entries added: only their bars' keys matter."""
        paths = [item.path for entry in entries for silver in _silver_of(entry) for item in silver]
        return self._aggregate([self._store.uri(path) for path in paths], TOTALS.empty_table())

    def _reload_from(self, touched: pa.Table) -> int:
        """First minute whose bars are kept running: the last half hour of what was touched."""
        if not touched.num_rows:
            return 1 << 62
        newest: int = pc.max(touched["minute_ns"]).as_py()
        oldest: int = pc.min(touched["minute_ns"]).as_py()
        return max(oldest, newest - KEPT_MINUTES * MINUTE_NS)

    def _recompute_since(self, since_ns: int) -> pa.Table:
        if since_ns >= 1 << 62:
            return TOTALS.empty_table()
        self._trades.refresh()
        files = self._trades.data_files_between(since_ns // 1000, 253_402_300_799_000_000)
        bars = self._aggregate(files, TOTALS.empty_table())
        return bars.filter(pc.greater_equal(bars["minute_ns"], since_ns))

    def _recompute(self, touched: pa.Table) -> pa.Table:
        """The bars of `touched`, computed from the committed trades."""
        if not touched.num_rows:
            return TOTALS.empty_table()
        ends = pc.min_max(touched["minute_ns"])
        self._trades.refresh()
        files = self._trades.data_files_between(
            ends["min"].as_py() // 1000, (ends["max"].as_py() + MINUTE_NS) // 1000
        )
        return self._aggregate(files, touched)

    def _aggregate(self, files: Sequence[str], only: pa.Table) -> pa.Table:
        """Bars of the trades in data files; of the bars in `only` if it has any."""
        if not files:
            return TOTALS.empty_table()
        trades = self._read_trades(files)
        if only.num_rows:
            minutes = pc.unique(only["minute_ns"])
            minute = pa.array(trades["ts_event_ns"].to_numpy() // MINUTE_NS * MINUTE_NS)
            trades = trades.filter(pc.is_in(minute, minutes))
        self._sql.register("trades", trades)
        bars = self._sql.execute(FROM_TRADES).to_arrow_table().cast(TOTALS)
        return bars.filter(_same_bars(bars, only)) if only.num_rows else bars

    def _read_trades(self, files: Sequence[str]) -> pa.Table:
        paths = [self._store.relative(uri) for uri in files]
        tables = [
            pq.read_table(io.BytesIO(data), columns=list(READ))
            for data in self._store.get_many(paths)
            if data is not None
        ]
        return pa.concat_tables(tables)

    def _append(self, totals: pa.Table, number: int) -> None:
        """Commit revisions. Losing a race to an instance that is further on is fine."""
        rows = bar_rows(totals, number, self._sql)
        files = build_files(
            rows,
            self._table.arrow_schema,
            "ts_event_ns",
            lambda day, digest: SilverKey(TABLE, day, f"r{number:012d}", digest[:16]),
            ["venue", "symbol", "revision"],
        )
        staged = [file.write(self._store)[1] for file in files]
        for _ in range(20):
            if int(self._table.properties.get(NUMBER, "0")) >= number:
                return
            try:
                self._table.append(staged, {NUMBER: str(number)}, {NUMBER: str(number)})
            except CommitConflictError:
                self._table.refresh()
            except RetryableError:
                if self.committed_number() < number:
                    raise
            else:
                return
        raise CommitConflictError(f"table {TABLE}: 20 commits in a row lost to another writer")

    def _forget_old(self) -> None:
        if not self._open.totals.num_rows:
            return
        newest = pc.max(self._open.totals["minute_ns"]).as_py()
        since = newest - KEPT_MINUTES * MINUTE_NS
        if since > self._open.since_ns:
            self._open.since_ns = since
            kept = pc.greater_equal(self._open.totals["minute_ns"], since)
            self._open.totals = self._open.totals.filter(kept)


def bar_rows(totals: pa.Table, revision: int, sql: duckdb.DuckDBPyConnection) -> pa.Table:
    """Totals as rows of `bars_1m`, sorted."""
    sql.register("totals", totals)
    return sql.execute(ROWS, [revision]).to_arrow_table().cast(BARS)


def _silver_of(entry: Entry) -> list[tuple[ObjectRef, ...]]:
    return [*(s.silver for s in entry.slices), *(r.silver for r in entry.redriven)]


def _same_bars(bars: pa.Table, wanted: pa.Table) -> pa.Array:
    """Mask of `bars` whose (venue, symbol, minute) is in `wanted`."""
    return pc.is_in(_bar_key(bars), _bar_key(wanted))


def _bar_key(bars: pa.Table) -> pa.Array:
    key = pc.binary_join_element_wise(
        bars["venue"], bars["symbol"], bars["minute_ns"].cast(pa.string()), "\x1f"
    )
    return key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
