"""Replay recorded slices of a range into the live table: compare, then replace what differs.

    choose slices ─▶ reprocess ─▶ compare ─┬─▶ nothing differs: done, nothing written
                         ▲                 └─▶ the dedup horizon after a change: more slices
                         └───────────────────┘        └─▶ ONE commit: old files out, new files in

Guarantees: the commit replaces exactly the rows of the changed slices, whatever the stream or
maintenance commit meanwhile; Bronze and positions never change; a second replay finds nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from batch.replay.choose import Choice
from batch.replay.compare import Compared, Comparison, compare, slice_keys
from batch.replay.dedup import ReplayDedup
from batch.replay.held import HeldFile, HeldFiles, Rewritten, check_complete, rewrite_others
from batch.replay.report import ReplayReport
from batch.replay.reprocess import Outcome, Progress, ReplaySource, Reprocess
from batch.replay.stores import ReplayStore
from stream.bar_keeper import open_bars
from stream.bars import MINUTE_NS
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import CommitConflictError
from stream.feeds.contract import Contract
from stream.lake.connect import Lake
from stream.lake.entries import Head, Rewrite
from stream.lake.history import SliceState
from stream.lake.layout import SilverKey
from stream.lake.ledger import Change, Ledger
from stream.lake.store import open_store
from stream.masking import open_masker, pin_masker
from stream.settings import Settings
from stream.silver import DAY_NS, EPOCH, slice_dictionary

ROUNDS = 20
NO_KEYS = (np.zeros(0, np.uint64), np.zeros(0, np.int64))
BATCH_SLICES = 256
"""So many slices are compared at a time: a day of them would hold gigabytes of footers."""


def replay_recorded(
    settings: Settings,
    lake: Lake,
    contract: Contract,
    span_ms: tuple[int, int],
    source: ReplaySource,
    *,
    apply: bool = False,
    progress: Progress = lambda _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Replay the slices whose arrivals intersect `span_ms` = [from, to).

    Args: source: what yields recorded slices again, Bronze or the stream.

    Raises: ConfigError (nothing arrived then, never started), FatalError (Bronze or Silver is
    not what the ledger says), CommitConflictError (a redrive changed the same slices meanwhile).
    """
    began = clock.monotonic()
    report = ReplayReport(contract.feed, source.name, contract.feed, apply)
    with tempfile.TemporaryDirectory(prefix="headrace-replay-") as folder:
        replay = _Replay(
            settings, lake, contract, source, folder=Path(folder), is_dry=not apply, clock=clock
        )
        try:
            replay.choice.choose(*span_ms)
            replay.settle(progress)
            if apply:
                report.commit = replay.commit(progress)
            replay.fill(report)
        finally:
            replay.close()
    if apply and (bars := open_bars(lake, contract, replay.ledger)):
        bars.catch_up()  # also when nothing differs: a replay may have been killed before this
    report.seconds = round(clock.monotonic() - began, 3)
    return report


class _Grew(Exception):  # noqa: N818 - a signal inside this module, never seen outside
    """Slices were committed that the replay has to look at first."""


