"""The data files of one snapshot with the bounds of their columns, to read only those that matter.

Iceberg's bounds of text are cut to 16 characters, the upper one rounded up, so a comparison with
them may let a file through for nothing and never leaves one out.
Not here: reading rows (`sql`), which files are live now (`catalog`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType

from stream.lake.catalog import LakeTable
from stream.lake.catalog_faults import reachable


@dataclass(frozen=True, slots=True)
class BoundedFile:
    """A data file. `bounds`: column → least and greatest value that it may hold."""

    address: str
    rows: int
    bounds: Mapping[str, tuple[Any, Any]]

    def may_hold(self, column: str, low: Any, high: Any) -> bool:
        """Whether a value within [low, high] may be in it; true if nothing is known."""
        found = self.bounds.get(column)
        return found is None or (found[0] <= high and found[1] >= low)

    def holds_only(self, column: str, value: Any) -> bool:
        """Whether every row certainly has this value."""
        return self.bounds.get(column) == (value, value)


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """A snapshot that a table has. `committed_ms`: when; `id` 0: the table never had one."""

    id: int
    committed_ms: int


def current_snapshot(table: LakeTable) -> SnapshotState:
    """The snapshot of the state last read."""
    snapshot = table.iceberg.metadata.current_snapshot()
    return SnapshotState(snapshot.snapshot_id, snapshot.timestamp_ms) if snapshot else _NONE


def find_snapshot(table: LakeTable, snapshot_id: int) -> SnapshotState | None:
    """A snapshot by its id; None if the table has none (any more)."""
    if snapshot_id == 0:
        return _NONE
    snapshot = table.iceberg.metadata.snapshot_by_id(snapshot_id)
    return SnapshotState(snapshot.snapshot_id, snapshot.timestamp_ms) if snapshot else None


def files_of(table: LakeTable, snapshot_id: int, columns: Sequence[str]) -> tuple[BoundedFile, ...]:
    """Every data file of a snapshot that exists, with the bounds of some columns.

    Raises: StoreUnavailableError, ConfigError (no permission).
    """
    if snapshot_id == 0:
        return ()
    iceberg = table.iceberg
    with reachable(f"plan table {table.name}"):
        tasks = list(iceberg.scan(snapshot_id=snapshot_id).plan_files())
    types = _types(iceberg, columns)
    return tuple(
        BoundedFile(
            task.file.file_path,
            task.file.record_count,
            dict(_bounds(task.file.lower_bounds, task.file.upper_bounds, types)),
        )
        for task in tasks
    )


_NONE = SnapshotState(0, 0)


def _types(iceberg: Table, columns: Sequence[str]) -> dict[int, tuple[str, PrimitiveType]]:
    schema: Schema = iceberg.schema()
    found = {}
    for field in schema.fields:
        if field.name in columns and isinstance(field.field_type, PrimitiveType):
            found[field.field_id] = (field.name, field.field_type)
    return found


def _bounds(
    lower: Mapping[int, bytes] | None,
    upper: Mapping[int, bytes] | None,
    types: Mapping[int, tuple[str, PrimitiveType]],
) -> Iterable[tuple[str, tuple[Any, Any]]]:
    for field_id, (name, kind) in types.items():
        low, high = (lower or {}).get(field_id), (upper or {}).get(field_id)
        if low is not None and high is not None:
            yield name, (from_bytes(kind, low), from_bytes(kind, high))
