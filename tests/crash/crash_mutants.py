"""Planted bugs: what a careless version of the road would do, to prove that the checks can fail.

Each patches a forked process before its verb runs. Never part of the product.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import stream.bronze
import stream.lake.ledger
import stream.silver
from stream.lake.entries import SliceRecord
from stream.lake.store import Store
from stream.slices import ShardPosition


def commit_before_silver() -> None:
    """The ledger names data files that are stored only after the commit."""
    late: list[tuple[Store, str, bytes]] = []
    write, attempt = stream.silver.DataFile.write, stream.lake.ledger.Ledger._try

    class Later:
        def __init__(self, store: Store) -> None:
            self._store = store

        def put(self, path: str, data: bytes) -> None:
            late.append((self._store, path, data))

        def uri(self, path: str) -> str:
            return self._store.uri(path)

    def write_later(self: Any, store: Any) -> Any:
        return write(self, Later(store))  # type: ignore[arg-type]

    def try_then_store(self: Any, change: Any) -> bool:
        has_landed = attempt(self, change)
        while late:
            store, path, data = late.pop()
            store.put(path, data)
        return has_landed

    stream.silver.DataFile.write = write_later  # type: ignore[method-assign]
    stream.lake.ledger.Ledger._try = try_then_store  # type: ignore[method-assign]


def commit_again() -> None:
    """After a lost race the same slices are committed on top, without a look at the positions."""

    def keep_all(
        slices: Sequence[SliceRecord], positions: Mapping[str, ShardPosition]
    ) -> tuple[list[SliceRecord], dict[str, ShardPosition]]:
        after = dict(positions)
        for record in slices:
            arrival_ms = record.arrival_ns[1] // 1_000_000
            after[str(record.shard)] = ShardPosition(
                record.last, is_ended=record.ends_shard, arrival_ms=arrival_ms
            )
        return list(slices), after

    stream.lake.ledger.new_slices = keep_all


def bronze_overwritten() -> None:
    """A Bronze object says when it was written, and whoever comes second writes it again."""
    encode = stream.bronze.bronze_bytes

    def encode_with_time(records: pa.RecordBatch) -> bytes:
        table = pq.read_table(io.BytesIO(encode(records)))
        out = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"written": str(time.time_ns())}), out)
        return out.getvalue()

    def put_always(self: Store, path: str, data: bytes) -> bool:
        self.put(path, data)
        return True

    stream.bronze.bronze_bytes = encode_with_time
    Store.put_once = put_always  # type: ignore[method-assign,assignment]


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutant.__name__: mutant for mutant in (commit_before_silver, commit_again, bronze_overwritten)
}
