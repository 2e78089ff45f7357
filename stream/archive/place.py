"""Where a feed's archive goes: the store, the stream's identity, and what the ledger knows.

The ledger is asked only for a shard that no archiver has touched: where the road has been already,
slices are its own, and an archiver that cut the same records from the oldest one on would give
some of them a second object. Not here: Bronze itself (`stream.bronze`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from stream.archive.shard import ArchiveTally, ShardArchiver
from stream.errors import ConfigError
from stream.lake.connect import connect_lake, open_lake_store
from stream.settings import Settings, aws_endpoint
from stream.slices import ShardPosition, ShardRef
from stream.sources.kinesis import KinesisReader


class ArchivePlace:
    """One feed's way into Bronze, shared by all shards of a process. Thread-safe."""

    def __init__(self, settings: Settings, feed: str) -> None:
        """Raises: ConfigError (no stream, no lake), StoreUnavailableError."""
        self.feed = feed
        self.tally = ArchiveTally()
        self.store = open_lake_store(settings)
        reader = KinesisReader(settings.stream_name(feed), region=settings.region)
        self.stream = str(reader.identity)
        self._settings = settings
        self._lock = threading.Lock()
        self._positions: Mapping[str, ShardPosition] | None = None

    def open_shard(self, shard: str, position: str | None) -> ShardArchiver:
        """Begin after a checkpoint, or, without one, where the ledger is."""
        return ShardArchiver(
            ShardRef(self.feed, self.stream, shard),
            position,
            self._settings.slice_rule,
            self.store,
            self.tally,
            begins=None if position else self._begins(shard),
        )

    def _begins(self, shard: str) -> ShardPosition | None:
        with self._lock:
            if self._positions is None:
                self._positions = self._read_positions()
        return self._positions.get(shard)

    def _read_positions(self) -> Mapping[str, ShardPosition]:
        lake = connect_lake(self._settings)
        if self.feed not in lake.catalog.names():
            return {}  # the road never ran
        try:
            _, ledger = lake.ledger(self.feed)
        except ConfigError:
            return {}
        return ledger.positions(self.stream)


def refuse_embedded(settings: Settings) -> None:
    """Raises: ConfigError if the stream would be the embedded emulator's. Call before `connect`."""
    is_embedded = settings.aws == "embedded" and settings.emulator == "roto"
    if is_embedded and aws_endpoint("kinesis") is None:
        raise ConfigError(
            "the embedded emulator cannot be archived with the client library: it tells arrival "
            "times in microseconds and not what a closed shard was split into. Set "
            "HEADRACE_AWS=account for an account, or AWS_ENDPOINT_URL (S3, DynamoDB) and "
            "AWS_ENDPOINT_URL_KINESIS for emulators that can: kinesis-local does."
        )
