"""The in-memory stream: routing, resharding, retention, cursor expiry, odd clocks."""

from __future__ import annotations

from hashlib import md5

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError
from stream.sources import HASH_SPACE, ExpiredCursorError, Start
from stream.sources.memory import CURSOR_LIFE_SECONDS, MemoryReader, MemoryStream

NOW_NS = 1_700_000_000_000_000_000
HORIZON = Start("TRIM_HORIZON")


def stream(shards: int = 1, **options: int) -> MemoryStream:
    return MemoryStream("ticks", shards, ManualClock(NOW_NS), **options)


def read(made: MemoryStream, shard: str, start: Start = HORIZON) -> list[bytes]:
    reader = MemoryReader(made)
    return reader.read(shard, reader.open_shard(shard, start)).records["payload"].to_pylist()


def test_memory_put_routes_by_the_md5_of_the_partition_key() -> None:
    made = stream(4)
    for key in ("AAPL", "MSFT", "BTC-USD"):
        shard, _ = made.put(b"x", key)
        hashed = int.from_bytes(md5(key.encode()).digest())
        info = next(s for s in made.list_shards() if s.shard == shard)
        assert info.first_hash_key <= hashed <= info.last_hash_key


def test_memory_explicit_hash_key_wins_over_the_partition_key() -> None:
    made = stream(2)

    assert made.put(b"x", "k", explicit_hash_key=0)[0].endswith("0")
    assert made.put(b"x", "k", explicit_hash_key=HASH_SPACE - 1)[0].endswith("1")


def test_memory_sequence_numbers_increase_over_the_life_of_all_shards() -> None:
    made = stream(first_sequence_number=99)
    before = made.put(b"x", "k")[1]
    made.split_shard("shardId-000000000000")

    assert (before, made.put(b"x", "k")[1]) == ("99", "100")


def test_memory_split_sends_later_records_to_the_children() -> None:
    made = stream()
    low, high = made.split_shard("shardId-000000000000", at=1_000)

    assert made.put(b"x", "k", explicit_hash_key=999)[0] == low
    assert made.put(b"x", "k", explicit_hash_key=1_000)[0] == high
    with pytest.raises(ConfigError, match="closed already"):
        made.split_shard("shardId-000000000000")


def test_memory_merge_of_shards_that_are_not_neighbours_is_refused() -> None:
    made = stream(3)

    with pytest.raises(ConfigError, match="not neighbours"):
        made.merge_shards("shardId-000000000000", "shardId-000000000002")
    assert not any(s.is_closed for s in made.list_shards())


def test_memory_retention_removes_old_records_and_then_closed_shards() -> None:
    made = stream(retention_ms=1_000)
    made.put(b"old", "k")
    made.clock.sleep(0.9)
    number = made.put(b"new", "k")[1]
    made.split_shard("shardId-000000000000")
    made.clock.sleep(0.5)

    assert read(made, "shardId-000000000000") == [b"new"]
    assert MemoryReader(made).first_sequence_number("shardId-000000000000") == number
    made.clock.sleep(1)
    assert "shardId-000000000000" not in [s.shard for s in made.list_shards()]
    with pytest.raises(ConfigError, match="no shard"):
        read(made, "shardId-000000000000")


def test_memory_cursor_into_trimmed_records_goes_on_at_the_first_kept() -> None:
    made = stream(retention_ms=60_000)
    reader = MemoryReader(made)
    made.put(b"old", "k")
    cursor = reader.open_shard("shardId-000000000000", HORIZON)
    made.clock.sleep(61)
    made.put(b"new", "k")

    assert reader.read("shardId-000000000000", cursor).records["payload"].to_pylist() == [b"new"]


def test_memory_cursor_expires_after_five_minutes() -> None:
    made = stream()
    reader = MemoryReader(made)
    cursor = reader.open_shard("shardId-000000000000", HORIZON)
    made.clock.sleep(CURSOR_LIFE_SECONDS)
    reader.read("shardId-000000000000", cursor)
    made.clock.sleep(1)

    with pytest.raises(ExpiredCursorError):
        reader.read("shardId-000000000000", cursor)


def test_memory_arrival_times_may_go_back() -> None:
    made = stream()
    for arrival_ms in (1_700_000_000_005, 1_700_000_000_001, 1_700_000_000_009):
        made.put(b"%d" % (arrival_ms % 10), "k", arrival_ms=arrival_ms)

    at = Start("AT_TIMESTAMP", timestamp_ms=1_700_000_000_006)
    assert read(made, "shardId-000000000000", at) == [b"9"]


def test_memory_stream_created_again_has_another_identity() -> None:
    made = stream()
    made.clock.sleep(1)
    again = MemoryStream("ticks", 1, made.clock)

    assert MemoryReader(made).identity.name == MemoryReader(again).identity.name
    assert MemoryReader(made).identity.digest != MemoryReader(again).identity.digest
