"""Read one message strictly: the reference of what a feed accepts, and the reason when it does not.

JSON as RFC 8259 and nothing more: no NaN, no repeated keys, no deep nesting; numbers stay exact.
A message is recognised once, by the `where` literals of the contract's ignored messages and
shapes, then each of its items becomes a row or a reject. Not here: whole slices (`decode`), the
columnar way of doing the same (`template`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from stream.decode.values import DAY_NS, KINDS, Kind
from stream.errors import RecordRejected
from stream.feeds.contract import Contract, Field, Ignored, Same, Shape

MAX_DEPTH = 16
"""Nesting of objects and lists that is still read; venues use 3 or 4."""

ARRIVAL = "ts_arrival_ns"
"""What `Same` calls the record's arrival."""

Value = str | int | None
Row = dict[str, Value]


class _Absent:
    """The path leads nowhere."""


ABSENT = _Absent()
Path = tuple[str, ...]

ONLY = "*"
"""A path's step to an object's only member, whatever its key: what MongoDB's Extended JSON wraps
a value in names its type. A value that is no such object is taken as it stands."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A contract field made ready: where its value lies and how it is read."""

    column: str
    kind: Kind
    name: str
    path: Path
    from_root: bool
    options: Mapping[str, Any]
    parts: tuple[Path, ...]
    default: Value | Same
    is_optional: bool
    is_text: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A shape made ready."""

    shape: Shape
    where: tuple[tuple[Path, tuple[Any, ...] | None], ...]
    rows: Path
    readers: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A contract's shapes made ready, in the order they are tried: ignored messages first."""

    ignored: tuple[tuple[str, tuple[tuple[Path, tuple[Any, ...] | None], ...]], ...]
    layouts: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class BadItem:
    """One item of a message that breaks the contract."""

    item: int
    reason: str
    detail: str


def build_grammar(contract: Contract) -> Grammar:
    """Make a contract's shapes ready. Raises: KeyError for a kind or column that does not exist."""
    return Grammar(
        tuple((ignored.name, _where(ignored)) for ignored in contract.ignored),
        tuple(
            Layout(
                shape,
                _where(shape),
                _path(shape.rows),
                tuple(
                    _reader(column, field, contract.column(column).type)
                    for column, field in shape.fields.items()
                ),
            )
            for shape in contract.shapes
        ),
    )


def _where(shape: Shape | Ignored) -> tuple[tuple[Path, tuple[Any, ...] | None], ...]:
    return tuple((_path(path), allowed) for path, allowed in shape.where.items())


def _path(text: str) -> Path:
    return tuple(text.split(".")) if text else ()


def _reader(column: str, field: Field, kind_of: pa.DataType) -> Reader:
    scale = {"scale": kind_of.scale, "precision": kind_of.precision} if _is_decimal(kind_of) else {}
    from_root = field.path.startswith("$.")
    return Reader(
        column,
        KINDS[field.kind],
        field.kind,
        _path(field.path.removeprefix("$.")),
        from_root,
        {**scale, **field.options},
        tuple(_path(part) for part in field.options.get("of", ()))
        if field.kind == "content_key"
        else (),
        field.default,
        field.optional,
        bool(pa.types.is_string(kind_of)),
    )


def _is_decimal(kind_of: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind_of))


def parse_json(line: bytes) -> Any:
    """One JSON value, numbers as int or Decimal. Raises: RecordRejected."""
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        _check_depth(line)
    try:
        return _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise RecordRejected(
            "invalid_utf8", f"byte {error.start}: {error.object[error.start : error.end].hex()}"
        ) from None
    except json.JSONDecodeError as error:
        raise RecordRejected("malformed_json", f"{error.msg} at character {error.pos}") from None
    except (ValueError, InvalidOperation):
        raise RecordRejected("out_of_range", "a number of thousands of digits") from None


def _check_depth(line: bytes) -> None:
    """Refuse deep nesting by count, not by Python's own limit: that one depends on the caller."""
    depth, is_text, skip = 0, False, False
    for byte in line:
        if skip:
            skip = False
        elif is_text:
            skip = byte == 92
            is_text = byte != 34
        elif byte == 34:
            is_text = True
        elif byte in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise RecordRejected("nesting_too_deep", f"more than {MAX_DEPTH} levels")
        elif byte in b"}]":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RecordRejected("duplicate_key", f"{key[:80]!r} is named twice")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> Any:
    raise RecordRejected("not_a_number", f"{name} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_refuse_constant
)


