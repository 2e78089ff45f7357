"""What retention removed is named, however the reader came to be late; what it did not, is not."""

from __future__ import annotations

from typing import Any

import pytest

from stream.slices import ShardPosition, Slice
from stream.sources.lanes import Lanes

DAY_SECONDS = 86_400
FIRST = "shardId-000000000000"
PINNED_LATELY = 10**15
"""After every time of these tests: nothing was lost before."""


def step(lanes: Lanes, fetchers: list[Any], rounds: int = 12) -> list[Slice]:
    """Move everything on in this thread; returns what was delivered."""
    found = []
    for _ in range(rounds):
        lanes.tend()
        fetchers += lanes.take_opened()
        for fetcher in fetchers:
            if fetcher.state != "ended":
                lanes.step(fetcher)
        found += [item for lane in range(64) if (item := lanes.poll(lane)) is not None]
    return found


def test_frozen_reader_names_what_was_removed_meanwhile(rig: Any) -> None:
    rig.put(3)
    rig.positions.held[FIRST] = ShardPosition("1", arrival_ms=rig.stream.clock.now_ns() // 10**6)
    lanes, fetchers = rig.lanes(is_started=False), []
    step(lanes, fetchers)
    assert lanes.gaps() == []

    rig.stream.clock.sleep(3_600)
    rig.stream.put(b"removed", "k")
    rig.stream.clock.sleep(DAY_SECONDS + 1)  # nobody steps: SIGSTOP, or a backlog of a day
    rig.stream.put(b"kept", "k")
    step(lanes, fetchers)

    [gap] = lanes.gaps()
    assert (gap.after, gap.first_kept) == ("3", "5")


def test_reader_at_the_tip_of_a_shard_that_was_quiet_for_days_names_no_gap(rig: Any) -> None:
    rig.put(3)
    lanes, fetchers = rig.lanes(is_started=False), []
    for _ in range(4):
        step(lanes, fetchers)
        rig.stream.clock.sleep(DAY_SECONDS / 2)
    step(lanes, fetchers)
    rig.stream.put(b"after two days", "k")
    step(lanes, fetchers)
    assert lanes.gaps() == []


def test_child_whose_records_were_removed_unread_is_named(rig: Any) -> None:
    now_ms = rig.stream.clock.now_ns() // 10**6
    rig.positions.held[FIRST] = ShardPosition("0", is_ended=True, arrival_ms=now_ms)
    child, _ = rig.stream.split_shard(FIRST)
    rig.stream.put(b"removed", "k", explicit_hash_key=0)
    rig.stream.clock.sleep(DAY_SECONDS - 10)
    rig.stream.put(b"kept", "k", explicit_hash_key=0)
    rig.stream.clock.sleep(20)

    lanes = rig.lanes(is_started=False)
    step(lanes, [])

    [gap] = lanes.gaps()
    assert (gap.shard.shard, gap.after, gap.first_kept) == (child, None, "2")


def test_child_of_a_parent_that_was_read_to_its_end_too_late_is_named(rig: Any) -> None:
    now_ms = rig.stream.clock.now_ns() // 10**6
    rig.positions.held[FIRST] = ShardPosition(None, arrival_ms=now_ms)
    lanes, fetchers = rig.lanes(is_started=False), []
    step(lanes, fetchers)
    rig.stream.clock.sleep(100)
    child, _ = rig.stream.split_shard(FIRST)
    rig.stream.put(b"removed", "k", explicit_hash_key=0)
    rig.stream.clock.sleep(DAY_SECONDS - 50)
    rig.stream.put(b"kept", "k", explicit_hash_key=0)
    step(lanes, fetchers)  # the parent's last answer comes a day after it was closed
    rig.positions.held[FIRST] = ShardPosition(None, is_ended=True, arrival_ms=now_ms)
    rig.stream.clock.sleep(50.001)
    step(lanes, fetchers)

    assert (child, "2") in {(gap.shard.shard, gap.first_kept) for gap in lanes.gaps()}


def test_shard_that_came_and_went_unseen_is_named_by_its_child_or_its_number(rig: Any) -> None:
    rig.positions.held[FIRST] = ShardPosition("0", is_ended=True, arrival_ms=PINNED_LATELY)
    low, high = rig.stream.split_shard(FIRST)
    merged = rig.stream.merge_shards(low, high)
    child, _ = rig.stream.split_shard(merged)
    rig.stream.clock.sleep(DAY_SECONDS + 1)

    lanes = rig.lanes(is_started=False)
    ended = {item.shard.shard for item in step(lanes, []) if item.ends_shard}

    assert {gap.shard.shard for gap in lanes.gaps()} == ended == {low, high, merged}
    assert child not in ended


def test_shard_that_waited_and_left_the_list_is_named_while_running(rig: Any) -> None:
    child, _ = rig.stream.split_shard(FIRST)
    rig.positions.held[FIRST] = ShardPosition("0", arrival_ms=PINNED_LATELY)
    lanes, fetchers = rig.lanes(is_started=False), []
    step(lanes, fetchers)  # the parent is read to its end; nobody has committed that
    assert "waiting" in {status.state for status in lanes.status()}
    rig.stream.split_shard(child)
    rig.positions.held[FIRST] = ShardPosition("0", is_ended=True, arrival_ms=PINNED_LATELY)

    rig.stream.clock.sleep(DAY_SECONDS + 1)
    step(lanes, fetchers)

    assert child in {gap.shard.shard for gap in lanes.gaps()}


def test_shard_begun_by_another_instance_after_the_list_is_not_taken_for_lost(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_list = rig.stream.list_shards()
    child, _ = rig.stream.split_shard(FIRST)
    rig.stream.put(b"alive", "k", explicit_hash_key=0)
    rig.positions.held |= {
        FIRST: ShardPosition("0", is_ended=True, arrival_ms=PINNED_LATELY),
        child: ShardPosition(None, arrival_ms=PINNED_LATELY),
    }
    answers = [old_list]
    monkeypatch.setattr(
        rig.reader, "list_shards", lambda: answers.pop() if answers else rig.stream.list_shards()
    )
    lanes = rig.lanes(is_started=False)

    found = step(lanes, [])

    assert lanes.gaps() == []
    assert not any(item.ends_shard for item in found if item.shard.shard == child)


def test_ancestors_are_known_after_retention_has_removed_them_from_the_list(rig: Any) -> None:
    child, _ = rig.stream.split_shard(FIRST)
    grandchild, _ = rig.stream.split_shard(child)
    lanes = rig.lanes(is_started=False)
    lanes.tend()
    rig.stream.clock.sleep(DAY_SECONDS + 1)
    lanes.tend()

    assert lanes.ancestors_of(rig.ref(int(grandchild[-3:]))) == {FIRST, child}
