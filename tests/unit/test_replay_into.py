"""Replay into a side table: the live table stays, a second replay changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import pytest

from batch.replay.into_table import replay_into
from stream.errors import ConfigError
from stream.feeds.contract import Rule
from stream.prove import prove_lake
from stream.query import run_query

ALL = (0, 10**13)


def replay(lake: Any, table: str = "trades_fixed", contract: Any = None, **options: Any) -> Any:
    options = {"apply": True, **options}
    return replay_into(
        lake.settings, lake.lake, contract or lake.contract, ALL, table, clock=lake.clock, **options
    )


def rows(lake: Any, table: str) -> list[Any]:
    return run_query(lake.settings, f"SELECT * FROM {table} ORDER BY ALL").to_pylist()


def test_side_table_equals_the_live_one_row_for_row(small_lake: Any) -> None:
    for _ in range(3):
        small_lake.land_trades(20)
    report = replay(small_lake)
    assert (report.slices, report.rows_added, report.table) == (3, 60, "trades_fixed")
    assert rows(small_lake, "trades_fixed") == rows(small_lake, "trades")
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_second_replay_changes_nothing(small_lake: Any) -> None:
    small_lake.land_trades(20)
    replay(small_lake)
    number = small_lake.lake.ledger("trades_fixed")[1].head().number
    replay(small_lake)
    assert small_lake.lake.ledger("trades_fixed")[1].head().number == number
    assert len(rows(small_lake, "trades_fixed")) == 20


def test_fix_shows_in_the_side_table_alone(small_lake: Any) -> None:
    small_lake.land_trades(20)
    odd = Rule("bad_value", "even", lambda r: pc.equal(pc.bit_wise_and(r["ts_event_ns"], 1), 0))
    replay(small_lake, contract=replace(small_lake.contract, rules=(odd,)))
    assert len(rows(small_lake, "trades_fixed")) == 10
    assert len(rows(small_lake, "trades")) == 20


def test_rows_dropped_as_duplicates_live_are_dropped_here(small_lake: Any, trade: Any) -> None:
    small_lake.land(small_lake.slice([trade(1), trade(2)]))
    small_lake.land(small_lake.slice([trade(2), trade(3)]))
    report = replay(small_lake)
    assert (report.rows_added, report.duplicates) == (3, 1)


def test_dry_run_makes_no_table(small_lake: Any) -> None:
    small_lake.land_trades(5)
    assert replay(small_lake, apply=False).slices == 1
    assert "trades_fixed" not in small_lake.lake.catalog.names()


@pytest.mark.parametrize("table", ["trades", "bars_1m", "Fixed", "", "a-b"])
def test_name_that_is_taken_or_none_is_refused(small_lake: Any, table: str) -> None:
    with pytest.raises(ConfigError, match="--into"):
        replay(small_lake, table)
