"""The engine: epochs commit or fail whole, reading is bounded, and every end is clean.

What ends a process (signals, the watchdog, a panic on stderr) runs in a process of its own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from stream.clock import SYSTEM_CLOCK, ManualClock
from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
from stream.errors import ConfigError, StoreUnavailableError
from stream.slices import RECORD_SCHEMA, ShardRef, Slice

EPOCH_SECONDS = 0.1
PAYLOAD_BYTES = 1_000


def one_slice(lane: int, number: int) -> Slice:
    records = pa.record_batch(
        [
            pa.array([b"x" * PAYLOAD_BYTES], pa.binary()),
            pa.array([str(number)]),
            pa.array([0], pa.int32()),
            pa.array(["k"]),
            pa.array([0], pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    return Slice(ShardRef("trades", "s", f"shard-{lane}"), None, records)


class Counted:
    """Lanes that yield `count` slices each, then end, or (None) go on for ever."""

    def __init__(self, lanes: int = 2, count: int | None = None) -> None:
        self.names = [f"lane-{lane:02d}" for lane in range(lanes)]
        self.polled = [0] * lanes
        self.count = count
        self.error: Exception | None = None

    def poll(self, lane: int) -> Slice | None:
        if self.error is not None:
            raise self.error
        if self.is_finished(lane):
            return None
        self.polled[lane] += 1
        return one_slice(lane, self.polled[lane])

    def has_shards(self, lane: int) -> bool:
        return True

    def is_finished(self, lane: int) -> bool:
        return self.count is not None and self.polled[lane] >= self.count


class Kept:
    """Commits into a list of epochs."""

    def __init__(self) -> None:
        self.pending: list[str] = []
        self.epochs: list[list[str]] = []
        self.on_commit: Callable[[], None] = lambda: None

    def add(self, results: Sequence[str]) -> None:
        self.pending += results

    def commit(self) -> None:
        self.on_commit()
        self.epochs.append(self.pending)
        self.pending = []

    @property
    def committed(self) -> list[str]:
        return [result for epoch in self.epochs for result in epoch]


def name(item: Slice) -> str:
    return f"{item.shard.shard}:{item.first}"


def run(
    lanes: Counted,
    kept: Kept,
    process: Callable[[list[Slice]], list[str]] = lambda slices: [name(s) for s in slices],
    *,
    stop: Stop | None = None,
    max_bytes: int = 10 * PAYLOAD_BYTES,
) -> Epoch:
    epoch = Epoch(stop or Stop(), max_bytes, SYSTEM_CLOCK)
    flow = build_dataflow("trades", lanes, process, kept, epoch=epoch, epoch_seconds=EPOCH_SECONDS)
    run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
    return epoch


def after(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def test_bounded_lanes_end_by_themselves_with_everything_committed_in_order() -> None:
    kept = Kept()

    run(Counted(lanes=3, count=40), kept)

    assert sorted(kept.committed) == sorted(
        f"shard-{s}:{n + 1}" for s in range(3) for n in range(40)
    )
    for shard in range(3):
        numbers = [int(r.split(":")[1]) for r in kept.committed if r.startswith(f"shard-{shard}:")]
        assert numbers == sorted(numbers)


def test_lanes_without_anything_end_without_a_result() -> None:
    kept = Kept()
    run(Counted(count=0), kept)
    assert kept.committed == []


def test_failed_process_ends_with_exactly_that_error_and_commits_nothing_of_its_epoch() -> None:
    error = ConfigError("the disk is full")
    kept = Kept()

    def process(slices: list[Slice]) -> list[str]:
        if len(kept.epochs) >= 2 and kept.pending:
            raise error
        return [name(s) for s in slices]

    with pytest.raises(ConfigError) as caught:
        run(Counted(), kept, process)

    assert caught.value is error
    assert kept.pending, "the epoch had results before the failure"
    assert not set(kept.pending) & set(kept.committed)
    assert len(kept.epochs) == 2


def test_failed_commit_ends_with_exactly_that_error_and_no_later_commit() -> None:
    error = StoreUnavailableError("the catalog did not answer")
    kept, calls = Kept(), []

    def fail_the_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise error

    kept.on_commit = fail_the_third
    with pytest.raises(StoreUnavailableError) as caught:
        run(Counted(), kept)

    assert caught.value is error
    assert (len(calls), len(kept.epochs)) == (3, 2)


def test_failed_poll_ends_with_exactly_that_error() -> None:
    lanes, kept = Counted(), Kept()
    error = StoreUnavailableError("the stream is gone")

    def fail() -> None:
        lanes.error = error

    after(0.25, fail)
    with pytest.raises(StoreUnavailableError) as caught:
        run(lanes, kept)

    assert caught.value is error


def test_first_of_several_failures_is_the_one_that_is_raised() -> None:
    epoch = Epoch(Stop(), 1, SYSTEM_CLOCK)
    first = ConfigError("first")
    epoch.fail(first)
    epoch.fail(ConfigError("second"))
    assert epoch.failure is first
    assert epoch.stop.requested


def test_stop_ends_within_a_second_and_commits_the_open_epoch() -> None:
    stop, kept, lanes = Stop(), Kept(), Counted(lanes=8)
    asked: list[float] = []

    def request() -> None:
        asked.append(time.monotonic())
        stop.request()

    after(0.35, request)
    run(lanes, kept, stop=stop)

    assert time.monotonic() - asked[0] < 1.0
    assert len(kept.committed) == sum(lanes.polled), "what was read is committed"
    assert kept.pending == []


def test_stop_during_a_long_epoch_does_not_wait_for_its_end() -> None:
    stop, kept, lanes = Stop(), Kept(), Counted(lanes=2)
    epoch = Epoch(stop, 5 * PAYLOAD_BYTES, SYSTEM_CLOCK)
    flow = build_dataflow(
        "trades", lanes, lambda s: [name(i) for i in s], kept, epoch=epoch, epoch_seconds=60
    )
    began = time.monotonic()
    after(0.2, stop.request)

    run_dataflow(flow, epoch, epoch_seconds=60)

    assert time.monotonic() - began < 1.2
    assert len(kept.committed) == sum(lanes.polled) == 5


def test_credit_bounds_what_an_epoch_reads() -> None:
    stop, kept = Stop(), Kept()
    after(0.65, stop.request)

    run(Counted(lanes=4), kept, stop=stop, max_bytes=7 * PAYLOAD_BYTES)

    assert len(kept.epochs) >= 3
    # Each lane ends its epoch a moment apart from the others, so one credit may be shared by
    # two neighbouring epochs, never more.
    assert max(len(epoch) for epoch in kept.epochs) <= 2 * 7
    assert len(kept.committed) <= 2 * 7 * (len(kept.epochs) + 1)


def test_slice_larger_than_the_credit_is_still_read() -> None:
    kept = Kept()
    run(Counted(lanes=1, count=3), kept, max_bytes=1)
    assert kept.committed == ["shard-0:1", "shard-0:2", "shard-0:3"]


def test_epoch_age_grows_until_the_next_epoch_begins() -> None:
    clock = ManualClock(0)
    epoch = Epoch(Stop(), 1, clock)
    epoch.begin()
    clock.sleep(42)
    assert epoch.age_seconds() == 42
    epoch.begin()
    assert (epoch.age_seconds(), epoch.credit) == (0, 1)


def test_dataflow_uses_only_three_operators_with_fixed_parts() -> None:
    lanes = Counted(lanes=5, count=0)
    epoch = Epoch(Stop(), 1, SYSTEM_CLOCK)
    flow = build_dataflow("trades", lanes, lambda _: [], Kept(), epoch=epoch, epoch_seconds=1)

    steps = {step.step_id: type(step).__name__ for step in flow.substeps}

    assert steps == {
        "trades.slices": "input",
        "trades.process": "flat_map_batch",
        "trades.commit": "output",
    }
    source, sink = flow.substeps[0].source, flow.substeps[2].sink
    assert {c.__name__ for c in type(source).__mro__} >= {"FixedPartitionedSource"}
    assert {c.__name__ for c in type(sink).__mro__} >= {"FixedPartitionedSink"}
    assert "DynamicSink" not in {c.__name__ for c in type(sink).__mro__}
    assert source.list_parts() == lanes.names
    lanes.names.append("lane-99")
    assert len(source.list_parts()) == 5, "lanes are fixed when the dataflow is built"
    assert sink.list_parts() == ["committer"]
    assert {sink.part_fn(key) for key in ("committer", "", "x")} == {0}


def test_far_next_awake_stays_below_a_quarter_of_the_epoch() -> None:
    lanes = Counted(lanes=1, count=None)
    lanes.has_shards = lambda lane: False  # type: ignore[method-assign]
    lanes.poll = lambda lane: None  # type: ignore[method-assign]
    for seconds in (0.1, 1.0, 10.0):
        epoch = Epoch(Stop(), 1, ManualClock(0))
        flow = build_dataflow("t", lanes, lambda _: [], Kept(), epoch=epoch, epoch_seconds=seconds)
        part = flow.substeps[0].source.build_part("t.slices", "lane-00", None)
        assert list(part.next_batch()) == []
        assert part.next_awake().timestamp() <= seconds / 4


# --- processes of their own -------------------------------------------------------------------

PRELUDE = """
import os, sys, threading, time
{before}
from stream.clock import SYSTEM_CLOCK
from stream.engine import (
    Epoch, Stop, build_dataflow, run_dataflow, stop_on_signals, watch_epochs
)
from stream.errors import ConfigError

