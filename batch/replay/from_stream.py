"""Recorded slices out of the stream, while it still holds them: mends Bronze, byte for byte.

The records between two recorded positions are read again and cut exactly where the ledger says;
an object that is missing from Bronze is written again under its name, one that is there is
compared. Past retention the stream no longer holds them: a clear error, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from batch.replay.reprocess import ReplaySource
from batch.replay.stores import ReplayStore
from stream.bronze import write_bronze
from stream.clock import SYSTEM_CLOCK, Clock
from stream.engine import SliceLanes
from stream.errors import ConfigError, FatalError, PositionExpiredError, RetryableError
from stream.lake.entries import ObjectRef, SliceRecord
from stream.lake.history import SliceState
from stream.slices import Slice, Slicer, SliceRule, Start, is_after
from stream.sources import ExpiredCursorError, ReadResult, StreamReader
from stream.sources.ledger import is_extract_part

READ_TRIES = 8


class StreamSource(ReplaySource):
    """`ReplaySource` over a stream."""

    name = "kinesis"

    def __init__(self, reader: StreamReader, clock: Clock = SYSTEM_CLOCK) -> None:
        self._reader = reader
        self._clock = clock

    def lanes(self, states: Sequence[SliceState]) -> SliceLanes:
        """Raises: ConfigError for slices of an extract or of another life of the stream."""
        identity = str(self._reader.identity)
        for state in states:
            record = state.record
            if record.bronze is not None and is_extract_part(record.bronze.path):
                raise ConfigError(
                    f"slice {record.slice_id} came from an extract, not from the stream: replay "
                    "the range from Bronze (--source bronze)"
                )
            if record.shard.stream != identity:
                raise ConfigError(
                    f"slice {record.slice_id} came from another life of the stream (now "
                    f"{identity}): its records are only in Bronze (--source bronze)"
                )
        return _StreamLanes(self._reader, [state.record for state in states], self._clock)

    def keep(self, store: ReplayStore, state: SliceState, item: Slice) -> ObjectRef:
        """Compare with the object in Bronze, or write it again.

        Raises: ImmutableObjectError when Bronze holds other records than the stream, FatalError
        when the stream's are not those that the ledger recorded.
        """
        found = write_bronze(store, item)
        recorded = state.record.bronze
        if found != recorded:
            raise FatalError(
                f"{found.path}: the stream's records give sha256 {found.sha256[:16]}…, the ledger "
                f"recorded {recorded.sha256[:16] if recorded else 'no object'}…. Was another "
                "version of pyarrow at work? Restore the object from the bucket's versions."
            )
        return found


class _StreamLanes:
    """One bounded lane: shard after shard, each read once from its first wanted slice on."""

    names = ("stream",)

    def __init__(self, reader: StreamReader, records: Sequence[SliceRecord], clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._left = len(records)
        self._slices = self._read_all(records)

    def poll(self, lane: int) -> Slice | None:  # noqa: ARG002
        """The next slice; waits for the stream. Raises: PositionExpiredError, FatalError."""
        found = next(self._slices, None)
        self._left -= 1
        return found

    def has_shards(self, lane: int) -> bool:
        """Whether the lane has anything to wait for soon."""
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:  # noqa: ARG002
        """Whether every slice was polled."""
        return self._left <= 0

    def _read_all(self, records: Sequence[SliceRecord]) -> Iterator[Slice]:
        by_shard: dict[str, list[SliceRecord]] = {}
        for record in records:
            by_shard.setdefault(record.shard.shard, []).append(record)
        for shard, wanted in by_shard.items():
            yield from self._read_shard(shard, wanted)

    def _read_shard(self, shard: str, wanted: Sequence[SliceRecord]) -> Iterator[Slice]:
        first = wanted[0]
        slicer = Slicer(first.shard, first.prev, SliceRule(), is_held=True)
        answers = self._answers(shard, first)
        for record in wanted:
            assert record.last is not None
            while is_after(record.last, slicer.seen):
                answer = next(answers, None)
                if answer is None:
                    raise _expired(record, "the shard ends before them")
                slicer.push(answer)
            found = slicer.cut_at(record.last)
            if found is None or (found.first, found.rows) != (record.first, record.rows):
                shown = "none" if found is None else f"{found.rows}, the first is {found.first}"
                raise _expired(record, f"found {shown}")
            yield found

    def _answers(self, shard: str, first: SliceRecord) -> Iterator[pa.RecordBatch]:
        """Records of the shard from a slice on; throttling and expired cursors are waited out."""
        after = first.prev
        cursor: str | None = self._reader.open_shard(shard, _start(after))
        while cursor is not None:
            answer = self._read(shard, cursor, after)
            cursor = answer.cursor
            if answer.records.num_rows:
                after = answer.records["sequence_number"][answer.records.num_rows - 1].as_py()
                yield answer.records
            elif answer.behind_ms == 0:
                return

    def _read(self, shard: str, cursor: str, after: str | None) -> ReadResult:
        for attempt in range(READ_TRIES):
            try:
                return self._reader.read(shard, cursor)
            except ExpiredCursorError:
                cursor = self._reader.open_shard(shard, _start(after))
            except RetryableError:
                if attempt == READ_TRIES - 1:
                    raise
                self._clock.sleep(min(0.25 * 2**attempt, 5.0))
        raise _expired_cursor(shard)


def _start(after: str | None) -> Start:
    return Start("TRIM_HORIZON") if after is None else Start("AFTER", sequence_number=after)


def _expired(record: SliceRecord, found: str) -> PositionExpiredError:
    return PositionExpiredError(
        f"slice {record.slice_id}: the stream no longer holds its {record.rows} records from "
        f"{record.first} on ({found}). Retention has passed: replay the range from Bronze "
        "(--source bronze)."
    )


def _expired_cursor(shard: str) -> PositionExpiredError:
    return PositionExpiredError(
        f"{shard}: its cursor expired {READ_TRIES} times in a row; the stream answers too slowly"
    )
