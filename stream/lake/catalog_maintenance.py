"""What maintenance asks of an Iceberg table: snapshots, what they need, files by day, expiry.

pyiceberg 0.12 expires a snapshot without a look at what happened since it was planned, deletes no
file and knows no orphans. Here is the catalog's side of all three: an expiry that is refused when
a branch or a tag has come to name one of its snapshots, and every address that a table still needs.
Not here: which snapshots or files may go, deleting them (batch maintenance).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import ALWAYS_TRUE, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    RemoveSnapshotsUpdate,
    UpdatesAndRequirements,
    UpdateTableMetadata,
    ValidatableTableRequirement,
)

from stream.errors import CommitConflictError
from stream.lake.catalog import LakeTable
from stream.lake.catalog_faults import reachable

EPOCH = date(1970, 1, 1)
THREADS = 8
SMALL_FILE_BYTES = 384_000_000
"""Compaction merges the files of whole days that are smaller (`batch.maintain.compact`)."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot in the table's metadata. `is_named`: it is the current one, or a branch or tag
    leads to it.
    """

    snapshot_id: int
    committed_ms: int
    is_named: bool


@dataclass(frozen=True, slots=True)
class DayFile:
    """A data file of the current snapshot and the one UTC day that its rows belong to."""

    uri: str
    day: date
    rows: int
    bytes: int


def read_snapshots(table: LakeTable) -> list[SnapshotInfo]:
    """Every snapshot in the state last read, in the order of their commits."""
    metadata = table.iceberg.metadata
    named = _named(metadata)
    return [
        SnapshotInfo(s.snapshot_id, s.timestamp_ms, s.snapshot_id in named)
        for s in metadata.snapshots
    ]


def expire(table: LakeTable, snapshot_ids: Sequence[int]) -> None:
    """Take snapshots out of the metadata in one commit, one attempt. Their files stay.

    The commit is made on the newest metadata, not on the state last read: appends in between
    lose nothing and refuse nothing, and properties are not touched.

    Raises: CommitConflictError: another writer was first, one of the snapshots is gone, or a
    branch or tag names it now; nothing happened. StoreUnavailableError: the outcome is unknown;
    planning anew from fresh state is right either way.
    """
    try:
        with (
            reachable(f"expire snapshots of table {table.name}"),
            Transaction(table.iceberg) as transaction,
        ):
            _Removal(transaction, snapshot_ids).commit()
    except CommitFailedException as error:
        raise CommitConflictError(f"table {table.name}: {error}") from error


def metadata_address(table: LakeTable) -> str:
    """Where the metadata of the state last read lies."""
    return str(table.iceberg.metadata_location)


def metadata_version(address: str) -> int | None:
    """The number that a metadata file's name begins with: it grows with every commit.

    >>> metadata_version("silver/entity=t/metadata/00012-2f0c.metadata.json")
    12
    """
    found = re.search(r"/(\d+)-[^/]*\.metadata\.json$", address)
    return int(found[1]) if found else None


def location(table: LakeTable) -> str:
    """The address of the folder with a table's data and metadata."""
    return str(table.iceberg.metadata.location)


def day_files(table: LakeTable, before: date | None = None) -> list[DayFile]:
    """Data files in the state last read; only those of days before `before` if given."""
    wanted = ALWAYS_TRUE if before is None else f"ts_event < '{before.isoformat()}T00:00:00'"
    with reachable(f"plan table {table.name}"):
        files = [task.file for task in table.iceberg.scan(row_filter=wanted).plan_files()]
    found = [
        DayFile(
            file.file_path,
            EPOCH + timedelta(days=file.partition[0]),
            file.record_count,
            file.file_size_in_bytes,
        )
        for file in files
    ]
    return [file for file in found if before is None or file.day < before]


