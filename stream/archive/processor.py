"""The record processor that the Kinesis Client Library calls: one object per shard and owner.

Speaks the library's third interface (initialize, process_records, lease_lost, shard_ended,
shutdown_requested) to whichever coordinator carries it. The rules, in order of weight:

- A position is checkpointed only at the end of a slice, and only after its object is durable. What
  was read beyond is read again by the next owner, who cuts the same slices.
- The library skips a batch whose processing failed. So a failure ends this processor for good,
  and the process with it: nothing behind the failure is archived or checkpointed.
- Nothing is written or checkpointed at a shutdown: the open slice is the next owner's.
- While Bronze or the lease table does not answer, the call waits; the lease is renewed meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from stream.archive.shard import ArchiveTally, ShardArchiver
from stream.clock import Clock, now_ms
from stream.errors import FatalError, RetryableError
from stream.sources.kinesis_parser import build_records

log = logging.getLogger(__name__)

T = TypeVar("T")

QUIET_READS = 5
"""An open window at the tip is cut when so many reads, and the grace, could have brought more: the
road is then first where it runs as well, and its cut is found instead of made."""
MAX_BACK_OFF_SECONDS = 10.0
TRANSIENT = {"ThrottlingException", "KinesisClientLibDependencyException"}
"""Checkpoints that may succeed when they are tried again."""
LOST = "ShutdownException"
"""The checkpoint came too late: another worker owns the shard."""


class Checkpointer(Protocol):
    """What the library hands over with every call."""

    def checkpoint(
        self, sequence_number: str | None = None, sub_sequence_number: int | None = None
    ) -> None: ...


class Place(Protocol):
    """Where shards are archived (implemented by `place.ArchivePlace`)."""

    @property
    def tally(self) -> ArchiveTally: ...

    def open_shard(self, shard: str, position: str | None) -> ShardArchiver: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the coordinators' libraries.

    `arrival_seconds`: a record's arrival time, s since the epoch, as fine as the library tells it.
    `checkpoint_error`: what a refused checkpoint raises; its `value` is the reason's name.
    """

    arrival_seconds: Callable[[Any], float]
    checkpoint_error: type[Exception]


