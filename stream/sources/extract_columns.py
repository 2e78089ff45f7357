"""Rows of CSV and Parquet to messages, column by column, by a manifest's mapping.

A mapping says what each field of the message is made of:

    {"feed": "trades",
     "fields": {"symbol":      {"column": "Ticker", "as": "text"},
                "price":       {"column": "Last Px", "as": "scalar"},
                "venue":       {"constant": "sim"},
                "ts_event_ns": {"column": "Time", "as": "ns", "format": "…", "zone": "…"}},
     "csv": {"delimiter": ";"}}

`as`: "text" becomes a JSON string, "scalar" a number or boolean with its own digits, "ns" and
"date" are times (`extract_times`). A value that is none becomes a string with the text as it
stands, so that the decoder rejects that one row and shows why. Empty is null. Fields are written
in name order. Not here: the file that a user writes (`batch.extracts.mapping`).
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from stream.decode.lines import find_bytes
from stream.errors import FatalError
from stream.sources.extract_times import date_texts, ns_texts

_SCALAR = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false)$"
_TEXT = pa.string()
_HEADER_BYTES = 1 << 20
_SENTINEL = "headrace: the last row"
_BATCH_ROWS = 512
"""Few: one row group of some kilobytes may stand for gigabytes, and is stopped between batches.
Costs 0.3 CPU-s per million rows more than whole groups."""
_MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Of all messages of a part together: what one Arrow array of bytes can hold."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the message, from the mapping."""

    name: str
    spec: Mapping[str, Any]

    @property
    def column(self) -> str | None:
        found = self.spec.get("column")
        return None if found is None else str(found)


def messages_of_csv(
    name: str, data: bytes, mapping: Mapping[str, object], header: str | None = None
) -> pa.Array:
    """The rows of a CSV as messages (binary).

    The header is the file's first line, unless `header` (of the file that this piece was cut
    from) or the mapping's own `csv.header` gives it. Raises: FatalError.
    """
    fields = _fields(name, mapping, "CSV")
    options: Mapping[str, Any] = mapping.get("csv") or {}  # type: ignore[assignment]
    data = _to_utf8(name, data, options.get("encoding", "utf-8"))
    names, has_header = _header(name, data, options, header)
    wanted = _choose(name, fields, names)
    if has_header and b"\n" not in data.rstrip(b"\r\n"):
        return pa.array([], pa.binary())
    if not data.strip(b"\r\n"):
        return pa.array([], pa.binary())
    table = _read_csv(name, data, options, len(names), wanted, has_header=has_header)
    columns = {column: table[str(at)].combine_chunks() for column, at in wanted.items()}
    return _messages(name, fields, columns, table.num_rows)


def messages_of_parquet(
    name: str, data: bytes, mapping: Mapping[str, object], limit: int
) -> pa.Array:
    """The rows of a Parquet file as messages (binary). `limit`: bytes of its columns in memory.

    Raises: FatalError.
    """
    fields = _fields(name, mapping, "Parquet")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        wanted = _choose(name, fields, file.schema_arrow.names)
        batches, size = list[pa.RecordBatch](), 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(wanted), use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > limit:
                raise FatalError(
                    f"{name}: its columns hold more than {limit:,} bytes, {len(data):,} packed. "
                    "Cut the file into smaller ones, or look whether it is what it claims to be."
                )
    except (pa.ArrowException, OSError) as error:
        raise FatalError(
            f"{name}: no readable Parquet file ({_first_line(error)}). Fetch it again."
        ) from None
    rows = file.metadata.num_rows
    if not rows:
        return pa.array([], pa.binary())
    table = pa.Table.from_batches(batches)
    columns = {column: table[column].combine_chunks() for column in wanted}
    return _messages(name, fields, columns, rows)


def read_header(name: str, line: str, options: Mapping[str, Any]) -> list[str]:
    """The column names of a CSV's first line (what follows it is not looked at).

    Raises: FatalError for a line that is no header, such as one with a giant field.
    """
    rows = csv.reader(
        io.StringIO(line, newline=""),
        delimiter=options.get("delimiter", ","),
        quotechar=options.get("quote", '"'),
    )
    try:
        return next(rows, [])
    except csv.Error as error:
        raise FatalError(
            f"{name}: its first line is no header ({error}). Look whether the file is what its "
            "name says, or give the columns in the mapping's [csv] header."
        ) from None


def _to_utf8(name: str, data: bytes, encoding: str) -> bytes:
    if encoding == "utf-8":
        return data
    try:
        return data.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise FatalError(f"{name}: not {encoding} at byte {error.start:,}") from None


