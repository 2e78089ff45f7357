"""Run the road on Bytewax: the only importer of it.

Bytewax gives scheduling, epochs as a barrier, and clusters. It must not own shard positions,
object names, windows or time: those are the ledger's and the slice's. Only three operators are
used: input (fixed lanes), flat_map_batch (process slices), output (one committer). Measured
traps behind each choice:

- a DynamicSink loses data with recovery on, so the sink is a FixedPartitionedSink with one part;
- a partition that disappears panics on resume, so partitions are lanes, never shards;
- `next_batch` runs on the worker's thread, so it only pops what a thread has fetched;
- a far `next_awake` stalls every other input, so it is at most a quarter of the epoch;
- `close()` also runs on exceptions, so nothing is flushed there: `snapshot()` commits.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.testing import run_main

from stream.clock import Clock, to_utc
from stream.slices import Slice

Result = TypeVar("Result")
Taken_contra = TypeVar("Taken_contra", contravariant=True)
HARD_EXIT_SECONDS = 25.0


class SliceLanes(Protocol):
    """Where slices come from: a fixed set of lanes that never block (`sources.lanes`)."""

    @property
    def names(self) -> Sequence[str]: ...

    def poll(self, lane: int) -> Slice | None: ...

    def has_shards(self, lane: int) -> bool: ...

    def is_finished(self, lane: int) -> bool:
        """A bounded lane (a replay) that will never yield again; live lanes never are."""
        ...


class Committer(Protocol[Taken_contra]):
    """Collects what an epoch produced and commits it in one go."""

    def add(self, results: Sequence[Taken_contra]) -> None: ...

    def commit(self) -> None: ...


@dataclass(slots=True)
class Stop:
    """A request to end: sources stop at the next poll, the open epoch is committed."""

    requested: bool = False

    def request(self) -> None:
        """Ask the dataflow to end."""
        self.requested = True


@dataclass(slots=True)
class Epoch:
    """The running epoch: how much payload may still be read in it, and when it began.

    Back-pressure in Bytewax acts only at epoch ends; inside one, queues are unbounded.
    """

    stop: Stop
    max_bytes: int
    clock: Clock
    credit: int = field(init=False)
    began: float = field(init=False)
    failure: BaseException | None = None
    is_over: bool = False

    def __post_init__(self) -> None:
        self.begin()

    def fail(self, error: BaseException) -> None:
        """A step failed: read no more, commit nothing more. The first failure counts."""
        self.failure = self.failure or error
        self.stop.request()

    def begin(self) -> None:
        """An epoch ended, the next one begins."""
        self.credit = self.max_bytes
        self.began = self.clock.monotonic()

    def age_seconds(self) -> float:
        """Time since the last epoch ended: grows without bound when a peer is frozen."""
        return self.clock.monotonic() - self.began


class _Step:
    """Around a step: its error is kept for `run_dataflow` to raise, and everything stops.

    Raised inside the dataflow it would end it too, but Bytewax then prints a panic of its own.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._epoch.fail(error)
        return True


class _LanePart(StatefulSourcePartition[Slice, None]):
    def __init__(self, lanes: SliceLanes, lane: int, epoch: Epoch, pause: timedelta) -> None:
        self._lanes, self._lane, self._epoch, self._pause = lanes, lane, epoch, pause
        self._awake: datetime | None = None

    def next_batch(self) -> Iterable[Slice]:
        if self._epoch.stop.requested or self._lanes.is_finished(self._lane):
            raise StopIteration
        item = self._poll() if self._epoch.credit > 0 else None
        if item is None:
            self._awake = self._later(1 if self._lanes.has_shards(self._lane) else 5)
            return []
        self._epoch.credit -= item.payload_bytes
        self._awake = None
        return [item]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> None:
        self._epoch.begin()

    def _poll(self) -> Slice | None:
        with _Step(self._epoch):
            return self._lanes.poll(self._lane)
        return None

    def _later(self, factor: int) -> datetime:
        return to_utc(self._epoch.clock.now_ns()).astimezone(UTC) + self._pause * factor


