"""What every `StreamReader` must do, run over the in-memory stream and Kinesis (emulated).

The Kinesis runs need the embedded AWS; the fixtures are those of tests/emulator.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pytest

from stream.errors import ConfigError
from stream.slices import RECORD_SCHEMA, is_after
from stream.sources import HASH_SPACE, ReadResult, ShardInfo, Start, StreamReader
from stream.sources.kinesis import KinesisReader, create_stream, merge_shards, split_shard
from stream.sources.kinesis_client import make_client
from stream.sources.memory import MemoryReader, MemoryStream

_spec = importlib.util.spec_from_file_location(
    "emulator_fixtures", Path(__file__).parents[1] / "emulator" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
roto_url, roto = _fixtures.roto_url, _fixtures.roto
_NAMES = itertools.count()


class Bench(Protocol):
    """A stream under test: what the suite may do to it."""

    reader: StreamReader

    def put(self, payload: bytes, hash_key: int = 0) -> str: ...
    def split(self, shard: ShardInfo) -> None: ...
    def merge(self, one: ShardInfo, other: ShardInfo) -> None: ...


class MemoryBench:
    def __init__(self, shards: int, **options: bool) -> None:
        self.stream = MemoryStream("ticks", shards)
        self.reader: StreamReader = MemoryReader(self.stream, **options)

    def put(self, payload: bytes, hash_key: int = 0) -> str:
        return self.stream.put(payload, "key", explicit_hash_key=hash_key)[1]

    def split(self, shard: ShardInfo) -> None:
        self.stream.split_shard(shard.shard)

    def merge(self, one: ShardInfo, other: ShardInfo) -> None:
        self.stream.merge_shards(one.shard, other.shard)


class KinesisBench:
    def __init__(self, shards: int) -> None:
        self.name = f"contract-{os.getpid()}-{next(_NAMES)}"
        create_stream(self.name, shards)
        self.reader: StreamReader = KinesisReader(self.name)
        self.client = make_client("us-east-1")

    def put(self, payload: bytes, hash_key: int = 0) -> str:
        answer = self.client.put_record(
            StreamName=self.name, Data=payload, PartitionKey="key", ExplicitHashKey=str(hash_key)
        )
        return str(answer["SequenceNumber"])

    def split(self, shard: ShardInfo) -> None:
        split_shard(self.name, shard)

    def merge(self, one: ShardInfo, other: ShardInfo) -> None:
        merge_shards(self.name, one.shard, other.shard)


@pytest.fixture(params=["memory", "memory-empty-first", "kinesis"])
def bench(request: pytest.FixtureRequest) -> Callable[[int], Bench]:
    if request.param == "kinesis":
        request.getfixturevalue("roto")
        return KinesisBench
    if request.param == "memory":
        return MemoryBench
    return lambda shards: MemoryBench(shards, is_empty_at_first=True)


def answers(
    reader: StreamReader, shard: str, start: Start, limit: int = 10_000
) -> Iterator[ReadResult]:
    """Read to the tip, or to the end of a closed shard."""
    cursor: str | None = reader.open_shard(shard, start)
    for _ in range(200):
        assert cursor is not None
        answer = reader.read(shard, cursor, limit)
        yield answer
        cursor = answer.cursor
        if cursor is None or (answer.behind_ms == 0 and not answer.records.num_rows):
            return
    raise AssertionError("200 answers and still not at the tip")


def payloads(reader: StreamReader, shard: str, start: Start, limit: int = 10_000) -> list[bytes]:
    return [
        payload
        for answer in answers(reader, shard, start, limit)
        for payload in answer.records["payload"].to_pylist()
    ]


HORIZON = Start("TRIM_HORIZON")


def test_reader_records_come_in_the_order_they_were_put(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    numbers = [b.put(b"%d" % i) for i in range(25)]
    shard = b.reader.list_shards()[0].shard

    read = list(answers(b.reader, shard, HORIZON, limit=7))

    table = pa.Table.from_batches([a.records for a in read])
    assert table.schema.equals(RECORD_SCHEMA)
    assert table["payload"].to_pylist() == [b"%d" % i for i in range(25)]
    assert table["sequence_number"].to_pylist() == numbers
    assert all(is_after(b, a) for a, b in itertools.pairwise(numbers))
    assert set(table["partition_key"].to_pylist()) == {"key"}
    assert set(table["sub_sequence"].to_pylist()) == {0}
    assert table["ts_arrival_ns"].to_pylist()[0] > 1_700_000_000_000_000_000


def test_reader_with_records_left_says_that_it_is_behind(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    for i in range(10):
        b.put(b"%d" % i)
    shard = b.reader.list_shards()[0].shard

    read = list(answers(b.reader, shard, HORIZON, limit=4))

    assert read[-1].behind_ms == 0
    assert read[-1].cursor is not None
    seen = itertools.accumulate(a.records.num_rows for a in read)
    assert all((a.behind_ms > 0) == (n < 10) for a, n in zip(read, seen, strict=True))


def test_reader_after_a_record_begins_with_the_next_one(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    numbers = [b.put(b"%d" % i) for i in range(12)]
    shard = b.reader.list_shards()[0].shard

    for i in (0, 8, 9, 10, 11):
        found = payloads(b.reader, shard, Start("AFTER", sequence_number=numbers[i]))
        assert found == [b"%d" % k for k in range(i + 1, 12)]


def test_reader_at_the_timestamp_of_a_record_includes_it(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    first = [b.put(b"%d" % i) for i in range(3)]
    assert first
    shard = b.reader.list_shards()[0].shard
    table = pa.Table.from_batches([a.records for a in answers(b.reader, shard, HORIZON)])
    arrival_ms = [ns // 1_000_000 for ns in table["ts_arrival_ns"].to_pylist()]

    found = payloads(b.reader, shard, Start("AT_TIMESTAMP", timestamp_ms=arrival_ms[1]))

    assert found == [b"%d" % i for i in range(3) if arrival_ms[i] >= arrival_ms[1]]
    assert payloads(b.reader, shard, Start("AT_TIMESTAMP", timestamp_ms=arrival_ms[0] - 5_000)) == [
        b"0",
        b"1",
        b"2",
    ]


def test_reader_at_latest_sees_only_what_is_put_later(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    b.put(b"before")
    shard = b.reader.list_shards()[0].shard
    cursor = b.reader.open_shard(shard, Start("LATEST"))
    b.put(b"after")

    found: list[bytes] = []
    for _ in range(3):
        answer = b.reader.read(shard, cursor)
        found += answer.records["payload"].to_pylist()
        assert answer.cursor is not None
        cursor = answer.cursor

    assert found == [b"after"]


def test_reader_of_an_empty_shard_is_at_the_tip_with_the_schema(
    bench: Callable[[int], Bench],
) -> None:
    b = bench(1)
    shard = b.reader.list_shards()[0].shard

    read = list(answers(b.reader, shard, HORIZON))

    assert all(a.records.schema.equals(RECORD_SCHEMA) for a in read)
    assert b.reader.first_sequence_number(shard) is None


def test_reader_first_sequence_number_is_that_of_the_oldest_record(
    bench: Callable[[int], Bench],
) -> None:
    b = bench(1)
    numbers = [b.put(b"x") for _ in range(3)]

    assert b.reader.first_sequence_number(b.reader.list_shards()[0].shard) == numbers[0]


def test_reader_same_cursor_twice_gives_the_same_records(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    for i in range(5):
        b.put(b"%d" % i)
    shard = b.reader.list_shards()[0].shard
    cursor = b.reader.open_shard(shard, HORIZON)

    assert b.reader.read(shard, cursor, 3).records.equals(b.reader.read(shard, cursor, 3).records)


def test_reader_shards_cover_the_hash_space_without_overlap(bench: Callable[[int], Bench]) -> None:
    shards = sorted(bench(3).reader.list_shards(), key=lambda s: s.first_hash_key)

    assert shards[0].first_hash_key == 0
    assert shards[-1].last_hash_key == HASH_SPACE - 1
    assert all(a.last_hash_key + 1 == b.first_hash_key for a, b in itertools.pairwise(shards))
    assert not any(s.is_closed or s.parents for s in shards)


def test_reader_of_a_split_shard_ends_and_names_it_as_parent(bench: Callable[[int], Bench]) -> None:
    b = bench(1)
    b.put(b"old")
    parent = b.reader.list_shards()[0]
    b.split(parent)
    b.put(b"low", 0)
    b.put(b"high", HASH_SPACE - 1)

    listed = {s.shard: s for s in b.reader.list_shards()}

    assert listed[parent.shard].is_closed
    children = sorted(
        (s for s in listed.values() if s.shard != parent.shard), key=lambda s: s.first_hash_key
    )
    assert [s.parents for s in children] == [(parent.shard,), (parent.shard,)]
    assert not any(s.is_closed for s in children)
    ends = list(answers(b.reader, parent.shard, HORIZON))
    assert ends[-1].cursor is None
    assert payloads(b.reader, parent.shard, HORIZON) == [b"old"]
    assert [payloads(b.reader, s.shard, HORIZON) for s in children] == [[b"low"], [b"high"]]


def test_reader_of_merged_shards_names_both_parents(bench: Callable[[int], Bench]) -> None:
    b = bench(2)
    b.put(b"low", 0)
    b.put(b"high", HASH_SPACE - 1)
    one, other = sorted(b.reader.list_shards(), key=lambda s: s.first_hash_key)
    b.merge(one, other)
    b.put(b"new", HASH_SPACE - 1)

    merged = next(s for s in b.reader.list_shards() if s.parents)

    assert set(merged.parents) == {one.shard, other.shard}
    assert payloads(b.reader, merged.shard, HORIZON) == [b"new"]
    for parent, expected in ((one, b"low"), (other, b"high")):
        assert payloads(b.reader, parent.shard, HORIZON) == [expected]
        assert list(answers(b.reader, parent.shard, HORIZON))[-1].cursor is None


def test_reader_of_a_closed_shard_after_its_last_record_ends_at_once(
    bench: Callable[[int], Bench],
) -> None:
    b = bench(1)
    last = b.put(b"last")
    parent = b.reader.list_shards()[0]
    b.split(parent)

    read = list(answers(b.reader, parent.shard, Start("AFTER", sequence_number=last)))

    assert read[-1].cursor is None
    assert sum(a.records.num_rows for a in read) == 0


def test_reader_large_records_come_in_answers_of_at_most_10_mb(
    bench: Callable[[int], Bench],
) -> None:
    b = bench(1)
    for i in range(30):
        b.put(bytes([i]) * 900_000)
    shard = b.reader.list_shards()[0].shard

    read = list(answers(b.reader, shard, HORIZON))

    sizes = [sum(len(p) for p in a.records["payload"].to_pylist()) for a in read]
    assert max(sizes) <= 10 << 20
    assert sum(sizes) == 30 * 900_000
    assert [p[0] for a in read for p in a.records["payload"].to_pylist()] == list(range(30))


def test_reader_of_an_unknown_shard_is_a_config_error(bench: Callable[[int], Bench]) -> None:
    with pytest.raises(ConfigError, match="shard"):
        bench(1).reader.open_shard("shardId-000000000099", HORIZON)


def test_reader_identity_holds_the_name_and_is_stable(bench: Callable[[int], Bench]) -> None:
    reader = bench(1).reader

    assert str(reader.identity) == f"{reader.identity.name}.{reader.identity.digest}"
    assert len(reader.identity.digest) == 8
    assert reader.identity == reader.identity
    assert reader.retention_ms == 86_400_000
