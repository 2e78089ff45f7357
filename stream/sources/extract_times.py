"""Times of a vendor's columns to ns since 1970 UTC, and dates to ISO, column by column, strictly.

Formats are those of `strptime` with %f up to nanoseconds; where a format has ".%f", a time
without a fraction is read, too. A value that is no time (a 30th of February, a second 60) is
null. Local times need a zone: one that came twice in autumn is the earlier one (`ambiguous`:
"earliest", "latest" or "reject"), one that never was in spring is null, never moved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

DIRECTIVES: Mapping[str, str] = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    **dict.fromkeys("mdHIMS", "[0-9]{1,2}"),
    "f": "[0-9]{1,9}",
    "p": "[AaPp][Mm]",
    "b": "[A-Za-z]{3}",
    "B": "[A-Za-z]+",
    "a": "[A-Za-z]{3}",
    "A": "[A-Za-z]+",
    "z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}
"""What a format may hold, and the text that each directive reads."""

UNITS: Mapping[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

AMBIGUOUS = ("earliest", "latest", "reject")

_NS = pa.timestamp("ns")
_MAX_NS = 2**63 - 1


def check_format(text: str) -> None:
    """Refuse a format that is not understood. Raises: ValueError naming what is wrong."""
    unknown = [d for d in re.findall(r"%(.?)", text) if d not in DIRECTIVES]
    if unknown:
        known = " ".join(f"%{d}" for d in DIRECTIVES)
        raise ValueError(f"{', '.join(f'%{d}' for d in unknown)} is none of {known}")
    found = re.findall(r"%(.)", text)
    doubled = {d for d in found if found.count(d) > 1 and d != "%"}
    if doubled:
        raise ValueError(f"{', '.join(f'%{d}' for d in sorted(doubled))} stands twice")
    if not {"Y", "y"} & set(found) or "d" not in found or not {"m", "b", "B"} & set(found):
        raise ValueError("it must name year, month and day")


def ns_texts(values: pa.Array, spec: Mapping[str, Any]) -> pa.StringArray:
    """Nanoseconds since 1970 UTC as digits; null where a value is no time.

    Args: values: text (with `format` or `unit` in `spec`) or timestamps. spec: `format`, `zone`,
    `ambiguous`, `unit`. Raises: ValueError when values and spec do not fit each other.
    """
    if pa.types.is_timestamp(values.type):
        naive = values.cast(_NS) if values.type.tz is None else None
        moments = values.cast(pa.timestamp("ns", "UTC")) if naive is None else _local(naive, spec)
        return _in_range(moments.cast(pa.int64())).cast(pa.string())
    if not pa.types.is_string(values.type):
        raise ValueError("expected text or timestamps")
    if "unit" in spec:
        return _in_range(_epoch(values, UNITS[spec["unit"]])).cast(pa.string())
    if "format" not in spec:
        raise ValueError("text needs a format or a unit")
    return _in_range(_parse(values, spec["format"], spec)).cast(pa.string())


def date_texts(values: pa.Array, spec: Mapping[str, Any]) -> pa.StringArray:
    """The day as written, as YYYY-MM-DD; null where a value is none. Raises: as `ns_texts`."""
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return values.cast(pa.date32()).cast(pa.string())
    if not pa.types.is_string(values.type) or "format" not in spec:
        raise ValueError("text needs a format")
    naive, _ = _naive(values, spec["format"])
    return naive.cast(pa.date32(), safe=False).cast(pa.string())


def _parse(texts: pa.StringArray, pattern: str, spec: Mapping[str, Any]) -> pa.Int64Array:
    """Text to ns, as int64; null where it is no time."""
    naive, good = _naive(texts, pattern)
    if "%z" in pattern:
        offset = _offset_ns(_capture(texts, pattern, "z", good))
        found = pc.subtract(naive.cast(pa.int64()), offset)
    else:
        found = _local(naive, spec).cast(pa.int64())
    shorter = _without_fraction(pattern)
    if shorter is None or not pc.any(pc.invert(good)).as_py():
        return found
    rest = pc.if_else(good, None, texts)
    return pc.coalesce(found, _parse(rest, shorter, spec)) if rest.null_count < len(rest) else found


def _without_fraction(pattern: str) -> str | None:
    """The same format for a time that leaves out a fraction of zero."""
    for sign in (".%f", ",%f"):
        if sign in pattern:
            return pattern.replace(sign, "")
    return None


def _naive(texts: pa.StringArray, pattern: str) -> tuple[pa.Array, pa.Array]:
    """Local timestamps as written, and which texts have the format at all (null counts as not)."""
    good = pc.fill_null(pc.match_substring_regex(texts, _regex(pattern)), fill_value=False)
    texts = texts if pc.all(good).as_py() else pc.if_else(good, texts, None)
    base, format_of_base = texts, pattern
    for directive in ("%f", "%z"):
        format_of_base = format_of_base.replace(directive, "")
    if format_of_base != pattern:
        base = pc.replace_substring_regex(texts, _regex_around(pattern), _all_groups(pattern))
    whole = pc.strptime(base, format_of_base, "ns", error_is_null=True)
    whole = _refuse_carried(whole, base, format_of_base)
    if "%f" in pattern:
        digits = pc.utf8_rpad(_capture(texts, pattern, "f", good), 9, "0")
        whole = pc.add(whole.cast(pa.int64()), digits.cast(pa.int64())).cast(_NS)
    return whole, good


def _refuse_carried(whole: pa.Array, texts: pa.Array, pattern: str) -> pa.Array:
    """Null where strptime carried over: a day past its month's end, a second 60."""
    suspects = pc.less_equal(pc.day(whole), 3)
    bad = None
    if pc.any(suspects).as_py():
        day = _capture(texts, pattern, "d", suspects).cast(pa.int64())
        bad = pc.not_equal(day, pc.day(whole))
    if "%S" in pattern:
        suspects = pc.less_equal(pc.second(whole), 1)
        if pc.any(suspects).as_py():
            second = _capture(texts, pattern, "S", suspects).cast(pa.int64())
            carried = pc.fill_null(pc.not_equal(second, pc.second(whole)), fill_value=False)
            bad = carried if bad is None else pc.or_(carried, pc.fill_null(bad, fill_value=False))
    if bad is None or not pc.any(bad).as_py():
        return whole
    return pc.if_else(pc.fill_null(bad, fill_value=False), None, whole)


