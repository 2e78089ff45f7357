"""Slots and publication: one winner per number, old files stay while they may be read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.gold.build import build_gold
from batch.gold.slots import one_build, open_slot
from stream.clock import SYSTEM_CLOCK
from stream.errors import CommitConflictError, ConfigError
from stream.gold_views import find_gold
from stream.lake.gold import GoldBuild, build_numbers, publish, read_published, slot_file
from stream.lake.layout import DbtArtifactKey, GoldBuildKey
from stream.query import run_query
from stream.settings import load_settings

BUILD = GoldBuild(1, "a", 0, "code", {"trades": 3}, ("2026-11-24",), (), {"t": "gold"})


def make_file(settings, slot: str, value: int) -> None:
    file = slot_file(settings.home, slot)
    file.parent.mkdir(parents=True)
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"CREATE SCHEMA gold; CREATE TABLE gold.t AS SELECT {value} AS x")


def test_lake_without_tables_is_refused_with_what_to_do(tmp_path):
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    with pytest.raises(ConfigError, match="no tables yet: start a feed with `headrace run FEED`"):
        build_gold(settings)
    assert not any((tmp_path / "lake").rglob("*gold*")), "nothing is begun"


def test_build_record_reads_back():
    assert GoldBuild.from_bytes(BUILD.to_bytes()) == BUILD


@given(st.sampled_from(["local", "athena"]), st.integers(1, 10**8 - 1))
def test_keys_read_back(target, number):
    assert GoldBuildKey.parse(GoldBuildKey(target, number).path) == GoldBuildKey(target, number)
    for key in (
        DbtArtifactKey(target, "run_results.json", number),
        DbtArtifactKey(target, "a.html"),
    ):
        assert DbtArtifactKey.parse(key.path) == key


def test_of_many_builds_with_one_number_exactly_one_is_published(small_lake):
    store = small_lake.lake.store
    builds = [replace(BUILD, slot=f"slot{i}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda build: publish(store, "local", build), builds))
    assert sum(won) == 1
    assert read_published(store, "local") == builds[won.index(True)]
    assert read_published(store, "athena") is None


def test_query_sees_the_published_build_alone(small_lake):
    small_lake.land_trades(3)
    settings, store = small_lake.settings, small_lake.lake.store
    for number in (1, 2):
        make_file(settings, f"slot{number}", number)
    publish(store, "local", replace(BUILD, slot="slot1"))
    assert run_query(settings, "SELECT x FROM gold.t").to_pylist() == [{"x": 1}]
    publish(store, "local", replace(BUILD, number=2, slot="slot2"))
    assert run_query(
        settings, "SELECT x, count(trade_id) AS n FROM t, trades GROUP BY x"
    ).to_pylist() == [{"x": 2, "n": 3}]
    assert build_numbers(store, "local") == [1, 2]


def test_silver_view_keeps_its_name_and_gold_has_its_schema(small_lake):
    small_lake.land_trades(3)
    settings = small_lake.settings
    file = slot_file(settings.home, "s")
    file.parent.mkdir(parents=True)
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA gold; CREATE TABLE gold.trades_current AS SELECT 7 AS x")
    publish(
        small_lake.lake.store,
        "local",
        replace(BUILD, slot="s", relations={"trades_current": "gold"}),
    )
    count = run_query(settings, "SELECT count(*) AS n FROM trades_current").to_pylist()
    assert count == [{"n": 3}]
    assert run_query(settings, "FROM gold.trades_current").to_pylist() == [{"x": 7}]


def test_table_that_gold_lacks_is_told_by_its_name(small_lake):
    small_lake.land_trades(3)
    settings, store = small_lake.settings, small_lake.lake.store
    make_file(settings, "s", 1)
    publish(store, "local", replace(BUILD, slot="s"))
    with pytest.raises(ConfigError, match=r"name nothing does not exist!.* What exists: .*, t, "):
        run_query(settings, "FROM gold.nothing")


def test_build_of_another_machine_is_not_offered(small_lake):
    small_lake.land_trades(3)
    (small_lake.settings.home / "gold").mkdir()
    publish(small_lake.lake.store, "local", BUILD)
    assert find_gold(small_lake.lake.store, small_lake.settings.home) is None
    assert run_query(small_lake.settings, "SELECT count(*) AS n FROM trades").to_pylist() == [
        {"n": 3}
    ]


def test_slot_begins_as_a_copy_and_the_last_two_files_stay(small_lake):
    settings, store, clock = small_lake.settings, small_lake.lake.store, small_lake.clock
    for number in range(1, 4):
        slot = open_slot(
            settings, store, "local", read_published(store, "local"), is_full=False, clock=clock
        )
        with duckdb.connect(str(slot.file)) as connection:
            if slot.basis is None:
                connection.execute("CREATE TABLE builds (n INT)")
            connection.execute("INSERT INTO builds VALUES (?)", [number])
            assert connection.execute("SELECT count(*) FROM builds").fetchone() == (number,)
        publish(store, "local", replace(BUILD, number=number, slot=slot.name))
        clock.sleep(1)
    rejected = open_slot(
        settings, store, "local", read_published(store, "local"), is_full=False, clock=clock
    )
    folders = {folder.name[:8] for folder in (settings.home / "gold").iterdir()}
    assert folders == {"00000002", "00000003", "00000004"}
    clock.sleep(1)
    open_slot(settings, store, "local", read_published(store, "local"), is_full=True, clock=clock)
    assert not rejected.folder.exists(), "the next build clears what was rejected"


def test_build_that_was_rejected_before_any_was_published_is_cleared_too(small_lake):
    settings, store, clock = small_lake.settings, small_lake.lake.store, small_lake.clock
    rejected = open_slot(settings, store, "local", None, is_full=False, clock=clock)
    clock.sleep(1)
    open_slot(settings, store, "local", None, is_full=False, clock=clock)
    assert not rejected.folder.exists()


def test_athena_builds_in_the_colour_that_is_not_published(small_lake):
    settings, store, clock = small_lake.settings, small_lake.lake.store, small_lake.clock
    first = open_slot(settings, store, "athena", None, is_full=False, clock=clock)
    assert (first.name, first.basis, first.file) == ("blue", None, None)
    blue = replace(BUILD, slot="blue")
    publish(store, "athena", blue)
    green = open_slot(settings, store, "athena", blue, is_full=False, clock=clock)
    assert (green.name, green.basis) == ("green", None), "green holds nothing yet"
    second = replace(BUILD, number=2, slot="green", numbers={"trades": 9})
    publish(store, "athena", second)
    again = open_slot(settings, store, "athena", second, is_full=False, clock=clock)
    assert (again.name, again.basis) == ("blue", blue), "blue is as of its own last build"


def test_second_build_waits_for_the_first(tmp_path):
    order, inside = [], threading.Event()

    def first():
        with one_build(tmp_path, SYSTEM_CLOCK):
            inside.set()
            SYSTEM_CLOCK.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with (
        pytest.raises(CommitConflictError, match="another build"),
        one_build(tmp_path, SYSTEM_CLOCK, 0.0),
    ):
        pass
    with one_build(tmp_path, SYSTEM_CLOCK):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