class _LaneSource(FixedPartitionedSource[Slice, None]):
    def __init__(self, build: Callable[[int], _LanePart], names: Sequence[str]) -> None:
        self._build, self._names = build, list(names)

    def list_parts(self) -> list[str]:
        return self._names

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LanePart:  # noqa: ARG002
        return self._build(self._names.index(for_part))


class _CommitPart(StatefulSinkPartition[Any, None]):
    def __init__(self, committer: Committer[Any], epoch: Epoch) -> None:
        self._committer, self._epoch = committer, epoch

    def write_batch(self, values: list[Any]) -> None:
        self._committer.add(values)

    def snapshot(self) -> None:
        if self._epoch.failure is None:
            with _Step(self._epoch):
                self._committer.commit()


class _CommitSink(FixedPartitionedSink[Any, None]):
    def __init__(self, committer: Committer[Any], epoch: Epoch) -> None:
        self._committer, self._epoch = committer, epoch

    def list_parts(self) -> list[str]:
        return ["committer"]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _CommitPart:  # noqa: ARG002
        return _CommitPart(self._committer, self._epoch)


def _guarded(
    process: Callable[[list[Slice]], Iterable[Result]], epoch: Epoch
) -> Callable[[list[Slice]], Iterable[tuple[str, Result]]]:
    """`process`, keyed for the sink; after a failure it does nothing any more."""

    def run(slices: list[Slice]) -> Iterable[tuple[str, Result]]:
        if epoch.failure is not None:
            return []
        with _Step(epoch):
            return [("committer", result) for result in process(slices)]
        return []

    return run


def build_dataflow(
    feed: str,
    lanes: SliceLanes,
    process: Callable[[list[Slice]], Iterable[Result]],
    committer: Committer[Result],
    *,
    epoch: Epoch,
    epoch_seconds: float,
) -> Dataflow:
    """The dataflow of one feed: lanes -> process -> one committer.

    `process` gets the slices of all lanes of one activation and returns results only when
    everything they name is durable. Payload never crosses a process, results do.
    """
    epoch.begin()
    pause = timedelta(seconds=min(epoch_seconds / 20, 0.05))
    flow = Dataflow(feed)
    source = _LaneSource(lambda lane: _LanePart(lanes, lane, epoch, pause), lanes.names)
    slices = op.input("slices", flow, source)
    results = op.flat_map_batch("process", slices, _guarded(process, epoch))
    op.output("commit", results, _CommitSink(committer, epoch))
    return flow


def run_dataflow(flow: Dataflow, epoch: Epoch, *, epoch_seconds: float) -> None:
    """Run one worker in this thread until the lanes end or a stop is requested.

    Raises: what a step raised. Nothing of its epoch was committed.
    """
    try:
        run_main(flow, epoch_interval=timedelta(seconds=epoch_seconds))  # type: ignore[no-untyped-call]
    finally:
        epoch.is_over = True
    if epoch.failure is not None:
        raise epoch.failure


def stop_on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT request a stop; a second one, or 25 s, ends the process hard.

    A thread is told through a pipe that the C handler writes to: Python handlers do not run while
    a cluster waits for its peers, or the main thread hangs in a call, and as PID 1 without a
    handler SIGTERM is ignored. `sigwait` would not do: native libraries start threads when they
    are imported, those do not have our mask, and the kernel may give a signal to any of them.
    """
    wanted = {signal.SIGTERM, signal.SIGINT}
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in wanted:
        signal.signal(number, lambda *_: None)
    # Our own threads inherit this: no call of theirs is interrupted.
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
        os.read(told, 1)
        stop.request()
        select.select([told], [], [], HARD_EXIT_SECONDS)
        sys.stderr.write("headrace: the stop took too long, leaving now; a restart resumes.\n")
        os._exit(1)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def watch_epochs(epoch: Epoch, limit_seconds: float) -> None:
    """End the process when no epoch ended for too long: a frozen peer stalls without an error.

    Watches until `run_dataflow` returns: a process may run something else afterwards.
    """

    def watch() -> None:
        while epoch.age_seconds() < limit_seconds:
            epoch.clock.sleep(min(limit_seconds / 5, 5.0))
            if epoch.is_over:
                return
        sys.stderr.write(
            f"headrace: no epoch ended for {limit_seconds:.0f} s; leaving so that a restart can "
            "resume from the committed positions.\n"
        )
        os._exit(1)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
