"""Answers as JSON, CSV or an Arrow stream, by the Accept header.

JSON and CSV: decimals are exact text, every time column `x_ns` (nanoseconds since 1970) has an ISO
twin `x`. Arrow: decimals and nanoseconds as they are, the twin is a timestamp in UTC. Pure.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from stream.serving.problem import ProblemError

Format = Literal["json", "csv", "arrow"]
MEDIA: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}
_RANGES: dict[str, Format] = {
    **{media: name for name, media in MEDIA.items()},
    "*/*": "json",
    "application/*": "json",
    "text/*": "csv",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """The body of an answer."""

    media: str
    body: str | bytes

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.body) if isinstance(self.body, bytes) else len(self.body.encode())


def choose_format(accept: str | None) -> Format:
    """What the caller likes best of what there is; no header means JSON.

    Raises: ProblemError: 406 if nothing fits.

    >>> choose_format("text/csv;q=0.9, application/vnd.apache.arrow.stream")
    'arrow'
    """
    liked = [_parse_range(part) for part in (accept or "*/*").lower().split(",") if part.strip()]
    if not liked:
        return "json"
    for media, weight in sorted(liked, key=lambda found: -found[1]):
        if weight > 0 and media in _RANGES:
            return _RANGES[media]
    raise ProblemError(
        406, "not-acceptable", f"Ask for one of {', '.join(MEDIA.values())} in Accept."
    )


def encode_rows(rows: pa.Table, form: Format, cursor: str | None, as_of: dict[str, Any]) -> Encoded:
    """A page of rows in one of the forms."""
    if form == "arrow":
        return Encoded(MEDIA[form], _arrow(with_times(rows)))
    plain = as_text(rows)
    if form == "csv":
        sink = io.BytesIO()
        pa_csv.write_csv(plain, sink)
        return Encoded(MEDIA[form], sink.getvalue().decode())
    names = plain.column_names
    lists = [column.to_pylist() for column in plain.columns]
    data = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
    return Encoded(
        MEDIA[form], orjson.dumps({"data": data, "next_cursor": cursor, "as_of": as_of}).decode()
    )


def encode_json(value: object) -> Encoded:
    """An answer that is not a page of rows."""
    return Encoded(MEDIA["json"], orjson.dumps(value).decode())


def with_times(rows: pa.Table) -> pa.Table:
    """Every column `x_ns` preceded by its twin `x`, a timestamp of nanoseconds in UTC."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in rows.column_names:
        if name.endswith("_ns"):
            columns[name.removesuffix("_ns")] = rows[name].cast(pa.timestamp("ns", "UTC"))
        columns[name] = rows[name]
    return pa.table(columns)


def as_text(rows: pa.Table) -> pa.Table:
    """`with_times` with times and decimals as exact text."""
    return pa.table({name: _text(column) for name, column in _pairs(with_times(rows))})


def _pairs(rows: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return list(zip(rows.column_names, rows.columns, strict=True))


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        # Without a zone: no database of zones is needed to say UTC.
        said = column.cast(pa.timestamp("ns")).cast(pa.string())
        return pc.binary_join_element_wise(pc.replace_substring(said, " ", "T"), "Z", "")
    if pa.types.is_decimal(column.type):
        return _plain(column.cast(pa.string()))
    return column


def _plain(said: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals without exponents: Arrow says 0E-8 and 1E-8 for what is small."""
    if not pc.any(pc.match_substring(said, "E")).as_py():
        return said
    plain = [text and f"{Decimal(text):f}" for text in said.to_pylist()]
    return pa.chunked_array([plain], pa.string())


def _arrow(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _parse_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0
    return media, 1.0
