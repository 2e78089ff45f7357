"""Which shards the lanes open, when and where, and which slices they emit."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stream.clock import SYSTEM_CLOCK
from stream.errors import (
    ConfigError,
)
from stream.slices import ShardPosition, SliceRule, Start, cut_slices
from stream.sources import HASH_SPACE
from stream.sources.lanes import lane_of
from stream.sources.starts import parse_start

SMALL = SliceRule(window_ms=1_000, max_rows=10)
ARRIVAL_MS = 1_700_000_000_000


def test_lane_of_a_shard_is_a_function_of_its_first_hash_key() -> None:
    assert [lane_of(HASH_SPACE * i // 8, 8) for i in range(8)] == list(range(8))
    assert lane_of(HASH_SPACE - 1, 64) == 63


def test_lanes_names_are_fixed_and_polling_an_idle_lane_is_none(rig: Any) -> None:
    lanes = rig.lanes(lanes=64)

    assert lanes.names[0] == "lane-00"
    assert len(set(lanes.names)) == 64
    assert lanes.poll(63) is None
    assert not lanes.has_shards(63)
    assert not lanes.is_finished(0)


def test_lanes_slices_equal_those_of_the_pure_cut(rig: Any) -> None:
    rig.put(25)
    rig.put(7, first=25, window=3)
    lanes = rig.lanes()

    found = rig.take(lanes, 32)

    everything = rig.reader.read(
        "shardId-000000000000", rig.reader.open_shard("shardId-000000000000", Start("TRIM_HORIZON"))
    ).records
    expected = cut_slices(rig.ref(), None, everything, SMALL, closed=True)[:-1]
    assert [(s.prev, s.first, s.last, s.rows) for s in found] == [
        (s.prev, s.first, s.last, s.rows) for s in expected
    ]
    assert all(s.records.equals(e.records) for s, e in zip(found, expected, strict=True))


def test_lanes_open_window_is_held_until_clock_passes_it_and_the_grace(rig: Any) -> None:
    now_ms = rig.stream.clock.now_ns() // 1_000_000
    rig.stream.put(b"x", "k", arrival_ms=now_ms)
    lanes = rig.lanes(grace_ms=500)
    rig.wait_for(lambda: len(rig.reader.rows) > 3)

    assert lanes.poll(0) is None
    assert lanes.status()[0].pending_rows == 1
    rig.stream.clock.sleep(1.4)
    rig.wait_for(lambda: len(rig.reader.rows) > 8)
    assert lanes.poll(0) is None
    rig.stream.clock.sleep(0.2)

    assert rig.payloads(rig.take(lanes, 1)) == [b"x"]


def test_lanes_with_a_clock_hours_behind_close_the_window_when_it_has_passed(rig: Any) -> None:
    arrival_ms = rig.stream.clock.now_ns() // 1_000_000 + 3 * 3_600_000
    rig.stream.put(b"x", "k", arrival_ms=arrival_ms)
    lanes = rig.lanes(grace_ms=500)
    rig.wait_for(lambda: len(rig.reader.rows) > 3)
    rig.stream.clock.sleep(1.4)
    rig.wait_for(lambda: len(rig.reader.rows) > 8)
    assert lanes.poll(0) is None
    rig.stream.clock.sleep(0.3)

    assert rig.payloads(rig.take(lanes, 1)) == [b"x"]


def test_lanes_with_a_committed_position_start_after_it(rig: Any) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=ARRIVAL_MS)

    found = rig.take(rig.lanes(), 6)

    assert rig.payloads(found) == [b"%d" % i for i in range(4, 10)]
    assert found[0].prev == "4"


def test_lanes_with_a_pinned_start_use_it_instead_of_the_setting(rig: Any) -> None:
    rig.put(3)
    rig.put(3, first=3, window=5)
    pinned = Start("AT_TIMESTAMP", timestamp_ms=ARRIVAL_MS + 5_000)
    rig.positions.held["shardId-000000000000"] = ShardPosition(None, start=pinned)

    found = rig.take(rig.lanes(start="TRIM_HORIZON"), 3)

    assert rig.payloads(found) == [b"3", b"4", b"5"]
    assert found[0].prev is None


def test_lanes_without_any_position_use_the_start_setting(rig: Any) -> None:
    rig.put(3)
    lanes = rig.lanes(start="LATEST")
    rig.wait_for(lambda: bool(rig.reader.rows))
    rig.stream.clock.sleep(1)
    rig.stream.put(b"new", "k")
    rig.stream.clock.sleep(5)

    assert rig.payloads(rig.take(lanes, 1)) == [b"new"]


def test_lanes_shard_without_position_beside_others_starts_at_its_first_record(rig: Any) -> None:
    rig.put(3)
    rig.positions.held["shardId-000000000077"] = ShardPosition("1")

    assert rig.payloads(rig.take(rig.lanes(start="LATEST"), 3)) == [b"0", b"1", b"2"]


def test_lanes_child_opens_only_when_its_parent_is_ended_in_the_ledger(rig: Any) -> None:
    rig.put(5)
    rig.stream.split_shard("shardId-000000000000")
    rig.put(5, first=5)
    rig.put(5, first=10, key=HASH_SPACE - 1)
    lanes = rig.lanes()

    parent = rig.take(lanes, lambda found: any(s.ends_shard for s in found))
    assert rig.payloads(parent) == [b"%d" % i for i in range(5)]
    assert parent[-1].rows == 0
    time.sleep(0.1)
    assert all(lanes.poll(i) is None for i in range(64))
    assert {s.state for s in lanes.status()} == {"ended", "waiting"}

    for item in parent:
        rig.positions.apply(item)
    children = rig.take(lanes, 10)
    assert sorted(rig.payloads(children)) == sorted(b"%d" % i for i in range(5, 15))
    assert {s.prev for s in children} == {None}


def test_lanes_child_of_a_merge_waits_for_both_parents(rig: Any) -> None:
    low, high = rig.stream.split_shard("shardId-000000000000")
    merged = rig.stream.merge_shards(low, high)
    rig.put(1)
    ended = ShardPosition(None, is_ended=True)
    rig.positions.held.update({"shardId-000000000000": ended, low: ended})
    lanes = rig.lanes()

    rig.take(lanes, lambda found: [s.shard.shard for s in found] == [high])
    time.sleep(0.05)
    assert [s.shard.shard for s in lanes.status() if s.state == "waiting"] == [merged]
    rig.positions.held[high] = ended

    assert rig.payloads(rig.take(lanes, 1)) == [b"0"]


def test_lanes_child_of_a_parent_that_is_not_listed_any_more_opens_at_once(rig: Any) -> None:
    rig.stream.split_shard("shardId-000000000000")
    rig.stream.clock.sleep(86_400 + 120)  # the parent leaves the list
    rig.stream.put(b"x", "k")
    lanes = rig.lanes()
    rig.stream.clock.sleep(10)

    assert rig.payloads(rig.take(lanes, 1)) == [b"x"]


def test_lanes_ended_shard_is_skipped(rig: Any) -> None:
    rig.put(3)
    rig.positions.held["shardId-000000000000"] = ShardPosition("3", is_ended=True)
    lanes = rig.lanes()
    rig.wait_for(lambda: rig.positions.reads > 0)
    time.sleep(0.05)

    assert not rig.reader.reads
    assert not lanes.has_shards(0)


def test_lanes_without_waiting_shards_leave_the_catalog_alone(rig: Any) -> None:
    rig.lanes(list_shards_seconds=0.01, clock=SYSTEM_CLOCK)
    rig.wait_for(lambda: len(rig.reader.reads) > 5)
    time.sleep(0.1)

    assert rig.positions.reads == 1


def test_lanes_only_fetch_the_lanes_of_this_process(rig: Any) -> None:
    rig.stream.split_shard("shardId-000000000000")
    rig.positions.held["shardId-000000000000"] = ShardPosition(None, is_ended=True)
    rig.put(1)
    rig.put(1, first=1, key=HASH_SPACE - 1)

    assert rig.payloads(rig.take(rig.lanes(lanes=2, only=[1]), 1)) == [b"1"]


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01T00:00:00"])
def test_parse_start_of_anything_else_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigError, match="TRIM_HORIZON, LATEST nor an ISO time"):
        parse_start(text, 0)


def test_parse_start_takes_a_time_without_zone_as_utc() -> None:
    assert parse_start("2026-11-23T09:30:00", 0) == parse_start("2026-11-23T10:30:00+01:00", 0)
