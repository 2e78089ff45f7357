"""Retention drops whole old days in one commit, and the ledger says rows of which slices."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from batch.maintain import retention
from batch.maintain.retention import RetentionReport, apply_retention
from stream.bars import TABLE as BARS_TABLE
from stream.clock import ManualClock, to_utc
from stream.errors import ConfigError, FatalError
from stream.lake.catalog_maintenance import day_files
from stream.lake.layout import SilverKey
from stream.lake.ledger import Change
from stream.prove import prove_lake

DAY_NS = 86_400_000_000_000
OTHER = "shardId-000000000001"


def retain(worn: Any, table: str = "trades", **options: Any) -> RetentionReport:
    chosen = {"keep_days": 3, "apply": True, "clock": worn.small.clock, **options}
    return apply_retention(worn.small.lake, table, **chosen)


def land_days(worn: Any, days: int, count: int = 20) -> None:
    """A slice a day."""
    for _ in range(days):
        worn.small.arrival_ns += DAY_NS
        worn.land(count)


def days_of(worn: Any, table: str = "trades") -> Counter[Any]:
    """Rows of each day that a table holds."""
    days: Counter[Any] = Counter()
    for file in day_files(worn.small.lake.catalog.open(table)):
        days[file.day] += file.rows
    return days


def prove(worn: Any) -> Any:
    proof = prove_lake(worn.small.lake, worn.small.contract, threads=2)
    assert proof.differences == []
    return proof


def today(worn: Any) -> Any:
    return to_utc(worn.small.clock.now_ns()).date()


def test_old_days_leave_and_the_proof_stays_equal(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    bars = days_of(worn_lake, BARS_TABLE)
    report = retain(worn_lake)
    first_kept = today(worn_lake) - timedelta(days=3)
    assert report.first_kept == first_kept
    assert list(report.days) == [first_kept - timedelta(days=n) for n in (2, 1)]
    assert set(report.days.values()) == {20}
    assert (report.files_before, report.files_after) == (6, 4)
    assert (report.rows_before, report.rows_after) == (120, 80)
    assert min(days_of(worn_lake)) == first_kept
    assert sum(worn_lake.rows().values()) == 80
    assert days_of(worn_lake, BARS_TABLE) == bars
    assert prove(worn_lake).totals.silver_rows == 80


def test_entry_names_files_and_rows_per_slice(worn_lake: Any) -> None:
    """A slice over midnight loses only the rows of the old day; compacted files are counted."""
    land_days(worn_lake, 2)
    small = worn_lake.small
    midnight = small.arrival_ns // DAY_NS * DAY_NS + DAY_NS
    small.arrival_ns = midnight - 2_000_000_000 + 5
    item = small.slice([_trade(n, midnight + offset) for n, offset in ((1, -9), (2, -8), (3, 4))])
    small.land(item)
    worn_lake.compact()
    removed = [path for path in worn_lake.tables() if f"day={to_utc(midnight).day:02d}" not in path]
    small.clock.sleep(2 * 86_400)
    retain(worn_lake, keep_days=2)
    entry = small.entries()[-1]
    assert entry.kind == "retention"
    assert entry.dropped == {
        small.results[0].record.slice_id: 20,
        small.results[1].record.slice_id: 20,
        item.id: 2,
    }
    assert [sorted(rewrite.removed) for rewrite in entry.rewrites] == [sorted(removed)]
    assert worn_lake.rows() == {(item.id, "3"): 1}
    assert prove(worn_lake).totals.silver_rows == 1


def _trade(number: int, at_ns: int) -> bytes:
    text = (
        '{"venue":"sim","symbol":"ACME","trade_id":"%d","kind":"new","ts_event_ns":%d,'
        '"price":1.5,"size":2,"side":"buy"}'
    )
    return (text % (number, at_ns)).encode()


def test_dry_run_says_the_same_and_changes_nothing(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    before, version = days_of(worn_lake), worn_lake.small.ledger.head().number
    planned = retain(worn_lake, apply=False)
    assert (days_of(worn_lake), worn_lake.small.ledger.head().number) == (before, version)
    applied = retain(worn_lake)
    assert {**planned.to_row(), "is_applied": True} == applied.to_row()
    row = applied.to_row()
    assert (row["days"], row["rows"], row["first_dropped"]) == (2, 40, min(before))


def test_second_run_finds_nothing_to_drop(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    retain(worn_lake)
    number = worn_lake.small.ledger.head().number
    report = retain(worn_lake)
    assert (report.days, report.files_before, report.files_after) == ({}, 4, 4)
    assert worn_lake.small.ledger.head().number == number


def test_keep_days_of_none_keeps_every_day(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    report = retain(worn_lake, keep_days=None)
    assert (report.first_kept, report.days) == (None, {})
    assert len(days_of(worn_lake)) == 6


def test_bars_are_dropped_by_their_own_name_and_keep_their_properties(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    trades = days_of(worn_lake)
    before = dict(worn_lake.small.lake.catalog.open(BARS_TABLE).properties)
    report = retain(worn_lake, BARS_TABLE)
    assert (len(report.days), report.table) == (2, BARS_TABLE)
    bars = worn_lake.small.lake.catalog.open(BARS_TABLE)
    assert dict(bars.properties) == before
    assert min(days_of(worn_lake, BARS_TABLE)) == report.first_kept
    assert days_of(worn_lake) == trades
    assert retain(worn_lake, BARS_TABLE).days == {}
    worn_lake.land()
    worn_lake.check_references()


def test_contract_names_its_table(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    assert len(retain(worn_lake, worn_lake.small.contract).days) == 2


def test_late_file_of_an_old_day_that_lands_meanwhile_is_dropped_too(
    worn_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit loses its race, plans anew and takes the new file in; nothing is read twice."""
    land_days(worn_lake, 6)
    small, read = worn_lake.small, []
    real = retention.count_slices

    def with_race(table: Any, uri: str) -> Any:
        if not read:
            small.land(small.slice([_trade(1, small.arrival_ns - 5 * DAY_NS)]))
        read.append(uri)
        return real(table, uri)

    monkeypatch.setattr("batch.maintain.retention.count_slices", with_race)
    report = retain(worn_lake)
    assert sum(report.days.values()) == 41
    assert len(read) == len(set(read)) == 3
    assert sum(worn_lake.rows().values()) == 80
    assert prove(worn_lake).totals.silver_rows == 80


