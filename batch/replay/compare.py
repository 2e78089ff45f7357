"""Compare replayed slices with what Silver holds of them, row by row, as multisets.

Only slices whose outcome is not the recorded one byte for byte get here. A row is its 64-bit hash
over all columns, so another version of the Parquet writer changes nothing, and memory is eight
bytes a row; a changed row is overlooked with probability 2^-64.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.maintain.receipt import as_schema
from batch.replay.reprocess import Outcome
from stream.errors import FatalError
from stream.keyhash import Hashes, hash_rows
from stream.lake.store import Store
from stream.quarantine import read_rejects

SAMPLES = 5


@dataclass(slots=True)
class Comparison:
    """Which slices differ and how. `changed`: slice ids; rows count only if they differ."""

    changed: set[str] = field(default_factory=set)
    rows_added: int = 0
    rows_removed: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: Comparison) -> None:
        """Take in another round's."""
        self.changed |= other.changed
        self.rows_added += other.rows_added
        self.rows_removed += other.rows_removed
        self.samples += other.samples


@dataclass(frozen=True, slots=True)
class Compared:
    """The table whose rows are compared: its schema, and its columns with a dictionary."""

    schema: pa.Schema
    dictionary: Sequence[str]

    def rows(self, data: bytes) -> pa.Table:
        """Rows of a data file, in the table's columns."""
        found = pq.read_table(io.BytesIO(data), read_dictionary=list(self.dictionary))
        return as_schema(found, self.schema)


def compare(
    outcomes: Sequence[Outcome],
    held: Sequence[str],
    *,
    lake: Store,
    store: Store,
    table: Compared,
) -> Comparison:
    """Compare outcomes with the rows of their slices in data files.

    Args: held: paths of the current files that hold old rows of these slices. store: where the
    new files can be read.
    """
    doubtful = {o.state.record.slice_id: o for o in outcomes if not o.is_same}
    found = Comparison()
    if not doubtful:
        return found
    new_paths = [item.path for o in doubtful.values() for item in o.result.record.silver]
    old = _hashes(lake, held, doubtful, table)
    new = _hashes(store, new_paths, doubtful, table)
    for name, outcome in doubtful.items():
        added, removed = _minus(new.get(name), old.get(name)), _minus(old.get(name), new.get(name))
        found.rows_added += len(added)
        found.rows_removed += len(removed)
        if len(added) or len(removed) or not _is_same_record(store, outcome):
            found.changed.add(name)
        if len(found.samples) < SAMPLES and (len(added) or len(removed)):
            mine = [item.path for item in outcome.result.record.silver]
            found.samples += [
                *_sample(lake, held, table, name=name, hashes=removed, change="removed"),
                *_sample(store, mine, table, name=name, hashes=added, change="added"),
            ]
    return found


def _hashes(
    store: Store, paths: Sequence[str], wanted: Collection[str], table: Compared
) -> dict[str, Hashes]:
    """Row hashes of each wanted slice."""
    found: dict[str, list[Hashes]] = {}
    for rows in _read(store, paths, wanted, table):
        ids = rows["slice_id"].combine_chunks().cast(pa.string()).dictionary_encode()
        codes, names = ids.indices.to_numpy(), ids.dictionary.to_pylist()
        order = np.argsort(codes, kind="stable")
        hashes = hash_rows(rows, table.schema.names)[order]
        ends = np.searchsorted(codes[order], np.arange(1, len(names)))
        for name, part in zip(names, np.split(hashes, ends), strict=True):
            found.setdefault(name, []).append(part)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _read(
    store: Store, paths: Sequence[str], wanted: Collection[str], table: Compared
) -> Iterator[pa.Table]:
    """The rows of wanted slices, a file at a time."""
    names = pa.array(sorted(wanted), pa.string())
    for path, data in zip(paths, store.get_many(list(paths), 2), strict=True):
        if data is None:
            raise FatalError(
                f"{path} is missing although it was there a moment ago. Nothing was replaced; "
                "`headrace prove` lists all that is missing."
            )
        rows = table.rows(data)
        is_mine = pc.is_in(rows["slice_id"].combine_chunks().cast(pa.string()), names)
        rows = rows if pc.all(is_mine).as_py() else rows.filter(is_mine)
        if rows.num_rows:
            yield rows


def _minus(many: Hashes | None, others: Hashes | None) -> Hashes:
    """What is left of a multiset of hashes after taking out another."""
    if many is None:
        return np.zeros(0, np.uint64)
    if others is None:
        return many
    values, counts = np.unique(many, return_counts=True)
    known, taken = np.unique(others, return_counts=True)
    at = np.minimum(np.searchsorted(known, values), max(len(known) - 1, 0))
    is_known = known[at] == values if len(known) else np.zeros(len(values), bool)
    left = counts - np.where(is_known, taken[at] if len(known) else 0, 0)
    return np.repeat(values, np.maximum(left, 0))


def _sample(
    store: Store,
    paths: Sequence[str],
    table: Compared,
    *,
    name: str,
    hashes: Hashes,
    change: str,
) -> list[dict[str, Any]]:
    """A few of a slice's rows that differ."""
    if not len(hashes):
        return []
    for rows in _read(store, paths, {name}, table):
        is_one = np.isin(hash_rows(rows, table.schema.names), hashes)
        if is_one.any():
            some = rows.filter(pa.array(is_one)).slice(0, SAMPLES).to_pylist()
            return [{"change": change, **row} for row in some]
    return []


def _is_same_record(store: Store, outcome: Outcome) -> bool:
    """Whether the counts and the quarantine are the recorded ones (its rows were compared)."""
    old, new = outcome.state.record, outcome.result.record
    counts = ("messages", "silver_rows", "duplicates", "ignored", "rejected")
    if outcome.state.redriven or any(_of(old, name) != _of(new, name) for name in counts):
        return False
    if old.quarantine == new.quarantine:
        return True
    if old.quarantine is None or new.quarantine is None:
        return False
    before, after = store.get(old.quarantine.path), store.get(new.quarantine.path)
    if before is None or after is None:
        return False
    return bool(read_rejects(before).equals(read_rejects(after)))


def _of(record: object, name: str) -> object:
    value = getattr(record, name)
    return dict(value) if isinstance(value, Mapping) else value
