"""Write each slice to Bronze once, as it arrived.

A Bronze object holds the exact record bytes of one slice plus sequence numbers, partition keys
and arrival times; nothing is parsed. Its key depends only on the slice's shard and first record
(`lake.layout`), so a replay after a crash writes the same bytes to the same key.

Guarantees: no record is in two objects of the ledger; an existing object is never changed.
Not here: decoding (`decode`), retention (an infrastructure rule).
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.errors import FatalError, ImmutableObjectError, SealedDifferentlyError
from stream.failpoints import failpoint
from stream.lake.entries import ObjectRef
from stream.lake.layout import BronzeKey
from stream.lake.store import Store, sha256
from stream.slices import RECORD_SCHEMA, ShardRef, Slice


def write_bronze(store: Store, item: Slice) -> ObjectRef:
    """Create the slice's object, or find that it is there already with the same records.

    Raises: SealedDifferentlyError when another instance cut this slice elsewhere (a restart
    adopts its cut), ImmutableObjectError when the stored records are not the stream's.
    """
    path, data = bronze_key(item).path, bronze_bytes(item.records)
    if not store.put_once(path, data):
        stored = store.get(path)
        if stored is not None and stored != data:
            _check_same(path, read_bronze(stored, path), item.records)
            data = stored
    failpoint("bronze-put-done")
    return ObjectRef(path, sha256(data), len(data), item.rows)


def bronze_key(item: Slice) -> BronzeKey:
    """The key of a slice that holds records."""
    assert item.first is not None
    return BronzeKey.of(item.shard, item.first, item.records["ts_arrival_ns"][0].as_py())


def bronze_bytes(records: pa.RecordBatch) -> bytes:
    """The object's bytes: a pure function of the records for one version of pyarrow.

    No dictionary and no statistics on the payload: trying them costs 0.17 CPU-s per million
    records and saves nothing.
    """
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_batches([records]),
        out,
        compression="zstd",
        compression_level=1,
        use_dictionary=["partition_key"],
        write_statistics=["sequence_number", "ts_arrival_ns"],
        row_group_size=max(records.num_rows, 1),
        data_page_size=4 << 20,
        store_schema=False,
    )
    return out.getvalue()


def read_bronze(data: bytes, path: str) -> pa.RecordBatch:
    """The records of an object. Raises: FatalError naming the object if it is damaged."""
    try:
        table = pq.read_table(io.BytesIO(data), columns=RECORD_SCHEMA.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise FatalError(
            f"{path} is not a readable Bronze object: {error}. Restore it from the bucket's "
            "versions, then run `headrace prove`."
        ) from error
    batches = table.cast(RECORD_SCHEMA).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=RECORD_SCHEMA)


class BronzeSeals:
    """Slices that reached Bronze are sealed: a restart adopts their cut (`sources.lanes`)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(
        self, shard: ShardRef, first_sequence_number: str, ts_arrival_ns: int
    ) -> pa.RecordBatch | None:
        """The records of the object that begins with this record, if there is one."""
        path = BronzeKey.of(shard, first_sequence_number, ts_arrival_ns).path
        data = self._store.get(path)
        return None if data is None else read_bronze(data, path)


def _check_same(path: str, stored: pa.RecordBatch, new: pa.RecordBatch) -> None:
    if stored.equals(new):
        return  # same records, other Parquet bytes: written by another version of pyarrow
    common = min(stored.num_rows, new.num_rows)
    if stored.slice(0, common).equals(new.slice(0, common)):
        raise SealedDifferentlyError(
            f"{path} holds {stored.num_rows} records where this instance cut {new.num_rows}: "
            "another instance sealed the slice first. Nothing is lost; a restart adopts its cut."
        )
    raise ImmutableObjectError(
        f"{path} exists with different records ({_digest(stored)} stored, {_digest(new)} new). "
        "The source rewrote history or the object was edited. Do not delete it; compare both "
        "and see `headrace prove`."
    )


def _digest(records: pa.RecordBatch) -> str:
    joined = b"".join(records["payload"].to_pylist())
    total = pc.sum(pc.binary_length(records["payload"])).as_py() or 0
    return f"{records.num_rows} records, {total} bytes, sha256 {sha256(joined)[:12]}"
