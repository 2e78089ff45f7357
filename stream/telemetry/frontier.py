"""Up to which arrival time a stage holds everything: the base of freshness. Pure.

A shard's frontier in a stage is the newest arrival that is durable there. Without new records it
would stand still and look like lag, so a read that finds nothing at the tip moves it on: what was
read is durable, and up to that read nothing else had arrived. The slowest shard counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Reached(NamedTuple):
    """The last record of a shard that is durable in a stage, and the newest arrival up to it."""

    sequence_number: str | None
    arrival_ms: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """How far a shard was read. `tip_ms`: when it was last read to its tip; None: never."""

    shard: str
    seen: str | None
    tip_ms: int | None
    is_ended: bool = False


def frontier_ms(
    shards: Iterable[ReadState], reached: Mapping[str, Reached], started_ms: int
) -> int | None:
    """The time up to which everything that arrived is durable in a stage; None without shards.

    Args: reached: by shard; one without an entry has nothing durable, and counts as
    `started_ms` until it has. Ended shards whose end is durable hold nobody back.

    >>> tip = ReadState("a", "9", tip_ms=5_000)
    >>> frontier_ms([tip], {"a": Reached("9", 1_000)}, 0)
    5000
    >>> frontier_ms([tip], {"a": Reached("7", 1_000)}, 0)
    1000
    """
    times = [
        _shard_frontier(shard, reached.get(shard.shard), started_ms)
        for shard in shards
        if not (shard.is_ended and _is_caught_up(shard, reached.get(shard.shard)))
    ]
    return min(times, default=None)


def _shard_frontier(shard: ReadState, reached: Reached | None, started_ms: int) -> int:
    durable_ms = reached.arrival_ms if reached and reached.arrival_ms else started_ms
    if shard.tip_ms is not None and _is_caught_up(shard, reached):
        return max(durable_ms, shard.tip_ms)
    return durable_ms


def _is_caught_up(shard: ReadState, reached: Reached | None) -> bool:
    return shard.seen == (reached.sequence_number if reached else None)