def test_replay_of_a_dropped_slice_brings_its_rows_back_into_the_proof(worn_lake: Any) -> None:
    """The replay supersedes what was dropped; the next retention drops it again."""
    land_days(worn_lake, 6)
    retain(worn_lake)
    small = worn_lake.small
    first = small.results[0]
    entry = replace(
        small.ledger.entry(small.ledger.head(), "replay"),
        slices=(first.record,),
        event_spans=(first.record.event_ns,),
    )
    assert small.ledger.commit(lambda _: Change(entry, first.files))
    assert prove(worn_lake).totals.silver_rows == 100
    assert sum(retain(worn_lake).days.values()) == 20
    assert prove(worn_lake).totals.silver_rows == 80


def test_dropped_files_are_orphans_after_grace_and_expiry(worn_lake: Any) -> None:
    land_days(worn_lake, 6)
    old = set(worn_lake.tables())
    retain(worn_lake)
    old -= set(worn_lake.tables())
    worn_lake.pass_hours(100)
    worn_lake.expire()
    worn_lake.sweep()
    assert len(old) == 2
    assert not old & worn_lake.paths()
    assert prove(worn_lake).totals.silver_rows == 80


def test_rows_of_a_slice_that_the_ledger_lacks_are_refused(worn_lake: Any) -> None:
    """An entry that counted them could never be read back."""
    land_days(worn_lake, 6)
    small = worn_lake.small
    [path, *_] = sorted(worn_lake.tables())
    rows = pq.read_table(io.BytesIO(worn_lake.store.get(path)))
    at = rows.column_names.index("slice_id")
    strange = rows.set_column(at, "slice_id", [["strange/1"] * rows.num_rows])
    _, [staged] = worn_lake._write(strange, lambda d, h: SilverKey("trades", d, "strange", h))
    small.table.refresh()
    small.table.append([staged], {}, {})
    before, number = days_of(worn_lake), small.ledger.head().number
    with pytest.raises(FatalError, match=r"strange/1.*headrace prove trades"):
        retain(worn_lake)
    assert (days_of(worn_lake), small.ledger.head().number) == (before, number)


def test_long_ended_shard_leaves_the_property_and_stays_known(worn_lake: Any) -> None:
    worn_lake.land()
    small = worn_lake.small
    small.land_trades(10, shard=OTHER)
    small.end(OTHER)
    name = next(s for s in small.ledger.head().positions if s.endswith(OTHER))
    assert retain(worn_lake, keep_days=None).closed_shards == 0
    small.clock.sleep(31 * 86_400)
    assert retain(worn_lake, keep_days=None, apply=False).closed_shards == 1
    assert name in small.ledger.head().positions
    assert retain(worn_lake, keep_days=None).closed_shards == 1
    assert name not in small.ledger.head().positions
    stream = name.rpartition("/")[0]
    assert small.ledger.positions(stream)[OTHER].is_ended
    assert retain(worn_lake, keep_days=None).closed_shards == 0
    assert prove(worn_lake).totals.records == 30


@pytest.mark.parametrize("limits", [{"keep_days": 0}, {"keep_closed_days": 0}])
def test_limits_below_a_day_are_refused(worn_lake: Any, limits: dict[str, int]) -> None:
    worn_lake.land()
    with pytest.raises(ConfigError, match="expected at least 1"):
        retain(worn_lake, **limits)


def test_table_without_a_ledger_is_refused(worn_lake: Any) -> None:
    worn_lake.small.lake.catalog.open_or_create(
        "other", worn_lake.small.contract.silver_schema, [], {}
    )
    with pytest.raises(ConfigError, match="no ledger"):
        retain(worn_lake, "other")
    with pytest.raises(ConfigError, match="does not exist"):
        retain(worn_lake, "nothing")


def test_day_boundary_is_midnight_utc(worn_lake: Any) -> None:
    """A day is kept whole until the clock's day is more than `keep_days` later."""
    land_days(worn_lake, 1)
    day = to_utc(worn_lake.small.arrival_ns).date()
    start = worn_lake.small.arrival_ns // DAY_NS * DAY_NS
    kept = retain(worn_lake, keep_days=2, clock=ManualClock(start + 3 * DAY_NS - 1))
    assert kept.days == {}
    dropped = retain(worn_lake, keep_days=2, clock=ManualClock(start + 3 * DAY_NS))
    assert list(dropped.days) == [day]
