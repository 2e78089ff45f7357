"""A lake whose zones lie in four places does and holds what one with a single root does and holds.

Both read one stream at once and get the same verbs; then rows, Bronze bytes, reports and proofs are
compared, and where each object lies.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from batch import actions
from batch.extracts import ExtractRequest
from stream.clock import ManualClock
from stream.lake.connect import connect_lake
from stream.lake.layout import BRONZE, ZONES, ExtractPartKey
from stream.producers.simulate import Simulator
from stream.settings import Settings
from stream.sources.memory import MemoryStream

ALWAYS = (0, 10**13)
HOUR_NS = 3_600 * 10**9
DAY = date(2026, 1, 5)
BARS = "(SELECT * EXCLUDE (revision) FROM bars_1m_current)"
"""A revision counts commits, and how many a run makes depends on its pace."""
TABLES = ("trades", "trades_again", "prices_daily", BARS, "quarantine")


def folders(home: Path) -> dict[str, str]:
    """A place for each zone, and one for what is of none."""
    zones = {f"{zone}_lake": f"file://{home}/{zone}" for zone in ZONES.values()}
    return {"lake": f"file://{home}/silver", **zones}


def objects(settings: Settings, *prefixes: str) -> dict[str, bytes]:
    store = connect_lake(settings).store
    paths = sorted(info.path for prefix in prefixes for info in store.list(prefix))
    return dict(zip(paths, store.get_many(paths), strict=True))


def check_places(settings: Settings) -> None:
    """Each place holds the folders of its zone, and no other."""
    places = connect_lake(settings).store.places
    for place in places:
        own = {folder for folder, other in places.folders.items() if other is place}
        found = {path.name for path in Path(place.root.removeprefix("file://")).iterdir()}
        if place is places.home:
            assert found <= {"silver", "ledger", "quarantine", "closed"}, place.root
            assert {"silver", "ledger"} <= found
        else:
            assert found <= own, place.root


@pytest.fixture
def two(tmp_path: Path, make_bed: Callable[..., Any]) -> tuple[Any, Any]:
    """A lake in one folder, and one in four."""
    return make_bed(tmp_path / "whole"), make_bed(tmp_path / "zoned", **folders(tmp_path / "zoned"))


def run_live(beds: tuple[Any, Any], stream: MemoryStream, source: Simulator) -> None:
    """Two lives of a dataflow on each lake, over the same stream."""
    for messages in (3_000, 1_000):
        for key, line in source.take(messages):
            stream.put(line, key)
        runs = [bed.run(stream) for bed in beds]
        for run in runs:
            run.wait_for(messages)
        for run in runs:
            run.end()


def wear(settings: Settings, now_ns: int) -> list[Any]:
    """Every verb that reads or rewrites; what each says that does not depend on when it runs."""
    clock, later = ManualClock(now_ns), ManualClock(now_ns + 100 * HOUR_NS)
    said: list[Any] = [actions.replay(settings, "trades", *ALWAYS).changed_slices]
    request = ExtractRequest("prices_daily", DAY, DAY)
    actions.extract(settings, "simulated", request, "daily", clock=clock)
    said.append([manifest.run_id for manifest in actions.list_extracts(settings)])
    landed = actions.replay(
        settings, "prices_daily", source="extract", run_id="daily", apply=True, clock=clock
    )
    beside = actions.replay(settings, "trades", *ALWAYS, into="trades_again", apply=True)
    said += [landed.rows_added, beside.rows_after]
    store = connect_lake(settings).store
    store.put(ExtractPartKey("simulated", "died", now_ns // 10**6, 0, "jsonl").path, b"{}")
    for report in actions.compact(settings, apply=True, clock=later):
        if report.table != "bars_1m":  # as many files as commits
            said.append((report.table, report.files_before, report.files_after, report.rows))
    actions.expire_snapshots(settings, keep_hours=0, keep_last=1, apply=True, clock=later)
    swept = actions.remove_orphans(settings, apply=True, clock=later)
    said.append([(report.table, report.kinds["part"], report.spared) for report in swept])
    assert sum(len(report.orphans) for report in swept) > 5
    return said


@pytest.mark.slow
def test_lake_in_four_folders_is_the_lake_in_one(two: tuple[Any, Any]) -> None:
    whole, zoned = two
    source = Simulator("trades", seed=3, start_ns=time.time_ns() - 10**10, rate=5_000)
    run_live(two, MemoryStream("headrace-trades", 2), source)
    now_ns = time.time_ns()
    said = wear(whole.settings(), now_ns)
    assert said == wear(zoned.settings(), now_ns)
    assert ("extracts of simulated", 1, 0) in said[-1], "the part that no manifest names"

    for table in TABLES:
        rows = whole.query(f"FROM {table} ORDER BY ALL")
        assert rows == zoned.query(f"FROM {table} ORDER BY ALL") != [], table
    bronze = objects(whole.settings(), "bronze/")
    assert bronze == objects(zoned.settings(), "bronze/")
    assert {BRONZE + name for name in ("source=trades", "source=simulated")} == {
        "/".join(path.split("/")[:2]) for path in bronze
    }
    for feed in ("trades", "prices_daily"):
        one, other = (bed.check_equal(feed) for bed in two)
        for name in ("shards", "slices", "records", "messages", "silver_rows", "quarantined"):
            assert getattr(one.totals, name) == getattr(other.totals, name), name
    check_places(zoned.settings())