class Idle:
    names = ["lane-00", "lane-01"]
    def poll(self, lane): return None
    def has_shards(self, lane): return True
    def is_finished(self, lane): return False

class Committer:
    def add(self, results): pass
    def commit(self): pass

stop = Stop()
epoch = Epoch(stop, 1_000, SYSTEM_CLOCK)
def run(lanes, process, committer, seconds=0.2):
    flow = build_dataflow("trades", lanes, process, committer, epoch=epoch, epoch_seconds=seconds)
    run_dataflow(flow, epoch, epoch_seconds=seconds)
"""


def start(script: str, before: str = "") -> subprocess.Popen[str]:
    source = PRELUDE.replace("{before}", before) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def finish(process: subprocess.Popen[str], seconds: float = 15) -> tuple[str, str]:
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@pytest.mark.parametrize("where", ["process", "commit", "poll"])
def test_failure_prints_no_panic_and_no_traceback(where: str) -> None:
    process = start(
        f"""
        where = {where!r}
        class Item:
            payload_bytes = 1
        class Lanes(Idle):
            def poll(self, lane):
                if where == "poll": raise ConfigError("poll failed")
                return Item()
        class Failing(Committer):
            def commit(self):
                if where == "commit": raise ConfigError("commit failed")
        def process(slices):
            if where == "process": raise ConfigError("process failed")
            return slices
        try:
            run(Lanes(), process, Failing())
        except ConfigError as error:
            print(error)
        """
    )
    out, err = finish(process)
    assert (process.returncode, out, err) == (0, f"{where} failed\n", "")


def test_watchdog_ends_a_process_whose_epochs_do_not_end() -> None:
    process = start(
        """
        class Frozen(Idle):
            def poll(self, lane):
                time.sleep(60)
        watch_epochs(epoch, 1.0)
        run(Frozen(), lambda slices: slices, Committer())
        """
    )
    began = time.monotonic()
    _, err = finish(process)
    assert process.returncode == 1
    assert time.monotonic() - began < 10
    assert "no epoch ended for 1 s" in err
    assert "restart" in err


def test_watchdog_leaves_a_process_alone_whose_epochs_end() -> None:
    process = start(
        """
        watch_epochs(epoch, 0.6)
        threading.Timer(2.0, stop.request).start()
        run(Idle(), lambda slices: slices, Committer(), seconds=0.1)
        """
    )
    _, err = finish(process)
    assert (process.returncode, err) == (0, "")


def test_watchdog_leaves_a_process_alone_that_goes_on_after_its_dataflow() -> None:
    process = start(
        """
        watch_epochs(epoch, 0.5)
        stop.request()
        run(Idle(), lambda slices: slices, Committer())
        time.sleep(1.5)
        """
    )
    _, err = finish(process)
    assert (process.returncode, err) == (0, "")


NATIVE_THREADS = "import numpy; numpy.ones((300, 300)) @ numpy.ones((300, 300))"
COMMITTING = """
class Lanes(Idle):
    def poll(self, lane):
        class Item:
            payload_bytes = 1
        Lanes.polled = getattr(Lanes, "polled", 0) + 1
        return Item()
