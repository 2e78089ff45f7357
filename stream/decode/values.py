"""Value kinds: how one JSON value becomes one column value. Strict, exact, in one place.

Each kind has a scalar reader, which defines what is accepted, and mostly a columnar reader
(`columns`), which may only accept what the scalar one accepts, with the same result; whatever it
refuses is read again by the scalar one. Stored values are `str` for text and `int` for the rest:
ns for times, days for dates, units of 10^-scale for decimals, 0/1 for booleans.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from stream.decode import value_columns as c
from stream.decode.zones import local_offsets
from stream.errors import RecordRejected

MAX_INT = 2**63 - 1
DAY_NS = c.DAY_NS
_EPOCH_TIME = datetime(1970, 1, 1, tzinfo=UTC)

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})([T ])([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_ASCII_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
SYMBOL_TABLE = {**_ASCII_UPPER, ord("/"): ord("-")}
"""Symbols: ASCII letters in upper case, the venue's pair separator unified."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One value kind.

    `reads`: which JSON value it reads; "none": it reads no value of the message (a constant, the
    arrival, another column). `parse` gives the stored value or raises RecordRejected.
    """

    doc: str
    reads: Literal["string", "scalar", "list", "parts", "none"]
    parse: Callable[[Any, Mapping[str, Any]], str | int]
    columns: c.Columnar | None = None


def _reject_type(value: object, expected: str) -> RecordRejected:
    names = {str: "a string", bool: "a boolean", list: "a list", dict: "an object"}
    found = names.get(type(value), "a number")
    return RecordRejected("wrong_type", f"found {found} {_show(value)}, expected {expected}")


def _show(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _string(value: object) -> str:
    if type(value) is not str:
        raise _reject_type(value, "a string")
    return value


def read_text(value: object, options: Mapping[str, Any]) -> str:
    """A JSON string; empty only with the option `empty`."""
    text = _string(value)
    if not text and not options.get("empty"):
        raise RecordRejected("bad_value", "empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordRejected("bad_value", "text with half a surrogate pair") from None
    return text


def read_symbol(value: object, options: Mapping[str, Any]) -> str:
    """Text in ASCII upper case, "/" as "-"."""
    return read_text(value, options).translate(SYMBOL_TABLE)


def read_integer(value: object, _: Mapping[str, Any]) -> int:
    """A JSON integer that fits 64 bits."""
    if type(value) is not int:
        raise _reject_type(value, "an integer")
    if not -MAX_INT <= value <= MAX_INT:
        raise RecordRejected("out_of_range", f"{_show(value)} does not fit 64 bits")
    return value


def read_integer_text(value: object, options: Mapping[str, Any]) -> int:
    """The same, written as a string."""
    text = _string(value)
    if not _INTEGER.fullmatch(text):
        raise RecordRejected("not_a_number", f"found {_show(text)}, expected digits")
    return read_integer(int(text) if len(text) < 32 else MAX_INT + 1, options)


def read_integer_as_text(value: object, options: Mapping[str, Any]) -> str:
    """A JSON integer kept as its digits: an id."""
    return f"{options.get('prefix', '')}{read_integer(value, options)}"


def read_decimal(value: object, options: Mapping[str, Any]) -> int:
    """A JSON number in units of 10^-scale, exact or refused."""
    if type(value) is int:
        number = Decimal(value)
    elif type(value) is Decimal:
        number = value
    else:
        raise _reject_type(value, "a JSON number")
    return _scaled(number, options["scale"], options["precision"])


def read_decimal_text(value: object, options: Mapping[str, Any]) -> int:
    """The same, written as a string in JSON's number grammar."""
    return _scaled(_number(_string(value)), options["scale"], options["precision"])


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise RecordRejected("not_a_number", f"found {_show(text)}, expected a number")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise RecordRejected("out_of_range", f"{_show(text)} has too large an exponent") from None


def _scaled(number: Decimal, scale: int, precision: int) -> int:
    """Exact units of 10^-scale, at most `precision` digits; integers, so that nothing rounds."""
    if not number:
        return 0
    if number.adjusted() + scale >= precision:
        raise RecordRejected("out_of_range", f"{_show(number)} has too many digits")
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    shift = exponent + scale
    if shift < 0 and any(digits[shift:]):
        raise RecordRejected("too_many_decimals", f"{_show(number)} has more than {scale} decimals")
    kept = digits[:shift] if shift < 0 else digits
    units: int = int("".join(map(str, kept)) or "0") * 10 ** max(shift, 0)
    return -units if sign else units


