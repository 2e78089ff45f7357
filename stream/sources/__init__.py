"""What yields records: Kinesis, a replayed extract, an in-memory stream. Nouns, one file each.

The seam is `StreamReader`: a sharded log in the Kinesis sense, seen read-only. `lanes` builds
slices on top of any of them; one contract suite (`tests/contract/test_stream_reader.py`) runs
over every implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from stream.slices import ShardPosition as ShardPosition
from stream.slices import Start as Start

HASH_SPACE = 1 << 128
"""Kinesis hash keys are 128 bit."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """A stream's name and which life of it: a stream deleted and re-created is another stream."""

    name: str
    created_ms: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name}.{self.digest}"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard of a shard list. Parents that retention removed are absent from the list."""

    shard: str
    parents: tuple[str, ...]
    first_hash_key: int
    last_hash_key: int
    is_closed: bool


@dataclass(frozen=True, slots=True)
class ReadResult:
    """One answer: records in shard order (`slices.RECORD_SCHEMA`), and how far the tip is.

    `cursor` is None when the shard is closed and read to its end. An empty answer does not mean
    the tip: only `behind_ms == 0` does.
    """

    records: pa.RecordBatch
    cursor: str | None
    behind_ms: int


class StreamReader(Protocol):
    """Read access to one stream. Thread-safe: shards are read from one thread each.

    Raises: ThrottledError, StoreUnavailableError (retry); ConfigError (no stream, no permission).
    """

    @property
    def identity(self) -> StreamIdentity: ...

    @property
    def retention_ms(self) -> int: ...

    @property
    def is_push(self) -> bool:
        """Whether `read` waits for the service to send: then nobody paces or pauses its calls."""
        ...

    def list_shards(self) -> list[ShardInfo]:
        """All shards, closed ones included, as far as retention goes."""
        ...

    def open_shard(self, shard: str, start: Start) -> str:
        """A cursor for `read`; it may expire, then `read` re-opens after the last record."""
        ...

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        """The next records. Raises ExpiredCursorError when the cursor is too old."""
        ...

    def first_sequence_number(self, shard: str) -> str | None:
        """The oldest record still kept, or None when the shard holds none: names retention gaps."""
        ...


class ExpiredCursorError(Exception):
    """The cursor's five minutes are over: open the shard again after the last record read."""
