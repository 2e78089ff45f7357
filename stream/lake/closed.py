"""End positions of closed shards, out of the table property and for ever.

A table's property with the positions is rewritten at every commit, so it holds only shards that
may still move. A shard that was applied to its end is moved here by maintenance or at the end of
an extract: the object is written first, the property shrinks after, and readers look in both, so
a late writer of the same shard always finds that it has ended. Objects never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from stream.errors import FatalError
from stream.lake.layout import ClosedShardKey
from stream.lake.store import Store
from stream.slices import ShardPosition, Start


class ClosedShards:
    """The closed shards of one feed."""

    def __init__(self, feed: str, store: Store) -> None:
        self._feed = feed
        self._store = store

    def read(self, stream: str | None = None) -> dict[str, ShardPosition]:
        """Positions of closed shards by `ShardRef` text, of one stream or of all."""
        found = {}
        for info in self._store.list(ClosedShardKey.prefix(self._feed, stream)):
            data = self._store.get(info.path)
            if data is not None:
                key = ClosedShardKey.parse(info.path)
                found[f"{key.stream}/{key.shard}"] = parse_position(orjson.loads(data))
        return found

    def write(self, shard: str, position: ShardPosition) -> None:
        """Keep the end of a shard. Raises: FatalError if another end is kept already."""
        stream, _, name = shard.rpartition("/")
        path = ClosedShardKey(self._feed, stream, name).path
        data = orjson.dumps(asdict(position), option=orjson.OPT_SORT_KEYS)
        if not self._store.put_once(path, data) and self._store.get(path) != data:
            raise FatalError(
                f"{path} holds another end of {shard} than the committed {position}. A shard ends "
                "once: compare both with `headrace ledger` before any further write."
            )


def parse_position(raw: Mapping[str, Any]) -> ShardPosition:
    """A position as the ledger's JSON holds it. Raises: KeyError or TypeError if it is none."""
    if not isinstance(raw, dict):
        raise TypeError(f"a position is an object, found {raw!r}"[:200])
    start = raw.get("start")
    return ShardPosition(
        raw["sequence_number"],
        raw["is_ended"],
        Start(**start) if start else None,
        raw["arrival_ms"],
    )