def _local(naive: pa.Array, spec: Mapping[str, Any]) -> pa.Array:
    """Local timestamps to moments, by the zone's rules."""
    zone = spec.get("zone")
    if zone is None:
        raise ValueError("a time without a zone: name one")
    try:
        return pc.assume_timezone(naive, zone)
    except pa.ArrowInvalid as error:
        if "ambiguous" not in str(error) and "exist" not in str(error):
            raise
    kind = spec.get("ambiguous", "earliest")
    first = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
    later = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest")
    last = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="earliest")
    chosen = last if kind == "latest" else first
    bad = pc.not_equal(first, later)
    if kind == "reject":
        bad = pc.or_(bad, pc.not_equal(first, last))
    return pc.if_else(bad, None, chosen)


def _epoch(texts: pa.StringArray, unit_ns: int) -> pa.Int64Array:
    """Numbers since 1970 in a unit, with decimals down to ns, exactly."""
    digits = len(str(unit_ns)) - 1
    fraction = rf"(?:\.([0-9]{{1,{digits}}})0*)?" if digits else r"(?:\.(0*))?"
    pattern = rf"^([0-9]{{1,{19 - digits}}}){fraction}$"
    good = pc.match_substring_regex(texts, pattern)
    texts = texts if pc.all(good).as_py() else pc.if_else(good, texts, None)
    whole = pc.replace_substring_regex(texts, pattern, r"\1").cast(pa.uint64())
    most = pa.scalar(_MAX_NS // unit_ns - 1, pa.uint64())
    whole = pc.if_else(pc.less_equal(whole, most), whole, None)
    whole = pc.multiply(whole.cast(pa.int64()), unit_ns)
    if not digits or not pc.any(pc.match_substring(texts, ".")).as_py():
        return whole
    rest = pc.utf8_rpad(pc.replace_substring_regex(texts, pattern, r"\2"), digits, "0")
    return pc.add(whole, rest.cast(pa.int64()))


def _in_range(ns: pa.Int64Array) -> pa.Int64Array:
    return pc.if_else(pc.greater_equal(ns, 0), ns, None)


def _offset_ns(zones: pa.StringArray) -> pa.Int64Array:
    """A zone's Z, +HHMM or +HH:MM in ns."""
    plain = pc.replace_substring(pc.if_else(pc.equal(zones, "Z"), "+0000", zones), ":", "")
    hours = pc.utf8_slice_codeunits(plain, 1, 3).cast(pa.int64())
    minutes = pc.utf8_slice_codeunits(plain, 3, 5).cast(pa.int64())
    seconds = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    sign = pc.if_else(pc.equal(pc.utf8_slice_codeunits(plain, 0, 1), "-"), -1, 1)
    valid = pc.and_(pc.less(hours, 24), pc.less(minutes, 60))
    return pc.if_else(valid, pc.multiply(pc.multiply(seconds, sign), 10**9), None)


def _capture(texts: pa.Array, pattern: str, directive: str, where: pa.Array) -> pa.StringArray:
    """The text that a directive read, where `where` holds; else null."""
    chosen = texts if pc.all(where).as_py() else pc.if_else(where, texts, None)
    return pc.replace_substring_regex(chosen, _regex(pattern, capture=directive), r"\1")


def _regex(pattern: str, capture: str = "") -> str:
    parts = [
        (f"({DIRECTIVES[part[1]]})" if part[1] == capture else DIRECTIVES[part[1]])
        if part.startswith("%")
        else re.escape(part)
        for part in re.findall(r"%.|[^%]+", pattern)
    ]
    return f"^{''.join(parts)}$"


def _regex_around(pattern: str) -> str:
    """Groups for what lies around %f and %z."""
    pieces = re.split(r"(%f|%z)", pattern)
    return (
        "^"
        + "".join(
            _regex(piece)[1:-1] if piece in {"%f", "%z"} else f"({_regex(piece)[1:-1]})"
            for piece in pieces
        )
        + "$"
    )


def _all_groups(pattern: str) -> str:
    return "".join(rf"\{n + 1}" for n in range(len(re.split(r"%f|%z", pattern))))
