"""The whole dbt project on a small lake: a bad day is stopped, a replay or compaction not seen."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from batch import actions
from batch.extracts import ExtractRequest
from batch.gold.build import build_gold
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.feeds.contract import Rule
from stream.lake.catalog import StagedFile
from stream.lake.gold import read_published, slot_file
from stream.lake.layout import SilverKey
from stream.lake.store import sha256
from stream.producers.simulate_books import BOOKS
from stream.query import run_query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUNDAY, MONDAY = date(2025, 11, 23), date(2025, 11, 24)
HOUR_NS = 3_600_000_000_000
LEDGER_TABLES = (
    "int_ledger_commits",
    "int_ledger_events",
    "int_ledger_rejects",
    "int_ledger_slices",
)
"""They hold one row more per commit, whatever the commit did."""


def midnight_ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**9


def land_day(lake: Any, trade: Callable[..., bytes], day: date, hours: int, first_id: int) -> None:
    """Seventy trades in every hour of a day's first hours: more than one a minute."""
    for hour in range(hours):
        start = midnight_ns(day) + hour * HOUR_NS
        lake.arrival_ns = start + HOUR_NS // 2
        messages = [
            trade(first_id + hour * 70 + i, f"{100 + i % 7}.25", at_ns=start + i * 25_000_000_000)
            for i in range(70)
        ]
        lake.land(lake.slice(messages))


def land_books(lake: Any) -> None:
    """Two months of prices, a few days of books, quotes and news."""
    symbols = tuple(sorted({symbol for book in BOOKS for symbol in book.weights}))
    wanted = {
        "prices_daily": (date(2025, 9, 20), symbols, {}),
        "positions": (date(2025, 11, 20), (), {}),
        "transactions": (date(2025, 11, 20), (), {}),
        "quotes": (SUNDAY, (), {"rows_per_day": "500"}),
        "news": (SUNDAY, (), {"rows_per_day": "60"}),
    }
    for feed, (first, names, options) in wanted.items():
        request = ExtractRequest(feed, first, MONDAY, names, options)
        actions.extract(lake.settings, "simulated", request, f"run-{feed}")
        actions.replay(lake.settings, feed, source="extract", run_id=f"run-{feed}", apply=True)


