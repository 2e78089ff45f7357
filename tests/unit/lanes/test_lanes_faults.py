"""Lanes under errors of stream, ledger and Bronze: what is waited out, what stops them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stream.errors import (
    ConfigError,
    FatalError,
    ImmutableObjectError,
    StoreUnavailableError,
    ThrottledError,
)
from stream.slices import ShardPosition, SliceRule
from stream.sources import ExpiredCursorError

ARRIVAL_MS = 1_700_000_000_000


def test_lanes_after_an_expired_cursor_go_on_after_the_last_record_read(rig: Any) -> None:
    rig.stream.max_answer_rows = 4
    rig.put(12)
    rig.reader.faults = [ExpiredCursorError("before the first record")]
    lanes = rig.lanes()
    rig.wait_for(lambda: sum(rig.reader.rows) >= 8)
    rig.reader.faults = [ExpiredCursorError("in the middle")]

    assert rig.payloads(rig.take(lanes, 12)) == [b"%d" % i for i in range(12)]


def test_lanes_wait_out_throttling_and_outages_and_say_so(rig: Any) -> None:
    rig.put(3)
    rig.reader.faults = [ThrottledError("rate exceeded"), StoreUnavailableError("no answer")]
    lanes = rig.lanes()
    rig.wait_for(lambda: any(s.state == "backing_off" for s in lanes.status()))
    assert lanes.status()[0].detail

    assert rig.payloads(rig.take(lanes, 3)) == [b"0", b"1", b"2"]
    waits = [b - a for a, b in zip(rig.reader.reads, rig.reader.reads[1:], strict=False)]
    assert waits[0] >= 0.125
    assert waits[1] >= 0.25


@pytest.mark.parametrize("error", [FatalError("stop"), ConfigError("no permission")])
def test_lanes_poll_raises_what_a_shard_died_of_after_its_ready_slices(
    rig: Any, error: Exception
) -> None:
    rig.put(3)
    lanes = rig.lanes()
    rig.wait_for(lambda: lanes.has_shards(0) and sum(rig.reader.rows) == 3)
    rig.reader.faults = [error]

    assert rig.payloads(rig.take(lanes, 3)) == [b"0", b"1", b"2"]
    with pytest.raises(type(error), match=str(error)):
        rig.take(lanes, lambda _: False)
    with pytest.raises(type(error)):
        lanes.poll(0)
    assert lanes.status()[0].state == "failed"


def test_lanes_poll_raises_when_listing_is_refused(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigError("stream ticks does not exist")

    monkeypatch.setattr(rig.reader, "list_shards", refuse)
    lanes = rig.lanes()

    with pytest.raises(ConfigError, match="does not exist"):
        rig.take(lanes, lambda _: False)


def test_lanes_listing_outage_is_waited_out(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(1)
    outages = [StoreUnavailableError("away"), ThrottledError("slow down")]
    listed = rig.stream.list_shards

    def list_shards() -> object:
        if outages:
            raise outages.pop()
        return listed()

    monkeypatch.setattr(rig.reader, "list_shards", list_shards)

    assert rig.payloads(rig.take(rig.lanes(), 1)) == [b"0"]


def test_lanes_position_older_than_retention_names_the_gap_and_goes_on(rig: Any) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=ARRIVAL_MS)
    rig.stream.clock.sleep(86_400)
    rig.stream.put(b"kept", "k")
    rig.stream.clock.sleep(10)
    lanes = rig.lanes()

    found = rig.take(lanes, 1)

    assert rig.payloads(found) == [b"kept"]
    assert found[0].prev == "4"
    [gap] = lanes.gaps()
    assert (gap.shard, gap.after, gap.first_kept) == (rig.ref(), "4", "11")
    assert "24 h" in gap.reason
    assert lanes.gaps() == []


def test_lanes_old_position_whose_record_is_still_kept_is_no_gap(rig: Any) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=1)

    lanes = rig.lanes()

    rig.take(lanes, 6)
    assert lanes.gaps() == []


def test_lanes_restart_repeats_the_cuts_that_bronze_holds_under_another_rule(rig: Any) -> None:
    rig.put(30)
    first = rig.take(rig.lanes(SliceRule(window_ms=1_000, max_rows=7)), 30)
    for item in first[:3]:
        rig.seals.write(item)
    rig.positions.apply(first[0])
    rig.stream.max_answer_rows = 4  # an adopted slice needs several answers

    again = rig.take(rig.lanes(SliceRule(window_ms=1_000, max_rows=4)), 23)

    assert [s.rows for s in again] == [7, 7, 4, 4, 1]
    assert all(a.records.equals(b.records) for a, b in zip(again, first[1:3], strict=False))
    assert again[0].prev == first[0].last


def test_lanes_adoption_waits_for_bronze_to_answer(rig: Any) -> None:
    rig.put(6)
    rig.seals.failures = 2
    first = rig.take(rig.lanes(), 6)

    assert [s.rows for s in first] == [6]


def test_lanes_sealed_slice_with_other_records_is_refused_with_both_hashes(rig: Any) -> None:
    rig.put(6)
    [made] = rig.take(rig.lanes(), 6)
    column = made.records.schema.get_field_index("payload")
    forged = made.records.set_column(column, "payload", pa.array([b"z"] * 6, pa.binary()))
    rig.seals.objects[made.shard, str(made.first)] = forged.cast(made.records.schema)

    with pytest.raises(ImmutableObjectError, match=r"sha256 \w+.*sha256 \w+"):
        rig.take(rig.lanes(), lambda _: False)


def test_lanes_sealed_slice_longer_than_the_ended_shard_is_refused(rig: Any) -> None:
    rig.put(6)
    [made] = rig.take(rig.lanes(), 6)
    number = made.records.schema.get_field_index("sequence_number")
    longer = made.records.set_column(
        number, "sequence_number", pa.array([str(i) for i in range(1, 6)] + ["99"])
    )
    rig.seals.objects[made.shard, "1"] = longer.cast(made.records.schema)
    rig.stream.split_shard("shardId-000000000000")

    with pytest.raises(ImmutableObjectError, match="up to 99"):
        rig.take(rig.lanes(), lambda _: False)
