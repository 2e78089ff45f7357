"""Text that is shared on the way through the road leaves no trace in the files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stream.decode import decode_records
from stream.dedup import Distinct
from stream.feeds import load_feed
from stream.keyhash import hash_rows
from stream.producers.simulate import Simulator
from stream.silver import share_texts, silver_rows, slice_files
from stream.slices import RECORD_SCHEMA, ShardRef, Slice

START_NS = 1_764_000_000_000_000_000


@pytest.mark.parametrize("feed", ["trades", "quotes", "news"])
def test_files_hashes_and_order_are_those_of_plain_text(feed: str) -> None:
    contract = load_feed(feed)
    lines = [line for _, line in Simulator(feed, seed=5, start_ns=START_NS, rate=1_000).take(3_000)]
    count = len(lines)
    records = pa.record_batch(
        [
            pa.array(lines, pa.binary()),
            pa.array([str(10**55 + n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array(["key"] * count),
            pa.array(np.full(count, 2_000_000_000_000_000_000)),
        ],
        schema=RECORD_SCHEMA,
    )
    item = Slice(ShardRef(feed, "s.00000000", "shardId-000000000000"), None, records)
    plain = decode_records(contract, records).rows
    shared = share_texts(contract, plain)
    assert (hash_rows(shared, contract.key) == hash_rows(plain, contract.key)).all()

    def built(rows: pa.Table) -> pa.Table:
        return silver_rows(contract, item, Distinct(rows, np.zeros(rows.num_rows, bool), 0))

    schema = pa.schema([f.with_type(_plain(f.type)) for f in built(plain).schema])

    def files(rows: pa.Table) -> list[tuple[str, bytes]]:
        made = slice_files(contract, item, built(rows), schema)
        return [(file.key.path, file.data) for file in made]

    assert plain.num_rows > 1_000
    assert files(shared) == files(plain)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
