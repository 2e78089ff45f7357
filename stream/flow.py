"""The road on one page: slices of a feed become Bronze, Silver, quarantine and one commit.

    lanes ─▶ slice ─┬─▶ Bronze object (exact bytes)
                    └─▶ decode ─▶ mask ─▶ dedup ─▶ Silver files ─┐
                          └─▶ quarantine                         ├─▶ ONE commit per epoch ─▶ bars
                                                                 ┘   (files, positions, ledger)

`Road.process` makes everything of a slice durable, `RoadCommitter.commit` makes it visible.
Live flows, replays and the benchmark run this same code; only the lanes differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from stream.bar_keeper import BarKeeper
from stream.bars import slice_totals
from stream.bronze import write_bronze
from stream.decode import decode_records
from stream.dedup import RowFilter
from stream.errors import ReplayedMeanwhileError
from stream.failpoints import failpoint
from stream.feeds.contract import Contract
from stream.lake.catalog import StagedFile
from stream.lake.entries import Entry, GapRecord, ObjectRef, SliceRecord
from stream.lake.ledger import Ledger
from stream.lake.store import Store
from stream.masking import Masker, row_mask
from stream.quarantine import RejectWatch, write_rejects
from stream.silver import share_texts, silver_rows, slice_files, write_silver
from stream.slices import ShardRef, Slice
from stream.telemetry.frontier import Reached
from stream.telemetry.logs import bind_log_context, log_context

AHEAD = 4
"""Slices whose uploads may be under way at once in one batch."""


@dataclass(frozen=True, slots=True)
class SliceResult:
    """A processed slice: everything it names is durable, nothing of it is visible yet."""

    record: SliceRecord
    files: tuple[StagedFile, ...] = ()
    totals: pa.Table | None = None
    gaps: tuple[GapRecord, ...] = ()
    """From a process that does not commit (`member.pass_on`), as the parents."""
    parents: tuple[str, ...] | None = None


@dataclass(slots=True)
class Tally:
    """What this process has done since it started: for status lines and metrics."""

    slices: int = 0
    records: int = 0
    messages: int = 0
    payload_bytes: int = 0
    silver_rows: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    commits: int = 0
    ledger_number: int = 0
    newest_arrival_ms: int = 0
    newest_event_ms: int = 0
    newest_commit_ms: int = 0
    conflicts: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    bytes_written: dict[str, int] = field(default_factory=dict)

    def count_slice(self, record: SliceRecord) -> None:
        """Add one committed slice."""
        self.slices += 1
        self.records += record.rows
        self.messages += record.messages
        self.payload_bytes += record.payload_bytes
        self.silver_rows += record.silver_rows
        self.duplicates += record.duplicates
        self.newest_arrival_ms = max(self.newest_arrival_ms, record.arrival_ns[1] // 1_000_000)
        self.newest_event_ms = max(self.newest_event_ms, record.event_ns[1] // 1_000_000)
        _add(self.rejected, record.rejected)
        _add(self.ignored, record.ignored)
        _add(self.bytes_written, _bytes_written(record))

    def count_commit(self, entry: Entry) -> None:
        """Add one landed commit."""
        self.commits += 1
        for gap in entry.gaps:
            _add(self.gaps, {gap.kind: 1})
        self.ledger_number = entry.number
        self.newest_commit_ms = entry.committed_ms


@dataclass(frozen=True, slots=True)
class Begun:
    """When an observed piece of work began, and its trace if it is traced."""

    at_ns: int = 0
    trace_id: str | None = None
    span: Any = None


class Observer(Protocol):
    """Told what the road does, by the dataflow's own thread: it neither waits nor fails."""

    def begin_slice(self, item: Slice) -> Begun: ...

    def end_slice(self, begun: Begun, record: SliceRecord) -> None:
        """The slice is durable, and not yet visible."""
        ...

    def begin_commit(self) -> Begun: ...

    def end_commit(self, begun: Begun, entry: Entry | None, tally: Tally) -> None:
        """The commit landed; None: there was nothing to commit. Bars come after it."""
        ...


class Unobserved:
    """Nobody looks: replays, benchmarks, and flows without metrics."""

    _NOTHING = Begun()

    def begin_slice(self, item: Slice) -> Begun:  # noqa: ARG002
        return self._NOTHING

    def end_slice(self, begun: Begun, record: SliceRecord) -> None: ...

    def begin_commit(self) -> Begun:
        return self._NOTHING

    def end_commit(self, begun: Begun, entry: Entry | None, tally: Tally) -> None: ...


