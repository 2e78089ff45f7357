"""An in-memory sharded stream with the manners of Kinesis: for tests, simulations and examples.

Shipped code, not a mock: it runs the same contract suite as the Kinesis reader. It routes by MD5
or explicit hash key, splits and merges shards, trims by retention, expires cursors after five
minutes, caps an answer at 10 MB, and, when asked, answers empty before the tip or stamps arrival
times that go back. Time comes from the clock it is given. Not here: durability.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import md5, sha256
from itertools import count, pairwise

import pyarrow as pa

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.slices import RECORD_SCHEMA, pad_sequence
from stream.sources import (
    HASH_SPACE,
    ExpiredCursorError,
    ReadResult,
    ShardInfo,
    Start,
    StreamIdentity,
)

MAX_ANSWER_BYTES = 10 << 20
CURSOR_LIFE_SECONDS = 300
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class _Record:
    payload: bytes
    sequence_number: int
    partition_key: str
    arrival_ns: int


@dataclass(slots=True)
class _Shard:
    """`trimmed` counts the records that retention removed: a cursor is an index that stays."""

    info: ShardInfo
    records: list[_Record] = field(default_factory=list)
    trimmed: int = 0
    closed_ns: int | None = None

    @property
    def end(self) -> int:
        return self.trimmed + len(self.records)


class MemoryStream:
    """The stream itself: what producers and an administrator see.

    >>> stream = MemoryStream("ticks", shards=2)
    >>> shard, sequence_number = stream.put(b"tick", "AAPL")
    >>> reader = MemoryReader(stream)
    >>> answer = reader.read(shard, reader.open_shard(shard, Start("TRIM_HORIZON")))
    >>> answer.records["payload"].to_pylist(), answer.behind_ms
    ([b'tick'], 0)
    """

    def __init__(
        self,
        name: str,
        shards: int = 1,
        clock: Clock = SYSTEM_CLOCK,
        *,
        retention_ms: int = DAY_MS,
        first_sequence_number: int = 1,
    ) -> None:
        self.name = name
        self.retention_ms = retention_ms
        self.clock = clock
        self.created_ms = clock.now_ns() // 1_000_000
        self.max_answer_rows = 10_000
        self._numbers = count(first_sequence_number)
        self.lock = threading.RLock()
        self._names: list[str] = []
        self._shards: dict[str, _Shard] = {}
        edges = [HASH_SPACE * i // shards for i in range(shards + 1)]
        for first, after in pairwise(edges):
            self._add(first, after - 1, ())

    def put(
        self,
        payload: bytes,
        partition_key: str,
        *,
        explicit_hash_key: int | None = None,
        arrival_ms: int | None = None,
    ) -> tuple[str, str]:
        """Append one record; return shard and sequence number. `arrival_ms` may go back."""
        key = explicit_hash_key
        if key is None:
            key = int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest())
        arrival_ns = self.clock.now_ns() if arrival_ms is None else arrival_ms * 1_000_000
        with self.lock:
            shard = next(
                s
                for s in self._shards.values()
                if not s.info.is_closed and s.info.first_hash_key <= key <= s.info.last_hash_key
            )
            record = _Record(payload, next(self._numbers), partition_key, arrival_ns)
            shard.records.append(record)
        return shard.info.shard, str(record.sequence_number)

    def split_shard(self, shard: str, at: int | None = None) -> tuple[str, str]:
        """Close a shard and open two in its place, cut at a hash key (default: the middle)."""
        with self.lock:
            info = self._close(shard)
            middle = at or (info.first_hash_key + info.last_hash_key + 1) // 2
            return (
                self._add(info.first_hash_key, middle - 1, (shard,)),
                self._add(middle, info.last_hash_key, (shard,)),
            )

    def merge_shards(self, shard: str, adjacent: str) -> str:
        """Close two neighbours and open one in their place."""
        with self.lock:
            one, two = self._open_info(shard), self._open_info(adjacent)
            if one.last_hash_key + 1 != two.first_hash_key:
                raise ConfigError(f"{shard} and {adjacent} of {self.name} are not neighbours")
            self._close(shard)
            self._close(adjacent)
            return self._add(one.first_hash_key, two.last_hash_key, (shard, adjacent))

    def trim(self) -> None:
        """Remove what is older than the retention, as the service does all the time."""
        horizon = self.clock.now_ns() - self.retention_ms * 1_000_000
        with self.lock:
            for name, shard in list(self._shards.items()):
                keep = 0
                while keep < len(shard.records) and shard.records[keep].arrival_ns < horizon:
                    keep += 1
                del shard.records[:keep]
                shard.trimmed += keep
                if shard.closed_ns is not None and shard.closed_ns < horizon:
                    del self._shards[name]

    def list_shards(self) -> list[ShardInfo]:
        """Every shard that still holds a place in the list."""
        self.trim()
        with self.lock:
            return [shard.info for shard in self._shards.values()]

    def shard(self, name: str) -> _Shard:
        """One shard's records; for readers."""
        with self.lock:
            found = self._shards.get(name)
        if found is None:
            raise ConfigError(
                f"stream {self.name} has no shard {name}: it was trimmed or never existed. "
                f"Its shards: {', '.join(sorted(self._shards))}"
            )
        return found

    def _add(self, first: int, last: int, parents: tuple[str, ...]) -> str:
        name = f"shardId-{len(self._names):012d}"
        self._names.append(name)
        self._shards[name] = _Shard(ShardInfo(name, parents, first, last, is_closed=False))
        return name

    def _open_info(self, name: str) -> ShardInfo:
        info = self.shard(name).info
        if info.is_closed:
            raise ConfigError(f"shard {name} of {self.name} is closed already")
        return info

    def _close(self, name: str) -> ShardInfo:
        info = self._open_info(name)
        shard = self._shards[name]
        shard.info = ShardInfo(
            name, info.parents, info.first_hash_key, info.last_hash_key, is_closed=True
        )
        shard.closed_ns = self.clock.now_ns()
        return info


