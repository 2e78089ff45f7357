"""The slicing rule, for any records, any chunking, any restart.

Arrival times go back as well as forward, sequence numbers change their number of digits, and
some Kinesis records are aggregated (several user records under one sequence number).
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.errors import OutOfOrderError
from stream.slices import (
    RECORD_SCHEMA,
    ShardRef,
    Slice,
    Slicer,
    SliceRule,
    cut_slices,
    is_after,
)

SHARD = ShardRef("trades", "ticks.0a1b2c3d", "shardId-000000000000")
MS = 1_000_000

Row = dict[str, object]
KinesisRecord = list[Row]

RULES = st.builds(
    SliceRule,
    window_ms=st.sampled_from([1, 10, 1_000]),
    max_rows=st.integers(1, 9),
    max_bytes=st.integers(1, 60),
)


@st.composite
def records(draw: st.DrawFn, max_size: int = 40) -> list[KinesisRecord]:
    """Kinesis records in shard order; each holds one user record, or several."""
    sequence, arrival_ms = draw(st.integers(0, 120)), 1_000
    made = []
    for _ in range(draw(st.integers(0, max_size))):
        sequence += draw(st.integers(1, 900))
        arrival_ms = max(0, arrival_ms + draw(st.integers(-15, 25)))
        sizes = draw(st.lists(st.integers(0, 25), min_size=1, max_size=4))
        made.append(
            [
                {
                    "payload": bytes([sequence % 256]) * size,
                    "sequence_number": str(sequence),
                    "sub_sequence": sub,
                    "partition_key": None if sub % 2 else "k",
                    "ts_arrival_ns": arrival_ms * MS + sequence,
                }
                for sub, size in enumerate(sizes)
            ]
        )
    return made


def batch(chunk: list[KinesisRecord]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([row for record in chunk for row in record], RECORD_SCHEMA)


def chunked(found: list[KinesisRecord], sizes: list[int]) -> list[list[KinesisRecord]]:
    ends = [end for end in accumulate(sizes) if end < len(found)]
    return [found[a:b] for a, b in zip([0, *ends], [*ends, len(found)], strict=True)]


def rows_of(slices: list[Slice]) -> list[list[Row]]:
    return [item.records.to_pylist() for item in slices]


CHUNKS = st.lists(st.integers(0, 12), max_size=30)


@given(records(), CHUNKS, RULES)
def test_slicer_any_chunking_gives_the_same_slices(
    found: list[KinesisRecord], sizes: list[int], rule: SliceRule
) -> None:
    expected = cut_slices(SHARD, None, batch(found), rule, closed=True)
    slicer = Slicer(SHARD, None, rule)

    cut = [item for chunk in chunked(found, sizes) for item in slicer.push(batch(chunk))]
    cut += slicer.end()

    assert rows_of(cut) == rows_of(expected)
    assert [(s.prev, s.last, s.ends_shard, s.id) for s in cut] == [
        (s.prev, s.last, s.ends_shard, s.id) for s in expected
    ]


@given(records(), RULES)
def test_slicer_every_record_is_in_one_slice_and_positions_chain(
    found: list[KinesisRecord], rule: SliceRule
) -> None:
    slices = cut_slices(SHARD, "0", batch(found), rule, closed=True)

    assert [row for rows in rows_of(slices) for row in rows] == batch(found).to_pylist()
    assert [s.prev for s in slices] == ["0", *[s.last for s in slices[:-1]]]
    assert [s.ends_shard for s in slices] == [False] * (len(slices) - 1) + [True]
    assert slices[-1].rows == 0
    assert all(s.rows and is_after(s.first, s.prev) for s in slices[:-1])


@given(records(), RULES)
def test_slicer_slices_respect_window_and_caps_and_never_split_a_record(
    found: list[KinesisRecord], rule: SliceRule
) -> None:
    for item in cut_slices(SHARD, None, batch(found), rule, closed=True)[:-1]:
        rows = item.records.to_pylist()
        assert rows[0]["sub_sequence"] == 0
        windows = [row["ts_arrival_ns"] // MS // rule.window_ms for row in rows]
        assert max(windows) == windows[0]
        # Without its last Kinesis record a slice is within its caps: only what may not be
        # split, or a single large record, goes beyond.
        before_last = [row for row in rows if row["sequence_number"] != item.last]
        assert len(before_last) < rule.max_rows
        assert sum(len(row["payload"]) for row in before_last) <= rule.max_bytes


@given(records(), RULES)
def test_slicer_ends_a_slice_only_when_the_rule_says_so(
    found: list[KinesisRecord], rule: SliceRule
) -> None:
    slices = cut_slices(SHARD, None, batch(found), rule, closed=True)[:-1]
    for item, following in pairwise(slices):
        rows, after = item.records.to_pylist(), following.records.to_pylist()[0]
        window = rows[0]["ts_arrival_ns"] // MS // rule.window_ms
        size = sum(len(row["payload"]) for row in rows)
        assert (
            after["ts_arrival_ns"] // MS // rule.window_ms > window
            or len(rows) >= rule.max_rows
            or size + len(after["payload"]) > rule.max_bytes
        )


@given(records(), RULES, st.data())
def test_slicer_restart_from_any_boundary_cuts_the_same(
    found: list[KinesisRecord], rule: SliceRule, data: st.DataObject
) -> None:
    slices = cut_slices(SHARD, None, batch(found), rule, closed=True)
    done = data.draw(st.integers(0, len(slices) - 1))
    position = slices[done].prev
    rest = [r for r in found if is_after(str(r[0]["sequence_number"]), position)]

    again = cut_slices(SHARD, position, batch(rest), rule, closed=True)

    assert rows_of(again) == rows_of(slices[done:])
    assert [(s.prev, s.id) for s in again] == [(s.prev, s.id) for s in slices[done:]]


@given(records(), CHUNKS, RULES, st.integers(0, 2_000), st.integers(0, 50))
def test_slicer_quiet_close_loses_nothing_and_leaves_open_windows_alone(
    found: list[KinesisRecord], sizes: list[int], rule: SliceRule, now_ms: int, grace_ms: int
) -> None:
    slicer = Slicer(SHARD, None, rule)
    cut: list[Slice] = []
    for chunk in chunked(found, sizes):
        cut += slicer.push(batch(chunk))
        head = slicer.head
        closed = slicer.close_quiet(now_ms, grace_ms)
        if head is not None:
            end_ms = (head[1] // MS // rule.window_ms + 1) * rule.window_ms + grace_ms
            assert bool(closed) == (now_ms >= end_ms)
        cut += closed

    everything = [row for rows in rows_of(cut + slicer.end()) for row in rows]
    assert everything == batch(found).to_pylist()


@given(records(), CHUNKS, RULES, RULES, st.data())
def test_slicer_repeats_recorded_cuts_then_goes_on_by_the_new_rule(
    found: list[KinesisRecord],
    sizes: list[int],
    old: SliceRule,
    new: SliceRule,
    data: st.DataObject,
) -> None:
    recorded = cut_slices(SHARD, None, batch(found), old, closed=True)[:-1]
    adopted = recorded[: data.draw(st.integers(0, len(recorded)))]
    position = adopted[-1].last if adopted else None
    rest = [r for r in found if is_after(str(r[0]["sequence_number"]), position)]
    expected = adopted + cut_slices(SHARD, position, batch(rest), new, closed=True)

    slicer, todo, cut = Slicer(SHARD, None, new, is_held=True), list(adopted), []
    for chunk in chunked(found, sizes):
        cut += slicer.push(batch(chunk))
        while todo and (item := slicer.cut_at(str(todo[0].last))) is not None:
            cut.append(item)
            todo.pop(0)
        if not todo and slicer.is_held:
            cut += slicer.release()
    cut += slicer.end()

    assert not todo
    assert rows_of(cut) == rows_of(expected)
    assert [(s.prev, s.last) for s in cut] == [(s.prev, s.last) for s in expected]


@given(records(), RULES)
def test_slicer_held_cuts_nothing_by_itself(found: list[KinesisRecord], rule: SliceRule) -> None:
    slicer = Slicer(SHARD, None, rule, is_held=True)

    assert slicer.push(batch(found)) == []
    assert slicer.close_quiet(10**12, 0) == []
    assert slicer.pending_rows == sum(map(len, found))


@given(records(max_size=12), st.integers(0, 11), st.integers(0, 11), RULES)
@example([], 0, 0, SliceRule())
def test_slicer_numbers_that_do_not_increase_are_refused(
    found: list[KinesisRecord], one: int, other: int, rule: SliceRule
) -> None:
    if max(one, other) >= len(found) or one >= other:
        return
    swapped = list(found)
    swapped[one], swapped[other] = found[other], found[one]

    with pytest.raises(OutOfOrderError, match="must increase"):
        cut_slices(SHARD, None, batch(swapped), rule, closed=True)


@given(records(max_size=6), RULES)
def test_slicer_records_at_or_before_the_position_are_refused(
    found: list[KinesisRecord], rule: SliceRule
) -> None:
    if not found:
        return
    position = str(found[-1][0]["sequence_number"])

    with pytest.raises(OutOfOrderError):
        Slicer(SHARD, position, rule).push(batch(found))