class Road:
    """Processes the slices of one feed in one process."""

    def __init__(
        self,
        contract: Contract,
        store: Store,
        schema: pa.Schema,
        dedup: RowFilter,
        upload_threads: int = 8,
        *,
        masker: Masker | None = None,
        for_bars: bool = True,
        keep_bronze: Callable[[Slice], ObjectRef] | None = None,
        observer: Observer | None = None,
        uploads: Executor | None = None,
    ) -> None:
        """`masker`: required of feeds with personal data. `for_bars`: also sum each slice for
        `bars_1m`, if the feed has bars. `keep_bronze`: where a slice's records are kept already
        (an extract); None writes them to Bronze. `uploads`: who makes objects durable; None:
        threads of its own.
        """
        self.reached: dict[str, Reached] = {}
        """Per shard, the last record that is durable in Bronze."""
        self._observer = observer or Unobserved()
        self._contract = contract
        self._store = store
        self._schema = schema
        self._dedup = dedup
        self._keep_bronze = keep_bronze or partial(write_bronze, store)
        self._for_bars = for_bars and contract.has_bars
        self._mask = row_mask(contract, masker)
        self._watch = RejectWatch(contract.rejects, quotes_messages=not contract.pii_columns)
        self._pool = uploads or ThreadPoolExecutor(
            upload_threads, "upload", partial(bind_log_context, feed=contract.feed)
        )

    def process(self, slices: Sequence[Slice]) -> list[SliceResult]:
        """Make slices durable. Uploads of one slice overlap with the work on the next few."""
        results: list[SliceResult] = []
        begun: deque[Callable[[], SliceResult]] = deque()
        for item in slices:
            begun.append(self._observed(item))
            if len(begun) == AHEAD:  # more would only hold memory
                results.append(begun.popleft()())
        return results + [finish() for finish in begun]

    def close(self) -> None:
        """End the upload threads; nothing is pending between calls of `process`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _observed(self, item: Slice) -> Callable[[], SliceResult]:
        """`_begin`, told to the observer; log lines of both halves name the slice."""
        begun = self._observer.begin_slice(item)
        names = {"shard": item.shard.shard, "slice": item.id, "trace_id": begun.trace_id}
        with log_context(**names):
            finish = self._begin(item)

        def finish_observed() -> SliceResult:
            with log_context(**names):
                result = finish()
            _reach(self.reached, result.record)
            self._observer.end_slice(begun, result.record)
            return result

        return finish_observed

    def _begin(self, item: Slice) -> Callable[[], SliceResult]:
        if not item.rows:
            self._dedup.forget(item.shard)
            return lambda: SliceResult(_record(item))
        failpoint("slice-read")
        bronze = self._pool.submit(self._keep_bronze, item)
        decoded = decode_records(self._contract, item.records)
        self._watch.check(item, decoded.messages, decoded.rejected, decoded.rejects)
        texts_shared = share_texts(self._contract, self._mask(decoded.rows))
        distinct = self._dedup.drop_duplicates(
            item.shard, item.first, item.arrival_ns[1], texts_shared
        )
        rows = silver_rows(self._contract, item, distinct)
        files = slice_files(self._contract, item, rows, self._schema)
        silver = [self._pool.submit(write_silver, self._store, file) for file in files]
        quarantine = self._pool.submit(write_rejects, self._store, item, decoded.rejects)
        totals = slice_totals(rows) if self._for_bars else None

        def finish() -> SliceResult:
            written = [future.result() for future in silver]
            record = _record(
                item,
                bronze=bronze.result(),
                silver=tuple(reference for reference, _ in written),
                quarantine=quarantine.result(),
                messages=decoded.messages,
                silver_rows=rows.num_rows,
                duplicates=distinct.duplicates,
                ignored=decoded.ignored,
                rejected=_reasons(decoded.rejects),
                event_ns=_event_range(rows, self._contract.event_time),
            )
            failpoint("slice-durable")
            return SliceResult(record, tuple(staged for _, staged in written), totals)

        return finish


class RoadCommitter:
    """Commits what an epoch produced: one ledger entry, one Iceberg transaction, then bars."""

    def __init__(
        self,
        ledger: Ledger,
        bars: BarKeeper | None = None,
        take_gaps: Callable[[], Sequence[GapRecord]] = tuple,
        *,
        on_commit: Callable[[Tally], None] = lambda _: None,
        parents_of: Callable[[ShardRef], tuple[str, ...]] = lambda _: (),
        horizon: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`horizon`: how far back the dedup looks, ns (`dedup.horizon_ns`); None: without bound."""
        self._parents_of = parents_of
        self._horizon = horizon
        self._replayed_ns: int | None = None
        self._ledger = ledger
        self._bars = bars
        self._take_gaps = take_gaps
        self._on_commit = on_commit
        self._pending: list[SliceResult] = []
        self._observer = observer or Unobserved()
        self.reached: dict[str, Reached] = {}
        """Per shard, the last committed record."""
        self.bars_reached: dict[str, Reached] = {}
        """The same, as far as the bars went."""
        self.tally = Tally()

    @property
    def keeps_bars(self) -> bool:
        """Whether commits bring bars."""
        return self._bars is not None

    def add(self, results: Sequence[SliceResult]) -> None:
        """Collect results of the running epoch, in order per shard."""
        self._pending.extend(results)

    def commit(self) -> None:
        """Make the epoch's slices visible; those that another instance committed are dropped."""
        results, self._pending = self._pending, []
        begun = self._observer.begin_commit()
        with log_context(trace_id=begun.trace_id):
            entry = self._ledger.commit_slices(
                [(result.record, result.files) for result in results],
                [*self._take_gaps(), *(gap for result in results for gap in result.gaps)],
                _known_parents(results, self._parents_of),
                lambda others: self._check_replays(others, results),
            )
        self.tally.conflicts = self._ledger.conflicts
        if entry is not None:
            failpoint("commit-landed")
            for record in entry.slices:
                self.tally.count_slice(record)
            self.tally.count_commit(entry)
        for result in results:  # those that were dropped, another instance has committed
            _reach(self.reached, result.record)
        self._observer.end_commit(begun, entry, self.tally)
        if entry is None:
            self.bars_reached.update(self.reached)
            return
        landed = {record.slice_id for record in entry.slices}
        if self._bars is not None:
            with log_context(commit=str(entry.number)):
                self._bars.apply(
                    entry,
                    [
                        r.totals
                        for r in results
                        if r.totals is not None and r.record.slice_id in landed
                    ],
                )
            self.bars_reached.update(self.reached)
        self._on_commit(self.tally)

    def _check_replays(self, others: Sequence[Entry], results: Sequence[SliceResult]) -> None:
        """What was dropped as a duplicate was decided by rows that a replay has changed since.

        Raises: ReplayedMeanwhileError when that may concern these slices: a restart reads the
        rows as they are now. A replay of older slices than the horizon does not.
        """
        replayed = [s.arrival_ns[1] for e in others if e.kind == "replay" for s in e.slices]
        if replayed:  # for the commits to come, too: another shard may lag behind
            self._replayed_ns = max(self._replayed_ns or 0, *replayed)
        arrivals = [r.record.arrival_ns[0] for r in results if r.record.rows]
        if self._replayed_ns is None or not arrivals:
            return
        if self._horizon is None or self._replayed_ns >= min(arrivals) - self._horizon:
            raise ReplayedMeanwhileError(
                f"feed {self._ledger.feed}: a replay changed rows within the dedup horizon of the "
                "slices at hand. Nothing of them was committed; a restart decides them anew."
            )

    def finish(self) -> None:
        """A clean end: corrections that bars still wait for are applied."""
        if self._bars is not None:
            self._bars.flush()