def read_gold(lake: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every published table, in order."""
    build = read_published(lake.lake.store, "local")
    file = slot_file(lake.settings.home, build.slot)
    with duckdb.connect(str(file), read_only=True) as connection:
        return {
            name: connection.execute(f'SELECT * FROM "{schema}"."{name}" ORDER BY ALL').fetchall()
            for name, schema in sorted(build.relations.items())
        }


def assert_same_gold(one: dict[str, Any], other: dict[str, Any], *, but: tuple[str, ...]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if name not in but and one[name] != other[name]]
    assert not different, {name: _first_difference(one[name], other[name]) for name in different}


def _first_difference(one: list[Any], other: list[Any]) -> Any:
    return next(
        ((a, b) for a, b in zip(one, other, strict=False) if a != b), (len(one), len(other))
    )


def test_gold_is_the_same_after_replay_and_compaction_row_for_row(small_lake, trade):
    lake = small_lake
    land_day(lake, trade, SUNDAY, 3, 0)
    land_day(lake, trade, MONDAY, 4, 10_000)
    corrected = {"kind": "correct", "known_at_ns": midnight_ns(MONDAY) + 11 * HOUR_NS}
    lake.arrival_ns = midnight_ns(MONDAY) + 12 * HOUR_NS
    lake.land(lake.slice([trade(3, "99", at_ns=midnight_ns(MONDAY), **corrected)]))
    lake.committer.finish()
    land_books(lake)
    first = build_gold(lake.settings)
    assert first.verdict == "published", first.errors
    before = read_gold(lake)
    assert len(before["fct_bars_1m"]) > 100
    assert len(before["var_calculations"]) > 0

    days = {"first_day": date(2025, 9, 1), "last_day": MONDAY}
    reports = actions.compact(lake.settings, apply=True, **days)
    assert sum(bool(report.commits) for report in reports) >= 2
    assert build_gold(lake.settings).verdict == "unchanged", "compaction changes no row"
    assert build_gold(lake.settings, is_full=True).verdict == "published"
    ops = ("fct_cost_day", "fct_feed_day", "fct_freshness", *LEDGER_TABLES)
    assert_same_gold(before, read_gold(lake), but=ops)

    # A decoder that refuses every second trade, and the right one again.
    is_even = Rule(
        "bad_value", "x", lambda r: pc.equal(pc.bit_wise_and(r["ts_event_ns"], 1 << 10), 0)
    )
    for contract, verdict in (
        (replace(lake.contract, rules=(is_even,)), "changed"),
        (lake.contract, "same"),
    ):
        report = replay_recorded(
            lake.settings,
            lake.lake,
            contract,
            (0, 2**41),
            BronzeSource(lake.lake.store),
            apply=True,
        )
        assert report.commit is not None
        built = build_gold(lake.settings)
        assert built.verdict == "published", built.errors
        assert set(built.days) == {SUNDAY.isoformat(), MONDAY.isoformat()}
        now = read_gold(lake)
        if verdict == "changed":
            assert now["fct_bars_1m"] != before["fct_bars_1m"]
    assert_same_gold(before, now, but=ops)


def test_bad_day_is_stopped_at_the_gate_with_its_rows_named(small_lake, trade):
    """Negative prices, 30 % nulls, doubled keys and a missing hour, as a broken job would leave."""
    lake = small_lake
    settings = lake.settings.model_copy(update={"silence_stops_gold": True})
    land_day(lake, trade, SUNDAY, 4, 0)
    assert build_gold(settings).verdict == "published"
    answer = "SELECT symbol, trades, volume FROM gold.fct_bars_1d"
    before = run_query(settings, answer).to_pylist()
    assert before == [{"symbol": "ACME", "trades": 280, "volume": Decimal(560)}]

    land_day(lake, trade, MONDAY, 4, 10_000)
    spoil_day(lake, MONDAY)
    report = build_gold(settings)
    assert (report.verdict, report.number) == ("rejected", 1)
    assert run_query(settings, answer).to_pylist() == before, "the old Gold answers"
    found = {failure.name: failure for failure in report.errors}
    sane = _kept(report, found["trades_are_sane"])
    assert {row["trade_id"] for row in sane if row["fault"] == "not positive"} == {"10000", "10001"}
    assert len([row for row in sane if row["fault"] == "null"]) == 63
    doubled = found["trades_are_not_doubled"]
    assert {row["trade_id"] for row in doubled.samples} == {"10005", "10006"}
    silent = found["open_venue_is_never_silent"]
    assert [(row["venue"], row["event_day"], row["hour"]) for row in silent.samples] == [
        ("sim", MONDAY, 2)
    ]
    lost = found["silver_holds_what_the_ledger_says"]
    assert lost.failures > 0
    assert all(row["slice_id"] for row in lost.samples)


def _kept(report: Any, failure: Any) -> list[dict[str, Any]]:
    with duckdb.connect(report.file, read_only=True) as connection:
        return connection.execute(f"FROM {failure.kept_in}").to_arrow_table().to_pylist()


def spoil_day(lake: Any, day: date) -> None:
    """Put one file in the place of the day's files, past contract and ledger."""
    lake.table.refresh()
    mine = [
        address
        for address, _ in lake.table.data_files()
        if SilverKey.parse(lake.lake.store.relative(address)).day == day
    ]
    rows = pa.concat_tables(
        pq.read_table(io.BytesIO(lake.lake.store.get(lake.lake.store.relative(address))))
        for address in mine
    ).sort_by("ts_event_ns")
    hour = pc.divide(pc.subtract(rows["ts_event_ns"], midnight_ns(day)), HOUR_NS)
    rows = rows.filter(pc.not_equal(hour, 2))
    number, count = pa.array(range(rows.num_rows)), rows.num_rows
    price = pc.if_else(
        pc.less(number, 2), pa.scalar(Decimal("-1"), rows["price"].type), rows["price"]
    )
    is_null = pc.greater_equal(number, count - count * 3 // 10)
    price = pc.if_else(is_null, pa.scalar(None, rows["price"].type), price)
    rows = rows.set_column(
        rows.schema.get_field_index("price"), rows.schema.field("price").with_nullable(True), price
    )
    rows = pa.concat_tables([rows, rows.slice(5, 2)])
    out = io.BytesIO()
    pq.write_table(rows, out, store_decimal_as_integer=True)
    data = out.getvalue()
    path = SilverKey("trades", day, "spoilt", sha256(data)[:16]).path
    lake.lake.store.put(path, data)
    uri = lake.lake.store.uri(path)
    staged = StagedFile(
        uri, len(data), rows.num_rows, sha256(data), pq.read_metadata(io.BytesIO(data))
    )
    lake.table.replace(mine, [staged], {}, {})