@dataclass(slots=True)
class ArchiveRun:
    """What the shards of one process share: a request to stop, and the first failure."""

    stopping: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Nothing more is archived by this process; the first failure counts."""
        self.failure = self.failure or error
        self.stopping.set()


class _StoppedError(Exception):
    """Stop was requested while something was waited for: leave it to the next owner."""


class RecordProcessor:
    """Archives one shard for as long as this process owns it."""

    version = 3

    def __init__(
        self,
        place: Place,
        run: ArchiveRun,
        dialect: Dialect,
        *,
        grace_ms: int,
        poll_ms: int,
        clock: Clock,
    ) -> None:
        self._place, self._run, self._dialect, self._clock = place, run, dialect, clock
        self._quiet_ms = grace_ms + QUIET_READS * poll_ms
        self._lock = threading.Lock()
        self._shard = ""
        self._archiver: ShardArchiver | None = None
        self._checkpointer: Checkpointer | None = None
        self._checkpointed: str | None = None
        self._is_tip = self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the shard is not ours any more."""
        return self._is_over

    def initialize(self, initialize_input: Any) -> None:
        """Begin after the checkpoint; a word like TRIM_HORIZON means that there is none."""
        self._shard = shard = str(initialize_input.shard_id)
        found = str(initialize_input.sequence_number or "")
        position = found if found.isdecimal() else None
        with self._lock, self._dying():
            self._archiver = self._patiently(lambda: self._place.open_shard(shard, position))
            self._checkpointed = position
        log.info("%s: ours, %s", shard, f"after {position}" if position else "never archived")

    def process_records(self, process_records_input: Any) -> None:
        """Archive what the batch completes, then checkpoint there."""
        with self._lock, self._dying():
            if self._archiver is None:
                return
            self._checkpointer = process_records_input.checkpointer
            records = process_records_input.records
            self._is_tip = process_records_input.millis_behind_latest == 0
            if records:
                self._archiver.push(self._columns(records))
            self._settle()
            if self._is_tip:
                self._close_quiet()

    def tick(self) -> None:
        """Cut a window that went quiet, for a library that does not call with empty batches."""
        with self._lock, self._dying():
            if self._is_tip and self._archiver is not None:
                self._close_quiet()

    def lease_lost(self, lease_lost_input: Any) -> None:  # noqa: ARG002
        """Another worker owns the shard, or will: it reads again what was not checkpointed."""
        with self._lock:
            if self._archiver is not None:
                log.info("%s: given up, %d records left", self._shard, self._archiver.pending_rows)
            self._end()

    def shard_ended(self, shard_ended_input: Any) -> None:
        """Archive the rest; the checkpoint then lets the children begin."""
        with self._lock, self._dying():
            if self._archiver is None:
                return
            self._archiver.close()
            self._patiently(self._archiver.settle)
            self._checkpoint(shard_ended_input.checkpointer, None)
            self._end()
        log.info("%s: ended", self._shard)

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        """The process ends in order. Slices are durable and checkpointed already."""

    def _close_quiet(self) -> None:
        assert self._archiver is not None
        if self._archiver.pending_rows:
            self._archiver.close_quiet(now_ms(self._clock), self._quiet_ms)
            self._settle()

    def _settle(self) -> None:
        """Everything that is cut becomes durable, then the position may move."""
        archiver = self._archiver
        assert archiver is not None
        self._patiently(archiver.settle)
        if archiver.archived != self._checkpointed and self._checkpointer is not None:
            self._checkpoint(self._checkpointer, archiver.archived)
            self._checkpointed = archiver.archived

    def _checkpoint(self, checkpointer: Checkpointer, position: str | None) -> None:
        """Keep a position; None: the end of the shard."""

        def keep() -> None:
            try:
                if position is None:
                    checkpointer.checkpoint()
                else:
                    checkpointer.checkpoint(position, 0)
            except self._dialect.checkpoint_error as error:
                reason = str(getattr(error, "value", error))
                if reason == LOST:
                    raise _StoppedError from error
                if reason in TRANSIENT:
                    raise RetryableError(f"{self._shard}: checkpoint refused, {reason}") from error
                raise FatalError(
                    f"{self._shard}: the client library refused the checkpoint "
                    f"{position or 'SHARD_END'}: {reason}. Start the archiver again; if it stays "
                    "so, compare the lease table with the stream's shards."
                ) from error

        self._patiently(keep)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Repeat what may succeed later, until a stop is requested."""
        for pause in _pauses():
            try:
                return work()
            except RetryableError as error:
                log.warning("%s: %s", self._shard, error)
            if self._run.stopping.wait(pause):
                break
        raise _StoppedError

    @contextmanager
    def _dying(self) -> Iterator[None]:
        """Whatever fails inside is the end of this processor; only a stop is not told."""
        try:
            yield
        except _StoppedError:
            self._end()
            log.info("%s: given up", self._shard)
        except BaseException as error:
            self._end()
            self._run.fail(error)
            raise

    def _end(self) -> None:
        self._archiver, self._is_over = None, True

    def _columns(self, records: Sequence[Any]) -> pa.RecordBatch:
        """The library's records as the road's. Raises: FatalError for aggregated ones."""
        batch = build_records(
            [record.binary_data for record in records],
            [record.sequence_number for record in records],
            [record.partition_key for record in records],
            [self._dialect.arrival_seconds(record) for record in records],
        )
        parts = [r.sequence_number for r in records if r.sub_sequence_number]
        if parts or batch.num_rows != len(records):
            raise FatalError(
                f"{self._shard}: the producer's library (KPL) aggregated record "
                f"{parts[0] if parts else records[0].sequence_number}. The client library drops "
                "such a record without a word when a part of it was meant for another shard; the "
                "road keeps it, so their Bronze objects would differ. Let `headrace run` alone "
                "archive this stream."
            )
        return batch


def _pauses() -> Iterator[float]:
    """Seconds to wait after each failure, without end."""
    pause = 0.25
    while True:
        yield pause
        pause = min(2 * pause, MAX_BACK_OFF_SECONDS)