def _fields(name: str, mapping: Mapping[str, object], what: str) -> list[_Field]:
    fields = mapping.get("fields")
    if not isinstance(fields, Mapping) or not fields:
        raise FatalError(
            f"{name}: {what} needs a column mapping and its manifest has none. Run the extract "
            "again with a mapping."
        )
    return [_Field(field, fields[field]) for field in sorted(fields)]


def _header(
    name: str, data: bytes, options: Mapping[str, Any], header: str | None
) -> tuple[list[str], bool]:
    """The column names, and whether the data's first line repeats them."""
    if options.get("header"):
        return list(options["header"]), False
    if header is not None:
        return read_header(name, header, options), False
    names = read_header(name, data[:_HEADER_BYTES].decode(errors="replace"), options)
    if not names:
        raise FatalError(f"{name}: an empty CSV: expected a header. Fetch it again.")
    return names, True


def _choose(name: str, fields: list[_Field], names: list[str]) -> dict[str, int]:
    """Every column that is read, with its place. Raises: FatalError naming all that are amiss."""
    needed = dict.fromkeys(f.column for f in fields if f.column is not None)
    required = {f.column for f in fields if not f.spec.get("optional")}
    missing = [column for column in needed if column in required and column not in names]
    doubled = [column for column in needed if names.count(column) > 1]
    if missing or doubled:
        faults = [f"has no column {column!r}" for column in missing]
        faults += [f"has column {column!r} more than once" for column in doubled]
        raise FatalError(
            f"{name}: {', '.join(faults)}. Its header is: {', '.join(map(repr, names))}. Name the "
            "file's own columns in the mapping."
        )
    return {column: names.index(column) for column in needed if column in names}


def _read_csv(
    name: str,
    data: bytes,
    options: Mapping[str, Any],
    count: int,
    wanted: Mapping[str, int],
    *,
    has_header: bool,
) -> pa.Table:
    quote = options.get("quote", '"')
    delimiter = options.get("delimiter", ",")
    # An odd number of quotes: either text like 12" or a quoted value that never ends, which
    # Arrow takes for complete. A row of our own behind the last one tells which.
    is_odd = data.count(quote.encode()) % 2 == 1
    if is_odd:
        data += f"\n{_SENTINEL}{delimiter * (count - 1)}\n".encode()
    places = sorted(set(wanted.values()) | ({0} if is_odd or not wanted else set()))
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                column_names=[str(at) for at in range(count)],
                skip_rows_after_names=int(has_header),
                block_size=len(data) + 1,  # one block: a quoted newline is never a block's end
                use_threads=False,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, quote_char=quote, newlines_in_values=True
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[str(at) for at in places],
                column_types={str(at): _TEXT for at in places},
                strings_can_be_null=True,
                null_values=["", *options.get("nulls", ())],
            ),
        )
    except pa.ArrowException as error:
        raise FatalError(
            f"{name}: no readable CSV with {count} columns ({_first_line(error)}). Fetch it "
            "again, or correct the mapping's [csv] settings."
        ) from None
    if not is_odd:
        return table
    if not table.num_rows or table["0"][-1].as_py() != _SENTINEL:
        raise FatalError(f"{name}: a quoted value never ends: it was cut. Fetch it again.")
    return table.slice(0, table.num_rows - 1)


def _messages(
    name: str, fields: list[_Field], columns: Mapping[str, pa.Array], rows: int
) -> pa.Array:
    """One JSON object per row, joined from literals and columns in one pass."""
    pieces: list[Any] = []
    _check_size(name, fields, columns, rows)
    literal = "{"
    for number, field in enumerate(f for f in fields if f.column is None or f.column in columns):
        literal += f"{',' if number else ''}{orjson.dumps(field.name).decode()}:"
        if field.column is None:
            literal += orjson.dumps(field.spec.get("constant")).decode()
            continue
        before, values, after = _render(name, field, columns[field.column])
        pieces += [literal + before, values]
        literal = after
    if not pieces:
        return pa.repeat(pa.scalar(f"{literal}}}".encode(), pa.binary()), rows)
    try:
        joined = pc.binary_join_element_wise(
            *pieces, literal + "}", "", null_handling="replace", null_replacement="null"
        )
    except pa.ArrowException as error:
        raise FatalError(
            f"{name}: its {rows:,} messages do not fit in memory ({_first_line(error)}). Cut the "
            "file into smaller ones."
        ) from None
    return joined.cast(pa.binary())


