"""Which data files of a table hold rows of some slices, and what else is in them.

A file that the ledger wrote for a slice holds that slice alone. Any other file (a compaction's, an
earlier replay's) is opened and its `slice_id` column is read.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.maintain.receipt import RowDigest, as_schema
from stream.errors import FatalError
from stream.lake.catalog import LakeTable, StagedFile
from stream.lake.entries import ObjectRef
from stream.lake.history import SliceState
from stream.lake.layout import SilverKey
from stream.lake.store import Store, file_sha256
from stream.silver import EPOCH, SilverWriter

DAY_US = 86_400_000_000
BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A data file with rows of wanted slices: how many of each, and how many of others."""

    address: str
    path: str
    wanted: Mapping[str, int]
    others: int


class HeldFiles:
    """Finds the files of one table's current snapshot that hold rows of slices."""

    def __init__(self, store: Store, history: Mapping[str, SliceState]) -> None:
        self._store = store
        self._owner = {
            item.path: slice_id for slice_id, state in history.items() for item in state.silver
        }
        self._counts: dict[str, dict[str, int]] = {}
        self._listed: dict[tuple[int | None, date], list[str]] = {}

    def find(self, table: LakeTable, wanted: Collection[SliceState]) -> list[HeldFile]:
        """Files with rows of `wanted`, as the table handle sees them."""
        names = {state.record.slice_id for state in wanted}
        paths = [self._store.relative(address) for address in self._addresses(table, wanted)]
        found = []
        for path in paths:
            owner = self._owner.get(path)
            if owner is None:
                counts = self._read_counts(path)
                mine = {name: rows for name, rows in counts.items() if name in names}
                others = sum(counts.values()) - sum(mine.values())
            else:
                mine, others = ({owner: self._rows(path)} if owner in names else {}), 0
            if mine:
                found.append(HeldFile(self._store.uri(path), path, mine, others))
        return found

    def _addresses(self, table: LakeTable, wanted: Collection[SliceState]) -> Iterator[str]:
        """Files of the days that the slices' own files lay in; a snapshot is planned once a day."""
        for day in sorted({SilverKey.parse(i.path).day for state in wanted for i in state.silver}):
            key = (table.snapshot_id, day)
            if key not in self._listed:
                first_us = (day.toordinal() - EPOCH.toordinal()) * DAY_US
                self._listed[key] = table.data_files_between(first_us, first_us + DAY_US - 1)
            yield from self._listed[key]

    def _rows(self, path: str) -> int:
        return sum(self._read_counts(path).values())

    def _read_counts(self, path: str) -> dict[str, int]:
        if path not in self._counts:
            column = read_rows(self._store, path, ["slice_id"])["slice_id"]
            counted = pc.value_counts(column.combine_chunks())
            self._counts[path] = dict(
                zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
            )
        return self._counts[path]


def check_complete(held: Collection[HeldFile], wanted: Collection[SliceState]) -> None:
    """Silver must hold exactly the rows of these slices that the ledger counted.

    Raises: FatalError naming the slice: replacing rows that are not as recorded would hide it.
    """
    found: dict[str, int] = {}
    for file in held:
        for name, rows in file.wanted.items():
            found[name] = found.get(name, 0) + rows
    for state in wanted:
        name = state.record.slice_id
        if found.get(name, 0) != state.silver_rows:
            raise FatalError(
                f"slice {name}: Silver holds {found.get(name, 0)} rows, the ledger counted "
                f"{state.silver_rows}. Nothing was replaced: run `headrace prove` and mend that "
                "first."
            )


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that holds the rows of another one's other slices: durable, not yet visible."""

    reference: ObjectRef
    staged: StagedFile
    digest: str


def rewrite_others(
    store: Store, held: HeldFile, schema: pa.Schema, dictionary: Sequence[str], folder: Path
) -> Rewritten:
    """Write the rows that belong to other slices into a file of their own, in their order.

    Cost: the file's bytes and one row group in memory. Raises: FatalError if the file is gone.
    """
    source = pq.ParquetFile(io.BytesIO(read_object(store, held.path)))
    mine = pa.array(list(held.wanted), pa.string())
    symbols = 0
    if "symbol" in schema.names:
        symbols = len(pc.unique(source.read(columns=["symbol"])["symbol"]))
    local, digest = folder / "others.parquet", RowDigest()
    writer = SilverWriter(local, schema, list(dictionary), distinct_symbols=symbols)
    for batch in source.iter_batches(BATCH_ROWS):
        rows = pa.Table.from_batches([batch])
        rows = as_schema(rows.filter(pc.invert(pc.is_in(rows["slice_id"], mine))), schema)
        digest.add(rows, schema)
        writer.write(rows)
    footer = writer.close()
    assert digest.rows == held.others
    key = SilverKey.parse(held.path)
    sha, size = file_sha256(local), local.stat().st_size
    path = SilverKey.of_rewrite(key.table, key.day, sha).path
    store.put_file(path, local)
    staged = StagedFile(store.uri(path), size, digest.rows, sha, footer)
    return Rewritten(ObjectRef(path, sha, size, digest.rows), staged, digest.hex)


def read_rows(store: Store, path: str, columns: list[str]) -> pa.Table:
    """Columns of a data file. Raises: FatalError if it is gone."""
    return pq.read_table(io.BytesIO(read_object(store, path)), columns=columns)


def read_object(store: Store, path: str) -> bytes:
    """A data file's bytes. Raises: FatalError if it is gone."""
    data = store.get(path)
    if data is None:
        raise FatalError(
            f"{path} is missing although the table's snapshot names it. Restore it from the "
            "bucket's versions; `headrace prove` lists all that is missing."
        )
    return data
