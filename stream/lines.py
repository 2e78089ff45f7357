"""Split the records of a slice into messages: one JSON value per line, addressed by byte spans.

A Kinesis record holds one message or many, divided by newlines; a trailing newline, CRLF and
blank lines are tolerated. Nothing is parsed and no Python object is made per line: a message is
a (start, end) span into one padded copy of the payload bytes. Not here: what a message means
(`decode`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PAD = 128
"""Bytes before and after the payloads, so that wide reads at any line stay inside the buffer."""

_NEWLINE, _RETURN, _SPACE = 10, 13, 32


@dataclass(frozen=True, slots=True)
class Lines:
    """The messages of a batch of records.

    `buffer` holds the payloads back to back behind `PAD` bytes; its tail carries `PAD` + `spare`
    bytes of the caller's. `start`/`end` are the messages' spans in it, `record_no` the record
    each came from, `line_no` its physical line in that record. `empty` lists the records that
    hold no message at all.
    """

    buffer: np.ndarray
    payload_end: int
    start: np.ndarray
    end: np.ndarray
    record_no: np.ndarray
    line_no: np.ndarray
    empty: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def raw(self, index: int) -> bytes:
        """The exact bytes of one message."""
        return self.buffer[self.start[index] : self.end[index]].tobytes()


def split_lines(payloads: pa.Array, spare: bytes = b"") -> Lines:
    """Find the messages of a payload column, in record order.

    Args: payloads: binary, no nulls. spare: bytes to append behind the payloads, at
    `payload_end + PAD`, for spans that point at constants.
    """
    offsets = np.frombuffer(payloads.buffers()[1], np.int32)[
        payloads.offset : payloads.offset + len(payloads) + 1
    ].astype(np.int64)
    first, last = (int(offsets[0]), int(offsets[-1])) if len(payloads) else (0, 0)
    buffer = np.empty(PAD + last - first + PAD + len(spare) + PAD, np.uint8)
    buffer[:PAD] = _SPACE
    payload_end = PAD + last - first
    if last > first:
        buffer[PAD:payload_end] = np.frombuffer(payloads.buffers()[2], np.uint8)[first:last]
    buffer[payload_end:] = _SPACE
    at = payload_end + PAD
    buffer[at : at + len(spare)] = np.frombuffer(spare, np.uint8)
    return _split(buffer, payload_end, offsets - first + PAD)


def _split(buffer: np.ndarray, payload_end: int, offsets: np.ndarray) -> Lines:
    """Cut at every newline and every record end, then drop blank pieces."""
    records = len(offsets) - 1
    newlines = np.flatnonzero(buffer[:payload_end] == _NEWLINE)
    record_no, line_no = _number(newlines, offsets)
    if len(newlines):
        end = np.sort(np.concatenate([newlines, offsets[1:]]), kind="stable")
        # A newline ends its line and is no part of the next; a record's end is only a place.
        start = np.empty_like(end)
        start[:1] = offsets[:1]
        start[1:] = end[:-1] + (buffer[end[:-1]] == _NEWLINE)
        start = np.maximum(start, offsets[:-1][record_no])
    else:
        start, end = offsets[:-1], offsets[1:]
    end = end - ((buffer[end - 1] == _RETURN) & (end > start))
    keep = ~_is_blank(buffer, start, end)
    if not keep.all():
        start, end, record_no, line_no = start[keep], end[keep], record_no[keep], line_no[keep]
    has_line = np.zeros(records, bool)
    has_line[record_no] = True
    return Lines(
        buffer,
        payload_end,
        start,
        end,
        record_no.astype(np.int32),
        line_no.astype(np.int32),
        np.flatnonzero(~has_line),
    )


def _number(newlines: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Record and line number of every piece: each record has its newlines plus one."""
    records = len(offsets) - 1
    pieces = np.diff(np.searchsorted(newlines, offsets)) + 1
    record_no = np.repeat(np.arange(records), pieces)
    before = np.cumsum(pieces) - pieces
    return record_no, np.arange(len(record_no)) - before[record_no]


def _is_blank(buffer: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    blank: np.ndarray = start >= end
    for i in np.flatnonzero(~blank & (buffer[start] <= _SPACE)).tolist():
        blank[i] = not buffer[start[i] : end[i]].tobytes().strip(b" \t\r")
    return blank
