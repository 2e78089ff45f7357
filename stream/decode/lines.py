"""Split the records of a slice into messages: one JSON value per line, addressed by byte spans.

A Kinesis record holds one message or many, divided by newlines; a trailing newline, CRLF and
blank lines are tolerated. Nothing is parsed and no Python object is made per line: a message is
a (start, end) span into one padded copy of the payload bytes. Not here: what a message means
(`decode`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PAD = 128
"""Bytes before and after the payloads, so that wide reads at any line stay inside the buffer."""

_NEWLINE, _RETURN, _SPACE = 10, 13, 32


_CHUNK = 1 << 18
_KEPT_BUFFERS = 8

_free: list[bytearray] = []
_lock = threading.Lock()


@contextmanager
def borrow_buffer(size: int) -> Iterator[bytearray]:
    """Lend a buffer of at least `size` bytes for one slice.

    Fresh memory of a slice's size costs more in page faults than the whole search for newlines;
    buffers are therefore kept and used again. Nothing may refer to it after the loan.
    """
    with _lock:
        fitting = [buffer for buffer in _free if len(buffer) >= size]
        data = min(fitting, key=len) if fitting else bytearray(size + size // 8)
        _free[:] = [buffer for buffer in _free if buffer is not data]
    try:
        yield data
    finally:
        with _lock:
            _free.append(data)
            _free.sort(key=len)
            del _free[:-_KEPT_BUFFERS]


@dataclass(frozen=True, slots=True)
class Lines:
    """The messages of a batch of records.

    `buffer` holds the payloads back to back behind `PAD` bytes, then the caller's `spare` bytes
    between pads. `start`/`end` are the messages' spans in it, `record_no` the record each came
    from, `line_no` its physical line in that record. `empty` lists the records that hold no
    message at all, `controls` where control characters other than newlines stand.
    """

    data: bytearray
    buffer: np.ndarray
    payload_end: int
    start: np.ndarray
    end: np.ndarray
    record_no: np.ndarray
    line_no: np.ndarray
    empty: np.ndarray
    controls: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def extend(self, texts: bytearray) -> np.ndarray:
        """The buffer with texts behind it, in place if there is room."""
        end = len(self.buffer) + len(texts)
        if end > len(self.data):
            return np.concatenate([self.buffer, np.frombuffer(texts, np.uint8)])
        extended = np.frombuffer(self.data, np.uint8, end)
        extended[len(self.buffer) :] = np.frombuffer(texts, np.uint8)
        return extended

    def raw(self, index: int) -> bytes:
        """The exact bytes of one message."""
        return bytes(self.data[self.start[index] : self.end[index]])


def buffer_size(payloads: pa.Array, spare: bytes) -> int:
    """Bytes that `split_lines` needs, and some room behind for texts made while decoding."""
    offsets = _offsets(payloads)
    size = int(offsets[-1] - offsets[0])
    return size + len(spare) + 3 * PAD + size // 3


def _offsets(payloads: pa.Array) -> np.ndarray:
    if not len(payloads):
        return np.zeros(1, np.int64)
    stored = np.frombuffer(payloads.buffers()[1], np.int32)
    return stored[payloads.offset : payloads.offset + len(payloads) + 1].astype(np.int64)


def split_lines(payloads: pa.Array, data: bytearray, spare: bytes = b"") -> Lines:
    """Find the messages of a payload column, in record order.

    Args: payloads: binary, no nulls. data: a buffer of `buffer_size` bytes or more. spare: bytes
    to put behind the payloads, at `payload_end + PAD`, for spans that point at constants.
    """
    offsets = _offsets(payloads)
    first, last = int(offsets[0]), int(offsets[-1])
    payload_end = PAD + last - first
    if last > first:
        payload = np.frombuffer(payloads.buffers()[2], np.uint8)[first:last]
        np.frombuffer(data, np.uint8)[PAD:payload_end] = payload
    data[payload_end + PAD : payload_end + PAD + len(spare)] = spare
    buffer = np.frombuffer(data, np.uint8, payload_end + PAD + len(spare) + PAD)
    return _split(data, buffer, payload_end, offsets - first + PAD)


def _split(data: bytearray, buffer: np.ndarray, payload_end: int, offsets: np.ndarray) -> Lines:
    """Cut at every newline and every record end, then drop blank pieces."""
    newlines, controls = _find_controls(buffer, payload_end)
    record_no, line_no = _number(newlines, offsets)
    start, end = _pieces(newlines, offsets, line_no)
    if len(controls):
        end = end - ((buffer[end - 1] == _RETURN) & (end > start))
    keep = ~_is_blank(buffer, start, end)
    if not keep.all():
        start, end, record_no, line_no = start[keep], end[keep], record_no[keep], line_no[keep]
    has_line = np.zeros(len(offsets) - 1, bool)
    has_line[record_no] = True
    return Lines(
        data,
        buffer,
        payload_end,
        start,
        end,
        record_no.astype(np.int32),
        line_no.astype(np.int32),
        np.flatnonzero(~has_line),
        controls,
    )


def _find_controls(buffer: np.ndarray, payload_end: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of newlines, and of all other control characters, in one pass."""
    payload = buffer[PAD:payload_end]
    none = np.empty(0, np.int64)
    if payload.min(initial=255) >= _SPACE:
        return none, none
    found = find_bytes(payload, np.less, _SPACE) + PAD
    is_newline = buffer[found] == _NEWLINE
    return (found, none) if is_newline.all() else (found[is_newline], found[~is_newline])


def find_bytes(payload: np.ndarray, compare: Callable[..., np.ndarray], byte: int) -> np.ndarray:
    """Positions of bytes for which `compare(bytes, byte)` holds, without large temporaries."""
    mask = np.empty(min(_CHUNK, len(payload)), bool)
    found = []
    for at in range(0, len(payload), _CHUNK):
        piece = payload[at : at + _CHUNK]
        found.append(np.flatnonzero(compare(piece, byte, out=mask[: len(piece)])) + at)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _pieces(
    newlines: np.ndarray, offsets: np.ndarray, line_no: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spans between newlines and record bounds; a newline belongs to neither neighbour."""
    if not len(newlines):
        return offsets[:-1], offsets[1:]
    is_first = line_no == 0
    is_last = np.empty_like(is_first)
    is_last[:-1], is_last[-1] = is_first[1:], True
    start, end = np.empty((2, len(line_no)), np.int64)
    start[is_first], start[~is_first] = offsets[:-1], newlines + 1
    end[is_last], end[~is_last] = offsets[1:], newlines
    return start, end


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