def count_slices(table: LakeTable, uri: str) -> Counter[str]:
    """Rows per slice of one data file. Reads one column, a row group at a time."""
    rows: Counter[str] = Counter()
    with (
        reachable(f"read {uri}"),
        table.iceberg.io.new_input(uri).open() as source,
        pq.ParquetFile(source, read_dictionary=["slice_id"]) as file,
    ):
        for number in range(file.num_row_groups):
            column = file.read_row_group(number, columns=["slice_id"])["slice_id"]
            for found in pc.value_counts(column).to_pylist():
                rows[found["values"]] += found["counts"]
    return rows


class References:
    """Every address that a table's metadata or any of its snapshots names.

    It only grows: reading again after a commit costs what that commit brought, and an address
    that was named once since the first `read` counts as named.
    """

    def __init__(self, table: LakeTable) -> None:
        self._table = table
        self._known: set[str] = set()

    def read(self) -> AbstractSet[str]:
        """Look again: metadata files and their log, statistics, manifest lists, manifests, data.

        Raises: StoreUnavailableError also when one of them cannot be read: nothing is known then.
        """
        self._table.refresh()
        iceberg = self._table.iceberg
        metadata = iceberg.metadata
        statistics = [*metadata.statistics, *metadata.partition_statistics]
        with (
            reachable(f"read what table {self._table.name} refers to"),
            ThreadPoolExecutor(THREADS, thread_name_prefix="references") as pool,
        ):
            lists = [s for s in metadata.snapshots if s.manifest_list not in self._known]
            manifests = self._unread(pool.map(self._manifests, lists))
            for files in pool.map(self._data_files, manifests.values()):
                self._known.update(files)
        self._known |= manifests.keys()
        self._known |= {snapshot.manifest_list for snapshot in lists}
        self._known |= {entry.metadata_file for entry in metadata.metadata_log}
        self._known |= {item.statistics_path for item in statistics}
        self._known.add(iceberg.metadata_location)
        return self._known

    def _unread(self, found: Iterable[Sequence[ManifestFile]]) -> Mapping[str, ManifestFile]:
        every = {item.manifest_path: item for manifests in found for item in manifests}
        return {path: item for path, item in every.items() if path not in self._known}

    def _manifests(self, snapshot: Snapshot) -> list[ManifestFile]:
        return snapshot.manifests(self._table.iceberg.io)

    def _data_files(self, manifest: ManifestFile) -> list[str]:
        entries = manifest.fetch_manifest_entry(self._table.iceberg.io)
        return [entry.data_file.file_path for entry in entries]


class _AssertExpirable(ValidatableTableRequirement):
    """The snapshots are there, and none is current or named. The catalog checks it against the
    metadata that it is about to replace: the library's own expiry would remove a tag with it.
    """

    type: str = "assert-expirable"
    snapshot_ids: frozenset[int]

    def validate(  # type: ignore[override]  # as the library's own requirements
        self, base_metadata: TableMetadata | None
    ) -> None:
        if base_metadata is None:
            raise CommitFailedException("the table is gone")
        if self.snapshot_ids & _named(base_metadata):
            raise CommitFailedException("a branch or tag names one of the snapshots now")
        if self.snapshot_ids - {s.snapshot_id for s in base_metadata.snapshots}:
            raise CommitFailedException("another expiry was first")


class _Removal(UpdateTableMetadata["_Removal"]):
    """Removes snapshots as one update: the library's looks each up in a fresh deep copy."""

    def __init__(self, transaction: Transaction, snapshot_ids: Sequence[int]) -> None:
        super().__init__(transaction)
        self._snapshot_ids = snapshot_ids

    def _commit(self) -> UpdatesAndRequirements:
        ids = frozenset(self._snapshot_ids)
        update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": sorted(ids)})
        return (update,), (_AssertExpirable(snapshot_ids=ids),)  # type: ignore[return-value]


def _named(metadata: TableMetadata) -> set[int]:
    """Snapshots that branches and tags lead to, the current one among them."""
    named = {ref.snapshot_id for ref in metadata.refs.values()}
    return named if metadata.current_snapshot_id is None else named | {metadata.current_snapshot_id}
