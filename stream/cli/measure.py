"""Measure the road on this machine: generated messages, local files, no stream and no emulator.

It is the code of `headrace run` from the slice on: Bytewax, decoding, de-duplication, Bronze,
Silver, quarantine, ledger and Iceberg commits, in a folder that goes away. The messages are
generated, packed and cut into slices before the clock starts, and what was committed is compared
with what was generated before a figure counts. Not here: reading Kinesis, the network, S3.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pyarrow as pa

from stream.clock import SYSTEM_CLOCK
from stream.errors import FatalError
from stream.shard import ShardRef
from stream.slices import RECORD_SCHEMA, Slice

if TYPE_CHECKING:
    from stream.flow import Tally
    from stream.producers.pack import Pack
    from stream.producers.simulate import Truth
    from stream.settings import Settings

SHARDS = 4
RATE = 20_000
"""Messages a second of event time."""
START_NS = 1_764_000_000_000_000_000
SLICE_MESSAGES = 50_000
GENERATE_MESSAGES = 10_000
FIRST_SEQUENCE = 10**55
ARRIVAL_DELAY_NS = 1_000_000_000
EPOCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. `messages`, `silver_rows`, `duplicates` and `rejected` are as generated."""

    feed: str
    messages: int
    silver_rows: int
    duplicates: int
    rejected: int
    commits: int
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    bytes_written: int

    @property
    def messages_per_second(self) -> float:
        return self.messages / self.wall_seconds

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu_seconds / self.messages * 1e6

    def to_json(self) -> dict[str, object]:
        """Fields and what follows from them."""
        found: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        return found | {
            "messages_per_second": round(self.messages_per_second),
            "cpu_seconds_per_million": round(self.cpu_seconds_per_million, 3),
        }


def measure_road(settings: Settings, feed: str, messages: int, seed: int) -> Measurement:
    """Run it once; `settings` give the slices' and uploads' rules, never the place.

    Raises: FatalError if what was committed is not what was generated.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        lanes = WrittenLanes(feed)
        truth = lanes.write(folder / "slices", messages, seed)
        lake = folder / "lake"
        here: dict[str, object] = {"home": folder, "lake": f"file://{lake}", "catalog": "sqlite"}
        here |= dict.fromkeys(("bronze_lake", "gold_lake", "artifacts_lake"))
        tally, wall_seconds, cpu_seconds = _run(settings.model_copy(update=here), lanes)
        _compare(tally, truth)
        return Measurement(
            feed,
            tally.messages,
            tally.silver_rows,
            tally.duplicates,
            sum(tally.rejected.values()),
            tally.commits,
            wall_seconds,
            cpu_seconds,
            _used()[1],
            sum(path.stat().st_size for path in lake.rglob("*") if path.is_file()),
        )


class WrittenLanes:
    """Slices that wait in files, one lane a shard: the lanes of `sources` without a stream."""

    def __init__(self, feed: str) -> None:
        self.feed = feed
        self.names = [f"lane-{number:02d}" for number in range(SHARDS)]
        self._files: list[list[Path]] = [[] for _ in range(SHARDS)]
        self._done = [0] * SHARDS
        self._last: list[str | None] = [None] * SHARDS

    def write(self, folder: Path, messages: int, seed: int) -> Truth:
        """Generate, pack and write `messages`; what they are. Same seed, same bytes."""
        from stream.producers.pack import Packer
        from stream.producers.simulate import SimulationRule, Simulator

        rule = SimulationRule(venue_shapes=0)
        simulator = Simulator(self.feed, seed=seed, start_ns=START_NS, rate=RATE, rule=rule)
        packer = Packer()
        folder.mkdir()
        waiting: list[list[Pack]] = [[] for _ in range(SHARDS)]
        for done in range(0, messages, GENERATE_MESSAGES):
            taken = simulator.take(min(GENERATE_MESSAGES, messages - done))
            is_end = done + len(taken) == messages
            packs = packer.add_many(taken, 0.0) + (packer.flush() if is_end else [])
            for pack in packs:
                waiting[crc32(pack.key.encode()) % SHARDS].append(pack)
            arrival_ns = START_NS + (done + len(taken)) * 1_000_000_000 // RATE + ARRIVAL_DELAY_NS
            for shard, held in enumerate(waiting):
                if held and (is_end or sum(pack.messages for pack in held) >= SLICE_MESSAGES):
                    self._write(folder, shard, held, arrival_ns)
                    held.clear()
        return simulator.truth

    def _write(self, folder: Path, shard: int, packs: list[Pack], arrival_ns: int) -> None:
        number = len(self._files[shard])
        path = folder / f"{shard}-{number:05d}.arrow"
        base = FIRST_SEQUENCE + number * 10**9
        batch = pa.record_batch(
            [
                pa.array([pack.data for pack in packs], pa.binary()),
                pa.array([str(base + at) for at in range(len(packs))]),
                pa.array([0] * len(packs), pa.int32()),
                pa.array([pack.key for pack in packs]),
                pa.array([arrival_ns] * len(packs)),
            ],
            schema=RECORD_SCHEMA,
        )
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, RECORD_SCHEMA) as out:
            out.write_batch(batch)
        self._files[shard].append(path)

    def has_shards(self, lane: int) -> bool:
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:
        return self._done[lane] >= len(self._files[lane])

    def poll(self, lane: int) -> Slice | None:
        """The lane's next slice."""
        if self.is_finished(lane):
            return None
        path = self._files[lane][self._done[lane]]
        records = next(_read(path))
        shard = ShardRef(self.feed, "bench.00000000", f"shardId-{lane:012d}")
        item = Slice(shard, self._last[lane], records)
        self._done[lane], self._last[lane] = self._done[lane] + 1, item.last
        return item


