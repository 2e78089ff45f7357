"""Which process of a cluster reads which lane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.sources import HASH_SPACE
from stream.sources.lanes import lane_of
from stream.sources.shares import lane_shares, part_names

SIZES = st.integers(1, 64).flatmap(lambda n: st.tuples(st.integers(n, 300), st.just(n)))


@given(SIZES)
def test_shares_hold_every_lane_once_and_differ_by_one_at_most(sizes: tuple[int, int]) -> None:
    shares = lane_shares(*sizes)
    assert sorted(lane for share in shares for lane in share) == list(range(sizes[0]))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(SIZES)
def test_part_names_dealt_in_their_order_give_every_process_its_share(
    sizes: tuple[int, int],
) -> None:
    lanes, processes = sizes
    names = part_names([f"lane-{lane:02d}" for lane in range(lanes)], processes)
    dealt = [set(sorted(names)[process::processes]) for process in range(processes)]
    assert dealt == [{names[lane] for lane in share} for share in lane_shares(lanes, processes)]


@pytest.mark.parametrize("shards", [2, 3, 4, 8, 32, 64])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_shards_of_equal_width_are_shared_evenly(shards: int, processes: int) -> None:
    lanes = [lane_of(HASH_SPACE * shard // shards, 64) for shard in range(shards)]
    counts = [sum(lane in share for lane in lanes) for share in lane_shares(64, processes)]
    assert max(counts) - min(counts) <= 1


def test_one_process_alone_keeps_the_names_of_the_lanes() -> None:
    assert part_names(["lane-00", "lane-01"], 1) == ["lane-00", "lane-01"]


@pytest.mark.parametrize(("lanes", "processes"), [(2, 3), (2, 0)])
def test_processes_without_a_lane_are_refused(lanes: int, processes: int) -> None:
    with pytest.raises(ConfigError, match=f"{processes} processes for {lanes} lanes"):
        lane_shares(lanes, processes)
