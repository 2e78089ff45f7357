"""The formats of an extract's parts: from the bytes of a part to one message per item.

    json             a list: each element's own text; an object alone is one item
    jsonl, jsonl.gz  each line that is not blank, exactly; a bad line is the decoder's to judge
    csv, csv.gz      each row, by the manifest's column mapping (`extract_columns`)
    parquet          the same

Guarantees: an item is one line, numbers keep their digits, the same part and mapping give the
same bytes. A damaged part (cut, not what its suffix says, another row count) is a FatalError;
nothing of it is used. Not here: fetching a part (`extract`), decoding its messages (`decode`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stream.decode.lines import find_bytes
from stream.decode.rows import Text, spans_to_array
from stream.errors import FatalError
from stream.sources.extract import PartRef
from stream.sources.extract_columns import messages_of_csv, messages_of_parquet

SUFFIXES = ("json", "jsonl", "jsonl.gz", "csv", "csv.gz", "parquet")

MAX_PART_BYTES = 1 << 30
"""A part unpacked: what fits a machine of 4 GB next to its messages, and far above any sane part.
A few kilobytes of gzip may claim more."""
MAX_RATIO = 100
"""Unpacked to packed bytes. Files of real markets reach 10 to 40; deflate ends at 1,032."""
FREE_BYTES = 64 << 20
"""Up to here any ratio is fine: so much memory a bomb may cost."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_BINARY = pa.binary()


def payloads_of(data: bytes, part: PartRef, mapping: Mapping[str, object]) -> pa.Array:
    """The messages of a part, binary, one per item, in order.

    Args: data: the part's bytes. mapping: the manifest's; only CSV and Parquet need it.
    Raises: FatalError naming the part, what was found, and what to do.
    """
    items = items_of(
        part.path,
        data,
        part.suffix,
        mapping,
        header=part.request.get("csv_header"),
    )
    if len(items) != part.rows:
        raise FatalError(
            f"{part.path}: holds {len(items):,} items, its manifest says {part.rows:,}. The part "
            "or the manifest is not what the extract wrote: restore both from the bucket's "
            "versions, or run the extract again under another run id."
        )
    return _add_context(part, items) if part.context else items


def items_of(
    name: str,
    data: bytes,
    suffix: str,
    mapping: Mapping[str, object],
    *,
    header: str | None = None,
) -> pa.Array:
    """The items of a file as messages, without context: what an extractor counts and checks.

    Args: name: how errors call the file. header: the first line of the CSV that this piece was
    cut from, if its own first line is a row.
    Raises: FatalError.
    """
    plain = inflate(name, data) if suffix.endswith(".gz") else data
    if len(plain) > MAX_PART_BYTES:
        raise _too_large(name, MAX_PART_BYTES, len(data))
    match suffix.removesuffix(".gz"):
        case "jsonl":
            return _lines(plain)
        case "json":
            return _elements(name, plain)
        case "csv":
            return messages_of_csv(name, plain.removeprefix(_BOM), mapping, header)
        case "parquet":
            return messages_of_parquet(name, plain, mapping, unpacked_bound(len(plain)))
    raise FatalError(f"{name}: suffix {suffix!r} is none of {', '.join(SUFFIXES)}")


def unpacked_bound(packed: int, limit: int = MAX_PART_BYTES) -> int:
    """How much so many packed bytes may hold.

    >>> unpacked_bound(1_000), unpacked_bound(10_000_000), unpacked_bound(1 << 30)
    (67108864, 1000000000, 1073741824)
    """
    return min(limit, max(FREE_BYTES, MAX_RATIO * packed))


