"""Lanes hold back, are paced, stop in time, and tell where they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stream.clock import SYSTEM_CLOCK
from stream.errors import (
    ThrottledError,
)
from stream.slices import SliceRule
from stream.sources.credit import Credit

ARRIVAL_MS = 1_700_000_000_000


def test_lanes_nobody_polls_reading_stops_near_the_byte_bound(rig: Any) -> None:
    rig.stream.max_answer_rows = 50
    for i in range(5_000):
        rig.stream.put(b"x" * 1_000, "k", arrival_ms=ARRIVAL_MS + i)
    limit = 400_000
    lanes = rig.lanes(SliceRule(window_ms=1_000, max_rows=20), queue_bytes=limit)
    rig.wait_for(lambda: lanes.status() != [] and lanes.status()[0].state == "paused")
    time.sleep(0.1)

    held = lanes._credit.used_bytes
    assert limit / 2 < held <= limit + 60_000
    assert lanes.status()[0].records < 600
    assert len(rig.payloads(rig.take(lanes, 5_000, seconds=20))) == 5_000
    assert lanes._credit.used_bytes <= limit


def test_lanes_slice_larger_than_the_whole_credit_still_passes(rig: Any) -> None:
    rig.put(30)

    assert len(rig.payloads(rig.take(rig.lanes(queue_bytes=1), 30))) == 30


@pytest.mark.parametrize("situation", ["tip", "credit", "back-off", "gate"])
def test_lanes_stop_within_a_second(rig: Any, situation: str) -> None:
    rig.put(100)
    if situation == "back-off":
        rig.reader.faults = [ThrottledError("slow")] * 1_000
    if situation == "gate":
        rig.stream.split_shard("shardId-000000000000")
    lanes = rig.lanes(queue_bytes=1 if situation == "credit" else 1_000_000, poll_ms=60_000)
    time.sleep(0.15)

    began = time.monotonic()
    lanes.stop()

    assert time.monotonic() - began < 1
    assert not any(thread.is_alive() for thread in lanes._threads)


def test_lanes_stop_does_not_wait_for_an_answer_that_hangs(rig: Any) -> None:
    rig.reader.gate.clear()
    lanes = rig.lanes()
    time.sleep(0.05)

    began = time.monotonic()
    lanes.stop()

    assert time.monotonic() - began < 1.2
    rig.reader.gate.set()
    rig.wait_for(lambda: not any(thread.is_alive() for thread in lanes._threads))


def test_lanes_read_a_shard_at_most_five_times_a_second(rig: Any) -> None:
    rig.stream.max_answer_rows = 1
    rig.put(100)
    rig.lanes(reads_per_second=5.0, clock=SYSTEM_CLOCK)
    time.sleep(1.05)

    assert len(rig.reader.reads) <= 7


def test_lanes_status_counts_what_was_read(rig: Any) -> None:
    rig.put(5)
    lanes = rig.lanes()
    rig.take(lanes, 5)

    [status] = lanes.status()

    assert (status.shard, status.records, status.last_sequence_number) == (rig.ref(), 5, "5")
    assert (status.behind_ms, status.pending_rows) == (0, 0)
    assert status.payload_bytes > 0


def test_credit_has_room_for_anything_while_nothing_is_used() -> None:
    credit = Credit(10)
    assert credit.try_hold(100)
    assert not credit.try_hold(1)
    credit.give_back(100)
    credit.take(5)
    assert not credit.try_hold(6)
    assert credit.try_hold(5)
    credit.give_back(5)
    credit.give_back(5)
    assert credit.used_bytes == 0


def test_lanes_in_steps_yield_what_they_yield_in_threads_and_never_wait(rig: Any) -> None:
    rig.put(25)
    rig.stream.split_shard("shardId-000000000000")
    rig.put(3, first=25)
    lanes = rig.lanes(is_started=False)
    found: list[Any] = []
    fetchers: list[Any] = []

    for _ in range(100):
        lanes.tend()
        fetchers += lanes.take_opened()
        fetchers = [fetcher for fetcher in fetchers if lanes.step(fetcher) is not None]
        for item in filter(None, map(lanes.poll, range(64))):
            rig.positions.apply(item)
            found.append(item)

    assert rig.payloads(found) == [b"%d" % i for i in range(28)]
    assert lanes._threads == []
    assert not lanes.wants_tending
