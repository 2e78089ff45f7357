"""Cut a shard's records into slices: the item of the dataflow.

A slice is a run of consecutive records of one shard in one arrival window, capped by rows and
bytes. The cut is a pure function of (start position, records), so a restart from any slice
boundary cuts the same slices, writes the same objects and compares positions exactly. Pure: no
I/O, no clock. Who reads records is `sources`, who writes them is `bronze` and `silver`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.errors import OutOfOrderError
from stream.shard import SEQUENCE_DIGITS as SEQUENCE_DIGITS  # noqa: PLC0414 - part of this module
from stream.shard import ShardRef as ShardRef  # noqa: PLC0414
from stream.shard import pad_sequence as pad_sequence  # noqa: PLC0414

RECORD_SCHEMA = pa.schema(
    [
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("sequence_number", pa.string(), nullable=False),
        pa.field("sub_sequence", pa.int32(), nullable=False),
        pa.field("partition_key", pa.string()),
        pa.field("ts_arrival_ns", pa.int64(), nullable=False),
    ]
)
"""One row per user record, in shard order. `sub_sequence` counts the records of one aggregated
(KPL) Kinesis record and is 0 otherwise."""


@dataclass(frozen=True, slots=True)
class SliceRule:
    """Where a slice ends. Changing it never changes slices that already reached Bronze."""

    window_ms: int = 2_000
    max_rows: int = 50_000
    max_bytes: int = 8_000_000

    def __post_init__(self) -> None:
        for name in ("window_ms", "max_rows", "max_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"SliceRule.{name} must be > 0, found {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive records of one shard.

    `prev` is the position before the first record (None at the start of the shard), `last` the
    position after applying it. An empty slice with `ends_shard` says that a closed shard was
    read to its end; it has no Bronze object and `last == prev`.
    """

    shard: ShardRef
    prev: str | None
    records: pa.RecordBatch
    ends_shard: bool = False

    @property
    def rows(self) -> int:
        return int(self.records.num_rows)

    @property
    def first(self) -> str | None:
        return self.records["sequence_number"][0].as_py() if self.rows else self.prev

    @property
    def last(self) -> str | None:
        return self.records["sequence_number"][self.rows - 1].as_py() if self.rows else self.prev

    @property
    def payload_bytes(self) -> int:
        return int(pc.sum(pc.binary_length(self.records["payload"])).as_py() or 0)

    @property
    def arrival_ns(self) -> tuple[int, int]:
        """Lowest and highest arrival time, ns; (0, 0) for an empty slice."""
        if not self.rows:
            return (0, 0)
        ends = pc.min_max(self.records["ts_arrival_ns"])
        return (ends["min"].as_py(), ends["max"].as_py())

    @property
    def id(self) -> str:
        """Stable name: a function of shard and first sequence number alone."""
        return slice_id(self.shard, self.first if self.rows else None)


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading of a shard begins."""

    at: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "AFTER"]
    sequence_number: str | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ShardPosition:
    """The committed position of one shard, as the ledger holds it.

    `sequence_number` is None before the first commit; `start` then says where the first start
    pinned the beginning. `arrival_ms` is the newest arrival time applied (0 if none).
    """

    sequence_number: str | None
    is_ended: bool = False
    start: Start | None = None
    arrival_ms: int = 0


def slice_id(shard: ShardRef, first: str | None) -> str:
    """The id that a slice's rows carry; `first` is None for the slice that ends a shard."""
    return f"{shard}/end" if first is None else f"{shard}/{pad_sequence(first)}"


def is_after(sequence_number: str | None, position: str | None) -> bool:
    """Whether a sequence number lies behind a position of the same shard.

    >>> is_after("10", "9"), is_after("10", None), is_after("9", "10")
    (True, True, False)
    """
    return pad_sequence(sequence_number) > pad_sequence(position)


def empty_records() -> pa.RecordBatch:
    """A batch with no record."""
    return pa.RecordBatch.from_pylist([], schema=RECORD_SCHEMA)


