"""Land finished extracts in a feed's table: replayed as streams, through the live dataflow.

A run is a shard, so it lands once however often it is replayed and whatever crashes: committed
positions decide. Rows whose key is in Silver already are dropped (`dedup_range`). A dry run
decodes and counts, and writes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from batch.replay.report import ReplayReport
from batch.replay.reprocess import Progress, Tee
from batch.replay.stores import ReplayStore
from stream.bar_keeper import open_bars
from stream.clock import SYSTEM_CLOCK, Clock
from stream.dedup_range import KeyScan, NoKeys, RangeDedup
from stream.engine import Committer, Epoch, Stop, build_dataflow, run_dataflow
from stream.errors import ConfigError
from stream.feeds.contract import Contract
from stream.flow import Road, RoadCommitter, SliceResult
from stream.lake.connect import Lake
from stream.lake.entries import SliceRecord
from stream.lake.ledger import Ledger
from stream.lake.store import Store, open_store
from stream.masking import open_masker, pin_masker
from stream.settings import Settings
from stream.silver import SilverKeys
from stream.slices import ShardPosition
from stream.sources.extract import Manifest
from stream.sources.extract_lanes import STREAM_PREFIX, ExtractLanes, shard_of

EPOCH_SECONDS = 2.0
KEPT_POSITIONS = 20
"""Ended runs whose positions may stay in the table property before they are moved out."""


def replay_extracts(
    settings: Settings,
    lake: Lake,
    contract: Contract,
    manifests: Sequence[Manifest],
    *,
    apply: bool = False,
    progress: Progress = lambda _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Land runs in the feed's table; those that landed before yield nothing.

    Raises: ConfigError (a run of another feed), FatalError (a part is not what its manifest
    says), QuarantineLimitError (most items are refused: nothing more is committed).
    """
    _check_feed(contract, manifests)
    began = clock.monotonic()
    report = ReplayReport(contract.feed, "extract", contract.feed, apply)
    with _work_store(lake.store, apply=apply) as store:
        landing = _Landing(
            settings, lake, contract, manifests, store=store, apply=apply, clock=clock
        )
        records, report.commit = landing.run(progress)
    report.count_new(records)
    report.rows_by_shard = _rows_by_shard(manifests, records)
    report.seconds = round(clock.monotonic() - began, 3)
    return report


class _Landing:
    """One process' landing of some runs."""

    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        contract: Contract,
        manifests: Sequence[Manifest],
        *,
        store: Store,
        apply: bool,
        clock: Clock,
    ) -> None:
        self._settings, self._lake, self._contract, self._clock = settings, lake, contract, clock
        self._apply = apply
        is_there = apply or contract.feed in lake.catalog.names()
        masker = open_masker(settings, lake, contract)
        table = lake.table(contract) if is_there else None  # a dry run creates none
        if table is not None and apply:
            pin_masker(table, masker)
        self._ledger = Ledger(contract.feed, table, lake.store, clock) if table else None
        keys: KeyScan = NoKeys()
        if table is not None:
            keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
        self._total = sum(manifest.rows for manifest in manifests)
        self._lanes = ExtractLanes(
            lake.store, manifests, self._positions(manifests), settings.slice_rule
        )
        self._road = Road(
            contract,
            store,
            table.arrow_schema if table else contract.silver_schema,
            RangeDedup(contract, keys),
            settings.upload_threads,
            masker=masker,
            keep_bronze=self._lanes.part_of,
        )

    def run(self, progress: Progress) -> tuple[list[SliceRecord], int | None]:
        """Run the dataflow to its end; the records of what was processed, the last commit."""
        seen = _Seen(self._total, progress)
        if not self._apply or self._ledger is None:
            self._flow(seen)
            return seen.records, None
        bars = open_bars(self._lake, self._contract, self._ledger)
        if bars is not None:
            bars.catch_up()
        committer = RoadCommitter(self._ledger, bars)
        self._flow(Tee(seen, committer))
        committer.finish()
        self._close_runs(self._ledger)
        return seen.records, committer.tally.ledger_number or None

    def _flow(self, committer: Committer[SliceResult]) -> None:
        epoch = Epoch(Stop(), self._settings.epoch_max_bytes, self._clock)
        flow = build_dataflow(
            self._contract.feed,
            self._lanes,
            self._road.process,
            committer,
            epoch=epoch,
            epoch_seconds=EPOCH_SECONDS,
        )
        try:
            run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
        finally:
            self._road.close()

    def _positions(self, manifests: Sequence[Manifest]) -> dict[str, ShardPosition]:
        found: dict[str, ShardPosition] = {}
        if self._ledger is None:
            return found
        for stream in {shard_of(manifest).stream for manifest in manifests}:
            for shard, position in self._ledger.positions(stream).items():
                found[f"{stream}/{shard}"] = position
        return found

    def _close_runs(self, ledger: Ledger) -> None:
        """Move ended runs out of the table property once there are many."""
        ended = [
            shard
            for shard, position in ledger.head().positions.items()
            if position.is_ended and shard.startswith(STREAM_PREFIX)
        ]
        if len(ended) > KEPT_POSITIONS:
            ledger.close_shards(lambda shard, _: shard.startswith(STREAM_PREFIX))


@dataclass(slots=True)
class _Seen:
    """Counts what was processed; of each slice only its record is kept."""

    total: int
    progress: Progress
    records: list[SliceRecord] = field(default_factory=list)
    _done: int = 0

    def add(self, results: Sequence[SliceResult]) -> None:
        """Count results."""
        self.records += [result.record for result in results]
        self._done += sum(result.record.rows for result in results)
        self.progress(self._done, self.total)

    def commit(self) -> None:
        """Nothing: the committer beside it does."""


def _check_feed(contract: Contract, manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        if manifest.feed != contract.feed:
            raise ConfigError(
                f"extract {manifest.run_id} ({manifest.source} {manifest.dataset}) is of "
                f"{manifest.feed or 'no feed'}, not of {contract.feed}"
            )


def _rows_by_shard(manifests: Sequence[Manifest], records: Sequence[SliceRecord]) -> dict[str, int]:
    """New rows per run; a run that had landed before counts the items that it had then."""
    rows: dict[str, int] = {}
    for record in records:
        rows[record.shard.shard] = rows.get(record.shard.shard, 0) + record.silver_rows
    return {m.run_id: rows.get(m.run_id, m.rows) for m in manifests}


@contextmanager
def _work_store(lake: Store, *, apply: bool) -> Iterator[Store]:
    """The lake's store, or for a dry run one that puts everything aside."""
    if apply:
        yield lake
        return
    with tempfile.TemporaryDirectory(prefix="headrace-replay-") as folder:
        yield ReplayStore(lake, open_store(f"file://{folder}"), is_dry=True)
