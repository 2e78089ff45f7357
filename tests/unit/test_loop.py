"""The plain loop: the same contract as the engine, in one thread and on any clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from stream.clock import SYSTEM_CLOCK, ManualClock
from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
from stream.errors import ConfigError
from stream.loop import Loop, run_loop
from stream.slices import RECORD_SCHEMA, ShardRef, Slice

PAYLOAD_BYTES = 100


def one_slice(lane: int, number: int) -> Slice:
    columns = [[b"x" * PAYLOAD_BYTES], [str(number)], [0], ["k"], [0]]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, RECORD_SCHEMA, strict=True)]
    records = pa.record_batch(arrays, schema=RECORD_SCHEMA)
    return Slice(ShardRef("trades", "s", f"shard-{lane}"), None, records)


class Counted:
    """Lanes that yield `count` slices each, every third poll none, then end."""

    def __init__(self, lanes: int, count: int) -> None:
        self.names = [f"lane-{lane:02d}" for lane in range(lanes)]
        self.count, self.asked, self.given = count, [0] * lanes, [0] * lanes

    def poll(self, lane: int) -> Slice | None:
        self.asked[lane] += 1
        if self.asked[lane] % 3 == 0:
            return None
        self.given[lane] += 1
        return one_slice(lane, self.given[lane])

    def has_shards(self, lane: int) -> bool:
        return True

    def is_finished(self, lane: int) -> bool:
        return self.given[lane] >= self.count


class Kept:
    """Commits into a list of epochs."""

    def __init__(self, on_commit: Callable[[], None] = lambda: None) -> None:
        self.pending: list[str] = []
        self.epochs: list[list[str]] = []
        self.on_commit = on_commit

    def add(self, results: Sequence[str]) -> None:
        self.pending += results

    def commit(self) -> None:
        self.on_commit()
        self.epochs.append(self.pending)
        self.pending = []

    @property
    def committed(self) -> list[str]:
        return [result for epoch in self.epochs for result in epoch]


def names_of(slices: list[Slice]) -> list[str]:
    return [f"{item.shard.shard}:{item.first}" for item in slices]


def run_plain(lanes: Counted, kept: Kept, *, max_bytes: int = 10_000) -> ManualClock:
    clock = ManualClock(0)
    epoch = Epoch(Stop(), max_bytes, clock)
    run_loop(lanes, names_of, kept, epoch=epoch, epoch_seconds=10)
    assert epoch.is_over
    return clock


def by_shard(committed: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for result in committed:
        found.setdefault(result.split(":")[0], []).append(result)
    return found


def test_plain_loop_commits_what_the_engine_commits_in_the_same_order_per_shard() -> None:
    plain, engine = Kept(), Kept()

    run_plain(Counted(lanes=3, count=40), plain)
    lanes, epoch = Counted(lanes=3, count=40), Epoch(Stop(), 10_000, SYSTEM_CLOCK)
    flow = build_dataflow("trades", lanes, names_of, engine, epoch=epoch, epoch_seconds=0.05)
    run_dataflow(flow, epoch, epoch_seconds=0.05)

    assert by_shard(plain.committed) == by_shard(engine.committed)
    assert len(plain.committed) == 120


def test_epoch_reads_no_more_than_its_credit_and_one_slice() -> None:
    kept = Kept()
    clock = run_plain(Counted(lanes=2, count=20), kept, max_bytes=5 * PAYLOAD_BYTES)
    assert max(len(epoch) for epoch in kept.epochs) == 5
    assert clock.monotonic() >= 10 * (40 // 5 - 1), "each epoch lasts its time"


def test_failed_process_raises_its_error_and_commits_nothing_of_its_epoch() -> None:
    kept, error = Kept(), ConfigError("the disk is full")

    def process(slices: list[Slice]) -> list[str]:
        if kept.epochs and kept.pending:
            raise error
        return names_of(slices)

    epoch = Epoch(Stop(), 300, ManualClock(0))
    with pytest.raises(ConfigError) as caught:
        run_loop(Counted(2, 50), process, kept, epoch=epoch, epoch_seconds=1)
    assert caught.value is error is epoch.failure
    assert len(kept.epochs) == 1
    assert kept.pending


def test_failed_commit_ends_the_loop_for_good() -> None:
    def refuse() -> None:
        raise ConfigError("no permission")

    epoch = Epoch(Stop(), 300, ManualClock(0))
    loop = Loop(Counted(1, 1), names_of, Kept(refuse), epoch=epoch, epoch_seconds=1)
    with pytest.raises(ConfigError):
        loop.step()
    assert loop.is_over
    assert epoch.stop.requested


def test_stop_polls_no_more_and_commits_the_open_epoch() -> None:
    lanes, kept, stop = Counted(lanes=2, count=1_000), Kept(), Stop()
    epoch = Epoch(stop, 10_000, ManualClock(0))
    loop = Loop(lanes, names_of, kept, epoch=epoch, epoch_seconds=60)
    loop.step()
    stop.request()
    loop.step()
    assert loop.is_over
    assert kept.epochs == [["shard-0:1", "shard-1:1"]]


def test_idle_step_asks_for_a_twentieth_of_the_epoch_at_most_50_ms() -> None:
    for epoch_seconds, pause in ((0.2, 0.01), (10, 0.05)):
        lanes, clock, kept = Counted(lanes=1, count=1), ManualClock(0), Kept()
        lanes.poll = lambda lane: None  # type: ignore[method-assign]
        epoch = Epoch(Stop(), 1, clock)
        loop = Loop(lanes, names_of, kept, epoch=epoch, epoch_seconds=epoch_seconds)
        while not kept.epochs:
            assert loop.step() == pause
            clock.sleep(pause)
        assert epoch_seconds <= clock.monotonic() < epoch_seconds + 2 * pause