def _known_parents(
    results: Sequence[SliceResult], parents_of: Callable[[ShardRef], tuple[str, ...]]
) -> Callable[[ShardRef], tuple[str, ...]]:
    """`parents_of`, unless a result brings them."""
    brought = {r.record.shard: r.parents for r in results if r.parents is not None}
    if not brought:
        return parents_of
    return lambda shard: brought[shard] if shard in brought else parents_of(shard)


def _record(item: Slice, **counts: object) -> SliceRecord:
    return SliceRecord(
        shard=item.shard,
        prev=item.prev,
        first=item.first,
        last=item.last,
        rows=item.rows,
        payload_bytes=item.payload_bytes,
        arrival_ns=item.arrival_ns,
        ends_shard=item.ends_shard,
        **counts,  # type: ignore[arg-type]
    )


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count


def _bytes_written(record: SliceRecord) -> dict[str, int]:
    """Bytes of a slice's objects, by the stage that they belong to."""
    single = {"bronze": record.bronze, "quarantine": record.quarantine}
    found = {stage: item.bytes for stage, item in single.items() if item is not None}
    return found | ({"silver": sum(f.bytes for f in record.silver)} if record.silver else {})


def _reach(reached: dict[str, Reached], record: SliceRecord) -> None:
    shard = str(record.shard)
    before = reached.get(shard)
    newest = max(before.arrival_ms if before else 0, record.arrival_ns[1] // 1_000_000)
    reached[shard] = Reached(record.last, newest)


def _reasons(rejects: pa.Table) -> dict[str, int]:
    counts = rejects["reason"].value_counts().to_pylist()
    return {count["values"]: count["counts"] for count in counts}


def _event_range(rows: pa.Table, event_time: str) -> tuple[int, int]:
    if not rows.num_rows:
        return (0, 0)
    import pyarrow.compute as pc  # noqa: PLC0415

    ends = pc.min_max(rows[event_time]).as_py()
    return (ends["min"], ends["max"])
