"""Bars recomputed from a compacted file read only what can hold them, and come out the same."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from obstore.store import MemoryStore

import stream.lake.store as store_module
from stream.bar_keeper import SilverTrades, WantedBars
from stream.bars import FROM_TRADES, MINUTE_NS, TOTALS, current_totals
from stream.lake.store import ObjectFile, open_store

ROWS = 20_000
GROUP_ROWS = 4_000
FOOTER_BYTES = 70_000  # pyarrow asks for 64 KiB
START_NS = 1_764_000_000_000_000_000 // MINUTE_NS * MINUTE_NS
SYMBOLS = [f"S{number}" for number in range(10)]


def trades() -> pa.Table:
    """Ten symbols of one venue over ten minutes, in the order that compaction gives a file."""
    each = ROWS // len(SYMBOLS)
    at = START_NS + np.tile(np.arange(each) * (10 * MINUTE_NS // each), len(SYMBOLS))
    price = [Decimal(number * 7_919 % 1_000 + 1) / 100 for number in range(ROWS)]
    return pa.table(
        {
            "venue": pa.array(["sim"] * ROWS),
            "symbol": pa.array(np.repeat(SYMBOLS, each)),
            "trade_id": pa.array([str(number) for number in range(ROWS)]),
            "kind": pa.array(["new" if number % 97 else "correct" for number in range(ROWS)]),
            "price": pa.array(price, pa.decimal128(18, 8)),
            "size": pa.array(price[::-1], pa.decimal128(18, 8)),
            "ts_event_ns": pa.array(at),
            "known_at_ns": pa.array(at),
        }
    )


class Served:
    """A stored file's bytes, of which only the footer is at hand; notes what is asked for."""

    def __init__(self, rows: pa.Table) -> None:
        out = io.BytesIO()
        pq.write_table(rows, out, row_group_size=GROUP_ROWS, compression="none")
        self.data = out.getvalue()
        self.footer = pq.read_metadata(out)
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return self.data[start:end]

    def open(self) -> ObjectFile:
        return ObjectFile(self.fetch, len(self.data), self.data[-FOOTER_BYTES:])

    def groups_asked(self) -> set[int]:
        ends = [self._end(group) for group in range(self.footer.num_row_groups)]
        spans = zip([0, *ends], ends, strict=False)
        return {
            number
            for number, (first, last) in enumerate(spans)
            if any(start < last and end > first for start, end in self.asked)
        }

    def _end(self, group: int) -> int:
        columns = map(self.footer.row_group(group).column, range(self.footer.num_columns))
        ends = [
            (c.dictionary_page_offset or c.data_page_offset) + c.total_compressed_size
            for c in columns
        ]
        return int(max(ends))


def wanted(symbols: list[str], minute: int) -> pa.Table:
    return pa.table(
        {
            "venue": ["sim"] * len(symbols),
            "symbol": symbols,
            "minute_ns": pa.array([START_NS + minute * MINUTE_NS] * len(symbols)),
        }
    )


def ordered(bars: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = bars.sort_by(
        [(name, "ascending") for name in ("venue", "symbol", "minute_ns")]
    ).to_pylist()
    return rows


def expected(rows: pa.Table, asked: pa.Table) -> list[dict[str, Any]]:
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        sql.register("trades", rows)
        bars = sql.execute(FROM_TRADES).to_arrow_table().cast(TOTALS)
    symbols, minutes = pc.unique(asked["symbol"]), pc.unique(asked["minute_ns"])
    is_asked = pc.and_(pc.is_in(bars["symbol"], symbols), pc.is_in(bars["minute_ns"], minutes))
    return ordered(bars.filter(is_asked))


def test_recompute_reads_only_row_groups_that_can_hold_the_wanted_bars() -> None:
    rows, asked = trades(), wanted(["S4", "S5"], 3)
    stored = Served(rows)
    file = SilverTrades(stored.open(), WantedBars.of(asked))
    assert stored.groups_asked() == {2}
    assert sum(end - start for start, end in stored.asked) < len(stored.data) / 4
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        assert ordered(current_totals([file], sql)) == expected(rows, asked)


@pytest.mark.parametrize("minute", [-1, 10])
def test_recompute_of_minutes_outside_a_file_reads_nothing_but_its_footer(minute: int) -> None:
    stored = Served(trades())
    file = SilverTrades(stored.open(), WantedBars.of(wanted(SYMBOLS, minute)))
    assert stored.asked == []
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        assert current_totals([file], sql).num_rows == 0


def test_whole_file_read_in_parts_gives_the_bars_of_all_trades(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.bar_keeper.PART_ROWS", 700)
    rows = trades()
    with duckdb.connect(":memory:", config={"threads": 1}) as sql:
        found = current_totals([SilverTrades(Served(rows).open(), None)], sql)
        sql.register("trades", rows)
        bars = sql.execute(FROM_TRADES).to_arrow_table().cast(TOTALS)
    assert ordered(found) == ordered(bars)


@pytest.mark.parametrize("root", ["memory://lake", "file"])
def test_opened_object_reads_like_a_file_wherever_its_tail_begins(
    root: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.lake.store.WHOLE_BYTES", 10)
    monkeypatch.setattr("stream.lake.store.FOOTER_BYTES", 10)
    store = open_store(f"file://{tmp_path}" if root == "file" else root)
    data = bytes(range(64))
    store.put("silver/large", data)
    store.put("silver/small", data[:7])
    assert store.open("silver/none") is None
    small, large = store.open_many(["silver/small", "silver/large"])
    assert small is not None
    assert large is not None
    assert (small.read(), small.tail, small.read()) == (data[:7], data[:7], b"")
    assert (large.size, large.tail) == (64, data[-10:])
    for start, size in [(0, 5), (50, 10), (54, 10), (60, 99), (0, -1), (64, 3)]:
        large.seek(start)
        assert large.read(size) == data[start : None if size < 0 else start + size]
    assert large.seek(-4, io.SEEK_END) == large.tell() == 60


def test_object_of_a_store_without_ranges_is_read_from_a_local_file() -> None:
    backend, data = MemoryStore(), bytes(range(256)) * 40_000
    obstore.put(backend, "large", data)
    fetch = store_module._spool(obstore.get(backend, "large"))
    size = len(data)
    for start, end in [(0, 5), (9_999_999, 10_200_000), (size - 3, size)]:
        assert fetch(start, end) == data[start:end]