class Slicer:
    """Cut one shard's records as they arrive.

    However the records are split over `push` calls, the slices are the same (property-tested).
    The last open window is held back until a later record, a cap, `close_quiet` or `end`.
    A slicer that `is_held` cuts nothing by its rule: `cut_at` repeats cuts that were made before,
    until `release` hands over to the rule.
    """

    def __init__(
        self, shard: ShardRef, position: str | None, rule: SliceRule, *, is_held: bool = False
    ) -> None:
        self.shard = shard
        self.rule = rule
        self.is_held = is_held
        self._position = position
        self._seen = position
        self._pending: list[pa.RecordBatch] = []

    @property
    def pending_rows(self) -> int:
        """Records read but not yet in a slice."""
        return sum(batch.num_rows for batch in self._pending)

    @property
    def seen(self) -> str | None:
        """The last sequence number pushed: where reading goes on."""
        return self._seen

    @property
    def head(self) -> tuple[str, int] | None:
        """Sequence number and arrival (ns) of the record that the next slice begins with."""
        for batch in self._pending:
            if batch.num_rows:
                return batch["sequence_number"][0].as_py(), batch["ts_arrival_ns"][0].as_py()
        return None

    def push(self, records: pa.RecordBatch) -> list[Slice]:
        """Add records in shard order; return the slices that are now complete.

        Raises: OutOfOrderError when a sequence number does not increase. Records of one
        aggregated Kinesis record share a number and stay in one slice.
        """
        if not records.num_rows:
            return []
        self._check_order(records)
        self._pending.append(records)
        return [] if self.is_held else self._cut()

    def cut_at(self, last: str) -> Slice | None:
        """Cut after the record `last`, whatever the rule says; None until it was pushed.

        The slice holds every pending record up to `last`: if the stream skipped `last`, the
        slice ends before it, and comparing it with the recorded one shows that.
        """
        if not self.pending_rows or is_after(last, self._seen):
            return None
        pending = _concat(self._pending)
        padded = pc.utf8_lpad(pending["sequence_number"], SEQUENCE_DIGITS, "0")
        rows = pc.sum(pc.less_equal(padded, pad_sequence(last))).as_py()
        self._pending = [pending.slice(rows)]
        return self._emit(pending.slice(0, rows))

    def release(self) -> list[Slice]:
        """Cut by the rule from here on; return the slices that are now complete."""
        self.is_held = False
        return self._cut() if self.pending_rows else []

    def _cut(self) -> list[Slice]:
        pending = _concat(self._pending)
        starts = list(_cut_points(pending, self.rule))
        slices = [self._emit(pending.slice(a, b - a)) for a, b in pairwise(starts)]
        self._pending = [pending.slice(starts[-1])]
        return slices

    def close_quiet(self, now_ms: int, grace_ms: int) -> list[Slice]:
        """At the tip of the shard: emit the open window once it and the grace have passed."""
        if self.is_held or not self.pending_rows:
            return []
        pending = _concat(self._pending)
        window = pending["ts_arrival_ns"][0].as_py() // 1_000_000 // self.rule.window_ms
        if now_ms < (window + 1) * self.rule.window_ms + grace_ms:
            return []
        self._pending = []
        return [self._emit(pending)]

    def end(self) -> list[Slice]:
        """The shard is closed and read to its end: emit the rest and the end marker."""
        slices = [self._emit(_concat(self._pending))] if self.pending_rows else []
        self._pending = []
        return [*slices, Slice(self.shard, self._position, empty_records(), ends_shard=True)]

    def _emit(self, records: pa.RecordBatch) -> Slice:
        cut = Slice(self.shard, self._position, records)
        self._position = cut.last
        return cut

    def _check_order(self, records: pa.RecordBatch) -> None:
        padded = pc.utf8_lpad(records["sequence_number"], SEQUENCE_DIGITS, "0")
        first = padded[0].as_py()
        if self._seen is not None and not first > pad_sequence(self._seen):
            raise OutOfOrderError(_out_of_order(self.shard, self._seen, first))
        before, after = padded.slice(0, len(padded) - 1), padded.slice(1)
        steps = records["sub_sequence"].slice(1)
        good = pc.or_(
            pc.less(before, after), pc.and_(pc.equal(before, after), pc.greater(steps, 0))
        )
        if len(good) and not pc.all(good).as_py():
            at = good.to_pylist().index(False)
            raise OutOfOrderError(_out_of_order(self.shard, before[at].as_py(), after[at].as_py()))
        self._seen = records["sequence_number"][records.num_rows - 1].as_py()


def cut_slices(
    shard: ShardRef, position: str | None, records: pa.RecordBatch, rule: SliceRule, *, closed: bool
) -> list[Slice]:
    """Cut records in one go: the reference that the incremental `Slicer` must equal.

    Returns the slices in order; together with the held-back open window (none if `closed`)
    they hold every input record once.
    """
    slicer = Slicer(shard, position, rule)
    slices = slicer.push(records)
    return slices + slicer.end() if closed else slices


def _cut_points(records: pa.RecordBatch, rule: SliceRule) -> Iterator[int]:
    """Yield 0 and every index where a new slice starts.

    A slice ends where a record's arrival window is later than that of the slice's FIRST record:
    arrival times may go back (AWS promises no order), and a rule that looks only at records of
    the slice itself is the same wherever reading began.
    """
    windows = records["ts_arrival_ns"].to_numpy() // 1_000_000 // rule.window_ms
    sizes = np.cumsum(pc.binary_length(records["payload"]).to_numpy().astype(np.int64))
    joined = records["sub_sequence"].to_numpy() > 0
    start, count = 0, len(windows)
    while start < count:
        yield start
        end = _slice_end(windows, sizes, start, rule)
        while end < count and joined[end]:
            end += 1  # records of one aggregated record share a position: keep them together
        if end >= count:
            return
        start = end


def _slice_end(windows: np.ndarray, sizes: np.ndarray, start: int, rule: SliceRule) -> int:
    """Index after the last record of the slice that begins at `start`; len(windows) if open."""
    count = len(windows)
    before = sizes[start - 1] if start else 0
    by_bytes = int(np.searchsorted(sizes, before + rule.max_bytes, side="right"))
    limit = min(start + rule.max_rows, max(by_bytes, start + 1), count)
    later = np.flatnonzero(windows[start:limit] > windows[start])
    return start + int(later[0]) if len(later) else limit


def _concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _out_of_order(shard: ShardRef, before: str, after: str) -> str:
    return (
        f"{shard}: sequence number {after} follows {before}; a shard's numbers must increase. "
        "The source returned records twice or out of order: restart the feed; if it happens "
        "again, compare the stream's shard list with the ledger."
    )
