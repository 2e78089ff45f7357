"""The condition of each day: from Gold where it knows, else from the ledger and the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch.maintain.compact import SMALL_SHARE, TARGET_BYTES
from stream.errors import StoreUnavailableError
from stream.feeds import load_feed
from stream.lake.gold import GoldBuild, publish, slot_file
from stream.watch.commits import DayFacts
from stream.watch.days import GoldDays, judge_days, read_gold_days
from stream.watch.state import Day
from stream.watch.tables import SMALL_BYTES, read_table

NOW = 1_764_000_000_000  # 2025-11-24 16:00 UTC, a Monday
ALWAYS = load_feed("trades")
NEW_YORK = replace(load_feed("quotes"), calendar="XNYS")


def judged(
    rows: dict[str, int], facts: dict[str, DayFacts] | None = None, contract: Any = ALWAYS
) -> dict[str, tuple[str, int | None]]:
    days = judge_days(contract, rows, facts or {}, GoldDays(), NOW)
    return {day.day: (day.condition, day.rows) for day in days}


def test_days_of_a_feed_without_rows_are_none() -> None:
    assert judged({}) == {}


def test_days_go_from_the_first_row_to_today() -> None:
    assert judged({"2025-11-21": 5, "2025-11-23": 7}) == {
        "2025-11-21": ("available", 5),
        "2025-11-22": ("missing", 0),
        "2025-11-23": ("available", 7),
        "2025-11-24": ("pending", 0),
    }


def test_day_on_which_the_market_was_closed_is_none_unless_it_has_rows() -> None:
    found = judged({"2025-11-20": 1, "2025-11-23": 2}, contract=NEW_YORK)
    assert found == {
        "2025-11-20": ("available", 1),
        "2025-11-21": ("missing", 0),
        "2025-11-23": ("available", 2),
        "2025-11-24": ("pending", 0),
    }


@pytest.mark.parametrize(
    ("facts", "expected", "why"),
    [
        (DayFacts(100, 1, 0), "available", ""),
        (DayFacts(100, 2, 0), "degraded", "2.0% of messages were rejected"),
        (DayFacts(100, 0, 1), "degraded", "the source no longer held some records"),
        (DayFacts(), "available", ""),
    ],
)
def test_day_is_degraded_by_gaps_and_rejects(facts: DayFacts, expected: str, why: str) -> None:
    day = judge_days(ALWAYS, {"2025-11-23": 9}, {"2025-11-23": facts}, GoldDays(), NOW)[0]
    assert (day.condition, day.why) == (expected, why)


def test_days_of_years_are_the_last_53_weeks() -> None:
    assert len(judged({"1999-01-01": 1})) == 371


def test_day_of_gold_wins_except_the_one_that_was_pending() -> None:
    gold = GoldDays(
        3,
        {
            "2025-11-22": Day("2025-11-22", "degraded", 8, "sim: hours without trades"),
            "2025-11-23": Day("2025-11-23", "pending", 1, "sim: the newest day may go on"),
        },
        {"trades": {"2025-11-21": DayFacts(10, 5, 0)}},
    )
    rows = {"2025-11-21": 5, "2025-11-22": 8, "2025-11-23": 9}
    found = {day.day: day.condition for day in judge_days(ALWAYS, rows, {}, gold, NOW)}
    assert found == {
        "2025-11-21": "degraded",
        "2025-11-22": "degraded",
        "2025-11-23": "available",
        "2025-11-24": "pending",
    }


def published(small_lake: Any, home: Path) -> GoldBuild:
    """A build of Gold with two venues."""
    build = GoldBuild(
        1, "a", 1, "p", {}, relations=dict.fromkeys(("fct_data_condition", "fct_feed_day"), "m")
    )
    file = slot_file(home, "a")
    file.parent.mkdir(parents=True)
    with duckdb.connect(str(file)) as gold:
        gold.execute("CREATE SCHEMA m")
        gold.execute(
            """CREATE TABLE m.fct_data_condition AS SELECT * FROM (VALUES
            ('sim', DATE '2025-11-20', 'available', '', 5),
            ('kraken', DATE '2025-11-20', 'missing', 'no trades', 0),
            ('sim', DATE '2025-11-21', 'missing', 'no trades', 0),
            ('sim', DATE '2025-11-22', 'pending', 'the newest day may go on', 3)
            ) t(venue, event_day, data_condition, reason, trades)"""
        )
        gold.execute(
            """CREATE TABLE m.fct_feed_day AS SELECT 'quotes' AS feed,
            DATE '2025-11-20' AS arrival_day, 10 AS messages, 2 AS rejected, 1 AS gaps"""
        )
    assert publish(small_lake.lake.store, "local", build)
    return build


def test_days_of_a_published_build_are_folded_over_venues(small_lake: Any, tmp_path: Path) -> None:
    published(small_lake, tmp_path)
    store = small_lake.lake.store
    found = read_gold_days(store, tmp_path, GoldDays())
    assert {day.day: (day.condition, day.rows, day.why) for day in found.trades.values()} == {
        "2025-11-20": ("degraded", 5, "kraken: no trades"),
        "2025-11-21": ("missing", 0, "sim: no trades"),
        "2025-11-22": ("pending", 3, "sim: the newest day may go on"),
    }
    assert found.counts == {"quotes": {"2025-11-20": DayFacts(10, 2, 1)}}
    assert read_gold_days(store, tmp_path, found) is found


def test_days_of_a_build_that_cannot_be_read_say_so(small_lake: Any, tmp_path: Path) -> None:
    build = published(small_lake, tmp_path)
    slot_file(tmp_path, build.slot).write_bytes(b"not a database")
    with pytest.raises(StoreUnavailableError, match="build 1 of Gold"):
        read_gold_days(small_lake.lake.store, tmp_path, GoldDays())


def test_table_counts_rows_per_day_and_small_files(small_lake: Any) -> None:
    small_lake.land_trades(30)
    small_lake.land_trades(12)
    small_lake.table.refresh()
    facts = read_table(small_lake.table, small_lake.lake.store)
    assert facts.rows == {"2025-11-24": 42}
    assert (facts.tables.files, facts.tables.small_files, facts.tables.rows) == (2, 2, 42)


def test_small_file_is_what_compaction_merges() -> None:
    assert SMALL_BYTES == TARGET_BYTES * SMALL_SHARE
