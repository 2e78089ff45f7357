"""Tables: one attempt per commit, a snapshot for each, additive evolution."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stream.errors import CommitConflictError, ConfigError
from stream.feeds import load_feeds
from stream.feeds.contract import Column
from stream.lake.connect import connect_lake
from stream.query import run_query
from stream.settings import load_settings


def test_append_against_an_old_state_is_refused(small_lake: Any) -> None:
    """The library's own retry would accept it, and the same rows would be there twice."""
    one, two = (small_lake.lake.catalog.open("trades") for _ in range(2))
    [result] = small_lake.road.process([small_lake.slice([b"x"])])
    one.append(result.files, {"who": "one"}, {})
    with pytest.raises(CommitConflictError):
        two.append(result.files, {"who": "two"}, {})
    two.refresh()
    assert two.properties["who"] == "one"
    two.append([], {"who": "two"}, {})
    assert two.properties["who"] == "two"


def test_append_of_nothing_makes_a_snapshot(small_lake: Any) -> None:
    """Without one, a stale writer's properties would be accepted."""
    table = small_lake.lake.catalog.open("trades")
    before = table.snapshot_id
    table.append([], {"a": "b"}, {})
    assert table.snapshot_id != before


def test_open_of_a_missing_table_says_how_to_make_it(small_lake: Any) -> None:
    with pytest.raises(ConfigError, match="headrace run"):
        small_lake.lake.catalog.open("nothing")


def test_table_is_widened_by_new_columns(small_lake: Any) -> None:
    small_lake.land_trades(2)
    contract = small_lake.contract
    wider = replace(
        contract, columns=(*contract.columns, Column("tag", pa.string(), "", nullable=True))
    )
    small_lake.lake.table(wider)
    assert "tag" in small_lake.lake.catalog.open("trades").arrow_schema.names
    assert (
        run_query(small_lake.settings, "select tag from trades").to_pylist() == [{"tag": None}] * 2
    )


def test_files_of_a_time_range_are_those_that_may_hold_it(small_lake: Any) -> None:
    first, second = small_lake.land_trades(2), small_lake.land_trades(2)
    small_lake.table.refresh()
    at = first.arrival_ns[0] // 1000 - 1_000_000
    assert len(small_lake.table.data_files()) == 2
    assert len(small_lake.table.data_files_between(0, at + 500_000)) == 1
    assert len(small_lake.table.data_files_between(0, second.arrival_ns[0] // 1000)) == 2
    assert small_lake.lake.catalog.names() == ["bars_1m", "trades"]


def test_catalog_opened_by_many_at_once_is_created_once(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    feeds = list(load_feeds().values())

    def start(number: int) -> str:
        return connect_lake(settings).table(feeds[number % len(feeds)]).name

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(start, range(8)))
    assert names == set(connect_lake(settings).catalog.names()) == {c.feed for c in feeds}