def _check_size(
    name: str, fields: list[_Field], columns: Mapping[str, pa.Array], rows: int
) -> None:
    """Refuse before memory is asked for: rows without a byte of their own can be billions."""
    constants = [f.spec.get("constant") for f in fields if f.column is None]
    literals = sum(len(f.name) + 3 for f in fields) + sum(len(orjson.dumps(c)) for c in constants)
    if rows * literals + sum(c.nbytes for c in columns.values()) > _MAX_MESSAGE_BYTES:
        raise FatalError(
            f"{name}: its {rows:,} messages would hold more than {_MAX_MESSAGE_BYTES:,} bytes. Cut "
            "the file into smaller ones."
        )


def _render(name: str, field: _Field, column: pa.Array) -> tuple[str, pa.Array, str]:
    """A column as JSON values: what stands before each, the texts, and what stands behind."""
    way = field.spec.get("as", "text")
    if way == "text":
        texts = escape_texts(_as_text(name, field, column))
        return ('"', texts, '"') if not texts.null_count else ("", _quote(texts), "")
    if way == "scalar":
        return "", _scalars(_as_text(name, field, column)), ""
    is_text = not pa.types.is_temporal(column.type)
    values = _as_text(name, field, column) if is_text else column
    read = ns_texts if way == "ns" else date_texts
    try:
        found = read(values, field.spec)
    except (pa.ArrowException, ValueError) as error:
        raise FatalError(
            f"{name}: column {field.column!r} of type {column.type} is no time for field "
            f"{field.name!r} ({_first_line(error)}). Give its format, unit or zone in the mapping."
        ) from None
    if way == "date":
        found = _quote(found)
    return "", _or_text(found, values) if is_text else found, ""


def _as_text(name: str, field: _Field, column: pa.Array) -> pa.StringArray:
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_dictionary(kind):
        return _as_text(name, field, column.dictionary_decode())
    if not pa.types.is_nested(kind) and not pa.types.is_binary(kind):
        with contextlib.suppress(pa.ArrowException):  # no cast to text: refused below
            return column.cast(_TEXT)
    raise FatalError(
        f"{name}: column {field.column!r} of type {kind} cannot become field {field.name!r}: "
        "expected text, numbers, booleans, dates or times. Leave it out of the mapping."
    )


def escape_texts(texts: pa.StringArray) -> pa.StringArray:
    r"""Text as it stands between the quotes of a JSON string.

    >>> escape_texts(pa.array(['5" disc', "two\nlines"])).to_pylist()
    ['5\\" disc', 'two\\nlines']
    """
    data = texts.buffers()[2]
    raw = np.frombuffer(b"" if data is None else data, np.uint8)
    controls = sorted({*raw[find_bytes(raw, np.less, 32)].tolist()})
    # The backslash first: the others' escapes bring new ones.
    for byte in (ord("\\"), ord('"'), *controls):
        if byte < 32 or len(find_bytes(raw, np.equal, byte)):
            sign = chr(byte)
            texts = pc.replace_substring(texts, sign, orjson.dumps(sign).decode()[1:-1])
    return texts


def _quote(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', texts, '"', "")


def _scalars(texts: pa.StringArray) -> pa.Array:
    """Numbers and booleans as they stand; spellings that JSON lacks, like +.50, made plain."""
    good = pc.match_substring_regex(texts, _SCALAR)
    if pc.all(good).as_py() is not False:  # nulls do not count; None: nothing but nulls
        return texts
    plain = pc.utf8_trim_whitespace(texts)
    for pattern, replacement in _PLAIN_NUMBER:
        plain = pc.replace_substring_regex(plain, pattern, replacement)
    is_plain = pc.match_substring_regex(plain, _SCALAR)
    return _or_text(pc.if_else(good, texts, pc.if_else(is_plain, plain, None)), texts)


_PLAIN_NUMBER = (
    (r"^\+([0-9.])", r"\1"),
    (r"^(-?)0+([0-9])", r"\1\2"),
    (r"^(-?)\.([0-9])", r"\10.\2"),  # RE2 has groups 1 to 9 only
    (r"^(-?[0-9]+)\.$", r"\1"),
)


def _or_text(values: pa.Array, texts: pa.Array) -> pa.Array:
    """The values; where there is none but a text, the text as a JSON string."""
    bad = pc.and_(pc.is_null(values), pc.is_valid(texts))
    if not pc.any(bad).as_py():
        return values
    return pc.if_else(bad, _quote(escape_texts(texts)), values)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200] or type(error).__name__
