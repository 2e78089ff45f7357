"""Compaction: the same rows in fewer, sorted files; a receipt; races and planted losses."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.extracts import ExtractRequest
from batch.extracts.landing import land_extract
from batch.extracts.simulate import SimulatedExtractor
from batch.maintain.compact import TableFile, compact_table, plan_groups
from batch.maintain.compact import _Compaction as Compaction
from batch.maintain.receipt import RowDigest, digest_rows
from batch.replay.from_extract import replay_extracts
from stream.errors import FatalError
from stream.feeds import load_feed
from stream.lake.connect import connect_lake
from stream.ordering import sort_rows
from stream.prove import prove_lake
from stream.query import run_query
from stream.settings import load_settings
from stream.silver import SilverWriter

DAY = date(2025, 11, 24)


def compact(lake: Any, **options: Any) -> Any:
    return compact_table(
        lake.lake,
        "trades",
        region="us-east-1",
        last_day=date(2030, 1, 1),
        clock=lake.clock,
        **{"apply": True, **options},
    )


def rows(lake: Any) -> list[Any]:
    return run_query(lake.settings, "SELECT * FROM trades ORDER BY ALL").to_pylist()


@pytest.fixture
def filled(small_lake: Any) -> Any:
    for number in range(6):
        small_lake.land_trades(50, symbol="ACME" if number % 2 else "ZED")
    return small_lake


def test_dry_run_says_what_would_become_of_the_files(filled: Any) -> None:
    report = compact(filled, apply=False)
    assert (report.files_before, report.files_after, report.rows) == (6, 1, 300)
    assert report.bytes_after is None
    assert len(filled.table.files()) == 6


def test_compaction_keeps_every_row_and_proves_equal(filled: Any) -> None:
    before = rows(filled)
    report = compact(filled)
    assert (report.files_before, report.files_after, report.lost_races) == (6, 1, 0)
    filled.table.refresh()
    assert len(filled.table.files()) == 1
    assert rows(filled) == before
    proof = prove_lake(filled.lake, filled.contract)
    assert proof.is_equal, str(proof)
    assert [note.kind for note in proof.notes] == ["rewritten"]


def test_compacted_file_has_the_order_and_the_columns_of_a_slice(filled: Any) -> None:
    compact(filled)
    filled.table.refresh()
    path = filled.lake.store.relative(filled.table.files()[0].address)
    table = pq.read_table(filled.path(path))
    order = sort_rows(table, filled.contract.order, "ts_event_ns")
    assert order.tolist() == list(range(300))
    parquet = pq.ParquetFile(filled.path(path))
    slice_path = filled.results[0].record.silver[0].path
    assert parquet.schema_arrow == pq.ParquetFile(filled.path(slice_path)).schema_arrow
    assert parquet.metadata.row_group(0).column(1).statistics is not None


@pytest.mark.parametrize("feed", ["news", "prices_daily", "quotes"])
def test_tables_of_other_columns_and_orders_keep_every_row(tmp_path: Path, feed: str) -> None:
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    lake, contract = connect_lake(settings), load_feed(feed)
    request = ExtractRequest(feed, DAY, DAY, options={"rows_per_day": "300"})
    for number, symbols in enumerate([("AAPL", "MSFT"), ("NVDA", "KO")]):
        asked = replace(request, symbols=symbols)
        manifest = land_extract(lake.store, SimulatedExtractor(), asked, f"run-{number}")
        replay_extracts(settings, lake, contract, [manifest], apply=True)
    query = f"SELECT * FROM {feed} ORDER BY ALL"
    before = run_query(settings, query).to_pylist()
    report = compact_table(lake, feed, region="us-east-1", apply=True)
    assert (report.files_before, report.files_after) == (2, 1)
    assert report.rows == len(before)
    assert run_query(settings, query).to_pylist() == before
    table = lake.catalog.open(feed)
    written = pq.read_table(table.files()[0].address.removeprefix("file://"))
    order = sort_rows(written, contract.order, contract.event_time)
    assert order.tolist() == list(range(len(before)))
    assert prove_lake(lake, contract).is_equal


def test_second_compaction_finds_nothing(filled: Any) -> None:
    compact(filled)
    assert compact(filled).files_before == 0


def test_today_is_left_alone(filled: Any) -> None:
    report = compact_table(
        filled.lake, "trades", region="us-east-1", apply=True, clock=filled.clock
    )
    assert report.files_before == 0


def test_bars_are_compacted_too(filled: Any) -> None:
    before = run_query(filled.settings, "SELECT * FROM bars_1m_current ORDER BY ALL").to_pylist()
    report = compact_table(
        filled.lake,
        "bars_1m",
        region="us-east-1",
        last_day=date(2030, 1, 1),
        apply=True,
        clock=filled.clock,
    )
    assert report.files_after == 1
    after = run_query(filled.settings, "SELECT * FROM bars_1m_current ORDER BY ALL").to_pylist()
    assert after == before
    filled.land_trades(50)
    assert run_query(
        filled.settings, "SELECT sum(trades)::INT AS n FROM bars_1m_current"
    ).to_pylist() == [{"n": 350}]


def test_receipt_stands_in_the_ledger(filled: Any) -> None:
    compact(filled)
    rewrite = filled.entries()[-1].rewrites[0]
    assert (len(rewrite.removed), len(rewrite.written), rewrite.rows) == (6, 1, 300)
    assert len(rewrite.digest) == 32


def test_lost_row_is_caught_and_nothing_is_published(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction that loses one row while it writes."""
    write = SilverWriter.write
    monkeypatch.setattr(SilverWriter, "write", lambda self, rows: write(self, rows.slice(1)))
    before, head = rows(filled), filled.ledger.head().number
    with pytest.raises(FatalError, match=r"300 rows with digest .* holds 299 with .* Nothing was"):
        compact(filled)
    assert rows(filled) == before
    assert filled.ledger.head().number == head


