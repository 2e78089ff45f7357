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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from stream.bar_keeper import BarKeeper
from stream.bars import slice_totals
from stream.bronze import write_bronze
from stream.decode import decode_records
from stream.dedup import RowFilter
from stream.errors import ReplayedMeanwhileError
from stream.feeds.contract import Contract
from stream.lake.catalog import StagedFile
from stream.lake.entries import Entry, GapRecord, ObjectRef, SliceRecord
from stream.lake.ledger import Ledger
from stream.lake.store import Store
from stream.masking import Masker, row_mask
from stream.quarantine import RejectWatch, write_rejects
from stream.silver import silver_rows, slice_files
from stream.slices import ShardRef, Slice

AHEAD = 4
"""Slices whose uploads may be under way at once in one batch."""


@dataclass(frozen=True, slots=True)
class SliceResult:
    """A processed slice: everything it names is durable, nothing of it is visible yet."""

    record: SliceRecord
    files: tuple[StagedFile, ...] = ()
    totals: pa.Table | None = None


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
    newest_commit_ms: int = 0

    def count_slice(self, record: SliceRecord) -> None:
        """Add one committed slice."""
        self.slices += 1
        self.records += record.rows
        self.messages += record.messages
        self.payload_bytes += record.payload_bytes
        self.silver_rows += record.silver_rows
        self.duplicates += record.duplicates
        self.newest_arrival_ms = max(self.newest_arrival_ms, record.arrival_ns[1] // 1_000_000)
        for total, counts in ((self.rejected, record.rejected), (self.ignored, record.ignored)):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count

    def count_commit(self, entry: Entry) -> None:
        """Add one landed commit."""
        self.commits += 1
        self.ledger_number = entry.number
        self.newest_commit_ms = entry.committed_ms


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
    ) -> None:
        """`masker`: required of feeds with personal data. `for_bars`: also sum each slice for
        `bars_1m`, if the feed has bars. `keep_bronze`: where a slice's records are kept already
        (an extract); None writes them to Bronze.
        """
        self._contract = contract
        self._store = store
        self._schema = schema
        self._dedup = dedup
        self._keep_bronze = keep_bronze or partial(write_bronze, store)
        self._for_bars = for_bars and contract.has_bars
        self._mask = row_mask(contract, masker)
        self._watch = RejectWatch(contract.rejects, quotes_messages=not contract.pii_columns)
        self._pool = ThreadPoolExecutor(upload_threads, thread_name_prefix="upload")

    def process(self, slices: Sequence[Slice]) -> list[SliceResult]:
        """Make slices durable. Uploads of one slice overlap with the work on the next few."""
        results: list[SliceResult] = []
        begun: deque[Callable[[], SliceResult]] = deque()
        for item in slices:
            begun.append(self._begin(item))
            if len(begun) == AHEAD:  # more would only hold memory
                results.append(begun.popleft()())
        return results + [finish() for finish in begun]

    def close(self) -> None:
        """End the upload threads; nothing is pending between calls of `process`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, item: Slice) -> Callable[[], SliceResult]:
        if not item.rows:
            self._dedup.forget(item.shard)
            return lambda: SliceResult(_record(item))
        bronze = self._pool.submit(self._keep_bronze, item)
        decoded = decode_records(self._contract, item.records)
        self._watch.check(item, decoded.messages, decoded.rejected, decoded.rejects)
        distinct = self._dedup.drop_duplicates(
            item.shard, item.first, item.arrival_ns[1], self._mask(decoded.rows)
        )
        rows = silver_rows(self._contract, item, distinct)
        files = slice_files(self._contract, item, rows, self._schema)
        silver = [self._pool.submit(file.write, self._store) for file in files]
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
        self.tally = Tally()

    def add(self, results: Sequence[SliceResult]) -> None:
        """Collect results of the running epoch, in order per shard."""
        self._pending.extend(results)

    def commit(self) -> None:
        """Make the epoch's slices visible; those that another instance committed are dropped."""
        results, self._pending = self._pending, []
        entry = self._ledger.commit_slices(
            [(result.record, result.files) for result in results],
            self._take_gaps(),
            self._parents_of,
            lambda others: self._check_replays(others, results),
        )
        if entry is None:
            return
        landed = {record.slice_id for record in entry.slices}
        for record in entry.slices:
            self.tally.count_slice(record)
        self.tally.count_commit(entry)
        if self._bars is not None:
            self._bars.apply(
                entry,
                [r.totals for r in results if r.totals is not None and r.record.slice_id in landed],
            )
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


def _reasons(rejects: pa.Table) -> dict[str, int]:
    counts = rejects["reason"].value_counts().to_pylist()
    return {count["values"]: count["counts"] for count in counts}


def _event_range(rows: pa.Table, event_time: str) -> tuple[int, int]:
    if not rows.num_rows:
        return (0, 0)
    import pyarrow.compute as pc  # noqa: PLC0415

    ends = pc.min_max(rows[event_time]).as_py()
    return (ends["min"], ends["max"])
