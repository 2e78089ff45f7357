"""One-minute bars per (venue, symbol): open, high, low, close, volume, VWAP, trade count.

What a bar is (`FROM_TRADES`, the definition), and totals that merge in any order so that a slice
of trades need be looked at only once. Exact decimals throughout. `bars_1m` is append-only: every
commit of trades appends a new revision of the bars that it touched; the current view takes the
last. Not here: when totals can be trusted and when a bar is recomputed (`bar_keeper`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stream.keyhash import Hashes, hash_rows, is_among
from stream.ordering import group_codes, sort_rows

TABLE = "bars_1m"
MINUTE_NS = 60_000_000_000
ORDER = ("venue", "symbol", "ts_event_ns")
BAR_KEY = ("venue", "symbol", "minute_ns")
BATCH_ROWS = 8_192
"""DuckDB reserves the memory of a whole batch for a result of any size: with its default of a
million rows, 45 MB for a few bars (157 MB for totals), held as long as the result is."""
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
    "vwap": "notional / volume, rounded to 8 decimals, from low to high",
    "trades": "Number of current trades; 0 when all of them were cancelled",
    "revision": "Counts the commits of this table; the last one wins",
}

_FIRST = "(first_ns, length(first_id), first_id)"
_LAST = "(last_ns, length(last_id), last_id)"
MERGE = f"""
SELECT venue, symbol, minute_ns,
       arg_min(open, {_FIRST}) FILTER (trades > 0) AS open, max(high) AS high, min(low) AS low,
       arg_max(close, {_LAST}) FILTER (trades > 0) AS close,
       sum(volume)::DECIMAL(38,8) AS volume, sum(notional)::DECIMAL(38,16) AS notional,
       sum(trades)::BIGINT AS trades,
       min(first_ns) AS first_ns, arg_min(first_id, {_FIRST}) FILTER (trades > 0) AS first_id,
       max(last_ns) AS last_ns, arg_max(last_id, {_LAST}) FILTER (trades > 0) AS last_id,
       bool_or(must_recompute) AS must_recompute
FROM parts GROUP BY ALL
"""  # noqa: S608  # nosec B608: constants of this module

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


_LATEST = """
SELECT * FROM trades
QUALIFY row_number() OVER (
  PARTITION BY venue, symbol, trade_id
  ORDER BY known_at_ns DESC, CASE kind WHEN 'cancel' THEN 2 WHEN 'correct' THEN 1 ELSE 0 END DESC,
           ts_event_ns DESC, price DESC, size DESC) = 1
