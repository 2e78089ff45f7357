"""Running totals merge in any order and equal the definition over all trades at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.bars import FROM_TRADES, TOTALS, merge_totals, slice_totals
from stream.ordering import sort_indices

START_NS = 1_764_000_000_000_000_000
CENTS = st.integers(1, 10**6).map(lambda cents: Decimal(cents) / 100)
TRADES = st.lists(
    st.tuples(
        st.sampled_from(["sim", "kraken"]),
        st.sampled_from(["A", "B"]),
        CENTS,
        CENTS,
        st.integers(0, 150_000_000_000).map(lambda ns: START_NS + ns // 10**9 * 10**9),
    ),
    min_size=1,
    max_size=40,
)


def table(trades: list[Any], ids: list[int]) -> pa.Table:
    """Silver rows of distinct new trades, sorted as a file is."""
    price = pa.decimal128(18, 8)
    rows = pa.table(
        {
            "venue": pa.array([t[0] for t in trades], pa.string()),
            "symbol": pa.array([t[1] for t in trades], pa.string()),
            "trade_id": pa.array([str(number) for number in ids], pa.string()),
            "kind": pa.array(["new"] * len(trades), pa.string()),
            "price": pa.array([t[2] for t in trades], price),
            "size": pa.array([t[3] for t in trades], price),
            "ts_event_ns": pa.array([t[4] for t in trades], pa.int64()),
            "known_at_ns": pa.array([t[4] for t in trades], pa.int64()),
            "is_late": pa.array([False] * len(trades)),
        }
    )
    return rows.take(
        pa.array(sort_indices(rows, ("venue", "symbol"), "ts_event_ns", ("trade_id",)))
    )


def definition(trades: pa.Table) -> list[dict[str, Any]]:
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        sql.register("trades", trades)
        return ordered(sql.execute(FROM_TRADES).to_arrow_table().cast(TOTALS))


def ordered(totals: pa.Table) -> list[dict[str, Any]]:
    keys = [(name, "ascending") for name in ("venue", "symbol", "minute_ns")]
    rows: list[dict[str, Any]] = totals.take(pc.sort_indices(totals, keys)).to_pylist()
    return rows


@settings(max_examples=60, deadline=None)
@given(TRADES, st.data())
def test_totals_of_any_split_in_any_order_equal_the_definition(
    trades: list[Any], data: Any
) -> None:
    ids = list(range(len(trades)))
    order = data.draw(st.permutations(ids))
    parts, at = [], 0
    while at < len(order):
        size = data.draw(st.integers(1, len(order) - at))
        some = order[at : at + size]
        parts.append(slice_totals(table([trades[i] for i in some], some)))
        at += size
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        merged = merge_totals(data.draw(st.permutations(parts)), sql)
        nested = merge_totals([merge_totals([part], sql) for part in parts], sql)
    assert ordered(merged) == ordered(nested) == definition(table(trades, ids))