class Counting(Committer):
    added = committed = 0
    def add(self, results): self.added += len(results)
    def commit(self): self.committed, self.commits = self.added, getattr(self, "commits", 0) + 1
committer = Counting()
stop_on_signals(stop)
threading.Timer(0.5, print, ["ready"], {"flush": True}).start()
run(Lanes(), lambda slices: slices, committer, seconds=30)  # nothing is committed but at the end
print("read", Lanes.polled, "committed", committer.committed, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("before", ["", NATIVE_THREADS], ids=["plain", "native-threads"])
def test_signal_ends_with_zero_within_two_seconds_and_everything_committed(
    number: signal.Signals, before: str
) -> None:
    """The quickest of three counts: the others may have waited for this machine's other work."""
    spent = []
    for _ in range(3):
        process = start(COMMITTING, before)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()

        process.send_signal(number)
        out, err = finish(process)

        assert (process.returncode, err) == (0, "")
        spent.append(time.monotonic() - began)
        _, read, _, committed = out.split()
        assert int(read) == int(committed) > 0
    assert min(spent) < 2.0, spent


@pytest.mark.parametrize("before", ["", NATIVE_THREADS], ids=["plain", "native-threads"])
@pytest.mark.parametrize("limit", [25.0, 0.5], ids=["second-signal", "time-is-up"])
def test_stop_that_hangs_ends_hard(before: str, limit: float) -> None:
    process = start(
        f"""
        import stream.engine
        stream.engine.HARD_EXIT_SECONDS = {limit}
        class Hanging(Committer):
            def commit(self): time.sleep(60)
        class Lanes(Idle):
            def poll(self, lane):
                class Item:
                    payload_bytes = 1
                return Item()
        stop_on_signals(stop)
        threading.Timer(0.5, print, ["ready"], {{"flush": True}}).start()
        run(Lanes(), lambda slices: slices, Hanging(), seconds=30)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    if limit > 1:
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    _, err = finish(process, 5)
    assert process.returncode == 1
    assert "a restart resumes" in err