def read_enum(value: object, options: Mapping[str, Any]) -> str:
    """One of a few strings, mapped."""
    text = _string(value)
    found = options["values"].get(text)
    if found is None:
        valid = ", ".join(options["values"])
        raise RecordRejected("bad_value", f"found {_show(text)}, expected one of {valid}")
    return str(found)


def read_bool_enum(value: object, options: Mapping[str, Any]) -> str:
    """A boolean, mapped."""
    if type(value) is not bool:
        raise _reject_type(value, "true or false")
    return str(options["values"][value])


def read_text_list(value: object, options: Mapping[str, Any]) -> str:
    """A list of strings, joined by commas; items read like symbols with the option `upper`."""
    if type(value) is not list:
        raise _reject_type(value, "a list of strings")
    read = read_symbol if options.get("upper") else read_text
    return ",".join(read(item, {}) for item in value)


def read_parts(value: object, _: Mapping[str, Any]) -> str:
    """Several strings joined by "-": an id made of the content."""
    assert isinstance(value, list)
    return "-".join(read_text(part, {}) for part in value)


def _epoch(unit_ns: int) -> Callable[[Any, Mapping[str, Any]], int]:
    digits = len(str(unit_ns)) - 1

    def read(value: object, _: Mapping[str, Any]) -> int:
        if type(value) is not int and type(value) is not Decimal:
            raise _reject_type(value, "a JSON number")
        return _epoch_ns(Decimal(value), digits)

    return read


def _epoch_text(unit_ns: int) -> Callable[[Any, Mapping[str, Any]], int]:
    digits = len(str(unit_ns)) - 1

    def read(value: object, _: Mapping[str, Any]) -> int:
        return _epoch_ns(_number(_string(value)), digits)

    return read


def _epoch_ns(number: Decimal, digits: int) -> int:
    try:
        ns = _scaled(number, digits, 19)
    except RecordRejected as error:
        raise RecordRejected("bad_time", error.detail) from None
    return _in_range(ns, number)


def _in_range(ns: int, shown: object) -> int:
    if not 0 <= ns <= MAX_INT:
        raise RecordRejected("bad_time", f"{_show(shown)} lies outside 1970 to 2262")
    return ns


def read_iso_time(value: object, _: Mapping[str, Any]) -> int:
    """ISO 8601 with T, seconds, 0 to 9 fraction digits and a zone (Z or an offset)."""
    return _date_time(_string(value), "T", has_zone=True)


def read_date_time_assumed_utc(value: object, _: Mapping[str, Any]) -> int:
    """A time "YYYY-MM-DD HH:MM:SS" without a zone, taken as UTC: an assumption."""
    return _date_time(_string(value), " ", has_zone=False)


