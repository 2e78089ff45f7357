"""Replay recorded slices into a table beside the live one: look first, touch nothing.

The side table has a ledger of its own, so a second replay of the same range changes nothing, and
`headrace query` can join both tables. Duplicates are decided against the live table, as they were
live; Bronze is shared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from batch.replay.choose import Choice
from batch.replay.dedup import ReplayDedup
from batch.replay.report import ReplayReport
from batch.replay.reprocess import BronzeSource, Collector, Progress, Tee
from stream.clock import SYSTEM_CLOCK, Clock
from stream.dedup import Distinct
from stream.engine import Epoch, SliceLanes, Stop, build_dataflow, run_dataflow
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.feeds.contract import Contract
from stream.flow import Road, RoadCommitter
from stream.lake.connect import Lake
from stream.lake.entries import ObjectRef, SliceRecord
from stream.lake.history import SliceState
from stream.lake.ledger import Ledger
from stream.masking import open_masker, pin_masker
from stream.settings import Settings
from stream.slices import ShardPosition, ShardRef, Slice, is_after

EPOCH_SECONDS = 2.0


def replay_into(
    settings: Settings,
    lake: Lake,
    contract: Contract,
    span_ms: tuple[int, int],
    table: str,
    *,
    apply: bool = False,
    progress: Progress = lambda _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Replay the slices that arrived in `span_ms` = [from, to) into `table`.

    Raises: ConfigError (a name that is a feed's or no name, nothing arrived then), FatalError (a
    Bronze object is gone or changed).
    """
    check_table_name(table)
    began = clock.monotonic()
    report = ReplayReport(contract.feed, "bronze", table, apply)
    live, ledger = lake.ledger(contract.feed)
    entries = ledger.entries()
    choice = Choice(contract, entries)
    choice.choose(*span_ms)
    chosen = choice.take()
    new = _new_slices(lake, table, chosen)
    report.slices = report.changed_slices = len(new)
    report.records = sum(state.record.rows for state in new)
    if apply and new:
        dedup = ReplayDedup(contract, live, lake.store, choice.history, choice.parents)
        dedup.extend([s.record.slice_id for s in chosen], choice.history, kept={})
        landed = _land(
            settings,
            lake,
            contract,
            table,
            chosen=chosen,
            dedup=dedup,
            progress=progress,
            clock=clock,
        )
        names = {state.record.slice_id for state in new}
        report.count_new([record for record in landed if record.slice_id in names])
    report.seconds = round(clock.monotonic() - began, 3)
    return report


def check_table_name(table: str) -> None:
    """A side table's name. Raises: ConfigError for names that are taken or are no names."""
    taken = {*load_feeds(), "bars_1m"}
    if table in taken or not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", table):
        raise ConfigError(
            f"--into {table!r}: expected lower-case letters, digits and '_', and none of "
            f"{', '.join(sorted(taken))}. Without --into the live table is mended."
        )


def _new_slices(lake: Lake, table: str, chosen: Sequence[SliceState]) -> list[SliceState]:
    """The chosen slices that the side table lacks.

    Raises: ConfigError for a range that begins before, or leaves a hole behind, what it holds:
    its ledger would refuse it.
    """
    if table not in lake.catalog.names():
        return list(chosen)
    _, ledger = lake.ledger(table)
    begins: dict[str, ShardPosition] = {}
    for entry in ledger.entries():
        for shard, position in entry.positions.items():
            begins.setdefault(shard, position)  # as it was pinned
    held, first = ledger.head().positions, set()
    for state in chosen:
        shard, prev = str(state.record.shard), state.record.prev
        if shard in held and shard not in first:
            is_before = is_after(begins[shard].sequence_number, prev)
            if is_before or is_after(prev, held[shard].sequence_number):
                raise ConfigError(
                    f"table {table} holds {shard} from {begins[shard].sequence_number} to "
                    f"{held[shard].sequence_number}; this range begins after {prev}. Choose a "
                    "range that begins inside or goes on behind it, or another table."
                )
        first.add(shard)
    return [
        state
        for state in chosen
        if is_after(
            state.record.last,
            held.get(str(state.record.shard), ShardPosition(None)).sequence_number,
        )
    ]


class _SideDedup:
    """Decides like the live road: the side table's shards are the live ones under its name."""

    def __init__(self, dedup: ReplayDedup, feed: str) -> None:
        self._dedup, self._feed = dedup, feed

    def drop_duplicates(
        self, shard: ShardRef, first: str | None, newest_arrival_ns: int, rows: pa.Table
    ) -> Distinct:
        """See `dedup.RowFilter`."""
        live = replace(shard, feed=self._feed)
        return self._dedup.drop_duplicates(live, first, newest_arrival_ns, rows)

    def forget(self, shard: ShardRef) -> None:
        """Nothing ends in a side table."""


class _SideLanes:
    """Recorded slices, renamed to the side table."""

    def __init__(self, lanes: SliceLanes, table: str) -> None:
        self._lanes, self._table = lanes, table
        self.names = lanes.names

    def poll(self, lane: int) -> Slice | None:
        found = self._lanes.poll(lane)
        return found and replace(found, shard=replace(found.shard, feed=self._table))

    def has_shards(self, lane: int) -> bool:
        return self._lanes.has_shards(lane)

    def is_finished(self, lane: int) -> bool:
        return self._lanes.is_finished(lane)


def _land(
    settings: Settings,
    lake: Lake,
    contract: Contract,
    table: str,
    *,
    chosen: Sequence[SliceState],
    dedup: ReplayDedup,
    progress: Progress,
    clock: Clock,
) -> list[SliceRecord]:
    """Run the slices into the side table, committing as the live road does."""
    side = replace(contract, feed=table, has_bars=False)
    masker = open_masker(settings, lake, side)
    handle = lake.table(side)
    pin_masker(handle, masker)
    ledger = Ledger(table, handle, lake.store, clock)
    ledger.start(_starts(chosen))
    bronze = {state.record.slice_id: state.record.bronze for state in chosen}
    road = Road(
        side,
        lake.store,
        handle.arrow_schema,
        _SideDedup(dedup, contract.feed),
        settings.upload_threads,
        masker=masker,
        keep_bronze=lambda item: _known(bronze[item.id]),
    )
    seen = Collector(len(chosen), progress)
    committer = Tee(seen, RoadCommitter(ledger))
    lanes = _SideLanes(BronzeSource(lake.store).lanes(chosen), table)
    epoch = Epoch(Stop(), settings.epoch_max_bytes, clock)
    flow = build_dataflow(
        table, lanes, road.process, committer, epoch=epoch, epoch_seconds=EPOCH_SECONDS
    )
    try:
        run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
    finally:
        road.close()
    return [result.record for result in seen.results]


def _starts(chosen: Sequence[SliceState]) -> dict[str, ShardPosition]:
    """Each shard of the side table begins before its first chosen slice."""
    starts: dict[str, ShardPosition] = {}
    for state in chosen:
        starts.setdefault(str(state.record.shard), ShardPosition(state.record.prev))
    return starts


def _known(bronze: ObjectRef | None) -> ObjectRef:
    assert bronze is not None
    return bronze