"""
LIVE_TRADES = f"SELECT * FROM ({_LATEST}) WHERE kind <> 'cancel'"  # noqa: S608  # nosec B608: constants
CORRECTED_TRADES = "SELECT DISTINCT venue, symbol, ts_event_ns FROM trades WHERE kind <> 'new'"

ROWS = """
SELECT venue, symbol, minute_ns AS ts_event_ns, open, high, low, close, volume, notional,
       CASE WHEN volume > 0 THEN
         least(greatest(round(notional / volume, 8)::DECIMAL(28,8), low), high)
       END::DECIMAL(18,8) AS vwap,
       trades, first_ns AS first_trade_ns, last_ns AS last_trade_ns, ?::BIGINT AS revision,
       make_timestamp(minute_ns // 1000) AS ts_event
FROM totals ORDER BY venue, symbol, minute_ns
"""


def slice_totals(rows: pa.Table) -> pa.Table:
    """Totals per (venue, symbol, minute) of the new trades of one slice's Silver rows, sorted so.

    A bar that a correction, a cancel or a late row touches is marked: it must be recomputed
    from the table, because a high cannot be taken back.
    """
    is_plain = pc.and_(pc.equal(rows["kind"], "new"), pc.invert(rows["is_late"]))
    if pc.all(is_plain).as_py() is not False:
        return _run_totals(rows)
    odd = rows.filter(pc.invert(is_plain)).select(["venue", "symbol", "ts_event_ns"])
    return pa.concat_tables([_run_totals(rows.filter(is_plain)), mark_bars(odd)])


def _run_totals(rows: pa.Table) -> pa.Table:
    if not rows.num_rows:
        return TOTALS.empty_table()
    codes = group_codes(rows, ("venue", "symbol"))
    times = rows["ts_event_ns"].combine_chunks().to_numpy()
    minutes = times // MINUTE_NS
    starts = np.flatnonzero((np.diff(codes, prepend=-1) != 0) | (np.diff(minutes, prepend=-1) != 0))
    ends = np.append(starts[1:], len(codes)) - 1
    run = np.repeat(np.arange(len(starts)), ends - starts + 1)
    price, size = rows["price"].combine_chunks(), rows["size"].combine_chunks()
    sums = (
        pa.table({"run": run, "price": price, "size": size, "notional": pc.multiply(price, size)})
        .group_by("run", use_threads=False)
        .aggregate([("price", "max"), ("price", "min"), ("size", "sum"), ("notional", "sum")])
    )
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
        pa.array(np.zeros(len(starts), dtype=bool)),
    ]
    return pa.table(
        [_plain(c).cast(f.type) for c, f in zip(columns, TOTALS, strict=True)], schema=TOTALS
    )


def mark_bars(rows: pa.Table) -> pa.Table:
    """Bars that must be recomputed (venue, symbol, ts_event_ns), as totals without trades."""
    count = rows.num_rows
    minutes = rows["ts_event_ns"].to_numpy() // MINUTE_NS * MINUTE_NS
    known = {
        "venue": _plain(rows["venue"]),
        "symbol": _plain(rows["symbol"]),
        "minute_ns": pa.array(minutes),
        "volume": pa.array([0] * count),
        "notional": pa.array([0] * count),
        "trades": pa.array([0] * count),
        "must_recompute": pa.array([True] * count),
    }
    columns = [
        known[field.name].cast(field.type) if field.name in known else pa.nulls(count, field.type)
        for field in TOTALS
    ]
    return pa.table(columns, schema=TOTALS)


def merge_totals(parts: Sequence[pa.Table], connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Combine totals of the same bars, in any order."""
    connection.register("parts", pa.concat_tables(parts))
    merged = connection.execute(MERGE).to_arrow_table(BATCH_ROWS).cast(TOTALS)
    connection.unregister("parts")
    return merged


def bar_rows(totals: pa.Table, revision: int, sql: duckdb.DuckDBPyConnection) -> pa.Table:
    """Totals as rows of `bars_1m`, sorted."""
    sql.register("totals", totals)
    rows = sql.execute(ROWS, [revision]).to_arrow_table(BATCH_ROWS).cast(BARS)
    sql.unregister("totals")
    return rows


class TradeFile(Protocol):
    """One Silver file's trades, or those of them that are wanted, in the file's order."""

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The trades in parts, the same ones each time."""
        ...


def current_totals(files: Sequence[TradeFile], connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """What `FROM_TRADES` gives, for millions of trades and the memory of one part of a file.

    Only trades that occur more than once or are corrected go through SQL. The others of a part
    are summed like a slice, because a Silver file has a slice's order.
    """
    ids_of = ("venue", "symbol", "trade_id", "kind")
    hashes = [_id_hashes(part) for file in files for part in file.read(ids_of)]
    if not hashes:
        return TOTALS.empty_table()
    ids, counts = np.unique(np.concatenate([h for h, _ in hashes]), return_counts=True)
    odd = np.union1d(ids[counts > 1], np.concatenate([h[is_odd] for h, is_odd in hashes]))
    totals, repeated = [TOTALS.empty_table()], []
    parts = (part for file in files for part in file.read(READ))
    for rows, (own, _) in zip(parts, hashes, strict=True):
        is_odd = pa.array(is_among(own, odd))
        totals.append(_run_totals(rows.filter(pc.invert(is_odd))))
        repeated.append(rows.filter(is_odd))
    connection.register("trades", pa.concat_tables(repeated).unify_dictionaries())
    live = connection.execute(LIVE_TRADES).to_arrow_table(BATCH_ROWS)
    corrected = connection.execute(CORRECTED_TRADES).to_arrow_table(BATCH_ROWS)
    connection.unregister("trades")
    order = sort_rows(live, ("venue", "symbol", "ts_event_ns", "trade_id"), "ts_event_ns")
    totals += [_run_totals(live.take(pa.array(order))), mark_bars(corrected)]
    return merge_totals(totals, connection)


def _id_hashes(rows: pa.Table) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    is_odd = pc.not_equal(rows["kind"].cast(pa.string()), "new").combine_chunks()
    return (
        hash_rows(rows, ("venue", "symbol", "trade_id")),
        is_odd.to_numpy(zero_copy_only=False).astype(bool),
    )


def same_bars(bars: pa.Table, wanted: pa.Table) -> pa.Array:
    """Mask of `bars` whose (venue, symbol, minute) is in `wanted`."""
    return is_in_bars(bars, bar_keys(wanted))


def bar_keys(bars: pa.Table) -> Hashes:
    """The distinct hashes of (venue, symbol, minute), sorted: made once, looked up per file."""
    return np.unique(hash_rows(bars, BAR_KEY))


def is_in_bars(rows: pa.Table, keys: Hashes) -> pa.Array:
    """Mask of the rows whose (venue, symbol, minute) is among `bar_keys`."""
    return pa.array(is_among(hash_rows(rows, BAR_KEY), keys))


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
