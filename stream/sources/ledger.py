"""Recorded slices: read the records of a slice back from Bronze, exactly as they were cut.

The ledger says which records a slice holds and which object keeps them: a Bronze object of its
own, or a range of an extract's part. Both are checked against the recorded hash before a byte is
used. `RecordedLanes` yields them as a bounded lane of the dataflow, in the order of their commits.
Not here: what a replay changes (`batch.replay`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

from stream.bronze import read_bronze
from stream.errors import FatalError
from stream.lake.entries import SliceRecord
from stream.lake.layout import ExtractPartKey
from stream.lake.store import Store, sha256
from stream.slices import Slice
from stream.sources.extract import Manifest, PartRef, read_manifest
from stream.sources.extract_formats import payloads_of
from stream.sources.extract_lanes import PART_STEP, part_records

KEPT_PARTS = 4


def is_extract_part(path: str) -> bool:
    """Whether a slice's records lie in a part of an extract."""
    return "/run_id=" in path


class ExtractParts:
    """The records of extracts' parts; the last few are kept. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._manifests: dict[str, Manifest] = {}
        self._records: dict[str, pa.RecordBatch] = {}
        self._objects: dict[str, tuple[bytes, str]] = {}

    def fetch(self, path: str) -> tuple[bytes, str] | None:
        """A part's bytes and their hash, read once for the slices of a part; None if it is gone."""
        with self._lock:
            if path not in self._objects:
                data = self._store.get(path)
                if data is None:
                    return None
                while len(self._objects) >= KEPT_PARTS:
                    del self._objects[next(iter(self._objects))]
                self._objects[path] = (data, sha256(data))
            return self._objects[path]

    def records(self, path: str, data: bytes) -> pa.RecordBatch:
        """All records of a part. Raises: FatalError when its manifest is gone or disagrees."""
        with self._lock:
            if path in self._records:
                return self._records[path]
            key = ExtractPartKey.parse(path)
            manifest = self._manifest(key)
            number, part = _find(manifest, path)
            payloads = payloads_of(data, part, manifest.mapping)
            while len(self._records) >= KEPT_PARTS:
                del self._records[next(iter(self._records))]
            self._records[path] = part_records(payloads, number, part.received_ms)
            return self._records[path]

    def _manifest(self, key: ExtractPartKey) -> Manifest:
        if key.run_id not in self._manifests:
            manifest = read_manifest(self._store, key.source, key.run_id)
            if manifest is None:
                raise FatalError(
                    f"the manifest of extract {key.run_id} ({key.source}) is missing although the "
                    "ledger holds slices of it. Restore it from the bucket's versions."
                )
            self._manifests[key.run_id] = manifest
        return self._manifests[key.run_id]


def read_recorded(record: SliceRecord, data: bytes, parts: ExtractParts) -> pa.RecordBatch:
    """The records of a slice, out of the bytes of its Bronze object or extract part."""
    assert record.bronze is not None
    assert record.first is not None
    if not is_extract_part(record.bronze.path):
        return read_bronze(data, record.bronze.path)
    records = parts.records(record.bronze.path, data)
    return records.slice(int(record.first) % PART_STEP - 1, record.rows)


class RecordedLanes:
    """One bounded lane with recorded slices, in the order given; objects are read ahead."""

    names = ("recorded",)

    def __init__(self, store: Store, records: Sequence[SliceRecord], threads: int = 4) -> None:
        self._records = [record for record in records if record.rows]
        self._parts = ExtractParts(store)
        paths = [record.bronze.path for record in self._records if record.bronze]
        runs = [path for path, _ in groupby(paths)]  # slices of one part follow one another
        self._objects = zip(runs, store.get_many(runs, threads), strict=True)
        self._object: tuple[str, bytes | None] = ("", None)
        self._done = 0

    def poll(self, lane: int) -> Slice | None:  # noqa: ARG002
        """The next slice. Raises: FatalError for a Bronze object that is gone or changed."""
        if self.is_finished(0):
            return None
        record = self._records[self._done]
        assert record.bronze is not None
        if self._object[0] != record.bronze.path:
            self._object = next(self._objects)
        data = checked(record, self._object[1])
        self._done += 1
        return Slice(record.shard, record.prev, read_recorded(record, data, self._parts))

    def has_shards(self, lane: int) -> bool:
        """Whether the lane has anything to wait for soon."""
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:  # noqa: ARG002
        """Whether every slice was polled."""
        return self._done >= len(self._records)


def checked(record: SliceRecord, data: bytes | None) -> bytes:
    """A slice's object, if it is what the ledger recorded. Raises: FatalError."""
    assert record.bronze is not None
    if data is None:
        raise FatalError(
            f"{record.bronze.path} is missing: the slice cannot be replayed from Bronze. Restore "
            "it from the bucket's versions, or, while the stream still holds the records, use "
            "`headrace replay --source kinesis`."
        )
    if sha256(data) != record.bronze.sha256:
        raise FatalError(
            f"{record.bronze.path} was changed: sha256 {sha256(data)[:16]}…, the ledger recorded "
            f"{record.bronze.sha256[:16]}…. Restore it from the bucket's versions; a replay of "
            "changed bytes would prove nothing."
        )
    return data


def _find(manifest: Manifest, path: str) -> tuple[int, PartRef]:
    for number, part in enumerate(manifest.parts, start=1):
        if part.path == path:
            return number, part
    raise FatalError(
        f"{path} is not a part of {manifest.path}: another attempt of the run won. The ledger and "
        "the manifest disagree; compare both before any further write."
    )
