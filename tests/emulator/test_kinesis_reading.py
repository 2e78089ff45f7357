"""Kinesis through the emulator: lanes under resharding, aggregated records, errors, identity."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pyarrow as pa
import pytest
from aws_kinesis_agg.aggregator import RecordAggregator

from stream.errors import ConfigError, StoreUnavailableError
from stream.settings import Settings
from stream.slices import ShardPosition, ShardRef, Slice, SliceRule
from stream.sources import HASH_SPACE, Start
from stream.sources.choose import open_reader
from stream.sources.kinesis import (
    KinesisReader,
    create_stream,
    delete_stream,
    merge_shards,
    split_shard,
)
from stream.sources.kinesis_client import make_client
from stream.sources.kinesis_fan_out import FanOutReader
from stream.sources.lanes import Lanes

HORIZON = Start("TRIM_HORIZON")


class Ledger:
    """Applies slices at once; refuses gaps and overlaps like the real one."""

    def __init__(self) -> None:
        self.positions: dict[str, ShardPosition] = {}

    def read(self) -> Mapping[str, ShardPosition]:
        return dict(self.positions)

    def apply(self, item: Slice) -> None:
        before = self.positions.get(item.shard.shard, ShardPosition(None))
        assert item.prev == before.sequence_number
        self.positions[item.shard.shard] = ShardPosition(item.last, item.ends_shard)


class NoSeals:
    def find(self, shard: ShardRef, first: str, ts_arrival_ns: int) -> pa.RecordBatch | None:
        return None


def open_lanes(reader: KinesisReader, ledger: Ledger) -> Lanes:
    lanes = Lanes(
        "trades",
        reader,
        ledger,
        NoSeals(),
        SliceRule(window_ms=200, max_rows=300),
        lanes=8,
        grace_ms=100,
        poll_ms=20,
        list_shards_seconds=0.2,
        reads_per_second=50.0,
    )
    lanes.start()
    return lanes


def put(reader: KinesisReader, first: int, count: int) -> None:
    """Records "key:n" over eight keys, in order per key."""
    client = make_client("us-east-1")
    for start in range(first, first + count, 100):
        client.put_records(
            StreamName=reader.identity.name,
            Records=[
                {
                    "Data": f"{i % 8}:{i}".encode(),
                    "PartitionKey": str(i % 8),
                    "ExplicitHashKey": str(HASH_SPACE * (i % 8) // 8),
                }
                for i in range(start, min(start + 100, first + count))
            ],
        )


@pytest.mark.parametrize("restarts", [0, 3])
def test_lanes_over_split_and_merge_lose_and_double_nothing(
    new_stream: Callable[[int], KinesisReader], restarts: int
) -> None:
    reader, ledger, total = new_stream(2), Ledger(), 4_000

    def produce() -> None:
        name = reader.identity.name
        put(reader, 0, total // 4)
        split_shard(name, reader.list_shards()[0])
        put(reader, total // 4, total // 4)
        one, other = [s for s in reader.list_shards() if s.parents]
        merge_shards(name, *sorted((one.shard, other.shard)))
        put(reader, total // 2, total // 2)

    producer = threading.Thread(target=produce)
    producer.start()
    applied: list[Slice] = []
    lanes = open_lanes(reader, ledger)
    deadline = time.monotonic() + 60
    try:
        while sum(item.rows for item in applied) < total:
            assert time.monotonic() < deadline, lanes.status()
            items = [lanes.poll(lane) for lane in range(8)]
            for item in filter(None, items):
                ledger.apply(item)
                applied.append(item)
            if not any(items):
                time.sleep(0.01)
            if restarts and len(applied) > 4 * (4 - restarts):
                restarts -= 1
                lanes.stop()
                lanes = open_lanes(reader, ledger)
    finally:
        lanes.stop()
        producer.join()

    read = [p.decode() for item in applied for p in item.records["payload"].to_pylist()]
    assert sorted(read) == sorted(f"{i % 8}:{i}" for i in range(total))
    for key in range(8):
        assert [r for r in read if r.startswith(f"{key}:")] == [
            f"{key}:{i}" for i in range(key, total, 8)
        ]
    assert sum(item.ends_shard for item in applied) == 3


def test_reader_splits_records_that_the_producer_library_aggregated(
    new_stream: Callable[[int], KinesisReader],
) -> None:
    reader = new_stream(1)
    aggregator = RecordAggregator()
    for i in range(5):
        aggregator.add_user_record(f"k{i}", b"%d" % i)
    key, _, data = aggregator.clear_and_get().get_contents()
    client = make_client("us-east-1")
    for payload in (data, b"plain"):
        client.put_record(StreamName=reader.identity.name, Data=payload, PartitionKey=key)
    shard = reader.list_shards()[0].shard

    records = reader.read(shard, reader.open_shard(shard, HORIZON)).records

    assert records["payload"].to_pylist() == [b"0", b"1", b"2", b"3", b"4", b"plain"]
    assert records["sub_sequence"].to_pylist() == [0, 1, 2, 3, 4, 0]
    assert len(set(records["sequence_number"].to_pylist())) == 2


def test_reader_lists_more_shards_than_one_page(
    new_stream: Callable[[int], KinesisReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = new_stream(7)
    listed = reader._client.list_shards
    pages = []

    def list_two(**parameters: object) -> object:
        pages.append(parameters)
        return listed(MaxResults=2, **parameters)

    monkeypatch.setattr(reader._client, "list_shards", list_two)

    assert len({s.shard for s in reader.list_shards()}) == 7
    assert len(pages) == 4


def test_reader_of_a_missing_stream_says_what_to_do(roto: str) -> None:
    reader = KinesisReader("no-such-stream")

    for call in (reader.list_shards, lambda: reader.identity):
        with pytest.raises(ConfigError, match=r"no-such-stream does not exist.*headrace up"):
            call()


def test_reader_without_an_answer_is_retryable(roto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(StoreUnavailableError, match="did not answer ListShards"):
        KinesisReader("ticks").list_shards()


def test_reader_without_credentials_is_a_config_error(
    roto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")

    with pytest.raises(ConfigError, match="credentials"):
        KinesisReader("ticks").list_shards()


def test_stream_created_twice_is_left_alone_and_created_again_is_another(
    new_stream: Callable[[int], KinesisReader],
) -> None:
    reader = new_stream(1)
    name, before = reader.identity.name, reader.identity

    assert create_stream(name, 3) is False
    assert len(reader.list_shards()) == 1
    delete_stream(name)
    time.sleep(0.01)
    assert create_stream(name, 1) is True
    assert KinesisReader(name).identity.name == before.name
    assert KinesisReader(name).identity != before


def test_open_reader_follows_the_settings(roto: str) -> None:
    assert type(open_reader(Settings(), "trades")) is KinesisReader
    assert isinstance(open_reader(Settings(enhanced_fan_out="c"), "trades"), FanOutReader)
