"""Share the lanes among the processes of a cluster, the same way in every process. Pure.

Bytewax sorts the names of all parts and gives part i to worker i mod n. A lane's name says where
its hash keys begin, so taken as they are neighbours would alternate, and the shards of a stream of
2, 4 ... 32 shards (lanes 0, 32; 0, 16, 32, 48; ...) would all fall to process 0 of two. So the
parts get names whose order gives every process one run of neighbouring lanes: an n-th of the hash
keys, whatever the number of shards, and a split seldom leaves its process.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.errors import ConfigError


def lane_shares(lanes: int, processes: int) -> list[range]:
    """The lanes of each process; every lane is in one of them, sizes differ by one at the most.

    A lane is the process's that its last hash key falls to: a shard that begins at k/n of the hash
    keys lies in the lane that ends behind that point.

    Raises: ConfigError when a process would have none.

    >>> lane_shares(64, 3)
    [range(42, 64), range(0, 21), range(21, 42)]
    """
    if not 1 <= processes <= lanes:
        raise ConfigError(
            f"{processes} processes for {lanes} lanes: expected 1 to {lanes}, a process without a "
            "lane would read nothing. Lower HEADRACE_PROCESSES, or raise HEADRACE_LANES for good"
        )
    bounds = [lanes * share // processes for share in range(processes + 1)]
    shares = [range(*bounds[share : share + 2]) for share in range(processes)]
    # Sorted parts go round: whoever has one more must come first.
    return sorted(shares, key=len, reverse=True)


def part_names(names: Sequence[str], processes: int) -> list[str]:
    """The name of each lane's part: sorted, part i is of process i mod n, as `lane_shares` says.

    One process alone keeps the lanes' own names.

    >>> part_names(["lane-00", "lane-01", "lane-02", "lane-03"], 2)
    ['00000-lane-00', '00002-lane-01', '00001-lane-02', '00003-lane-03']
    """
    if processes == 1:
        return list(names)
    place = {
        lane: turn * processes + process
        for process, share in enumerate(lane_shares(len(names), processes))
        for turn, lane in enumerate(share)
    }
    return [f"{place[lane]:05d}-{name}" for lane, name in enumerate(names)]
