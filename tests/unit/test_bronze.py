"""Bronze objects: the exact records, created once, never changed."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.bronze import BronzeSeals, bronze_bytes, bronze_key, read_bronze, write_bronze
from stream.errors import FatalError, ImmutableObjectError, SealedDifferentlyError
from stream.lake.store import Store, open_store, sha256
from stream.slices import RECORD_SCHEMA, ShardRef, Slice

SHARD = ShardRef("trades", "s.00000000", "shardId-000000000000")


def item(payloads: list[bytes], first: int = 1) -> Slice:
    count = len(payloads)
    columns = [
        pa.array(payloads, pa.binary()),
        pa.array([str(first + number) for number in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array(["key"] * count),
        pa.array([1_000_000_000 + number for number in range(count)], pa.int64()),
    ]
    return Slice(SHARD, None, pa.record_batch(columns, schema=RECORD_SCHEMA))


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def test_bronze_object_reads_back_exactly(store: Store) -> None:
    written = item([b"", b"\x00\xff", b"line\nline", b"x" * 100_000])
    reference = write_bronze(store, written)
    data = store.get(reference.path)
    assert data is not None
    assert read_bronze(data, reference.path).equals(written.records)
    assert (reference.sha256, reference.bytes, reference.rows) == (sha256(data), len(data), 4)


def test_bronze_object_written_again_is_the_same(store: Store) -> None:
    assert write_bronze(store, item([b"a", b"b"])) == write_bronze(store, item([b"a", b"b"]))


def test_bronze_bytes_do_not_depend_on_how_the_batch_was_made() -> None:
    whole = item([b"a", b"b", b"c", b"d"]).records
    pieces = pa.Table.from_batches([whole.slice(0, 1), whole.slice(1)]).combine_chunks()
    assert bronze_bytes(whole.slice(1, 2)) == bronze_bytes(pieces.slice(1, 2).to_batches()[0])


def test_bronze_object_of_another_cut_is_not_replaced(store: Store) -> None:
    first = write_bronze(store, item([b"a", b"b", b"c"]))
    with pytest.raises(SealedDifferentlyError, match="Nothing is lost"):
        write_bronze(store, item([b"a", b"b"]))
    assert sha256(store.get(first.path) or b"") == first.sha256


def test_bronze_object_with_other_records_is_fatal(store: Store) -> None:
    write_bronze(store, item([b"a", b"b"]))
    with pytest.raises(ImmutableObjectError, match="rewrote history"):
        write_bronze(store, item([b"a", b"B"]))


def test_bronze_object_of_another_writer_version_is_adopted(store: Store) -> None:
    """The same records in other Parquet bytes: the ledger names what is stored."""
    out = io.BytesIO()
    written = item([b"a", b"b"])
    pq.write_table(pa.Table.from_batches([written.records]), out, compression="none")
    store.put(bronze_key(written).path, out.getvalue())
    assert write_bronze(store, written).sha256 == sha256(out.getvalue())


def test_seal_is_found_by_its_first_record(store: Store) -> None:
    written = item([b"a", b"b"], first=7)
    seals = BronzeSeals(store)
    assert seals.find(SHARD, "7", 1_000_000_000) is None
    write_bronze(store, written)
    found: Any = seals.find(SHARD, "7", 1_000_000_000)
    assert found.equals(written.records)


def test_damaged_bronze_object_is_named(store: Store) -> None:
    with pytest.raises(FatalError, match="some/path is not a readable"):
        read_bronze(b"PAR1 not", "some/path")
