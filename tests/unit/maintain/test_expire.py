"""Expiry takes old snapshots out of the metadata and changes nothing else, whoever else commits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.maintain.expire import expire_snapshots, plan_expiry
from stream.clock import SYSTEM_CLOCK, ManualClock
from stream.errors import CommitConflictError, ConfigError, StoreUnavailableError
from stream.lake import catalog_maintenance
from stream.lake.catalog_maintenance import SnapshotInfo, expire, read_snapshots
from stream.lake.entries import Head
from stream.prove import prove_lake

HOUR_NS = 3_600_000_000_000


def later(hours: float) -> ManualClock:
    """Snapshots carry the library's own time, so this clock begins at the machine's."""
    return ManualClock(SYSTEM_CLOCK.now_ns() + int(hours * HOUR_NS))


def ids(worn: Any) -> list[int]:
    return [s.snapshot_id for s in read_snapshots(worn.small.lake.catalog.open("trades"))]


SNAPSHOTS = st.lists(st.tuples(st.integers(0, 10**7), st.booleans()), max_size=30).map(
    lambda items: [
        SnapshotInfo(number, at, is_named)
        for number, (at, is_named) in enumerate(sorted(items, key=lambda item: item[0]))
    ]
)


@given(SNAPSHOTS, st.integers(0, 2 * 10**7), st.floats(0, 3), st.integers(1, 12))
def test_plan_takes_exactly_what_is_old_unnamed_and_not_among_the_last(
    snapshots: list[SnapshotInfo], now: int, hours: float, last: int
) -> None:
    old = set(plan_expiry(snapshots, now, hours, last))
    for number, snapshot in enumerate(snapshots):
        is_last = number >= len(snapshots) - last
        is_young = snapshot.committed_ms >= now - int(hours * 3_600_000)
        assert (snapshot.snapshot_id in old) == (not (is_last or is_young or snapshot.is_named))


def test_expiry_keeps_the_newest_and_touches_no_property(worn_lake: Any) -> None:
    for _ in range(8):
        worn_lake.land()
    before, newest = worn_lake.small.table, ids(worn_lake)[-3:]
    before.refresh()
    properties, rows, files = dict(before.properties), worn_lake.rows(), worn_lake.paths("silver/")
    report = worn_lake.expire(keep_last=3)
    assert ids(worn_lake) == newest
    assert (report.expired, report.snapshots_before, report.snapshots_after) == (6, 9, 3)
    assert report.metadata_bytes_after < report.metadata_bytes_before
    after = worn_lake.small.lake.catalog.open("trades")
    assert dict(after.properties) == properties
    assert worn_lake.rows() == rows
    data = {path for path in files if "/metadata/" not in path}
    assert data <= worn_lake.paths()  # no file is deleted
    assert prove_lake(worn_lake.small.lake, worn_lake.small.contract).is_equal


def test_expiry_keeps_what_is_young(worn_lake: Any) -> None:
    for _ in range(5):
        worn_lake.land()
    before = ids(worn_lake)
    assert worn_lake.expire(keep_hours=2, clock=later(1.9)).expired == 0
    assert ids(worn_lake) == before
    assert worn_lake.expire(keep_hours=2, clock=later(2.1)).expired == len(before) - 1


def test_dry_run_says_what_would_go_and_changes_nothing(worn_lake: Any) -> None:
    for _ in range(5):
        worn_lake.land()
    before = ids(worn_lake)
    report = worn_lake.expire(keep_last=2, apply=False)
    assert (report.is_applied, report.expired, report.snapshots_after) == (False, 4, 2)
    assert ids(worn_lake) == before
    assert report.to_row()["snapshots_before"] == 6


def test_second_expiry_finds_nothing(worn_lake: Any) -> None:
    for _ in range(5):
        worn_lake.land()
    assert worn_lake.expire().expired == 5
    version = worn_lake.small.lake.catalog.open("trades").iceberg.metadata_location
    report = worn_lake.expire()
    assert (report.expired, report.attempts) == (0, 0)
    assert worn_lake.small.lake.catalog.open("trades").iceberg.metadata_location == version


def test_snapshot_that_a_tag_names_is_kept_and_readable(worn_lake: Any) -> None:
    for _ in range(5):
        worn_lake.land()
    table = worn_lake.small.lake.catalog.open("trades").iceberg
    tagged = table.metadata.snapshots[2].snapshot_id
    table.manage_snapshots().create_tag(tagged, "month-end").commit()
    worn_lake.expire()
    assert ids(worn_lake) == [tagged, ids(worn_lake)[-1]]
    worn_lake.pass_hours(1_000)
    worn_lake.sweep()
    worn_lake.check_references()
    table.refresh()
    assert table.scan(snapshot_id=tagged).to_arrow().num_rows == 40


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run something once, after the plan and before the commit."""
    pending = [action]
    real = catalog_maintenance.expire

    def with_race(table: Any, snapshot_ids: Any) -> None:
        while pending:
            pending.pop()()
        real(table, snapshot_ids)

    monkeypatch.setattr("batch.maintain.expire.expire", with_race)


