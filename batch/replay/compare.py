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
from stream.dedup import Times
from stream.errors import FatalError
from stream.keyhash import Hashes, hash_rows
from stream.lake.store import Store
from stream.masking import hide_unmasked
from stream.quarantine import read_rejects
from stream.sources.extract_lanes import STREAM_PREFIX

SAMPLES = 5


@dataclass(slots=True)
class Comparison:
    """Which slices differ and how. `changed`: slice ids; rows count only if they differ.
    `changed_keys`: key hashes of rows, late ones aside, that are there now or no longer.
    """

    changed: set[str] = field(default_factory=set)
    rows_added: int = 0
    rows_removed: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    changed_keys: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def merge(self, other: Comparison) -> None:
        """Take in another round's."""
        self.changed |= other.changed
        self.rows_added += other.rows_added
        self.rows_removed += other.rows_removed
        self.samples += other.samples
        self.changed_keys = np.union1d(self.changed_keys, other.changed_keys)


@dataclass(frozen=True, slots=True)
class Compared:
    """The table whose rows are compared: its schema, its columns with a dictionary, its key, its
    columns of personal data, which samples never show.
    """

    schema: pa.Schema
    dictionary: Sequence[str]
    key: Sequence[str]
    event_time: str
    masked: frozenset[str] = frozenset()

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
        was, now = old.get(name, NOTHING), new.get(name, NOTHING)
        added, removed = _minus(now.rows, was.rows), _minus(was.rows, now.rows)
        changed_keys = np.setxor1d(was.keys, now.keys)
        found.changed_keys = np.union1d(found.changed_keys, changed_keys)
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


@dataclass(frozen=True, slots=True)
class SliceHashes:
    """A slice's rows as hashes; keys and event times are those that a dedup remembers."""

    rows: Hashes
    keys: Hashes
    times: Times


NOTHING = SliceHashes(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def slice_keys(
    store: Store, paths: Sequence[str], wanted: Collection[str], table: Compared
) -> dict[str, tuple[Hashes, Times]]:
    """Keys and event times that Silver holds of slices, late rows aside."""
    found = _hashes(store, paths, wanted, table)
    return {name: (hashes.keys, hashes.times) for name, hashes in found.items()}


def _hashes(
    store: Store, paths: Sequence[str], wanted: Collection[str], table: Compared
) -> dict[str, SliceHashes]:
    """Hashes of each wanted slice."""
    found: dict[str, SliceHashes] = {}
    for rows in _read(store, paths, wanted, table):
        ids = rows["slice_id"].combine_chunks().cast(pa.string()).dictionary_encode()
        codes, names = ids.indices.to_numpy(), ids.dictionary.to_pylist()
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(1, len(names)))
        is_late = rows["is_late"].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
        times = rows[table.event_time].combine_chunks().to_numpy()
        columns = (hash_rows(rows, table.schema.names), hash_rows(rows, table.key), times, is_late)
        parts = zip(*(np.split(column[order], ends) for column in columns), strict=True)
        for name, (row, key, time, is_old) in zip(names, parts, strict=True):
            more = found.get(name, NOTHING)
            # A stream's dedup does not remember late rows, an extract's remembers all of its own.
            late = is_old & (not name.startswith(STREAM_PREFIX))
            found[name] = SliceHashes(
                np.concatenate([more.rows, row]),
                np.concatenate([more.keys, key[~late]]),
                np.concatenate([more.times, time[~late]]),
            )
    return found


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


def _minus(many: Hashes, others: Hashes) -> Hashes:
    """What is left of a multiset of hashes after taking out another."""
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
            return [{"change": change, **hide_unmasked(row, table.masked)} for row in some]
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
