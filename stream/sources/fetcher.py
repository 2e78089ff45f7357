"""Fetch one shard, step by step: read ahead, cut slices, hand them to a lane.

Guarantees: every record of the shard after its start reaches exactly one slice, in order; cuts
that Bronze already holds are repeated, not made anew; a retention loss is named; throttling and
outages are waited out with back-off; an expired cursor is re-opened after the last record read.
Reads wait while the lanes hold more than their byte credit. A step never sleeps: it says how long
to wait, and `run` does, in a thread per shard. Not here: which shards, and when (`lanes`).
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import pyarrow as pa

from stream.clock import Clock, now_ms
from stream.errors import ImmutableObjectError, RetryableError
from stream.slices import ShardPosition, ShardRef, Slice, Slicer, SliceRule, Start, is_after
from stream.sources import ExpiredCursorError, ReadResult, StreamReader
from stream.sources.credit import Credit, StopRequestedError

log = logging.getLogger(__name__)

FIRST_ANSWER_BYTES = 1 << 20
SMALL_ANSWER_BYTES = 64 << 10
MAX_BACK_OFF_SECONDS = 10.0
CREDIT_SECONDS = 0.05
"""How soon a reader that waits for credit looks again when nobody wakes it."""


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


class ShardFetcher:
    """The work of one shard: call `step` until it has ended, or `run` in a thread."""

    def __init__(
        self,
        shard: ShardRef,
        lane: int,
        start: Start,
        position: ShardPosition | None,
        known_ms: int | None = None,
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
        """`known_ms`: everything that arrived before it was read already; None: as from now."""
        self.shard, self.lane = shard, lane
        self.state, self.detail = "opening", ""
        self.behind_ms: int | None = None
        self.read_ms: int | None = None
        self.tip_ms: int | None = None
        self.records = self.payload_bytes = self.retries = self._waiting = 0
        self._start, self._pace = start, pace
        self.known_ms = now_ms(clock) if known_ms is None else known_ms
        """Everything that arrived before it was read, and the shard had not ended by then."""
        self._is_doubtful = False
        self._reader, self._seals, self._clock = reader, seals, clock
        self._credit, self._stopping = credit, stopping
        self._deliver, self._report_gap = deliver, report_gap
        committed = position.sequence_number if position else None
        self._slicer = Slicer(shard, committed, rule, is_held=True)
        self._sealed: pa.RecordBatch | None = None
        self._answer_bytes = FIRST_ANSWER_BYTES
        self._next_read = clock.monotonic()
        self._next: Callable[[], float] = self._open
        self._attempt = 0
        self._cursor: str | None = None
        self._asked_ms = 0
        self._asked = 0.0
        self._head: tuple[tuple[str, int], float] | None = None
        self._answer: ReadResult | None = None

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
        while self.state != "ended":
            pause = self.step()
            if self.state == "paused":
                self._credit.wait_for(self._answer_bytes)
            elif self._stopping.wait(pause) if pause else self._stopping.is_set():
                raise StopRequestedError

    def step(self) -> float:
        """Do the next thing: at most one call to the stream or to Bronze. Never waits.

        Returns: seconds until the next step; until then nothing can be done. A step that failed
        for a passing reason is repeated, for as long as it takes.
        Raises: FatalError, ConfigError.
        """
        doing = self._next
        try:
            pause = doing()
        except RetryableError as error:
            return self._back_off(error)
        if self._next != doing:
            self._attempt = 0
        return pause

    def _go_on(self, doing: Callable[[], float], pause: float = 0.0) -> float:
        self._next = doing
        return pause

    def _open(self) -> float:
        seen = self._slicer.seen
        start = self._start if seen is None else Start("AFTER", sequence_number=seen)
        self._cursor = self._reader.open_shard(self.shard.shard, start)
        return self._go_on(self._take_turn)

    def _take_turn(self) -> float:
        if self._reader.is_push:
            return self._go_on(self._read)
        return self._go_on(self._begin_read, max(0.0, self._next_read - self._clock.monotonic()))

    def _begin_read(self) -> float:
        self._next_read = self._clock.monotonic() + 1 / self._pace.reads_per_second
        self._next = self._read
        return self._read()

    def _read(self) -> float:
        """One answer, as soon as there is credit for it."""
        assert self._cursor is not None
        if not self._credit.try_hold(self._answer_bytes):
            self.state = "paused"
            return CREDIT_SECONDS
        self.state = "reading"
        # The time before the call: the answer shows what had arrived by then, and a quiet window
        # judged by a later time could be cut before its last record was seen.
        self._asked_ms, self._asked = now_ms(self._clock), self._clock.monotonic()
        try:
            answer = self._reader.read(self.shard.shard, self._cursor)
        except ExpiredCursorError:
            return self._go_on(self._open)
        finally:
            self._credit.give_back(self._answer_bytes)
        self._count(answer)
        self._cursor, self._answer = answer.cursor, answer
        self._next = self._judge_loss
        return self._judge_loss()

    def _judge_loss(self) -> float:
        """Name the gap if records were removed between what we know and this answer.

        However we came to be late: a long outage, a frozen process, a backlog that grew for a day.
        Asked after the answer was read: what is removed later does not concern it.
        """
        answer = self._answer
        assert answer is not None
        retention_ms = self._reader.retention_ms
        margin_ms = retention_ms // 10  # for clocks that differ: being asked costs one call
        if self.known_ms + retention_ms - margin_ms < now_ms(self._clock):
            self._is_doubtful = True  # until a record, or the end, shows whether there is a gap
        if self._is_doubtful and (answer.records.num_rows or answer.cursor is None):
            self._find_gap(answer.records, retention_ms)
            self._is_doubtful = False
        self._know_of(answer)
        self._answer = None
        self._send(self._slicer.push(answer.records))
        self._next = self._adopt
        return self._adopt()

    def _find_gap(self, records: pa.RecordBatch, retention_ms: int) -> None:
        after = self._slicer.seen
        kept = self._reader.first_sequence_number(self.shard.shard)
        if kept is not None and not is_after(kept, after):
            return  # our last record is still there, and so is everything after it
        first = records["sequence_number"][0].as_py() if records.num_rows else None
        reason = (
            f"what was read last is older than the retention of {retention_ms // 3_600_000} h: "
            "records between may be lost"
        )
        log.error("%s: gap after %s, first kept %s: %s", self.shard, after, first, reason)
        self._report_gap(Gap(self.shard, after, first, reason))

    def _know_of(self, answer: ReadResult) -> None:
        """Up to when everything that arrived is read. The last answer of a shard says no more than
        its records: it ended, and its children began, at some time before.
        """
        if answer.behind_ms == 0 and answer.cursor is not None:
            self.known_ms = max(self.known_ms, self._asked_ms)
        elif answer.records.num_rows:
            newest_ms = answer.records["ts_arrival_ns"][-1].as_py() // 1_000_000
            self.known_ms = max(self.known_ms, newest_ms)

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

    def _adopt(self) -> float:
        """Repeat the cuts that Bronze holds; the first slice that it does not hold ends this."""
        while self._slicer.is_held and (head := self._slicer.head) is not None:
            if self._sealed is None:
                self._sealed = self._seals.find(self.shard, *head)
            if self._sealed is None:
                self._send(self._slicer.release())
                break
            cut = self._slicer.cut_at(self._sealed["sequence_number"][-1].as_py())
            if cut is None:
                break
            check_same_records(cut, self._sealed)
            self._sealed = None
            self._send([cut])
        return self._end_answer()

    def _end_answer(self) -> float:
        """What an answer means for the open slice, and when to ask again."""
        is_tip = self.behind_ms == 0
        if is_tip:
            self.tip_ms = self._asked_ms
            self._send(self._slicer.close_quiet(self._service_ms(), self._pace.grace_ms))
        if self._cursor is None:
            return self._end()
        pauses = is_tip and not self._reader.is_push
        return self._go_on(self._take_turn, self._pace.poll_ms / 1000 if pauses else 0.0)

    def _service_ms(self) -> int:
        """When we asked, by the service's clock: at least as long after the open slice's first
        record as we have held it. Ours may be hours behind, and the slice would wait for it.
        """
        head = self._slicer.head
        if head is None:
            return self._asked_ms
        if self._head is None or self._head[0] != head:
            self._head = head, self._clock.monotonic()
        held_ms = int((self._asked - self._head[1]) * 1000)
        return max(self._asked_ms, head[1] // 1_000_000 + held_ms)

    def _end(self) -> float:
        if self._sealed is not None and self._slicer.head is not None:
            raise ImmutableObjectError(
                f"{self.shard} ended after {self._slicer.seen}, but Bronze holds a slice of it up "
                f"to {self._sealed['sequence_number'][-1].as_py()}. The stream lost records or "
                "the object was edited. Do not delete it; see `headrace prove`."
            )
        self._send(self._slicer.end())
        self.state, self.behind_ms, self._waiting = "ended", 0, 0
        return 0.0

    def _back_off(self, error: RetryableError) -> float:
        attempt = self._attempt
        self.state, self.detail = "backing_off", str(error)
        self.retries += 1
        self._attempt += 1
        level = logging.WARNING if attempt in {0, 10} else logging.DEBUG
        log.log(level, "%s: try %d: %s", self.shard, attempt + 1, error)
        longest = min(0.25 * 2 ** min(attempt, 6), MAX_BACK_OFF_SECONDS)
        return float(longest * random.uniform(0.5, 1.0))


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