def test_tag_that_is_set_after_the_plan_survives(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's expiry would remove the tag together with its snapshot."""
    for _ in range(5):
        worn_lake.land()
    tagged = ids(worn_lake)[2]

    def tag() -> None:
        table = worn_lake.small.lake.catalog.open("trades").iceberg
        table.manage_snapshots().create_tag(tagged, "month-end").commit()

    meanwhile(monkeypatch, tag)
    report = worn_lake.expire()
    assert report.attempts == 2
    table = worn_lake.small.lake.catalog.open("trades").iceberg
    assert table.metadata.refs["month-end"].snapshot_id == tagged
    assert ids(worn_lake) == [tagged, ids(worn_lake)[-1]]


def test_rollback_after_the_plan_keeps_the_table_readable(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's expiry would leave a table without a current snapshot."""
    for _ in range(5):
        worn_lake.land()
    target = ids(worn_lake)[2]

    def roll_back() -> None:
        table = worn_lake.small.lake.catalog.open("trades").iceberg
        table.manage_snapshots().rollback_to_snapshot(target).commit()

    meanwhile(monkeypatch, roll_back)
    worn_lake.expire()
    assert worn_lake.small.lake.catalog.open("trades").snapshot_id == target
    assert sum(worn_lake.rows().values()) == 40


def test_append_after_the_plan_costs_no_attempt_and_is_kept(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        worn_lake.land()
    meanwhile(monkeypatch, worn_lake.land)
    report = worn_lake.expire()
    assert (report.attempts, report.expired, report.snapshots_after) == (1, 5, 2)
    assert sum(worn_lake.rows().values()) == 120
    assert prove_lake(worn_lake.small.lake, worn_lake.small.contract).is_equal


def test_other_expiry_after_the_plan_ends_well(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        worn_lake.land()
    table = worn_lake.small.lake.catalog.open("trades")
    meanwhile(monkeypatch, lambda: expire(table, ids(worn_lake)[:3]))
    worn_lake.expire()
    assert len(ids(worn_lake)) == 1


def test_commit_without_an_answer_is_looked_at_again(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        worn_lake.land()
    real = catalog_maintenance.expire

    def lands_silently(table: Any, snapshot_ids: Any) -> None:
        real(table, snapshot_ids)
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr("batch.maintain.expire.expire", lands_silently)
    report = worn_lake.expire()
    assert (report.expired, report.snapshots_after, report.attempts) == (5, 1, 1)


def test_expiry_that_always_loses_gives_up_and_changes_nothing(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        worn_lake.land()
    before = ids(worn_lake)

    def lose(*_: Any) -> None:
        raise CommitConflictError("another writer was first")

    monkeypatch.setattr("batch.maintain.expire.expire", lose)
    with pytest.raises(CommitConflictError, match="30 attempts in a row"):
        worn_lake.expire()
    assert ids(worn_lake) == before


@pytest.mark.parametrize("limits", [{"keep_last": 0}, {"keep_hours": -1}])
def test_limits_that_keep_nothing_are_refused(worn_lake: Any, limits: dict[str, int]) -> None:
    worn_lake.land()
    with pytest.raises(ConfigError, match="keep at least"):
        worn_lake.expire(**limits)


@pytest.mark.slow
def test_expiry_and_a_live_committer_lose_nothing(worn_lake: Any) -> None:
    """Forty commits in one thread, expiries without pause in two: every row, every position."""
    stop = threading.Event()
    reports, failures, positions = [], [], []
    lake = worn_lake.small.lake

    def keep_expiring() -> None:
        while not stop.is_set():
            try:
                reports.append(
                    expire_snapshots(
                        lake, "trades", keep_hours=0, keep_last=2, apply=True, clock=SYSTEM_CLOCK
                    )
                )
            except CommitConflictError as error:
                failures.append(error)

    threads = [threading.Thread(target=keep_expiring) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        worn_lake.small.land_trades(20)
        head = Head.of(lake.catalog.open("trades").properties)
        positions.append([int(p.sequence_number) for p in head.positions.values()])
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sum(report.expired for report in reports) >= 30
    assert positions == sorted(positions)
    assert len(positions) == len({tuple(p) for p in positions}) == 40
    assert sum(worn_lake.rows().values()) == 800
    assert len(worn_lake.small.entries()) == 41
    assert worn_lake.small.lake.catalog.open("trades").snapshot_count <= 4
    assert prove_lake(lake, worn_lake.small.contract).is_equal
