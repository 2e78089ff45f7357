"""Keep every rejected message: reason, exact bytes, and the way back to its slice.

One Parquet object per slice that had rejects, under `quarantine/`; it counts only when the
ledger entry of its slice names it. `redrive` reads it after a decoder fix.
The reject limit of a contract stops a shard before quarantine becomes a landfill.
"""

from __future__ import annotations

import io
from collections import deque

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.errors import QuarantineLimitError
from stream.feeds.contract import RejectLimit
from stream.lake.entries import ObjectRef
from stream.lake.layout import QuarantineKey
from stream.lake.store import Store, sha256
from stream.slices import ShardRef, Slice

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("slice_id", pa.string(), nullable=False),
        pa.field("sequence_number", pa.string(), nullable=False),
        pa.field("record_no", pa.int32(), nullable=False),
        pa.field("line_no", pa.int32(), nullable=False),
        pa.field("ts_arrival_ns", pa.int64(), nullable=False),
    ]
)


def write_rejects(store: Store, item: Slice, rejects: pa.Table) -> ObjectRef | None:
    """Store a slice's rejects; None if it has none."""
    if not rejects.num_rows:
        return None
    record_no = rejects["record_no"].combine_chunks()
    table = pa.table(
        {
            "reason": rejects["reason"],
            "detail": rejects["detail"],
            "raw": rejects["raw"],
            "slice_id": pa.array([item.id] * rejects.num_rows),
            "sequence_number": item.records["sequence_number"].take(record_no),
            "record_no": record_no,
            "line_no": rejects["line_no"],
            "ts_arrival_ns": item.records["ts_arrival_ns"].take(record_no),
        }
    ).cast(QUARANTINE_SCHEMA)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", store_schema=False)
    data = out.getvalue()
    digest = sha256(data)
    assert item.first is not None
    key = QuarantineKey.of(item.shard, item.first, item.arrival_ns[0], digest)
    store.put(key.path, data)
    return ObjectRef(key.path, digest, len(data), rejects.num_rows)


def read_rejects(data: bytes) -> pa.Table:
    """The rows of a quarantine object."""
    return pq.read_table(io.BytesIO(data)).cast(QUARANTINE_SCHEMA)


class RejectWatch:
    """Stops a shard whose messages are mostly refused: the producer or the decoder is wrong."""

    def __init__(self, limit: RejectLimit, *, quotes_messages: bool = True) -> None:
        """`quotes_messages`: whether an error may quote one; logs hold no personal data."""
        self._limit = limit
        self._quotes_messages = quotes_messages
        self._recent: dict[ShardRef, deque[tuple[int, int]]] = {}
        self._open_run: dict[ShardRef, int] = {}

    def check(
        self, item: Slice, messages: int, rejected: npt.NDArray[np.int64], rejects: pa.Table
    ) -> None:
        """Count one slice; `rejected` are the numbers of its rejected messages, ascending.

        Raises: QuarantineLimitError naming the share or the run, and the top reason.
        """
        recent = self._recent.setdefault(item.shard, deque())
        recent.append((messages, len(rejected)))
        while len(recent) > 1 and sum(m for m, _ in recent) - recent[0][0] >= self._limit.over_rows:
            recent.popleft()
        seen, refused = (sum(column) for column in zip(*recent, strict=True))
        run, self._open_run[item.shard] = _runs(
            self._open_run.get(item.shard, 0), messages, rejected
        )
        if seen >= self._limit.over_rows and refused / seen > self._limit.share:
            raise self._stop(item, f"{refused} of the last {seen} messages were rejected", rejects)
        if run > self._limit.run:
            raise self._stop(item, f"{run} messages in a row were rejected", rejects)

    def _stop(self, item: Slice, what: str, rejects: pa.Table) -> QuarantineLimitError:
        counts = pc.value_counts(rejects["reason"]).to_pylist()
        top = max(counts, key=lambda c: c["counts"])["values"] if counts else "?"
        sample = ""
        if self._quotes_messages and rejects.num_rows:
            sample = f", e.g. {rejects['raw'][0].as_py()[:80]!r}"
        return QuarantineLimitError(
            f"{item.shard}: {what} (limit: {self._limit.share:.0%} of {self._limit.over_rows}, or "
            f"{self._limit.run} in a row), mostly {top!r}{sample}. The slice is not "
            "committed; fix the producer or the decoder, then start the feed again."
        )


def _runs(before: int, messages: int, rejected: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The longest run of consecutive numbers, and the one that is still open at the end.

    A run that was open `before` goes on with number 0.

    >>> _runs(2, 9, np.array([0, 1, 4, 5, 6, 8]))
    (4, 1)
    """
    if not len(rejected):
        return (0, 0) if messages else (before, before)
    breaks = np.flatnonzero(np.diff(rejected) != 1) + 1
    lengths = np.diff(breaks, prepend=0, append=len(rejected))
    lengths[0] += before * (rejected[0] == 0)
    is_open = rejected[-1] == messages - 1
    return int(lengths.max()), int(lengths[-1]) if is_open else 0
