"""Decoded values on their way to Arrow: spans for text, 64-bit integers for everything else.

Rows of one slice come from several templates and from the strict path. Merging them in message
order as spans and integers is cheap; Arrow arrays are built once, at the end, and only for the
rows that stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stream.feeds.contract import Column

NULL = np.int64(-(2**63))
"""Marks null in integer data; as a span's start, null text. No stored value can be it."""

_STRING = pa.string()


@dataclass(frozen=True, slots=True)
class Text:
    """Spans of UTF-8 text in the slice's buffer."""

    start: np.ndarray
    end: np.ndarray

    def take(self, index: np.ndarray) -> Text:
        return Text(self.start[index], self.end[index])


Data = Text | np.ndarray


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one origin: each one's message (`line`), item of that message, and values."""

    line: np.ndarray
    item: np.ndarray
    data: Mapping[str, Data]

    def take(self, index: np.ndarray) -> Block:
        """The rows at these places."""
        data = {
            name: values.take(index) if isinstance(values, Text) else values[index]
            for name, values in self.data.items()
        }
        return Block(self.line[index], self.item[index], data)


def merge_blocks(blocks: Sequence[Block], columns: Sequence[Column]) -> Block:
    """All rows in message order."""
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        none = np.empty(0, np.int64)
        return Block(
            none, none, {c.name: Text(none, none) if is_text(c) else none for c in columns}
        )
    line = np.concatenate([block.line for block in blocks])
    item = np.concatenate([block.item for block in blocks])
    data = {c.name: _concat([block.data[c.name] for block in blocks]) for c in columns}
    # (line, item) is unique and lines fit 31 bits: one key sorts both.
    key = (line << 32) | item
    merged = Block(line, item, data)
    return merged if (key[1:] > key[:-1]).all() else merged.take(np.argsort(key, kind="stable"))


def _concat(parts: Sequence[Data]) -> Data:
    texts = [part for part in parts if isinstance(part, Text)]
    if texts:
        return Text(
            np.concatenate([text.start for text in texts]),
            np.concatenate([text.end for text in texts]),
        )
    return np.concatenate(parts)  # type: ignore[arg-type]


def is_text(column: Column) -> bool:
    """Whether a column is kept as spans."""
    return bool(pa.types.is_string(column.type))


class Columns(Mapping[str, pa.Array]):
    """Arrow arrays of a block by column name, each built when it is first asked for."""

    def __init__(
        self, block: Block, columns: Sequence[Column], buffer: np.ndarray, arrival_ns: np.ndarray
    ) -> None:
        self._block = block
        self._columns = {column.name: column for column in columns}
        self._buffer = buffer
        self._built: dict[str, pa.Array] = {"ts_arrival_ns": pa.array(arrival_ns)}

    def __getitem__(self, name: str) -> pa.Array:
        if name not in self._built:
            column = self._columns[name]
            self._built[name] = build_array(column, self._block.data[name], self._buffer)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._columns, "ts_arrival_ns"))

    def __len__(self) -> int:
        return len(self._columns) + 1


def build_array(column: Column, data: Data, buffer: np.ndarray) -> pa.Array:
    """One Arrow array of the column's type."""
    if isinstance(data, Text):
        return _text_array(data, buffer, column)
    data = np.ascontiguousarray(data, np.int64)
    validity, nulls = _validity(data, column)
    count = len(data)
    if pa.types.is_int64(column.type):
        return pa.Array.from_buffers(column.type, count, [validity, pa.py_buffer(data)], nulls)
    if pa.types.is_decimal128(column.type):
        wide = np.empty((count, 2), np.int64)
        wide[:, 0] = data
        np.right_shift(data, 63, out=wide[:, 1])
        return pa.Array.from_buffers(column.type, count, [validity, pa.py_buffer(wide)], nulls)
    if pa.types.is_date32(column.type) or pa.types.is_int32(column.type):
        narrow = pa.py_buffer(data.astype(np.int32))
        return pa.Array.from_buffers(column.type, count, [validity, narrow], nulls)
    plain = pa.Array.from_buffers(pa.int64(), count, [validity, pa.py_buffer(data)], nulls)
    return plain.cast(column.type)


def _validity(data: np.ndarray, column: Column) -> tuple[pa.Buffer | None, int]:
    if not column.nullable:
        return None, 0
    valid = data != NULL
    nulls = int(len(data) - np.count_nonzero(valid))
    return (pa.py_buffer(np.packbits(valid, bitorder="little")), nulls) if nulls else (None, 0)


def _text_array(text: Text, buffer: np.ndarray, column: Column) -> pa.Array:
    if column.nullable and (text.start == NULL).any():
        null = text.start == NULL
        text = Text(np.where(null, 0, text.start), np.where(null, 0, text.end))
        return spans_to_array(text, buffer, null=null)
    count = len(text.start)
    if count and (text.start == text.start[0]).all() and (text.end == text.end[0]).all():
        return pa.repeat(spans_to_array(text.take(np.zeros(1, np.int64)), buffer)[0], count)
    return spans_to_array(text, buffer)


def spans_to_array(
    text: Text,
    buffer: np.ndarray,
    kind: pa.DataType = _STRING,
    null: np.ndarray | None = None,
) -> pa.Array:
    """Copy spans out of a buffer: every span boundary is an offset, every second gap is ours.

    The intermediate array is not sorted by offset and never leaves; `take` reads each value by
    its own two offsets. Its last offset is what `take` sizes its first allocation by.
    """
    count = len(text.start)
    if not count:
        return pa.array([], kind)
    offsets = np.empty(2 * count + 1, np.int32)
    offsets[0:-1:2], offsets[1::2] = text.start, text.end
    size = int((text.end - text.start).sum())
    offsets[-1] = min(int(offsets[0]) + 2 * size, len(buffer))
    spans = pa.Array.from_buffers(
        kind, 2 * count, [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )
    return spans.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32), mask=null))


def block_of_rows(
    columns: Sequence[Column],
    places: Sequence[tuple[int, int]],
    rows: Sequence[Mapping[str, str | int | None]],
    base: int,
    texts: bytearray,
) -> Block:
    """A block of rows read one by one; their texts go to `texts`, which begins at `base`."""
    at = np.array(places, np.int64).reshape(len(rows), 2)
    data: dict[str, Data] = {}
    for column in columns:
        values = [row.get(column.name) for row in rows]
        if is_text(column):
            data[column.name] = _append_texts(values, base, texts)
        else:
            data[column.name] = np.array([NULL if v is None else v for v in values], np.int64)
    return Block(at[:, 0], at[:, 1], data)


def _append_texts(values: Sequence[str | int | None], base: int, texts: bytearray) -> Text:
    start: list[int] = []
    end: list[int] = []
    for value in values:
        if value is None:
            start.append(int(NULL))
            end.append(int(NULL))
            continue
        start.append(base + len(texts))
        texts += str(value).encode()
        end.append(base + len(texts))
    return Text(np.array(start, np.int64), np.array(end, np.int64))
