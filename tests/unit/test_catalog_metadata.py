"""Metadata as a value: what is kept equals its file, others are seen; manifests in tiers."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import FromInputFile

from stream.feeds import load_feed
from stream.lake import catalog, catalog_metadata
from stream.lake.catalog import LakeTable
from stream.lake.catalog_manifests import full_tier
from stream.lake.connect import Lake, connect_lake
from stream.settings import load_settings


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return connect_lake(load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake"))


def commit(table: LakeTable, number: int) -> None:
    """A commit without files: all that it changes is metadata."""
    table.append([], {"test.number": str(number)}, {"test.number": str(number)})


def as_on_disk(table: LakeTable) -> object:
    catalog_metadata.forget_metadata()
    return FromInputFile.table_metadata(table.iceberg.io.new_input(table.iceberg.metadata_location))


def test_kept_metadata_is_what_the_file_holds(lake):
    table = lake.table(load_feed("trades"))
    for number in range(5):
        commit(table, number)
    table.refresh()
    assert table.iceberg.metadata == as_on_disk(table)


def test_file_is_written_as_the_library_would_to_the_byte(lake):
    table = lake.table(load_feed("trades"))
    awkward = '"snapshots":[]'  # of which the first in the file is the one that is filled
    for number in range(4):
        table.append([], {"test.number": awkward}, {"test.number": f"{number}{awkward}"})
    address = table.iceberg.metadata_location
    with table.iceberg.io.new_input(address).open() as file:
        assert file.read() == table.iceberg.metadata.model_dump_json().encode()


def test_another_writers_commit_is_seen_and_refuses_ours(lake):
    mine, theirs = lake.table(load_feed("trades")), lake.table(load_feed("trades"))
    before = mine.iceberg.metadata.model_dump_json()
    commit(theirs, 1)
    assert mine.iceberg.metadata.model_dump_json() == before, "a copy changed the original"
    mine.refresh()
    assert mine.properties["test.number"] == "1"
    assert mine.snapshot_count == 1


def test_retained_snapshots_are_not_copied_by_a_commit(lake):
    table = lake.table(load_feed("trades"))
    commit(table, 1)
    first = table.iceberg.metadata.snapshots[0]
    commit(table, 2)
    assert table.iceberg.metadata.snapshots[0] is first


def manifest(files: int, spec: int = 0) -> ManifestFile:
    return ManifestFile.from_args(
        manifest_path=f"m-{files}", partition_spec_id=spec, added_files_count=files,
        existing_files_count=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [
        ([1] * 49, 0),
        ([1] * 50, 50),
        ([1] * 49 + [50], 0),
        ([1] * 50 + [50] * 50, 50),
        ([50] * 49 + [2_500] * 49 + [1] * 3, 0),
        ([], 0),
    ],
)
def test_manifests_of_the_smallest_full_tier_are_merged(sizes, merged):
    found = full_tier([manifest(size) for size in sizes], 50)
    assert [m.added_files_count for m in found] == [1] * merged
    assert not full_tier([manifest(1, spec=n % 2) for n in range(60)], 50)


def test_every_file_stays_in_the_table_through_all_tiers(open_lake, tmp_path, monkeypatch):
    few = {**catalog.PROPERTIES, "commit.manifest.min-count-to-merge": "3"}
    monkeypatch.setattr(catalog, "PROPERTIES", few)
    small = open_lake(tmp_path)
    for _ in range(14):
        small.land_trades(1)
    small.table.refresh()
    assert len(small.table.files()) == 14
    table = small.table.iceberg
    sizes = [
        m.added_files_count + m.existing_files_count
        for m in table.metadata.current_snapshot().manifests(table.io)
    ]
    assert sorted(sizes) == [1, 1, 3, 9]
