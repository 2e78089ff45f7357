"""Whatever arrives in whatever order, positions never go back and a slice counts once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import CommitConflictError, LedgerGapError
from stream.lake.entries import Entry, Head, SliceRecord
from stream.lake.ledger import new_slices
from stream.slices import ShardPosition, ShardRef, Start, is_after

CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def cut(shard: int, lengths: list[int], *, ends: bool = False) -> list[SliceRecord]:
    """A shard's slices: record numbers grow by the lengths."""
    reference = ShardRef("trades", "s.00000000", f"shard-{shard}")
    slices, at = [], 0
    for length in lengths:
        prev = str(at) if at else None
        first, last = str(at + 1), str(at + length)
        slices.append(SliceRecord(reference, prev, first, last, length, length, (0, at)))
        at += length
    if ends:
        slices.append(SliceRecord(reference, str(at), str(at), str(at), 0, 0, (0, 0), True))
    return slices


@given(st.data())
def test_replays_and_rivals_apply_each_slice_once(data: Any) -> None:
    shards = [
        cut(number, lengths, ends=data.draw(st.booleans()))
        for number, lengths in enumerate(data.draw(st.lists(CUTS, min_size=1, max_size=3)))
    ]
    positions: dict[str, ShardPosition] = {}
    applied: list[str] = []
    done = [0] * len(shards)
    for _ in range(data.draw(st.integers(1, 12))):
        batch = []
        for number, slices in enumerate(shards):
            start = data.draw(st.integers(0, done[number]))  # never ahead: that is a gap
            end = data.draw(st.integers(start, len(slices)))
            batch += slices[start:end]
            done[number] = max(done[number], end)
        keep, after = new_slices(batch, positions)
        for shard, position in positions.items():
            assert not is_after(position.sequence_number, after[shard].sequence_number)
            assert after[shard].is_ended or not position.is_ended
            assert after[shard].arrival_ms >= position.arrival_ms
        applied += [record.slice_id for record in keep]
        positions = after
    assert len(applied) == len(set(applied))
    for slices, count in zip(shards, done, strict=True):
        assert [record.slice_id for record in slices[:count]] == [
            slice_id for slice_id in applied if slice_id.startswith(str(slices[0].shard))
        ]


@given(CUTS.filter(lambda lengths: len(lengths) > 1), st.data())
def test_a_slice_ahead_of_the_position_is_refused(lengths: list[int], data: Any) -> None:
    slices = cut(0, lengths)
    skipped = data.draw(st.integers(0, len(slices) - 2))
    _, positions = new_slices(slices[:skipped], {})
    with pytest.raises(LedgerGapError):
        new_slices(slices[skipped + 1 :], positions)


@given(st.integers(2, 40), st.data())
def test_a_rival_cut_is_refused_and_changes_nothing(length: int, data: Any) -> None:
    ours = cut(0, [data.draw(st.integers(1, length - 1))])
    _, positions = new_slices(ours, {})
    before = dict(positions)
    with pytest.raises(CommitConflictError):
        new_slices(cut(0, [length]), positions)
    assert positions == before


STARTS = st.one_of(
    st.none(),
    st.just(Start("TRIM_HORIZON")),
    st.builds(lambda ms: Start("AT_TIMESTAMP", timestamp_ms=ms), st.integers(0, 2**41)),
)
POSITIONS = st.dictionaries(
    st.text("abc/-.0", min_size=1),
    st.builds(
        ShardPosition,
        st.one_of(st.none(), st.integers(0, 10**56 - 1).map(str)),
        st.booleans(),
        STARTS,
        st.integers(0, 2**41),
    ),
)


@given(POSITIONS, CUTS)
def test_entry_and_head_read_back_as_they_were_written(
    positions: dict[str, ShardPosition], lengths: list[int]
) -> None:
    entry = Entry(
        "trades", 3, "ledger/2", "slices", 5, positions, tuple(cut(0, lengths, ends=True))
    )
    assert Entry.from_bytes(entry.to_bytes()) == entry
    assert Entry.from_bytes(entry.to_bytes()).to_bytes() == entry.to_bytes()
    head = Head(3, "ledger/3", positions)
    assert Head.of(head.properties()) == head