def inflate(name: str, data: bytes, limit: int = MAX_PART_BYTES) -> bytes:
    """Unpack gzip, all members, whole or not at all. Raises: FatalError (cut, damaged, a bomb).

    A bomb is stopped at `unpacked_bound`; nothing is asked for beyond it.
    """
    limit = unpacked_bound(len(data), limit)
    pieces: list[bytes] = []
    size, rest = 0, data
    while rest or not pieces:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            piece = unpacker.decompress(rest, limit - size + 1)
        except zlib.error as error:
            raise FatalError(
                f"{name}: damaged gzip ({error}) after {size:,} unpacked bytes. Fetch it again."
            ) from None
        size += len(piece)
        if size > limit:
            raise _too_large(name, limit, len(data))
        if not unpacker.eof:
            raise FatalError(
                f"{name}: the gzip ends in the middle, after {len(data):,} bytes ({size:,} "
                "unpacked): it was cut. Fetch it again."
            )
        pieces.append(piece)
        rest = unpacker.unused_data.lstrip(b"\0")  # padding, as tar and tapes leave it
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(name: str, limit: int, packed: int) -> FatalError:
    return FatalError(
        f"{name}: holds more than {limit:,} bytes when unpacked, {packed:,} packed. A part holds "
        f"at most {MAX_PART_BYTES:,} and {MAX_RATIO} for each packed byte: cut or unpack the file, "
        "or look whether it is what it claims to be."
    )


def _add_context(part: PartRef, items: pa.Array) -> pa.Array:
    context = orjson.dumps(dict(part.context), option=orjson.OPT_SORT_KEYS)
    before = pa.scalar(b'{"context":' + context + b',"item":', _BINARY)
    try:
        return pc.binary_join_element_wise(
            before, items, pa.scalar(b"}", _BINARY), pa.scalar(b"", _BINARY)
        )
    except pa.ArrowException as error:
        raise FatalError(
            f"{part.path}: its {len(items):,} items do not fit in memory with the context "
            f"{context.decode()[:80]} each ({error}). Extract fewer items into a part."
        ) from None


def _lines(data: bytes) -> pa.Array:
    """Every line that is not blank, without its newline."""
    buffer = np.frombuffer(data, np.uint8)
    newlines = find_bytes(buffer, np.equal, 10)
    first = len(_BOM) if data.startswith(_BOM) else 0
    start = np.concatenate([np.array([first], np.int64), newlines + 1])
    end = np.concatenate([newlines, np.array([len(data)], np.int64)])
    return _spans(buffer, start, end, drop_blank=data)


def _spans(
    buffer: np.ndarray, start: np.ndarray, end: np.ndarray, drop_blank: bytes | None = None
) -> pa.Array:
    if drop_blank is not None:
        keep = start < end
        maybe = np.flatnonzero(keep)
        maybe = maybe[buffer[start[maybe]] <= 32]
        for i in maybe.tolist():
            keep[i] = bool(drop_blank[start[i] : end[i]].strip(_BLANK))
        if not keep.all():
            start, end = start[keep], end[keep]
    return spans_to_array(Text(start, end), buffer, _BINARY)


_SPACES = b" \t\r\n"
_IS_SPACE = np.isin(np.arange(256), list(_SPACES))
_MARKS = np.isin(np.arange(256), list(b'{}[],"\r\n'))
_STEP = np.zeros(256, np.int8)
_STEP[list(b"{[")], _STEP[list(b"}]")] = 1, -1
_MAX_STEPS = 256


