"""Assemble and run one feed's live dataflow: what `headrace run FEED` and ECS start.

Opens the lake, pins where the first start begins, wires the lanes to the road, and runs until
a stop is requested. Everything that is decided here is wiring; the rules live in the parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stream.bar_keeper import open_bars
from stream.bronze import BronzeSeals
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.cluster import ALONE, Cluster
from stream.dedup import Dedup, horizon_ns
from stream.engine import Epoch, Stop, build_dataflow, run_dataflow, watch_epochs
from stream.feeds import load_feed
from stream.flow import Observer, Road, RoadCommitter, SliceResult, Tally
from stream.heartbeat import Heartbeat, pulse_path
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import GapRecord
from stream.lake.ledger import Ledger
from stream.lake.store import Store
from stream.masking import open_masker, pin_masker
from stream.member import CommittedWatch, pass_on
from stream.observe.table_watch import TableWatch
from stream.settings import Settings
from stream.silver import SilverKeys
from stream.slices import ShardPosition, ShardRef, Slice
from stream.sources import ShardInfo, StreamReader
from stream.sources.choose import open_reader
from stream.sources.lanes import Lanes, ShardStatus
from stream.sources.starts import parse_start
from stream.telemetry.frontier import Reached, ReadState, frontier_ms
from stream.telemetry.logs import log_context


def run_feed(
    settings: Settings,
    feed: str,
    *,
    stop: Stop,
    reader: StreamReader | None = None,
    on_commit: Callable[[Tally], None] = lambda _: None,
    observer: Observer | None = None,
    clock: Clock = SYSTEM_CLOCK,
    cluster: Cluster = ALONE,
) -> Tally:
    """Run a feed until `stop` is requested; return what was committed.

    Args: cluster: which part of the dataflow this process is; only process 0 commits. After an
    error, a process of a cluster must leave at once (`engine.run_dataflow`).

    Raises: ConfigError (no stream, no lake, no permission), FatalError (a person is needed),
    RetryableError (a restart will do: another instance was first, or a service is away).
    """
    started_ms = now_ms(clock)
    contract = load_feed(feed)
    lake = connect_lake(settings)
    source = reader or open_reader(settings, feed)
    masker = open_masker(settings, lake, contract)
    table = lake.table(contract)
    pin_masker(table, masker)
    ledger = Ledger(feed, table, lake.store, clock)
    if cluster.is_committer:
        pin_start(ledger, source, feed, settings.start, clock)
    lanes = _open_lanes(settings, feed, source, lake, clock=clock, cluster=cluster)
    bars = open_bars(lake, contract, ledger, leaves_batch=True) if cluster.is_committer else None
    if bars is not None:
        bars.catch_up()
    keys = SilverKeys(contract, lake.table(contract), lake.store, lanes.ancestors_of)
    dedup = Dedup(contract, keys)
    road = Road(
        contract,
        lake.store,
        table.arrow_schema,
        dedup,
        settings.upload_threads,
        masker=masker,
        observer=observer,
    )
    committer = RoadCommitter(
        ledger,
        bars,
        lambda: _gaps(lanes),
        on_commit=on_commit,
        parents_of=lanes.parents_of,
        horizon=horizon_ns(contract.dedup_minutes, contract.future_tolerance_ms),
        observer=observer,
    )
    _resume(road, committer, ledger)
    epoch = Epoch(stop, settings.epoch_max_bytes, clock)
    flow = build_dataflow(
        feed,
        lanes,
        _processing(road, lanes, cluster),
        committer,
        epoch=epoch,
        epoch_seconds=settings.epoch_seconds,
        cluster=cluster,
    )
    watch = TableWatch(table, source, settings.table_watch_seconds, clock)
    committed = CommittedWatch(
        lambda: ledger.head().positions, committer.reached, settings.epoch_seconds
    )
    body = _Body(epoch, road, committer, lanes, lake.store, watch, started_ms, cluster)
    pulse = Heartbeat(pulse_path(settings.home, feed, cluster.index), feed, body.beat, clock)
    watch_epochs(epoch, settings.stall_limit_seconds)
    pulse.start()
    if cluster.is_alone:
        lanes.start()
    else:  # process 0 has pinned where a first start begins by then
        epoch.on_meet = lanes.start
    if not cluster.is_committer:
        committed.start()
    watch.start()
    try:
        with log_context(feed=feed):
            run_dataflow(flow, epoch, epoch_seconds=settings.epoch_seconds, cluster=cluster)
        ending = threading.Thread(target=lanes.stop, name="stop-lanes")  # beside the last work
        ending.start()
        committer.finish()
        ending.join()
    finally:
        lanes.stop()
        road.close()
        watch.stop()
        committed.stop()
        pulse.stop()
    return committer.tally


def pin_start(
    ledger: Ledger, reader: StreamReader, feed: str, start: str, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Record where a stream's first start begins, so that a crash before the first commit
    does not move it. Does nothing once the stream has positions.
    """
    stream = str(reader.identity)
    if ledger.positions(stream):
        return
    positions = {
        str(ShardRef(feed, stream, shard.shard)): _first_position(shard, start, clock)
        for shard in reader.list_shards()
    }
    ledger.start(positions)