class MemoryReader:
    """`StreamReader` over a `MemoryStream`."""

    is_push = False

    def __init__(self, stream: MemoryStream, *, is_empty_at_first: bool = False) -> None:
        """`is_empty_at_first`: every cursor answers empty once before it yields records."""
        self._stream = stream
        self._is_empty_at_first = is_empty_at_first

    @property
    def identity(self) -> StreamIdentity:
        life = f"memory:{self._stream.name}:{self._stream.created_ms}"
        digest = sha256(life.encode()).hexdigest()[:8]
        return StreamIdentity(self._stream.name, self._stream.created_ms, digest)

    @property
    def retention_ms(self) -> int:
        return self._stream.retention_ms

    def list_shards(self) -> list[ShardInfo]:
        return self._stream.list_shards()

    def open_shard(self, shard: str, start: Start) -> str:
        with self._stream.lock:
            held = self._stream.shard(shard)
            return self._cursor(held, _index_of(held, start), is_fresh=self._is_empty_at_first)

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        self._stream.trim()
        index, issued_ns, is_fresh = (int(part) for part in cursor.split(":"))
        if self._stream.clock.now_ns() - issued_ns > CURSOR_LIFE_SECONDS * 1_000_000_000:
            raise ExpiredCursorError(f"{shard}: the cursor is older than {CURSOR_LIFE_SECONDS} s")
        with self._stream.lock:
            held = self._stream.shard(shard)
            index = max(index, held.trimmed)
            rows = 0 if is_fresh else min(limit, self._stream.max_answer_rows)
            found = list(_answer(held, index, index + rows))
            index += len(found)
            is_done = held.info.is_closed and index >= held.end
            cursor = self._cursor(held, index)
            return ReadResult(
                _to_batch(found), None if is_done else cursor, self._behind_ms(held, index)
            )

    def first_sequence_number(self, shard: str) -> str | None:
        self._stream.trim()
        with self._stream.lock:
            records = self._stream.shard(shard).records[:1]
        return str(records[0].sequence_number) if records else None

    def _cursor(self, held: _Shard, index: int, *, is_fresh: bool = False) -> str:
        return f"{max(index, held.trimmed)}:{self._stream.clock.now_ns()}:{int(is_fresh)}"

    def _behind_ms(self, held: _Shard, index: int) -> int:
        if index >= held.end:
            return 0
        arrival_ns = held.records[index - held.trimmed].arrival_ns
        return max(1, (self._stream.clock.now_ns() - arrival_ns) // 1_000_000)


def _index_of(held: _Shard, start: Start) -> int:
    if start.at == "TRIM_HORIZON":
        return held.trimmed
    if start.at == "LATEST":
        return held.end
    for i, record in enumerate(held.records):
        if start.at == "AFTER":
            hit = pad_sequence(str(record.sequence_number)) > pad_sequence(start.sequence_number)
        else:
            hit = record.arrival_ns // 1_000_000 >= (start.timestamp_ms or 0)
        if hit:
            return held.trimmed + i
    return held.end


def _answer(held: _Shard, index: int, end: int) -> Iterator[_Record]:
    size = 0
    for record in held.records[index - held.trimmed : end - held.trimmed]:
        size += len(record.payload)
        if size > MAX_ANSWER_BYTES:
            return
        yield record


def _to_batch(records: list[_Record]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([r.payload for r in records], pa.binary()),
            pa.array([str(r.sequence_number) for r in records], pa.string()),
            pa.array([0] * len(records), pa.int32()),
            pa.array([r.partition_key for r in records], pa.string()),
            pa.array([r.arrival_ns for r in records], pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
