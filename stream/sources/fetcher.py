"""Fetch one shard in one thread: read ahead, cut slices, hand them to a lane.

Guarantees: every record of the shard after its start reaches exactly one slice, in order; cuts
that Bronze already holds are repeated, not made anew; a retention loss is named; throttling and
outages are waited out with back-off; an expired cursor is re-opened after the last record read.
Reads wait while the lanes hold more than their byte credit. Not here: which shards, and when
(`lanes`).
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

import pyarrow as pa

from stream.clock import Clock, now_ms
from stream.errors import ImmutableObjectError, RetryableError
from stream.slices import ShardPosition, ShardRef, Slice, Slicer, SliceRule, Start, is_after
from stream.sources import ExpiredCursorError, ReadResult, StreamReader

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_ANSWER_BYTES = 1 << 20
SMALL_ANSWER_BYTES = 64 << 10
MAX_BACK_OFF_SECONDS = 10.0


class SealedSlices(Protocol):
    """Slices that reached Bronze before (implemented by `bronze`)."""

    def find(
        self, shard: ShardRef, first_sequence_number: str, ts_arrival_ns: int
    ) -> pa.RecordBatch | None:
        """The records of the object that begins with this record, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Records between `after` and `first_kept` that retention removed before they were read."""

    shard: ShardRef
    after: str | None
    first_kept: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What one shard's thread is doing. `detail` explains a back-off or a failure.

    `read_ms`: when the service last answered. `tip_ms`: the newest time up to which everything
    that had arrived was read, up to `last_sequence_number`. `backlog_records`: about how many
    records lie between the reader and the tip, or are read and not yet cut.
    """

    shard: ShardRef
    lane: int
    state: str
    behind_ms: int | None = None
    last_sequence_number: str | None = None
    pending_rows: int = 0
    records: int = 0
    payload_bytes: int = 0
    detail: str = ""
    read_ms: int | None = None
    tip_ms: int | None = None
    backlog_records: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a shard is read. Kinesis allows 5 GetRecords/s per shard, shared by all readers."""

    poll_ms: int = 250
    grace_ms: int = 500
    reads_per_second: float = 5.0


class StopRequestedError(Exception):
    """Ends a fetching thread; never leaves it."""


class Credit:
    """Bytes that all shards together may have ready; a reader waits until there is room."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Reserve room for an answer that is being read. Raises: StopRequestedError."""
        with self._changed:
            while not self._is_closed and 0 < self.used_bytes > self.limit_bytes - size:
                self._changed.wait()
            if self._is_closed:
                raise StopRequestedError
            self.used_bytes += size
        try:
            yield
        finally:
            self.give_back(size)

    def take(self, size: int) -> None:
        """Count a slice that is ready; never waits."""
        with self._changed:
            self.used_bytes += size

    def give_back(self, size: int) -> None:
        """A slice was polled."""
        with self._changed:
            self.used_bytes -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Wake and end every waiting reader."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class ShardFetcher:
    """The work of one shard's thread; `run` returns when the shard has ended."""

    def __init__(
        self,
        shard: ShardRef,
        lane: int,
        start: Start,
        position: ShardPosition | None,
        *,
        rule: SliceRule,
        pace: Pace,
        reader: StreamReader,
        seals: SealedSlices,
        credit: Credit,
        stopping: threading.Event,
        deliver: Callable[[int, Slice], None],
        report_gap: Callable[[Gap], None],
        clock: Clock,
    ) -> None:
        self.shard, self.lane = shard, lane
        self.state, self.detail = "opening", ""
        self.behind_ms: int | None = None
        self.read_ms: int | None = None
        self.tip_ms: int | None = None
        self.records = self.payload_bytes = self.retries = self._waiting = 0
        self._start, self._position, self._pace = start, position, pace
        self._reader, self._seals, self._clock = reader, seals, clock
        self._credit, self._stopping = credit, stopping
        self._deliver, self._report_gap = deliver, report_gap
        committed = position.sequence_number if position else None
        self._slicer = Slicer(shard, committed, rule, is_held=True)
        self._sealed: pa.RecordBatch | None = None
        self._answer_bytes = FIRST_ANSWER_BYTES
        self._next_read = clock.monotonic()

    def status(self) -> ShardStatus:
        """A snapshot; the fields are read without a lock and may be one answer apart."""
        tip_ms = self.tip_ms  # before `seen`: whatever had arrived by then is in it
        pending = self._slicer.pending_rows
        return ShardStatus(
            self.shard,
            self.lane,
            self.state,
            self.behind_ms,
            self._slicer.seen,
            pending,
            self.records,
            self.payload_bytes,
            self.detail,
            self.read_ms,
            tip_ms,
            self._waiting + pending,
        )

    def run(self) -> None:
        """Read to the shard's end. Raises: StopRequestedError, FatalError, ConfigError."""
        self._check_retention()
        cursor: str | None = self._open(self._start)
        while cursor is not None:
            cursor = self._step(cursor)
        self._check_adoption_finished()
        self._send(self._slicer.end())
        self.state, self.behind_ms, self._waiting = "ended", 0, 0

    def _step(self, cursor: str) -> str | None:
        """One answer: read, cut, hand over; return the next cursor."""
        self._wait_for_turn()
        # The time before the call: the answer shows what had arrived by then, and a quiet window
        # judged by a later time could be cut before its last record was seen.
        asked_ms = now_ms(self._clock)
        try:
            answer = self._patiently(lambda: self._read(cursor))
        except ExpiredCursorError:
            return self._reopen()
        self._count(answer)
        self._send(self._slicer.push(answer.records))
        self._send(self._adopt())
        if answer.behind_ms == 0:
            self.tip_ms = asked_ms
            self._send(self._slicer.close_quiet(asked_ms, self._pace.grace_ms))
            if answer.cursor is not None and not self._reader.is_push:
                self._pause(self._pace.poll_ms / 1000)
        return answer.cursor

    def _read(self, cursor: str) -> ReadResult:
        self.state = "paused"  # until there is credit
        with self._credit.hold(self._answer_bytes):
            self.state = "reading"
            return self._reader.read(self.shard.shard, cursor)

    def _open(self, start: Start) -> str:
        return self._patiently(lambda: self._reader.open_shard(self.shard.shard, start))

    def _reopen(self) -> str:
        seen = self._slicer.seen
        return self._open(self._start if seen is None else Start("AFTER", sequence_number=seen))

    def _count(self, answer: ReadResult) -> None:
        size = int(answer.records.nbytes)
        self._answer_bytes = max(size, SMALL_ANSWER_BYTES)
        self.records += int(answer.records.num_rows)
        self.payload_bytes += size
        self.behind_ms, self.read_ms = answer.behind_ms, now_ms(self._clock)
        self._waiting = estimate_backlog(answer, self._waiting)
        self.state, self.detail = ("tip" if answer.behind_ms == 0 else "reading"), ""

    def _send(self, slices: list[Slice]) -> None:
        for item in slices:
            self._deliver(self.lane, item)

    def _adopt(self) -> list[Slice]:
        """Repeat the cuts that Bronze holds; the first slice that it does not hold ends this."""
        slices: list[Slice] = []
        while self._slicer.is_held and (head := self._slicer.head) is not None:
            if self._sealed is None:
                self._sealed = self._find_sealed(*head)
            if self._sealed is None:
                return slices + self._slicer.release()
            cut = self._slicer.cut_at(self._sealed["sequence_number"][-1].as_py())
            if cut is None:
                break
            check_same_records(cut, self._sealed)
            self._sealed = None
            slices.append(cut)
        return slices

    def _find_sealed(self, sequence_number: str, arrival_ns: int) -> pa.RecordBatch | None:
        return self._patiently(lambda: self._seals.find(self.shard, sequence_number, arrival_ns))

    def _check_adoption_finished(self) -> None:
        if self._sealed is not None and self._slicer.head is not None:
            raise ImmutableObjectError(
                f"{self.shard} ended after {self._slicer.seen}, but Bronze holds a slice of it up "
                f"to {self._sealed['sequence_number'][-1].as_py()}. The stream lost records or "
                "the object was edited. Do not delete it; see `headrace prove`."
            )

    def _check_retention(self) -> None:
        """Name the gap if records after the committed position were removed before we read them."""
        position = self._position
        if position is None or position.sequence_number is None:
            return
        retention_ms = self._patiently(lambda: self._reader.retention_ms)
        if position.arrival_ms + retention_ms >= now_ms(self._clock):
            return
        first = self._patiently(lambda: self._reader.first_sequence_number(self.shard.shard))
        if first is None or not is_after(first, position.sequence_number):
            return
        reason = (
            f"the committed position is older than the retention of {retention_ms // 3_600_000} h: "
            "records between may be lost"
        )
        gap = Gap(self.shard, position.sequence_number, first, reason)
        log.error("%s: gap after %s, first kept %s: %s", self.shard, gap.after, first, reason)
        self._report_gap(gap)

    def _wait_for_turn(self) -> None:
        if self._stopping.is_set():
            raise StopRequestedError
        if self._reader.is_push:
            return
        early = self._next_read - self._clock.monotonic()
        if early > 0:
            self._pause(early)
        self._next_read = self._clock.monotonic() + 1 / self._pace.reads_per_second

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise StopRequestedError

    def _patiently(self, action: Callable[[], T]) -> T:
        """Repeat what failed for a passing reason, for as long as it takes."""
        for attempt in range(1_000_000_000):
            try:
                return action()
            except RetryableError as error:
                self.state, self.detail = "backing_off", str(error)
                self.retries += 1
                log.log(
                    logging.WARNING if attempt in {0, 10} else logging.DEBUG,
                    "%s: try %d: %s",
                    self.shard,
                    attempt + 1,
                    error,
                )
                longest = min(0.25 * 2 ** min(attempt, 6), MAX_BACK_OFF_SECONDS)
                self._pause(longest * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")


def estimate_backlog(answer: ReadResult, before: int = 0) -> int:
    """About how many records wait behind an answer: its rate of arrival times its distance.

    0 at the tip; an answer that shows no rate leaves the estimate as it was `before`.
    """
    rows = answer.records.num_rows
    if not answer.behind_ms:
        return 0
    if rows < 2:
        return before
    arrivals = answer.records["ts_arrival_ns"]
    span_ms = (arrivals[rows - 1].as_py() - arrivals[0].as_py()) / 1e6
    return int(rows / span_ms * answer.behind_ms) if span_ms >= 1 else before


def check_same_records(cut: Slice, sealed: pa.RecordBatch) -> None:
    """Raises: ImmutableObjectError when Bronze's records are not the stream's."""
    if not cut.records.equals(sealed):
        raise ImmutableObjectError(
            f"Bronze's slice {cut.id} holds {describe(sealed)}, the stream now returns "
            f"{describe(cut.records)}. The source rewrote history or the object was edited. Do not "
            "delete it; compare both and see `headrace prove`."
        )


def describe(records: pa.RecordBatch) -> str:
    """Count and hash of records, for messages."""
    digest = sha256()
    for row in records.to_pylist():
        digest.update(repr(row).encode())
    return f"{records.num_rows} records (sha256 {digest.hexdigest()[:12]})"
