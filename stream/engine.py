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

A cluster is n processes of one worker each. Every process reads its own lanes and makes what it
read durable; only results travel, to the one committer in process 0, whose `snapshot()` comes when
all processes ended the epoch. There is no re-join and no heartbeat: a process that fails leaves at
once, which ends its peers within a second; one that is frozen, cut off or missing is noticed by
the watchdog of every other (`watch_epochs`). Then all start again.
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
from bytewax.testing import cluster_main, run_main

from stream.clock import Clock, to_utc
from stream.cluster import ALONE, Cluster
from stream.errors import FatalError, PeerLostError
from stream.slices import Slice
from stream.sources.shares import part_names

Result = TypeVar("Result")
Taken_contra = TypeVar("Taken_contra", contravariant=True)
HARD_EXIT_SECONDS = 25.0
MEETING_LIMITS = 5
"""How many times as long as for an epoch the processes of a cluster wait for each other: one may
still be catching up."""


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
    has_met: bool = False
    """Whether the processes of a cluster found each other; one alone has nobody to wait for."""
    is_shared: bool = False
    on_meet: Callable[[], None] = lambda: None
    """Called once when the processes of a cluster have found each other."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the dataflow has returned or failed."""

    def __post_init__(self) -> None:
        self.begin()

    def fail(self, error: BaseException) -> None:
        """A step failed: read no more, commit nothing more. The first failure counts."""
        self.failure = self.failure or error
        self.stop.request()
        self.ended.set()

    def meet(self) -> None:
        """All processes are there, the first epoch begins."""
        self.begin()
        if not self.has_met:
            self.has_met = True
            self.on_meet()

    def begin(self) -> None:
        """An epoch ended, the next one begins."""
        self.credit = self.max_bytes
        self.began = self.clock.monotonic()

    def age_seconds(self) -> float:
        """Time since the last epoch ended: grows without bound when a peer is frozen."""
        return self.clock.monotonic() - self.began


class _Step:
    """Around a step: its error is kept for `run_dataflow` to raise, and everything stops.

    Raised inside the dataflow it would end it too, but Bytewax then prints a panic of its own, and
    in a cluster hides the error behind it.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._epoch.fail(error)
        if self._epoch.is_shared:
            # Going on would end the epoch, and another process would commit its share of it.
            threading.Event().wait()
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
    """Every process lists all parts and must build exactly those that it fetches for."""

    def __init__(
        self,
        build: Callable[[int], _LanePart],
        names: Sequence[str],
        cluster: Cluster,
        epoch: Epoch,
    ) -> None:
        self._build, self._epoch = build, epoch
        self._own = cluster.own_lanes(len(names))
        self._names = part_names(names, cluster.processes)

    def list_parts(self) -> list[str]:
        return self._names

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LanePart:  # noqa: ARG002
        lane = self._names.index(for_part)
        with _Step(self._epoch):
            if lane not in self._own:
                raise FatalError(
                    f"lane {lane} was given to a process that fetches for lanes {self._own}: the "
                    "engine shares parts in another way than `sources.shares` expects, so nobody "
                    "would read it. Is this Bytewax 0.21.1?"
                )
        self._epoch.meet()
        return self._build(lane)


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
    def __init__(self, committer: Committer[Any], epoch: Epoch, cluster: Cluster) -> None:
        self._committer, self._epoch, self._cluster = committer, epoch, cluster

    def list_parts(self) -> list[str]:
        return ["committer"]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _CommitPart:  # noqa: ARG002
        with _Step(self._epoch):
            if not self._cluster.is_committer:
                raise FatalError(
                    f"process {self._cluster.index} was chosen to commit, expected process 0: the "
                    "engine places its sink in another way than headrace expects, so bars and "
                    "gaps would be missing. Is this Bytewax 0.21.1?"
                )
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
    cluster: Cluster = ALONE,
) -> Dataflow:
    """The dataflow of one feed: lanes -> process -> one committer.

    `process` gets the slices of all lanes of one activation and returns results only when
    everything they name is durable. Payload never crosses a process, results do. `lanes` need to
    fetch for `cluster.own_lanes` alone; `committer` is used in one process alone.

    Raises: ConfigError when there are fewer lanes than processes.
    """
    epoch.is_shared = not cluster.is_alone
    epoch.begin()
    pause = timedelta(seconds=min(epoch_seconds / 20, 0.05))
    flow = Dataflow(feed)
    source = _LaneSource(
        lambda lane: _LanePart(lanes, lane, epoch, pause), lanes.names, cluster, epoch
    )
    slices = op.input("slices", flow, source)
    results = op.flat_map_batch("process", slices, _guarded(process, epoch))
    op.output("commit", results, _CommitSink(committer, epoch, cluster))
    return flow


def run_dataflow(
    flow: Dataflow, epoch: Epoch, *, epoch_seconds: float, cluster: Cluster = ALONE
) -> None:
    """Run one worker until the lanes end or a stop is requested; alone, it is this thread.

    Raises: what a step raised; nothing of its epoch was committed. PeerLostError when another
    process of the cluster is gone. After either, a process of a cluster must leave at once
    (`os._exit`): that is how its peers learn of it, and the engine's threads may still run.
    """
    interval = timedelta(seconds=epoch_seconds)
    try:
        if cluster.is_alone:
            run_main(flow, epoch_interval=interval)  # type: ignore[no-untyped-call]
        else:
            _run_in_cluster(flow, epoch, interval, cluster)
    finally:
        epoch.is_over = True
    if epoch.failure is not None:
        raise epoch.failure


def _run_in_cluster(flow: Dataflow, epoch: Epoch, interval: timedelta, cluster: Cluster) -> None:
    """In a thread beside this one, which stays free to leave: the worker of a failed step never
    returns, and neither does one that waits for peers that do not come.
    """
    worker = _Worker()

    def run() -> None:
        try:
            cluster_main(  # type: ignore[no-untyped-call]
                flow, list(cluster.addresses), cluster.index, epoch_interval=interval
            )
        except BaseException as error:  # noqa: BLE001 - a panic is no Exception; raised below
            worker.error = error
        finally:
            epoch.ended.set()

    threading.Thread(target=run, name="worker", daemon=True).start()
    while not epoch.ended.wait(0.1):
        if epoch.stop.requested and not epoch.has_met:
            return  # nothing was read yet
    if worker.error is not None and epoch.failure is None:
        raise PeerLostError(
            f"process {cluster.index} of {cluster.processes} lost another process of its cluster, "
            f"or cannot listen on {cluster.addresses[cluster.index]} ({worker.error}). Nothing of "
            "the epoch was committed; all of them start again from the committed positions."
        ) from worker.error


@dataclass(slots=True)
class _Worker:
    """What the worker's thread hands over."""

    error: BaseException | None = None


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
    """End the process when no epoch ended for too long: a frozen peer stalls without an error, and
    one that never comes is waited for without an end.

    Watches until `run_dataflow` returns: a process may run something else afterwards. The processes
    of a cluster are given `MEETING_LIMITS` times as long to meet.
    """

    def limit() -> float:
        return limit_seconds if epoch.has_met else limit_seconds * MEETING_LIMITS

    def watch() -> None:
        while epoch.age_seconds() < limit():
            epoch.clock.sleep(min(limit_seconds / 5, 5.0))
            if epoch.is_over:
                return
        what = "no epoch ended" if epoch.has_met else "another process of the cluster was missing"
        sys.stderr.write(
            f"headrace: {what} for {limit():.0f} s; leaving so that a restart can resume from the "
            "committed positions.\n"
        )
        os._exit(1)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
