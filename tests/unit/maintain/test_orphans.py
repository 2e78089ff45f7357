"""Orphan removal deletes what nothing needs, after its grace, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch.maintain.orphans import remove_orphans
from stream.errors import ConfigError, FatalError, StoreUnavailableError
from stream.lake.layout import LedgerKey
from stream.lake.store import Store
from stream.prove import prove_lake
from stream.query import run_query


def is_equal(worn: Any) -> bool:
    proof = prove_lake(worn.small.lake, worn.small.contract, threads=2)
    assert proof.differences == []
    return proof.is_equal


def test_orphans_of_a_fresh_lake_are_none(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.pass_hours(100)
    before = worn_lake.paths()
    report = worn_lake.sweep()
    assert (report.orphans, report.waiting) == ((), 0)
    assert worn_lake.paths() == before


def test_litter_is_deleted_after_its_grace_and_not_before(worn_lake: Any) -> None:
    worn_lake.land()
    litter = worn_lake.drop_litter()
    worn_lake.pass_hours(71.9)
    early = worn_lake.sweep()
    assert (early.orphans, early.waiting) == ((), len(litter))
    worn_lake.pass_hours(0.2)
    report = worn_lake.sweep()
    assert sorted(orphan.path for orphan in report.orphans) == litter
    assert report.kinds == {"data": 1, "metadata": 2, "quarantine": 1, "ledger": 1}
    assert not worn_lake.paths() & set(litter)
    assert is_equal(worn_lake)


def test_dry_run_names_the_same_orphans_and_deletes_none(worn_lake: Any) -> None:
    worn_lake.land()
    litter = worn_lake.drop_litter()
    worn_lake.pass_hours(100)
    before = worn_lake.paths()
    report = worn_lake.sweep(apply=False)
    assert sorted(orphan.path for orphan in report.orphans) == litter
    assert worn_lake.paths() == before
    applied = worn_lake.sweep()
    assert (report.objects_after, report.bytes_after) == (
        applied.objects_after,
        applied.bytes_after,
    )
    row = applied.to_row()
    assert (row["table"], row["is_applied"], row["orphans"], row["quarantine"]) == (
        "trades",
        True,
        5,
        1,
    )


def test_compacted_away_files_go_once_no_snapshot_needs_them(worn_lake: Any) -> None:
    for _ in range(4):
        worn_lake.land()
    old = set(worn_lake.tables())
    assert worn_lake.compact()
    worn_lake.pass_hours(100)
    assert not old & {orphan.path for orphan in worn_lake.sweep().orphans}  # time travel needs them
    worn_lake.expire()
    assert old <= {orphan.path for orphan in worn_lake.sweep().orphans}
    assert not old & worn_lake.paths()
    assert sum(worn_lake.rows().values()) == 80
    assert is_equal(worn_lake)


def test_grace_counts_from_the_commit_that_removed_a_file(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.land()
    old = set(worn_lake.tables())
    worn_lake.pass_hours(1_000)
    worn_lake.compact()
    worn_lake.expire()
    worn_lake.pass_hours(71)
    assert not old & {orphan.path for orphan in worn_lake.sweep().orphans}
    worn_lake.pass_hours(2)
    assert old <= {orphan.path for orphan in worn_lake.sweep().orphans}


def test_file_that_came_back_under_its_name_is_kept(worn_lake: Any) -> None:
    """Removed by a replay, written again by the next: the newest word counts."""
    worn_lake.land()
    assert worn_lake.replay(0, is_reversed=True)
    [first] = worn_lake.tables()
    assert worn_lake.replay(0, is_reversed=False)
    assert worn_lake.replay(0, is_reversed=True)
    assert list(worn_lake.tables()) == [first]
    worn_lake.expire()
    worn_lake.pass_hours(100)
    report = worn_lake.sweep()
    assert first not in {orphan.path for orphan in report.orphans}
    assert list(worn_lake.tables()) == [first]
    assert is_equal(worn_lake)


def test_file_that_the_ledger_needs_is_kept_though_no_snapshot_names_it(worn_lake: Any) -> None:
    """Rows lost by a foreign commit: the file is what they can be restored from."""
    worn_lake.land()
    worn_lake.land()
    lost = worn_lake.small.results[0].record
    worn_lake.small.lake.catalog.open("trades").iceberg.delete(f"slice_id = '{lost.slice_id}'")
    worn_lake.expire()
    worn_lake.pass_hours(100)
    worn_lake.sweep()
    assert lost.silver[0].path in worn_lake.paths()


def test_ledger_entry_that_may_still_land_is_kept(worn_lake: Any) -> None:
    worn_lake.land()
    number = worn_lake.small.ledger.head().number
    ahead = LedgerKey("trades", number + 1, "0" * 16).path
    worn_lake.store.put(ahead, b"{}")
    worn_lake.pass_hours(100)
    worn_lake.sweep()
    assert ahead in worn_lake.paths()
    worn_lake.land()
    worn_lake.sweep()
    assert ahead not in worn_lake.paths()


def test_bronze_and_foreign_names_are_never_candidates(worn_lake: Any) -> None:
    worn_lake.land()
    note = "quarantine/source=trades/README"
    worn_lake.store.put(note, b"mine")
    bronze = worn_lake.paths("bronze/")
    worn_lake.pass_hours(1_000)
    report = worn_lake.sweep()
    assert report.orphans == ()
    assert worn_lake.paths("bronze/") == bronze
    assert note in worn_lake.paths()


def test_bars_file_is_kept_while_a_snapshot_names_it(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.small.bars.flush()
    folder = worn_lake.table_folder.replace("trades", "bars_1m")
    stray = f"{folder}year=2025/month=11/day=24/r1-{'0' * 16}.parquet"
    worn_lake.store.put(stray, b"uncommitted")
    worn_lake.stamp()
    assert worn_lake.sweep("bars_1m").waiting == 1
    worn_lake.pass_hours(100)
    report = worn_lake.sweep("bars_1m")
    assert [orphan.path for orphan in report.orphans] == [stray]
    worn_lake.check_references()


def test_compacted_files_that_the_bars_do_not_include_yet_are_kept(worn_lake: Any) -> None:
    """A crash between the commit of trades and that of bars, then three days of silence: the next
    start reads the old files to see which bars are touched.
    """
    worn_lake.land()
    small = worn_lake.small
    results = small.road.process(
        [small.slice([trade_at(n, small.arrival_ns) for n in range(900, 910)])]
    )
    small.ledger.commit_slices([(result.record, result.files) for result in results])
    worn_lake.compact()
    worn_lake.expire()
    worn_lake.pass_hours(100)
    worn_lake.sweep()
    [waited_for] = results[0].record.silver
    assert waited_for.path in worn_lake.paths()
    small.bars.catch_up()
    bars = run_query(small.settings, "SELECT sum(trades)::INT AS n FROM bars_1m_current")
    assert bars.to_pylist() == [{"n": 30}]
    worn_lake.sweep()
    assert waited_for.path not in worn_lake.paths()


def trade_at(number: int, at_ns: int) -> bytes:
    text = (
        '{"venue":"sim","symbol":"ACME","trade_id":"%d","kind":"new","ts_event_ns":%d,'
        '"price":1.5,"size":2,"side":"buy"}'
    )
    return (text % (number, at_ns)).encode()


def test_files_of_a_replays_own_table_in_the_feeds_folder_are_kept(worn_lake: Any) -> None:
    """A table that is no feed's own names a file that lies among the feed's."""
    worn_lake.land()
    small = worn_lake.small
    other = small.lake.catalog.open_or_create("trades_again", small.contract.silver_schema, [], {})
    [path] = worn_lake.tables()
    again = path.replace("shardId", "again")
    worn_lake.store.put(again, worn_lake.store.get(path))
    staged = small.results[0].files[0]
    other.append([replace(staged, uri=small.lake.store.uri(again))], {}, {})
    worn_lake.pass_hours(100)
    assert again not in {orphan.path for orphan in worn_lake.sweep().orphans}


class Interrupted(Store):
    """A store that stops answering after some deletions."""

    def __init__(self, store: Store, deletions: int) -> None:
        super().__init__(store.places)
        self.left = deletions

    def delete(self, path: str) -> None:
        if self.left <= 0:
            raise StoreUnavailableError("gone")
        self.left -= 1
        super().delete(path)


@pytest.mark.parametrize("deletions", [0, 1, 3, 8])
def test_interrupted_removal_leaves_a_whole_lake_and_the_next_finishes(
    worn_lake: Any, deletions: int
) -> None:
    for _ in range(3):
        worn_lake.land()
    worn_lake.drop_litter()
    worn_lake.compact()
    worn_lake.expire()
    worn_lake.pass_hours(100)
    planned = {orphan.path for orphan in worn_lake.sweep(apply=False).orphans}
    assert len(planned) > 8
    lake = worn_lake.small.lake
    broken = type(lake)(Interrupted(lake.store, deletions), lake.catalog)
    with pytest.raises(StoreUnavailableError):
        remove_orphans(broken, "trades", apply=True, clock=worn_lake.small.clock)
    assert is_equal(worn_lake)
    worn_lake.check_references()
    left = planned & worn_lake.paths()
    assert len(left) == len(planned) - deletions
    assert {orphan.path for orphan in worn_lake.sweep().orphans} == left
    assert not planned & worn_lake.paths()
    assert is_equal(worn_lake)


class Rewriting(Store):
    """A store in which somebody writes an orphan again, under its name, while we delete."""

    rewritten: str = ""

    def __init__(self, store: Store, worn: Any) -> None:
        super().__init__(store.places)
        self.worn = worn

    def find(self, path: str) -> Any:
        if not self.rewritten and path.endswith(".parquet") and "lost" in path:
            self.rewritten = path
            self.put(path, b"data")
            self.worn.stamp()
        return super().find(path)


def test_orphan_that_is_written_again_meanwhile_is_spared(worn_lake: Any) -> None:
    worn_lake.land()
    litter = worn_lake.drop_litter()
    worn_lake.pass_hours(100)
    lake = worn_lake.small.lake
    store = Rewriting(lake.store, worn_lake)
    report = remove_orphans(
        type(lake)(store, lake.catalog), "trades", apply=True, clock=worn_lake.small.clock
    )
    assert store.rewritten in worn_lake.paths()
    assert (report.spared, len(report.orphans)) == (1, len(litter) - 1)


class Committing(Store):
    """A store in which a replay commits an orphan again between plan and deletion."""

    def __init__(self, store: Store, commit: Any, moment: str) -> None:
        super().__init__(store.places)
        self.commit, self.moment = commit, moment

    def list(self, prefix: str) -> Any:
        found = list(super().list(prefix))
        self._at("list", prefix)
        return iter(found)

    def delete(self, path: str) -> None:
        super().delete(path)
        self._at("delete", path)

    def _at(self, moment: str, path: str) -> None:
        if self.commit and moment == self.moment and "entity=trades" in path:
            commit, self.commit = self.commit, None
            commit()


def replayed_lake(worn: Any) -> str:
    """A lake with a file that a replay replaced and that is an orphan now."""
    worn.land()
    worn.replay(0, is_reversed=True)
    [first] = worn.tables()
    worn.replay(0, is_reversed=False)
    worn.expire()
    worn.pass_hours(100)
    return first


def test_orphan_that_a_replay_commits_again_after_the_listing_is_kept(worn_lake: Any) -> None:
    first = replayed_lake(worn_lake)
    lake = worn_lake.small.lake
    store = Committing(lake.store, lambda: worn_lake.replay(0, is_reversed=True), "list")
    remove_orphans(
        type(lake)(store, lake.catalog), "trades", apply=True, clock=worn_lake.small.clock
    )
    assert list(worn_lake.tables()) == [first]
    assert is_equal(worn_lake)


def test_orphan_that_is_committed_again_after_the_plan_is_spared(worn_lake: Any) -> None:
    replayed_lake(worn_lake)
    lake = worn_lake.small.lake
    staged = worn_lake.small.results[0].files[0]

    def commit(stage: str, _: int) -> None:
        if stage == "objects that trades needs":
            lake.catalog.open("trades").append([staged], {}, {})

    report = worn_lake.sweep(progress=commit)
    assert lake.store.relative(staged.uri) in worn_lake.paths()
    assert report.spared == 1
    worn_lake.check_references()


def test_orphan_that_is_committed_in_the_moment_of_its_deletion_is_named(worn_lake: Any) -> None:
    """The one window that is left: two calls apart, and it does not stay unnoticed."""
    replayed_lake(worn_lake)
    lake = worn_lake.small.lake
    table = lake.catalog.open("trades")
    staged = worn_lake.small.results[0].files[0]
    store = Committing(lake.store, lambda: table.append([staged], {}, {}), "delete")
    with pytest.raises(FatalError, match="committed again in the moment") as caught:
        remove_orphans(
            type(lake)(store, lake.catalog), "trades", apply=True, clock=worn_lake.small.clock
        )
    assert lake.store.relative(staged.uri) in str(caught.value)


def test_two_removals_at_once_do_no_harm(worn_lake: Any) -> None:
    worn_lake.land()
    for _ in range(5):
        litter = worn_lake.drop_litter()
    worn_lake.pass_hours(100)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: worn_lake.sweep(), range(2)))
    assert not worn_lake.paths() & set(litter)
    assert is_equal(worn_lake)


def test_catalog_that_was_made_anew_is_refused(worn_lake: Any, open_worn_lake: Any) -> None:
    for _ in range(5):
        worn_lake.land()
    worn_lake.pass_hours(100)
    home = Path(worn_lake.small.settings.home)
    (home / "catalog.db").unlink()
    again = open_worn_lake(home)
    before = again.paths()
    with pytest.raises(FatalError, match="catalog was restored or made anew"):
        again.sweep(clock=worn_lake.small.clock)
    assert again.paths() == before


def test_table_that_names_files_outside_the_lake_is_refused(worn_lake: Any) -> None:
    """A copied lake: its own files look like orphans, because the addresses are the old ones."""
    worn_lake.land()
    litter = worn_lake.drop_litter()
    staged = worn_lake.small.results[0].files[0]
    away = replace(staged, uri="s3://elsewhere/a.parquet")
    worn_lake.small.lake.catalog.open("trades").append([away], {}, {})
    worn_lake.pass_hours(100)
    with pytest.raises(FatalError, match=r"names s3://elsewhere/a\.parquet.*moved or copied"):
        worn_lake.sweep()
    assert set(litter) <= worn_lake.paths()


def test_damaged_ledger_is_refused(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.land()
    litter = worn_lake.drop_litter()
    worn_lake.small.path(worn_lake.small.entries()[2].previous).write_bytes(b"{")
    worn_lake.pass_hours(100)
    with pytest.raises(FatalError, match=r"ledger is damaged.*headrace prove trades"):
        worn_lake.sweep()
    assert set(litter) <= worn_lake.paths()


@pytest.mark.parametrize("hours", [0, 0.99, -1])
def test_grace_below_an_hour_is_refused(worn_lake: Any, hours: float) -> None:
    worn_lake.land()
    with pytest.raises(ConfigError, match="expected at least"):
        worn_lake.sweep(grace_hours=hours)
    assert worn_lake.sweep(grace_hours=hours + 1, min_grace_hours=0).orphans == ()


def test_table_that_does_not_exist_is_refused(worn_lake: Any) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        worn_lake.sweep("nothing")