def walk(message: Any, path: Path) -> Any:
    """The value at a path; ABSENT where it leads nowhere."""
    for part in path:
        if part == ONLY:
            if type(message) is dict and len(message) == 1:
                message = next(iter(message.values()))
        elif type(message) is dict:
            message = message.get(part, ABSENT)
        elif type(message) is list:
            try:
                message = message[int(part)]
            except (ValueError, IndexError):
                return ABSENT
        else:
            return ABSENT
    return message


def resolve(message: Any, path: Path) -> Path:
    """The path by the message's own keys: without `ONLY`."""
    if ONLY not in path:
        return path
    found: list[str] = []
    for at, part in enumerate(path):
        here = walk(message, path[:at])
        if part != ONLY:
            found.append(part)
        elif type(here) is dict and len(here) == 1:
            found.append(next(iter(here)))
    return tuple(found)


def recognise(grammar: Grammar, message: Any) -> str | Layout:
    """The name of an ignored message, or the layout to read it with. Raises: RecordRejected."""
    for name, where in grammar.ignored:
        if _matches(message, where):
            return name
    for layout in grammar.layouts:
        if _matches(message, layout.where):
            return layout
    raise RecordRejected("unknown_shape", _outline(message))


def _matches(message: Any, where: tuple[tuple[Path, tuple[Any, ...] | None], ...]) -> bool:
    for path, allowed in where:
        value = walk(message, path)
        if value is ABSENT:
            return False
        if allowed is not None and not any(
            type(value) is type(wanted) and value == wanted for wanted in allowed
        ):
            return False
    return True


def _outline(message: Any) -> str:
    if type(message) is dict:
        return f"an object with keys {', '.join(list(message)[:12]) or '(none)'}"[:200]
    return f"a {type(message).__name__}"


def read_message(layout: Layout, message: Any, arrival_ns: int) -> list[Row | BadItem]:
    """Every item of a message as a row or a reject, in order.

    Raises: RecordRejected when the message has no items where its shape says they are.
    """
    if not layout.rows:
        items = [message]
    else:
        items = walk(message, layout.rows)
        if type(items) is not list or not items:
            where = ".".join(layout.rows)
            raise RecordRejected("missing_field", f"{where}: expected a list with items")
    results: list[Row | BadItem] = []
    keys: dict[str, int] = {}
    for number, item in enumerate(items):
        try:
            results.append(_read_row(layout, message, item, arrival_ns, keys))
        except RecordRejected as error:
            prefix = f"item {number}: " if layout.rows else ""
            results.append(BadItem(number, error.reason, f"{prefix}{error.detail}"))
    return results


def _read_row(
    layout: Layout, message: Any, item: Any, arrival_ns: int, keys: dict[str, int]
) -> Row:
    row: Row = {}
    for reader in layout.readers:
        if reader.kind.reads == "none":
            row[reader.column] = _derive(reader, row, arrival_ns)
            continue
        try:
            source = message if reader.from_root else item
            row[reader.column] = _read_value(reader, source, row, arrival_ns)
        except RecordRejected as error:
            at = ".".join(reader.path) or reader.column
            raise RecordRejected(error.reason, f"{at}: {error.detail}") from None
        if reader.kind.reads == "parts":
            row[reader.column] = _number_repeats(str(row[reader.column]), keys)
    return row


def _read_value(reader: Reader, item: Any, row: Row, arrival_ns: int) -> Value:
    if reader.kind.reads == "parts":
        return reader.kind.parse([walk(item, part) for part in reader.parts], reader.options)
    value = walk(item, reader.path)
    if value is not ABSENT and value is not None:
        return reader.kind.parse(value, reader.options)
    if isinstance(reader.default, Same):
        return arrival_ns if reader.default.column == ARRIVAL else row[reader.default.column]
    if reader.default is None and not reader.is_optional:
        raise RecordRejected("missing_field", "null" if value is None else "absent")
    return reader.default


def _number_repeats(key: str, keys: dict[str, int]) -> str:
    """The same content twice in one message is two facts: number the later ones."""
    count = keys.get(key, 0)
    keys[key] = count + 1
    return f"{key}-{count}" if count else key


def _derive(reader: Reader, row: Row, arrival_ns: int) -> Value:
    match reader.name:
        case "const":
            constant: Value = reader.options["value"]
            return constant
        case "arrival":
            return arrival_ns
        case "same":
            return row[reader.options["as"]]
        case "row_key":
            return "-".join(str(row[column]) for column in reader.options["of"])
        case "utc_date":
            ns = row[reader.options["of"]]
            assert isinstance(ns, int)
            return ns // DAY_NS
    raise AssertionError(f"unknown derived kind {reader.name}")
