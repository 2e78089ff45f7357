"""Where reading of a shard begins. Pure: positions in, a `Start` out.

A committed position wins; then the start that was pinned when the stream was first started;
then, only for a stream without any position, the configured start; a shard that appears later
is a child and is read from its first record.
"""

from __future__ import annotations

from collections.abc import Mapping

from stream.clock import parse_time_ms
from stream.errors import ConfigError
from stream.slices import ShardPosition, Start
from stream.sources import ShardInfo

TRIM_HORIZON = Start("TRIM_HORIZON")
SHARD_PREFIX = "shardId-"


def parse_start(text: str, now_ms: int) -> Start:
    """The `start` setting. LATEST becomes the time at which it is read, so that it can be repeated;
    TRIM_HORIZON carries it: what the stream held by then and removes unread is lost.

    >>> parse_start("1970-01-01T00:00:01", now_ms=0).timestamp_ms
    1000
    >>> parse_start("LATEST", now_ms=7)
    Start(at='AT_TIMESTAMP', sequence_number=None, timestamp_ms=7)
    """
    if text == "TRIM_HORIZON":
        return Start("TRIM_HORIZON", timestamp_ms=now_ms)
    if text == "LATEST":
        return Start("AT_TIMESTAMP", timestamp_ms=now_ms)
    try:
        return Start("AT_TIMESTAMP", timestamp_ms=parse_time_ms(text))
    except ValueError:
        raise ConfigError(
            f"start {text!r} is neither TRIM_HORIZON, LATEST nor an ISO time such as "
            "2026-11-23T09:30:00Z"
        ) from None


def choose_start(shard: str, positions: Mapping[str, ShardPosition], first_start: Start) -> Start:
    """Where this shard begins, given every position of the stream.

    >>> choose_start("s1", {"s1": ShardPosition("42")}, Start("LATEST"))
    Start(at='AFTER', sequence_number='42', timestamp_ms=None)
    >>> choose_start("s2", {"s1": ShardPosition("42")}, Start("LATEST")).at
    'TRIM_HORIZON'
    """
    position = positions.get(shard)
    if position is not None and position.sequence_number is not None:
        return Start("AFTER", sequence_number=position.sequence_number)
    if position is not None and position.start is not None:
        return position.start
    return TRIM_HORIZON if positions else first_start


def is_blocked(
    shard: ShardInfo, listed: Mapping[str, ShardInfo], positions: Mapping[str, ShardPosition]
) -> bool:
    """Whether a parent that is still listed has not been applied to its end.

    A child opened earlier could commit newer events of a symbol before older ones. A parent that
    retention removed from the list holds nothing any more.
    """
    return any(
        parent in listed and not (parent in positions and positions[parent].is_ended)
        for parent in shard.parents
    )


def skipped_shards(
    listed: Mapping[str, ShardInfo], positions: Mapping[str, ShardPosition]
) -> list[str]:
    """Shards that came and went unseen: Kinesis numbers them, and a number above every one that the
    ledger knows is missing below the newest listed one.

    >>> info = ShardInfo("shardId-000000000004", (), 0, 0, is_closed=False)
    >>> skipped_shards({info.shard: info}, {"shardId-000000000002": ShardPosition(None)})
    ['shardId-000000000003']
    """
    known = max((_number(shard) for shard in positions), default=-1)
    newest = max((_number(shard) for shard in listed), default=-1)
    if known < 0:
        return []
    names = (f"{SHARD_PREFIX}{number:012d}" for number in range(known + 1, newest))
    return [name for name in names if name not in listed]


def _number(shard: str) -> int:
    """The number in a shard's id; -1 if it has none."""
    digits = shard.removeprefix(SHARD_PREFIX)
    return int(digits) if shard.startswith(SHARD_PREFIX) and digits.isdecimal() else -1
