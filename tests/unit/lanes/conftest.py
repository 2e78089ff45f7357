"""Lanes over the in-memory stream, with a ledger and a Bronze that do what the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from stream.clock import ManualClock
from stream.errors import StoreUnavailableError
from stream.slices import ShardPosition, ShardRef, Slice, SliceRule
from stream.sources import ReadResult
from stream.sources.lanes import Lanes
from stream.sources.memory import MemoryReader, MemoryStream

FAST = {"poll_ms": 10, "grace_ms": 0, "list_shards_seconds": 0.05, "reads_per_second": 500.0}
SMALL = SliceRule(window_ms=1_000, max_rows=10)
ARRIVAL_MS = 1_700_000_000_000


@dataclass
class Positions:
    """A ledger that commits what the test says."""

    held: dict[str, ShardPosition] = field(default_factory=dict)
    reads: int = 0

    def read(self) -> Mapping[str, ShardPosition]:
        self.reads += 1
        return dict(self.held)

    def apply(self, item: Slice) -> None:
        before = self.held.get(item.shard.shard, ShardPosition(None))
        assert item.prev == before.sequence_number
        self.held[item.shard.shard] = ShardPosition(
            item.last, item.ends_shard, before.start, item.arrival_ns[1] // 1_000_000
        )


@dataclass
class Seals:
    """Bronze: slices by their first record."""

    objects: dict[tuple[ShardRef, str], pa.RecordBatch] = field(default_factory=dict)
    failures: int = 0

    def find(self, shard: ShardRef, first: str, ts_arrival_ns: int) -> pa.RecordBatch | None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("bronze does not answer")
        return self.objects.get((shard, first))

    def write(self, item: Slice) -> None:
        assert item.first is not None
        self.objects[item.shard, item.first] = item.records


class Faulty(MemoryReader):
    """A reader whose next calls raise what the test lines up."""

    def __init__(self, stream: MemoryStream) -> None:
        super().__init__(stream)
        self.faults: list[Exception] = []
        self.reads: list[float] = []
        self.rows: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        self.gate.wait(5)
        self.reads.append(time.monotonic())
        if self.faults:
            raise self.faults.pop(0)
        answer = super().read(shard, cursor, limit)
        self.rows.append(answer.records.num_rows)
        return answer


@dataclass
class Rig:
    """A stream, its faulty reader, and the lanes that a test starts on them."""

    stream: MemoryStream
    reader: Faulty
    positions: Positions = field(default_factory=Positions)
    seals: Seals = field(default_factory=Seals)
    running: list[Lanes] = field(default_factory=list)

    def lanes(
        self, rule: SliceRule = SMALL, *, is_started: bool = True, **options: object
    ) -> Lanes:
        lanes = Lanes(
            "trades",
            self.reader,
            self.positions,
            self.seals,
            rule,
            **{**FAST, "clock": self.stream.clock, **options},  # type: ignore[arg-type]
        )
        self.running.append(lanes)
        if is_started:
            lanes.start()
        return lanes

    def put(self, count: int, first: int = 0, key: int = 0, window: int = 0) -> None:
        """Records whose arrival lies in a past window, so that quiet windows close at once."""
        for i in range(first, first + count):
            self.stream.put(
                b"%d" % i, "k", explicit_hash_key=key, arrival_ms=ARRIVAL_MS + window * 1_000
            )

    def ref(self, shard: int = 0) -> ShardRef:
        return ShardRef("trades", str(self.reader.identity), f"shardId-{shard:012d}")

    def take(
        self, lanes: Lanes, until: int | Callable[[list[Slice]], bool], seconds: float = 5.0
    ) -> list[Slice]:
        """Poll all lanes like the engine does, until the condition (or that many records)."""
        found: list[Slice] = []
        is_enough = until if callable(until) else lambda found: sum(s.rows for s in found) >= until
        deadline = time.monotonic() + seconds
        while not is_enough(found):
            assert time.monotonic() < deadline, f"timed out with {found}; {lanes.status()}"
            items = [lanes.poll(i) for i in range(len(lanes.names))]
            found += [item for item in items if item is not None]
            if not any(items):
                time.sleep(0.002)
        return found

    @staticmethod
    def payloads(found: list[Slice]) -> list[bytes]:
        return [p for item in found for p in item.records["payload"].to_pylist()]

    @staticmethod
    def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture
def rig() -> Iterator[Rig]:
    clock = ManualClock(ARRIVAL_MS * 1_000_000 + 60_000_000_000)
    stream = MemoryStream("ticks", 1, clock)
    made = Rig(stream, Faulty(stream))
    yield made
    for lanes in made.running:
        lanes.stop()
        assert not any(thread.is_alive() for thread in lanes._threads)
