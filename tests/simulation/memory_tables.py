"""A table of the lake in memory: what `stream.lake.catalog.LakeTable` promises, without Iceberg.

Versions of a table are kept in a list; a handle stands at one of them until it is refreshed. A
commit is a compare-and-swap on the newest version, as the catalog's. `tests/contract` runs one
suite over this and the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from stream.errors import CommitConflictError, ConfigError
from stream.lake.catalog import StagedFile, TableFile

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Parquet's timestamps of ours carry no zone


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A live data file and the event times (µs) that it may hold."""

    file: TableFile
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Version:
    """A table at one point in time. `summaries`: of its snapshots, by their ids from 1."""

    number: int = 0
    files: tuple[HeldFile, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    summaries: tuple[Mapping[str, str], ...] = ()


class HeldTable:
    """All versions of one table: what outlives a process."""

    def __init__(
        self, name: str, schema: pa.Schema, on_commit: Callable[[Version], None] = lambda _: None
    ) -> None:
        """`on_commit`: told of each new version."""
        numbered = [
            f.with_metadata({"PARQUET:field_id": str(n)}) for n, f in enumerate(schema, start=1)
        ]
        self.name, self.schema = name, pa.schema(numbered)
        self.versions = [Version()]
        self._on_commit = on_commit

    def swap(self, after: Version, new: Version) -> None:
        """Raises: CommitConflictError when `after` is not the newest version."""
        if after.number != self.versions[-1].number:
            raise CommitConflictError(
                f"table {self.name}: based on version {after.number}, the newest is "
                f"{self.versions[-1].number}"
            )
        self.versions.append(replace(new, number=after.number + 1))
        self._on_commit(self.versions[-1])


class MemoryTable:
    """A handle on a `HeldTable`."""

    def __init__(self, held: HeldTable) -> None:
        self._held = held
        self._at = held.versions[-1]
        self._pins: dict[str, str] = {}
        self._explain: Callable[[str | None], str] = str

    @property
    def name(self) -> str:
        return self._held.name

    @property
    def properties(self) -> Mapping[str, str]:
        return self._at.properties

    @property
    def snapshot_id(self) -> int | None:
        return len(self._at.summaries) or None

    @property
    def snapshot_count(self) -> int:
        return len(self._at.summaries)

    @property
    def arrow_schema(self) -> pa.Schema:
        return self._held.schema

    def refresh(self) -> None:
        self._move_to(self._held.versions[-1])

    def pin(
        self,
        name: str,
        value: str,
        *,
        replaces: Collection[str | None],
        explain: Callable[[str | None], str],
    ) -> None:
        while (found := self.properties.get(name)) != value:
            if found not in replaces:
                raise ConfigError(explain(found))
            try:
                self._swap(replace(self._at, properties={**self.properties, name: value}))
            except CommitConflictError:
                self.refresh()
        self._pins[name], self._explain = value, explain

    def append(
        self, files: Sequence[StagedFile], properties: Mapping[str, str], summary: Mapping[str, str]
    ) -> None:
        self.replace((), files, properties, summary)

    def replace(
        self,
        remove: Sequence[str],
        add: Sequence[StagedFile],
        properties: Mapping[str, str],
        summary: Mapping[str, str],
    ) -> None:
        stay = tuple(f for f in self._at.files if f.file.address not in set(remove))
        if len(stay) != len(self._at.files) - len(set(remove)):
            raise CommitConflictError(f"table {self.name}: another rewrite was first")
        newest = self._held.versions[-1].properties
        if any(newest.get(name) != value for name, value in self._pins.items()):
            raise CommitConflictError(f"table {self.name}: a pinned property has changed")
        self._swap(
            replace(
                self._at,
                files=(*stay, *(_held(file) for file in add)),
                properties={**self._at.properties, **properties},
                summaries=(*self._at.summaries, dict(summary)),
            )
        )

    def files(self) -> list[TableFile]:
        return [held.file for held in self._at.files]

    def data_files(self, snapshot_id: int | None = None) -> list[tuple[str, int]]:
        return [(h.file.address, h.file.rows) for h in self._version_of(snapshot_id).files]

    def data_files_between(
        self, first_us: int, last_us: int, snapshot_id: int | None = None
    ) -> list[str]:
        return [
            held.file.address
            for held in self._version_of(snapshot_id).files
            if held.first_us <= last_us and held.last_us >= first_us
        ]

    def find_snapshot(self, name: str, value: str) -> int | None:
        numbered = list(enumerate(self._at.summaries, start=1))
        return next((n for n, summary in reversed(numbered) if summary.get(name) == value), None)

    def has_snapshot(self, snapshot_id: int) -> bool:
        return 0 < snapshot_id <= len(self._at.summaries)

    def _move_to(self, version: Version) -> None:
        self._at = version
        for name, value in self._pins.items():
            if (found := self.properties.get(name)) != value:
                raise ConfigError(self._explain(found))

    def _swap(self, new: Version) -> None:
        self._held.swap(self._at, new)
        self._at = self._held.versions[-1]

    def _version_of(self, snapshot_id: int | None) -> Version:
        if snapshot_id is None:
            return self._at
        return next(v for v in self._held.versions if len(v.summaries) == snapshot_id)


def _held(file: StagedFile) -> HeldFile:
    low, high = _event_range(file.footer)
    return HeldFile(TableFile(file.uri, file.bytes, file.rows), low, high)


def _event_range(footer: pq.FileMetaData) -> tuple[int, int]:
    column = footer.schema.names.index("ts_event")
    found = [footer.row_group(n).column(column).statistics for n in range(footer.num_row_groups)]
    return min(_us(s.min) for s in found), max(_us(s.max) for s in found)


def _us(time: datetime) -> int:
    passed = time - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
