"""Silver files: typed, sorted, one a day, the same bytes every time; keys read back exactly."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream.decode import decode_records
from stream.dedup import Distinct
from stream.keyhash import hash_rows
from stream.silver import SilverKeys, silver_rows, slice_files
from stream.slices import Slice

DAY_NS = 86_400_000_000_000
OTHER = "shardId-000000000001"


def rows_of(lake: Any, item: Slice) -> pa.Table:
    rows = decode_records(lake.contract, item.records).rows
    return silver_rows(lake.contract, item, Distinct(rows, np.zeros(rows.num_rows, bool), 0))


def test_files_of_a_slice_are_the_same_bytes_every_time(small_lake: Any, trade: Any) -> None:
    item = small_lake.slice([trade(n, at_ns=small_lake.arrival_ns + n) for n in range(50)])
    schema = small_lake.table.arrow_schema
    one, two = (
        slice_files(small_lake.contract, item, rows_of(small_lake, item), schema) for _ in range(2)
    )
    assert [(file.key, file.data) for file in one] == [(file.key, file.data) for file in two]


def test_rows_over_midnight_are_one_file_a_day(small_lake: Any, trade: Any) -> None:
    midnight = small_lake.arrival_ns // DAY_NS * DAY_NS
    item = small_lake.slice([trade(n, at_ns=midnight + (n - 2) * 1_000) for n in range(5)])
    files = slice_files(
        small_lake.contract, item, rows_of(small_lake, item), small_lake.table.arrow_schema
    )
    assert [(file.key.day, file.rows) for file in files] == [
        (date(2025, 11, 23), 2),
        (date(2025, 11, 24), 3),
    ]
    small_lake.land(item)
    small_lake.table.refresh()
    assert sum(rows for _, rows in small_lake.table.data_files()) == 5


def test_rows_are_in_the_order_of_the_contract(small_lake: Any, trade: Any) -> None:
    at = small_lake.arrival_ns
    item = small_lake.slice(
        [
            trade(9, symbol="B", at_ns=at),
            trade(10, symbol="A", at_ns=at + 5),
            trade(3, symbol="A", at_ns=at + 5),
            trade(1, symbol="A", at_ns=at),
        ]
    )
    rows = rows_of(small_lake, item)
    assert rows["trade_id"].to_pylist() == ["1", "3", "10", "9"]
    assert rows["sequence_number"].to_pylist() == ["1003", "1002", "1001", "1000"]
    assert set(rows["slice_id"].to_pylist()) == {item.id}


def test_file_has_field_ids_and_small_decimals_as_integers(small_lake: Any) -> None:
    small_lake.land_trades(3)
    path = small_lake.results[0].record.silver[0].path
    file = pq.ParquetFile(io.BytesIO(small_lake.lake.store.get(path)))
    names = file.schema_arrow.names
    assert file.schema.column(names.index("price")).physical_type == "INT64"
    assert [f.metadata[b"PARQUET:field_id"] for f in file.schema_arrow] == [
        str(number).encode() for number in range(1, len(names) + 1)
    ]


def keys_of(lake: Any, before: str | None, shard: str, ancestors: frozenset[str]) -> set[int]:
    reference = lake.slice([], shard).shard
    keys = SilverKeys(
        lake.contract, lake.lake.table(lake.contract), lake.lake.store, lambda _: ancestors
    )
    return set(keys.read(reference, before, 0)[0].tolist())


def hashes(lake: Any, item: Slice) -> set[int]:
    return set(hash_rows(rows_of(lake, item), lake.contract.key).tolist())


def test_keys_read_back_are_those_before_the_slice(small_lake: Any) -> None:
    first, second = small_lake.land_trades(4), small_lake.land_trades(4)
    shard = first.shard.shard
    assert keys_of(small_lake, second.first, shard, frozenset()) == hashes(small_lake, first)
    both = hashes(small_lake, first) | hashes(small_lake, second)
    assert keys_of(small_lake, str(10**9), shard, frozenset()) == both
    assert keys_of(small_lake, None, shard, frozenset()) == set()


def test_keys_read_back_include_ancestors_but_no_other_shard(small_lake: Any) -> None:
    parent = small_lake.land_trades(4)
    name = parent.shard.shard
    assert keys_of(small_lake, "1", OTHER, frozenset()) == set()
    assert keys_of(small_lake, "1", OTHER, frozenset({name})) == hashes(small_lake, parent)


def test_keys_read_back_leave_late_rows_out(small_lake: Any, trade: Any) -> None:
    """A running process does not remember late rows: a restart would drop other rows than it."""
    long_ago = small_lake.arrival_ns - 3_600_000_000_000
    item = small_lake.slice([trade(1, at_ns=long_ago), trade(2, at_ns=small_lake.arrival_ns)])
    small_lake.land(item)
    found = keys_of(small_lake, str(10**9), item.shard.shard, frozenset())
    assert len(found) == 1