def read_date_time_in_zone(value: object, options: Mapping[str, Any]) -> int:
    """The same in the time of a place: option `zone`, an IANA name.

    A time that the clocks of that place show twice, or never, says no moment and is refused.
    """
    text = _string(value)
    local_ns = _date_time(text, " ", has_zone=False)
    first, second = local_offsets(options["zone"], local_ns // 1_000_000_000)
    if first != second:
        often = "happens twice" if first > second else "never happens"
        raise RecordRejected("bad_time", f"{_show(text)} {often} in {options['zone']}")
    return _in_range(local_ns - first * 1_000_000_000, text)


def read_local_date(value: object, _: Mapping[str, Any]) -> int:
    """The day of a time "YYYY-MM-DD HH:MM:SS", as it stands."""
    return _date_time(_string(value), " ", has_zone=False) // DAY_NS


def read_date_assumed_utc(value: object, _: Mapping[str, Any]) -> int:
    """A day "YYYY-MM-DD" as its midnight UTC: an assumption."""
    text = _string(value)
    if not _DATE.fullmatch(text):
        raise RecordRejected("bad_time", f"found {_show(text)}, expected YYYY-MM-DD")
    return _date_time(f"{text} 00:00:00", " ", has_zone=False)


def _date_time(text: str, separator: str, *, has_zone: bool) -> int:
    match = _DATE_TIME.fullmatch(text)
    if not match or match[4] != separator or (match[9] is not None) != has_zone:
        zone = "with a zone" if has_zone else "without a zone"
        raise RecordRejected(
            "bad_time", f"found {_show(text)}, expected YYYY-MM-DD{separator}HH:MM:SS {zone}"
        )
    try:
        whole = datetime(*(int(match[i]) for i in (1, 2, 3, 5, 6, 7)), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError as error:
        raise RecordRejected("bad_time", f"{_show(text)}: {error}") from None
    seconds = (whole - _EPOCH_TIME) // timedelta(seconds=1) - _offset_seconds(match[9], text)
    return _in_range(seconds * 1_000_000_000 + int((match[8] or "").ljust(9, "0")), text)


def _offset_seconds(zone: str | None, text: str) -> int:
    if zone is None or zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise RecordRejected("bad_time", f"{_show(text)}: no such offset")
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def read_rfc822_time(value: object, _: Mapping[str, Any]) -> int:
    """RSS' "Mon, 23 Nov 2026 09:30:00 GMT"; a zone is required."""
    text = _string(value)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        seconds = (moment - _EPOCH_TIME) // timedelta(seconds=1)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise RecordRejected("bad_time", f"{_show(text)}: {error}") from None
    return _in_range(seconds * 1_000_000_000, text)


def _epoch_kinds() -> dict[str, Kind]:
    kinds = {}
    for unit, unit_ns in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)):
        doc, columns = f"{unit} since 1970 UTC", c.epoch_columns(unit_ns)
        kinds[f"epoch_{unit}"] = Kind(doc, "scalar", _epoch(unit_ns), columns)
        kinds[f"epoch_{unit}_text"] = Kind(doc, "string", _epoch_text(unit_ns), columns)
    return kinds


def _unread(value: object, _: Mapping[str, Any]) -> int:
    raise AssertionError(f"a kind that reads nothing was given {value!r}")


KINDS: Mapping[str, Kind] = {
    "text": Kind("text as it stands", "string", read_text, c.text_columns),
    "symbol": Kind("an instrument's name", "string", read_symbol, c.symbol_columns),
    "text_list": Kind("strings joined by commas", "list", read_text_list),
    "integer": Kind("a JSON integer", "scalar", read_integer, c.integer_columns),
    "integer_text": Kind("digits in a string", "string", read_integer_text, c.integer_columns),
    "integer_as_text": Kind(
        "a JSON integer kept as text", "scalar", read_integer_as_text, c.id_columns
    ),
    "decimal": Kind("a JSON number, exact", "scalar", read_decimal, c.decimal_columns),
    "decimal_text": Kind(
        "a number in a string, exact", "string", read_decimal_text, c.decimal_columns
    ),
    "enum": Kind("one of a few strings", "string", read_enum, c.enum_columns),
    "bool_enum": Kind("a boolean that stands for text", "scalar", read_bool_enum, c.bool_columns),
    "iso_time": Kind(
        "ISO 8601 with a zone", "string", read_iso_time, c.time_columns("T", has_zone=True)
    ),
    "date_time_assumed_utc": Kind(
        "a time without zone, taken as UTC",
        "string",
        read_date_time_assumed_utc,
        c.time_columns(" ", has_zone=False),
    ),
    "date_time_in_zone": Kind(
        "a time without zone, in that of a place (option `zone`)",
        "string",
        read_date_time_in_zone,
        c.zone_columns,
    ),
    "local_date": Kind(
        "the day of a time without zone", "string", read_local_date, c.local_date_columns
    ),
    "date_assumed_utc": Kind(
        "a day, as its midnight UTC", "string", read_date_assumed_utc, c.date_columns
    ),
    "rfc822_time": Kind("RSS' date", "string", read_rfc822_time),
    **_epoch_kinds(),
    "content_key": Kind("an id made of strings of the row (option `of`)", "parts", read_parts),
    "const": Kind("a constant (option `value`)", "none", _unread),
    "arrival": Kind("the record's arrival, ns", "none", _unread),
    "row_key": Kind("an id made of stored numbers (option `of`: columns)", "none", _unread),
    "same": Kind("as another column (option `as`)", "none", _unread),
    "utc_date": Kind("the UTC day of another column (option `of`)", "none", _unread),
}
"""Every value kind by name."""