class _Replay:
    """One replay's state."""

    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        contract: Contract,
        source: ReplaySource,
        *,
        folder: Path,
        is_dry: bool,
        clock: Clock,
    ) -> None:
        self._lake = lake
        self._folder = folder
        self._rewritten: dict[tuple[str, ...], Rewritten] = {}
        self._contract = contract
        # Two handles: reading through the one that commits would move it past its own plan.
        self._table, _ = lake.ledger(contract.feed)
        masker = open_masker(settings, lake, contract)
        if not is_dry:
            pin_masker(self._table, masker)
        self.ledger = Ledger(contract.feed, self._table, lake.store, clock)
        reader, self._reader = lake.ledger(contract.feed)
        entries = self._reader.entries()
        self.choice = Choice(contract, entries)
        history = self.choice.history
        rejects = {s.record.quarantine.path for s in history.values() if s.record.quarantine}
        self._store = ReplayStore(
            lake.store,
            open_store(f"file://{folder}/aside"),
            present=rejects.union(lake.store.relative(a) for a, _ in reader.data_files()),
            recorded={item.path for state in history.values() for item in state.silver},
            is_dry=is_dry,
        )
        self._dedup = ReplayDedup(contract, reader, lake.store, history, self.choice.parents)
        self._is_tail = False
        self._compared = Compared(
            self._table.arrow_schema,
            slice_dictionary(contract),
            contract.key,
            contract.event_time,
            frozenset(column.name for column in contract.pii_columns),
        )
        self._reprocess = Reprocess(
            contract,
            self._store,
            self._table.arrow_schema,
            self._dedup,
            source,
            masker=masker,
            max_bytes=settings.epoch_max_bytes,
            upload_threads=settings.upload_threads,
            clock=clock,
        )
        self._held = HeldFiles(lake.store, history)
        self._outcomes: list[Outcome] = []
        self._found = Comparison()

    def close(self) -> None:
        """End the upload threads."""
        self._reprocess.close()

    def settle(self, progress: Progress) -> None:
        """Reprocess what was chosen; then, of the slices that follow a change within the dedup
        horizon, those that hold a key which the replay added or took away.
        """
        self._table.refresh()  # once: what happens meanwhile is found before the commit
        self._catch_up(Head.of(self._table.properties))
        while chosen := self.choice.take():
            is_tail, self._is_tail = self._is_tail, True
            changed: set[str] = set()
            for at in range(0, len(chosen), BATCH_SLICES):
                batch = chosen[at : at + BATCH_SLICES]
                self._prepare(batch, is_tail=is_tail)
                outcomes = self._reprocess.run(batch, partial(_shift, progress, at, len(chosen)))
                if is_tail:
                    names = self._dedup.involved
                    outcomes = [o for o in outcomes if o.state.record.slice_id in names]
                changed |= self._take_in(outcomes)
            if len(self._found.changed_keys):
                self.choice.extend_after(changed)

    def _prepare(self, batch: Sequence[SliceState], *, is_tail: bool) -> None:
        """Tell the dedup of slices, and of the keys of those whose rows stay in Silver."""
        staying = batch if is_tail else [state for state in batch if state.dropped]
        held = self._held.find(self._table, staying)
        names = {state.record.slice_id for state in staying}
        keys = slice_keys(self._lake.store, [f.path for f in held], names, self._compared)
        self._dedup.extend(
            [state.record.slice_id for state in batch],
            self.choice.history,
            kept={name: keys.get(name, NO_KEYS) for name in names},
            changed_keys=self._found.changed_keys if is_tail else None,
        )

    def _take_in(self, outcomes: Sequence[Outcome]) -> set[str]:
        """Compare; what is unchanged leaves no file in memory or aside."""
        found = self._compare(outcomes)
        self._found.merge(found)
        for outcome in outcomes:
            is_changed = outcome.state.record.slice_id in found.changed
            self._outcomes.append(outcome if is_changed else outcome.without_files())
            if not is_changed:
                self._store.forget(item.path for item in outcome.result.record.silver)
        return found.changed

    def commit(self, progress: Progress) -> int | None:
        """Replace what differs; None if nothing does."""
        for _ in range(ROUNDS):
            try:
                entry = self.ledger.commit(self._plan)
            except _Grew:
                self.settle(progress)
            else:
                return entry.number if entry else None
        raise CommitConflictError(
            f"feed {self._contract.feed}: {ROUNDS} times in a row slices arrived within the dedup "
            "horizon while the replay was about to commit. Nothing was replaced; replay a range "
            "that ended longer ago, or stop the feed for the moment."
        )

    def fill(self, report: ReplayReport) -> None:
        """Counts for people."""
        records = [o.result.record for o in self._outcomes]
        report.slices, report.changed_slices = len(records), len(self._found.changed)
        report.count_records(records)
        report.count_days(
            [item for o in self._outcomes for item in o.state.silver],
            [item for r in records for item in r.silver],
        )
        report.rows_added, report.rows_removed = self._found.rows_added, self._found.rows_removed
        report.samples = self._found.samples[:10]
        report.restored = len(self._store.created)
        report.notes = self.choice.notes

    def _compare(self, outcomes: Sequence[Outcome]) -> Comparison:
        doubtful = [o.state for o in outcomes if not o.is_same]
        self.choice.check_unchanged(doubtful)
        held = self._held.find(self._table, doubtful)
        check_complete(held, doubtful)
        return compare(
            outcomes,
            [file.path for file in held],
            lake=self._lake.store,
            store=self._store,
            table=self._compared,
        )

    def _plan(self, head: Head) -> Change | None:
        """Against the state of the table that the commit is made on."""
        self._catch_up(head)
        if self.choice.has_more():
            raise _Grew
        changed = [o for o in self._outcomes if o.state.record.slice_id in self._found.changed]
        if not changed:
            return None
        self.choice.check_unchanged(o.state for o in changed)
        states = [o.state for o in changed]
        held = self._held.find(self._table, states)
        check_complete(held, states)
        new = {file.uri: file for o in changed for file in o.result.files}
        held = [file for file in held if file.address not in new]  # that day did not change
        kept = [self._rewrite_others(file) for file in held if file.others]
        rewrite = Rewrite(
            removed=tuple(file.path for file in held),
            written=tuple(other.reference for other in kept),
            rows=sum(other.reference.rows for other in kept),
            digest=",".join(other.digest for other in kept),
        )
        entry = replace(
            self.ledger.entry(head, "replay"),
            slices=tuple(o.result.record for o in changed),
            rewrites=(rewrite,) if held else (),
            event_spans=_event_spans(changed),
        )
        present = {address for address, _ in self._table.data_files()}
        add = [file for address, file in new.items() if address not in present]
        self._store.publish(self._lake.store.relative(file.uri) for file in add)
        return Change(entry, [*add, *(other.staged for other in kept)], [f.address for f in held])

    def _catch_up(self, head: Head) -> None:
        """Take in what others committed up to a state of the table."""
        if head.number > self.choice.number:
            self.choice.update(self._reader.entries(after=self.choice.number))

    def _rewrite_others(self, held: HeldFile) -> Rewritten:
        """Once for all attempts: a large file takes longer than the stream's next commit."""
        key = (held.path, *sorted(held.wanted))
        if key not in self._rewritten:
            self._rewritten[key] = rewrite_others(
                self._lake.store,
                held,
                self._table.arrow_schema,
                self._compared.dictionary,
                self._folder,
            )
        return self._rewritten[key]


def _shift(progress: Progress, begun: int, total: int, done: int, _: int) -> None:
    """A batch's progress as that of the whole."""
    progress(begun + done, total)


def _event_spans(changed: Sequence[Outcome]) -> tuple[tuple[int, int], ...]:
    """Event times of old and new rows, a span a day and slice, merged where they touch: a late
    row must not make one span of all the days between.
    """
    spans = []
    for outcome in changed:
        for record in (outcome.state.record, outcome.result.record):
            low, high = record.event_ns
            days = {SilverKey.parse(item.path).day for item in record.silver}
            spans += [(max(low, first), min(high, last)) for first, last in map(_day_span, days)]
        for item in (item for landed in outcome.state.redriven for item in landed.silver):
            spans.append(_day_span(SilverKey.parse(item.path).day))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + MINUTE_NS:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _day_span(day: date) -> tuple[int, int]:
    start = (day.toordinal() - EPOCH.toordinal()) * DAY_NS
    return start, start + DAY_NS - 1
