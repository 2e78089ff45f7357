"""Bring one shard's records to Bronze: the road's slices, the road's objects.

Guarantees: however the records are split over `push` calls, the objects are those that the road
writes from the same start; a cut that Bronze holds already is repeated, not made anew; `archived`
only moves over slices whose object is durable. Nothing here knows the library that reads.
Not here: what calls this and when a position is kept (`processor`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stream.bronze import BronzeSeals, write_bronze
from stream.errors import ImmutableObjectError, SealedDifferentlyError
from stream.lake.store import Store
from stream.slices import (
    SEQUENCE_DIGITS,
    ShardPosition,
    ShardRef,
    Slice,
    Slicer,
    SliceRule,
    pad_sequence,
)
from stream.sources.fetcher import check_same_records


@dataclass(slots=True)
class ArchiveTally:
    """What an archiver has done. `adopted`: slices that Bronze held already with another end."""

    slices: int = 0
    records: int = 0
    payload_bytes: int = 0
    adopted: int = 0


class ShardArchiver:
    """The slices of one shard, from `position` on. Not thread-safe.

    `settle` may raise a RetryableError and then be called again: nothing is lost or done twice.
    """

    def __init__(
        self,
        shard: ShardRef,
        position: str | None,
        rule: SliceRule,
        store: Store,
        tally: ArchiveTally,
        *,
        begins: ShardPosition | None = None,
    ) -> None:
        """`begins`: for a shard that was never archived, where the road's ledger is; records up to
        there are passed over, their slices are not ours to cut.
        """
        self.shard = shard
        self.archived = position
        self._rule, self._store, self._tally = rule, store, tally
        self._begins = begins
        self._seals = BronzeSeals(store)
        start = position or (begins.sequence_number if begins else None)
        self._slicer = Slicer(shard, start, rule, is_held=True)
        self._kept: deque[pa.RecordBatch] = deque()
        self._cut: deque[Slice] = deque()
        self._sealed: pa.RecordBatch | None = None
        self._is_closed = self._is_end_cut = False

    @property
    def pending_rows(self) -> int:
        """Records taken whose slice is not in Bronze yet."""
        return self._slicer.pending_rows + sum(item.rows for item in self._cut)

    def push(self, records: pa.RecordBatch) -> None:
        """Take records in shard order; those that were taken before are passed over."""
        records = self._unseen(records)
        if not records.num_rows:
            return
        self._kept.append(records)
        self._cut.extend(self._slicer.push(records))

    def close_quiet(self, now_ms: int, grace_ms: int) -> None:
        """At the tip: the open window is cut once it and the grace have passed."""
        self._cut.extend(self._slicer.close_quiet(now_ms, grace_ms))

    def close(self) -> None:
        """The shard has ended and every record of it was pushed."""
        self._is_closed = True

    def settle(self) -> None:
        """Make every slice that is cut durable.

        Raises: RetryableError (call again), ImmutableObjectError (Bronze is not the stream).
        """
        while True:
            self._adopt()
            if self._is_closed and not self._is_end_cut:
                self._cut_end()
            if not self._cut:
                return
            self._write(self._cut[0])

    def _write(self, item: Slice) -> None:
        if item.rows:
            try:
                write_bronze(self._store, item)
            except SealedDifferentlyError:
                self._rewind()
                return
        self._cut.popleft()
        self._count(item)

    def _adopt(self) -> None:
        """Repeat the cuts that Bronze holds; the first slice that it does not hold ends this."""
        while self._slicer.is_held and (head := self._slicer.head) is not None:
            if self._sealed is None:
                self._sealed = self._seals.find(self.shard, *head)
            if self._sealed is None:
                self._cut.extend(self._slicer.release())
                return
            cut = self._slicer.cut_at(self._sealed["sequence_number"][-1].as_py())
            if cut is None:
                return
            check_same_records(cut, self._sealed)
            self._sealed = None
            self._tally.adopted += 1
            self._count(cut)

    def _rewind(self) -> None:
        """Another writer cut the slice at hand elsewhere: cut what we hold anew, after its lead."""
        self._slicer = Slicer(self.shard, self._cut[0].prev, self._rule, is_held=True)
        self._cut.clear()
        self._is_end_cut = False
        for records in self._kept:
            self._slicer.push(_after(records, self.archived))

    def _cut_end(self) -> None:
        if self._sealed is not None and self._slicer.head is not None:
            raise ImmutableObjectError(
                f"{self.shard} ended after {self._slicer.seen}, but Bronze holds a slice of it up "
                f"to {self._sealed['sequence_number'][-1].as_py()}. The stream lost records or "
                "the object was edited. Do not delete it; see `headrace prove`."
            )
        self._is_end_cut = True
        self._cut.extend(self._slicer.end())

    def _count(self, item: Slice) -> None:
        if not item.rows:
            return
        self.archived = item.last
        while self._kept and not _after(self._kept[0], self.archived).num_rows:
            self._kept.popleft()
        self._tally.slices += 1
        self._tally.records += item.rows
        self._tally.payload_bytes += item.payload_bytes

    def _unseen(self, records: pa.RecordBatch) -> pa.RecordBatch:
        begins = self._begins
        if begins is not None and begins.is_ended:
            return records.slice(0, 0)
        records = _after(records, self._slicer.seen)
        if begins is not None and begins.start is not None and begins.sequence_number is None:
            first_ns = (begins.start.timestamp_ms or 0) * 1_000_000
            late = pc.greater_equal(records["ts_arrival_ns"], first_ns)
            if pc.any(late).as_py():
                self._begins = None  # as a read from a time: from its first record on, all of them
                return records.slice(pc.index(late, value=True).as_py())
            return records.slice(0, 0)
        return records


def _after(records: pa.RecordBatch, position: str | None) -> pa.RecordBatch:
    """The records behind a position; sequence numbers increase."""
    if position is None or not records.num_rows:
        return records
    padded = pc.utf8_lpad(records["sequence_number"], SEQUENCE_DIGITS, "0")
    return records.slice(pc.sum(pc.less_equal(padded, pad_sequence(position))).as_py())