def test_changed_value_is_caught(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write = SilverWriter.write

    def swap(self: Any, rows: pa.Table) -> None:
        sides = pa.array(["sell", *rows["side"].to_pylist()[1:]])
        write(self, rows.set_column(rows.column_names.index("side"), "side", sides))

    monkeypatch.setattr(SilverWriter, "write", swap)
    with pytest.raises(FatalError, match="lost, doubled or changed a row"):
        compact(filled)


def test_two_compactions_at_once_publish_once(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have written their file before either publishes."""
    before, gate = rows(filled), threading.Barrier(2, timeout=60)
    publish = Compaction._publish

    def wait(self: Any, *args: Any) -> Any:
        gate.wait()
        return publish(self, *args)

    monkeypatch.setattr(Compaction, "_publish", wait)
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(compact(filled))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(report.lost_races for report in reports) == [0, 1]
    assert rows(filled) == before
    assert prove_lake(filled.lake, filled.contract).is_equal


def test_appends_while_it_compacts_are_kept(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Compaction._publish

    def append_first(self: Any, *args: Any) -> Any:
        filled.land_trades(50)
        return publish(self, *args)

    monkeypatch.setattr(Compaction, "_publish", append_first)
    assert compact(filled).files_after == 1
    assert len(rows(filled)) == 350
    filled.table.refresh()
    assert len(filled.table.files()) == 2
    assert prove_lake(filled.lake, filled.contract).is_equal
    assert run_query(
        filled.settings, "SELECT sum(trades)::INT AS n FROM bars_1m_current"
    ).to_pylist() == [{"n": 350}]


def test_changed_compacted_file_is_named_by_the_proof(filled: Any) -> None:
    compact(filled)
    filled.table.refresh()
    path = filled.path(filled.lake.store.relative(filled.table.files()[0].address))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    proof = prove_lake(filled.lake, filled.contract)
    assert [difference.kind for difference in proof.differences] == ["silver_changed"]


@given(st.lists(st.integers(1, 1_000), max_size=30), st.integers(1, 2_000))
def test_groups_hold_every_small_file_at_most_once_and_fit(sizes: list[int], target: int) -> None:
    files = [TableFile(f"f{n}", f"f{n:03}", DAY, size, 1) for n, size in enumerate(sizes)]
    groups = plan_groups(files, None, DAY, target)
    grouped = [file.path for group in groups for file in group.files]
    assert len(grouped) == len(set(grouped))
    assert all(group.bytes <= target and len(group.files) > 1 for group in groups)
    assert all(file.bytes < target * 0.75 for group in groups for file in group.files)


ROWS = st.lists(
    st.tuples(
        st.text(max_size=9),
        st.integers(-(2**63), 2**63 - 1),
        st.decimals(-(10**9), 10**9, places=8),
        st.booleans(),
    ),
    max_size=20,
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("price", pa.decimal128(18, 8)),
        ("flag", pa.bool_()),
    ]
)


def table_of(items: list[Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in items], schema=SCHEMA
    )


@given(ROWS, st.randoms())
def test_digest_does_not_depend_on_order_or_files(items: list[Any], random: Any) -> None:
    digest = RowDigest()
    shuffled = random.sample(items, len(items))
    cut = len(items) // 2
    for part in (shuffled[:cut], shuffled[cut:]):
        digest.add(table_of(part), SCHEMA)
    assert digest.hex == digest_rows(table_of(items), SCHEMA)


@given(ROWS.filter(bool), st.data())
def test_digest_of_a_lost_doubled_or_changed_row_differs(items: list[Any], data: Any) -> None:
    at = data.draw(st.integers(0, len(items) - 1))
    text, number, price, flag = items[at]
    changed = [*items[:at], (text, number ^ 1, price, flag), *items[at + 1 :]]
    digests = [
        digest_rows(table_of(rows), SCHEMA)
        for rows in (items, changed, [*items, items[at]], items[:at] + items[at + 1 :])
    ]
    assert len(set(digests)) == 4


def test_missing_column_of_an_old_file_counts_as_null() -> None:
    wide = pa.schema([*SCHEMA, pa.field("new", pa.string())])
    old, new = (
        table_of([("a", 1, None, True)]),
        pa.table([["a"], [1], [None], [True], [None]], schema=wide),
    )
    assert digest_rows(old, wide) == digest_rows(new, wide)


def test_compaction_leaves_no_file_behind_on_the_local_disk(
    filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    compact(filled)
    assert not list(scratch.iterdir())