def _first_position(shard: ShardInfo, start: str, clock: Clock) -> ShardPosition:
    if start == "LATEST" and shard.is_closed:
        return ShardPosition(None, is_ended=True)
    return ShardPosition(None, start=parse_start(start, now_ms(clock)))


class _LedgerPositions:
    """Committed positions for the lanes, read through a table handle of their own: the lanes'
    listing thread and the committer must not share one. Opened when it is needed: in a process
    that does not commit, the first start is pinned by then.
    """

    def __init__(self, lake: Lake, feed: str, stream: str) -> None:
        self._lake, self._feed, self._stream = lake, feed, stream
        self._ledger: Ledger | None = None

    def read(self) -> Mapping[str, ShardPosition]:
        if self._ledger is None:
            self._ledger = self._lake.ledger(self._feed)[1]
        return self._ledger.positions(self._stream)


def _open_lanes(
    settings: Settings,
    feed: str,
    reader: StreamReader,
    lake: Lake,
    *,
    clock: Clock,
    cluster: Cluster,
) -> Lanes:
    return Lanes(
        feed,
        reader,
        _LedgerPositions(lake, feed, str(reader.identity)),
        BronzeSeals(lake.store),
        settings.slice_rule,
        lanes=settings.lanes,
        grace_ms=settings.grace_ms,
        poll_ms=settings.poll_ms,
        list_shards_seconds=settings.list_shards_seconds,
        start=settings.start,
        queue_bytes=settings.epoch_max_bytes // 4,
        clock=clock,
        only=cluster.own_lanes(settings.lanes),
    )


def _processing(
    road: Road, lanes: Lanes, cluster: Cluster
) -> Callable[[Sequence[Slice]], list[SliceResult]]:
    if cluster.is_committer:
        return road.process
    return pass_on(road.process, lambda: _gaps(lanes), lanes.parents_of)


def _gaps(lanes: Lanes) -> list[GapRecord]:
    return [GapRecord(gap.shard, gap.after, gap.first_kept, gap.reason) for gap in lanes.gaps()]


def _resume(road: Road, committer: RoadCommitter, ledger: Ledger) -> None:
    """What was committed before this start is durable in every stage."""
    for shard, position in ledger.head().positions.items():
        done = Reached(position.sequence_number, position.arrival_ms)
        for stage in (road.reached, committer.reached, committer.bars_reached):
            stage[shard] = done


@dataclass(frozen=True, slots=True)
class _Body:
    """What the pulse tells of: the parts of a running dataflow."""

    epoch: Epoch
    road: Road
    committer: RoadCommitter
    lanes: Lanes
    store: Store
    watch: TableWatch
    started_ms: int
    cluster: Cluster

    def beat(self) -> dict[str, object]:
        shards = self.lanes.status()
        return {
            "epoch_age_seconds": self.epoch.age_seconds(),
            "tally": self.committer.tally,
            "shards": shards,
            "started_ms": self.started_ms,
            "frontiers_ms": self._frontiers(shards),
            "requests": dict(self.store.requests),
            "retries": self.lanes.retries,
            "retention_ms": self.watch.retention_ms,
            "table": self.watch.facts() if self.cluster.is_committer else {},
            "parts": self.cluster.processes if self.cluster.is_on_one_machine else 1,
        }

    def _frontiers(self, shards: Sequence[ShardStatus]) -> dict[str, int]:
        """By stage. The shards were read first: what they had seen may be durable by now."""
        states = [
            ReadState(str(s.shard), s.last_sequence_number, s.tip_ms, s.state == "ended")
            for s in shards
            if s.state != "waiting"  # its parents come first
        ]
        stages = {"bronze": self.road.reached, "silver": self.committer.reached}
        if self.committer.keeps_bars:
            stages["bars"] = self.committer.bars_reached
        found = {s: frontier_ms(states, dict(r), self.started_ms) for s, r in stages.items()}
        return {stage: at for stage, at in found.items() if at is not None}
