"""Create, delete, split and merge: what the local platform and the tests do to streams.

In production streams belong to the infrastructure program; nothing in a dataflow calls this.
Every function returns when the stream is ACTIVE again (or gone).
"""

from __future__ import annotations

from typing import Any

from stream.clock import SYSTEM_CLOCK
from stream.errors import ConfigError, StoreUnavailableError
from stream.sources import ShardInfo
from stream.sources.kinesis_client import call, make_client

WAIT_SECONDS = 60.0


def create_stream(name: str, shards: int, *, region: str = "us-east-1") -> bool:
    """Create a stream; False if it exists already (its shard count is left as it is)."""
    client = make_client(region)
    if _status(client, name) is not None:
        return False
    call(client, "CreateStream", name, StreamName=name, ShardCount=shards)
    _wait(client, name, "ACTIVE")
    return True


def delete_stream(name: str, *, region: str = "us-east-1") -> None:
    """Delete a stream and its records."""
    client = make_client(region)
    call(client, "DeleteStream", name, StreamName=name, EnforceConsumerDeletion=True)
    _wait(client, name, None)


def split_shard(name: str, shard: ShardInfo, *, region: str = "us-east-1") -> None:
    """Split a shard in the middle of its hash range."""
    client = make_client(region)
    call(
        client,
        "SplitShard",
        name,
        StreamName=name,
        ShardToSplit=shard.shard,
        NewStartingHashKey=str((shard.first_hash_key + shard.last_hash_key + 1) // 2),
    )
    _wait(client, name, "ACTIVE")


def merge_shards(name: str, one: str, adjacent: str, *, region: str = "us-east-1") -> None:
    """Merge two neighbours."""
    client = make_client(region)
    call(
        client,
        "MergeShards",
        name,
        StreamName=name,
        ShardToMerge=one,
        AdjacentShardToMerge=adjacent,
    )
    _wait(client, name, "ACTIVE")


def _status(client: Any, name: str) -> str | None:
    try:
        answer = call(client, "DescribeStreamSummary", name, StreamName=name)
    except ConfigError as error:
        if "does not exist" in str(error):
            return None
        raise
    return str(answer["StreamDescriptionSummary"]["StreamStatus"])


def _wait(client: Any, name: str, wanted: str | None) -> None:
    deadline = SYSTEM_CLOCK.monotonic() + WAIT_SECONDS
    pause = 0.02
    while (found := _status(client, name)) != wanted:
        if SYSTEM_CLOCK.monotonic() > deadline:
            raise StoreUnavailableError(
                f"stream {name} is {found or 'absent'} after {WAIT_SECONDS:.0f} s, "
                f"expected {wanted or 'absent'}"
            )
        SYSTEM_CLOCK.sleep(pause)
        pause = min(pause * 2, 1.0)