def _elements(name: str, data: bytes) -> pa.Array:
    """The texts of a list's elements; newlines between their tokens become spaces.

    Only the list's own structure is checked, an element is judged by the decoder: one bad story
    in a page costs itself. What cannot be told apart into elements is damage.
    """
    _check_utf8(name, data)
    data = data.removeprefix(_BOM)
    begin, stop = len(data) - len(data.lstrip(_SPACES)), len(data.rstrip(_SPACES))
    if data[begin : begin + 1] not in {b"[", b"{"}:
        raise _no_json(name, f"begins with {_show(data[begin : begin + 60])}")
    buffer = np.frombuffer(data, np.uint8).copy()
    marks, inside = _marks(buffer)
    bytes_at = buffer[marks]
    is_break = bytes_at < 32
    if (is_break & inside).any():
        at = int(marks[np.argmax(is_break & inside)])
        raise _no_json(name, f"a string with a raw newline at byte {at:,}")
    buffer[marks[is_break]] = 32
    marks, bytes_at = marks[~inside], bytes_at[~inside]
    depth = np.cumsum(_STEP[bytes_at], dtype=np.int64)
    closed = np.flatnonzero(depth <= 0)
    # A break may come before the first bracket; a quote's own mark counts as inside.
    closed = closed[marks[closed] > begin]
    if not len(closed):
        raise _no_json(name, f"ends in the middle, after {len(data):,} bytes: it was cut")
    last = int(marks[closed[0]])
    if last != stop - 1 or data[last] != data[begin] + 2:  # "]" is "[" + 2, "}" is "{" + 2
        raise _no_json(name, f"after its value follows {_show(data[last : last + 60])}")
    if data[begin : begin + 1] == b"{":
        return _spans(buffer, np.array([begin]), np.array([stop]))
    commas = marks[(bytes_at == ord(",")) & (depth == 1)]
    if not len(commas) and not data[begin + 1 : last].strip(_SPACES):
        return pa.array([], _BINARY)
    start = np.concatenate([np.array([begin], np.int64), commas]) + 1
    end = np.concatenate([commas, np.array([last], np.int64)])
    start, end = _trim(buffer, start, end)
    if (start >= end).any():
        at = int(start[np.argmax(start >= end)])
        raise _no_json(name, f"a list with nothing between two commas at byte {at:,}")
    return _spans(buffer, start, end)


def _marks(buffer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where brackets, commas, quotes and line breaks stand, and which lie inside a string."""
    marks = _find(buffer, _MARKS)
    is_quote = buffer[marks] == ord('"')
    slashes = find_bytes(buffer, np.equal, ord("\\"))
    if len(slashes):
        is_quote[is_quote] = ~_is_escaped(slashes, marks[is_quote])
    # A string's opening quote makes the sum odd, its closing one even again: both count as inside.
    return marks, (np.cumsum(is_quote) % 2 == 1) | (buffer[marks] == ord('"'))


def _is_escaped(slashes: np.ndarray, quotes: np.ndarray) -> np.ndarray:
    """Which quotes follow an odd run of backslashes."""
    begins = np.r_[True, np.diff(slashes) != 1]
    run_start = slashes[np.maximum.accumulate(np.where(begins, np.arange(len(slashes)), 0))]
    before = np.searchsorted(slashes, quotes) - 1
    follows = (before >= 0) & (slashes[before] == quotes - 1)
    escaped: np.ndarray = follows & ((quotes - run_start[before]) % 2 == 1)
    return escaped


def _find(buffer: np.ndarray, table: np.ndarray) -> np.ndarray:
    step = 1 << 18
    found = [
        np.flatnonzero(table[buffer[at : at + step]]) + at for at in range(0, len(buffer), step)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _trim(buffer: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans without the white space at their ends; long runs of it one by one."""
    for _ in range(_MAX_STEPS):
        front = _IS_SPACE[buffer[start]] & (start < end)
        back = _IS_SPACE[buffer[end - 1]] & (start < end)
        if not front.any() and not back.any():
            return start, end
        start, end = start + front, np.maximum(end - back, start + front)
    for i in np.flatnonzero(start < end).tolist():
        text = buffer[start[i] : end[i]].tobytes()
        start[i] += len(text) - len(text.lstrip(_SPACES))
        end[i] -= len(text) - len(text.rstrip(_SPACES))
    return start, np.maximum(start, end)


def _check_utf8(name: str, data: bytes) -> None:
    text = pa.Array.from_buffers(
        pa.string(),
        1,
        [None, pa.array([0, len(data)], pa.int32()).buffers()[1], pa.py_buffer(data)],
    )
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        raise _no_json(name, "not UTF-8") from None


def _no_json(name: str, found: str) -> FatalError:
    return FatalError(
        f"{name}: expected one JSON list or object, found {found}. Look at what the source sent; "
        "run the extract again under another run id."
    )


def _show(data: bytes) -> str:
    return repr(data.decode(errors="replace")) if data else "nothing"