def _run(settings: Settings, lanes: WrittenLanes) -> tuple[Tally, float, float]:
    """What was committed, and the wall and CPU seconds that it took."""
    from stream.dedup import Dedup
    from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
    from stream.feeds import load_feed
    from stream.flow import Road, RoadCommitter
    from stream.lake.connect import connect_lake
    from stream.lake.ledger import Ledger
    from stream.silver import SilverKeys

    contract, lake = load_feed(lanes.feed), connect_lake(settings)
    table = lake.table(contract)
    ledger = Ledger(lanes.feed, table, lake.store)
    dedup = Dedup(contract, SilverKeys(contract, table, lake.store, lambda _: frozenset()))
    road = Road(
        contract,
        lake.store,
        table.arrow_schema,
        dedup,
        settings.upload_threads,
        for_bars=False,
    )
    committer = RoadCommitter(ledger)
    epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
    flow = build_dataflow(
        lanes.feed, lanes, road.process, committer, epoch=epoch, epoch_seconds=EPOCH_SECONDS
    )
    began, (cpu_before, _) = SYSTEM_CLOCK.monotonic(), _used()
    run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
    committer.finish()
    return committer.tally, SYSTEM_CLOCK.monotonic() - began, _used()[0] - cpu_before


def _compare(tally: Tally, truth: Truth) -> None:
    expected = {
        "messages": truth.messages,
        "rows": truth.rows,
        "duplicates": truth.duplicate_rows,
        "rejected": sum(truth.malformed.values()),
    }
    found = {
        "messages": tally.messages,
        "rows": tally.silver_rows,
        "duplicates": tally.duplicates,
        "rejected": sum(tally.rejected.values()),
    }
    if found != expected:
        raise FatalError(
            f"bench: committed {found}, generated {expected}. The figures do not count; this is a "
            "fault of headrace: report it with the seed and the number of messages"
        )


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as batches:
        yield from batches


def _used() -> tuple[float, int]:
    """CPU seconds of this process so far, and the most memory that it has had, in bytes."""
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, used.ru_maxrss * unit
