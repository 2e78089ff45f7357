"""The columnar readers of the value kinds: one value of many messages at once.

Each accepts a part of what the scalar reader of the same kind accepts, with the same result, and
says which values it accepted (None: all). The rest is read by the scalar reader. Text that needs
no change stays where it is, as spans; made-up text goes to the slice's `texts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.decode.rows import Data, Text, spans_to_array
from stream.decode.windows import (
    POW10,
    Spans,
    find_byte,
    keep_low,
    longest,
    parse_digits,
    parse_integer,
    parse_scaled,
)
from stream.decode.zones import day_offset

DAY_NS = 86_400_000_000_000
_MAX_NS = 2**63 - 1
_Z = ord("Z")


@dataclass(frozen=True, slots=True)
class Texts:
    """Where text goes that is not found in the messages as it stands."""

    buffer: np.ndarray
    constants: Mapping[str, tuple[int, int]]
    constants_at: int
    made: bytearray
    one: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def unify(self, spans: Spans) -> Text:
        """The texts' spans; the same span for all if all are one short text, like a venue."""
        text, same = Text(spans.start, spans.end), spans.text_word(0)
        if not len(same) or longest(spans) > 8 or not (same == same[0]).all():
            return text
        value = bytes(self.buffer[text.start[0] : text.end[0]])
        if value not in self.one:
            made = self.append(pa.array([value]))
            self.one[value] = int(made.start[0]), int(made.end[0])
        return Text(*(np.full(len(same), at) for at in self.one[value]))

    def constant(self, text: str) -> tuple[int, int]:
        """Span of one of the contract's constants."""
        start, size = self.constants[text]
        return self.constants_at + start, self.constants_at + start + size

    def append(self, array: pa.StringArray, table: np.ndarray | None = None) -> Text:
        """Keep an array's texts, each byte replaced by `table[byte]`."""
        offsets = np.frombuffer(array.buffers()[1], np.int32)[
            array.offset : array.offset + len(array) + 1
        ].astype(np.int64)
        data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        base = len(self.buffer) + len(self.made) - int(offsets[0])
        self.made.extend((data if table is None else table[data]).tobytes())
        return Text(base + offsets[:-1], base + offsets[1:])


Read = tuple[Data, "np.ndarray | None"]
Columnar = Callable[[Spans, Mapping[str, Any], Texts], Read]

SYMBOL_BYTES = np.arange(256, dtype=np.uint8)
SYMBOL_BYTES[ord("a") : ord("z") + 1] -= 32
SYMBOL_BYTES[ord("/")] = ord("-")


def text_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """Text as it stands."""
    good = None if options.get("empty") else spans.length > 0
    return texts.unify(spans), good


def symbol_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """Symbols; a copy is made only when one needs another case or separator."""
    if _is_plain(spans):
        return text_columns(spans, options, texts)
    good = None if options.get("empty") else spans.length > 0
    found = spans_to_array(Text(spans.start, spans.end), texts.buffer)
    return texts.append(found, SYMBOL_BYTES), good


def _is_plain(spans: Spans) -> bool:
    """Whether no text can have a lower-case letter or a "/" (may say no in vain)."""
    if longest(spans) > 32:
        return False
    for j in range((longest(spans) + 7) // 8):
        word = spans.text_word(j)
        lower = (word + np.uint64(0x1F1F1F1F1F1F1F1F)) | word
        if (lower & np.uint64(0x8080808080808080)).any() or (find_byte(word, ord("/")) < 8).any():
            return False
    return True


def integer_columns(spans: Spans, _: Mapping[str, Any], __: Texts) -> Read:
    """Integers; negative ones are left to the scalar reader."""
    return parse_integer(spans)


def id_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """Integers kept as text."""
    good = _is_integer(spans)
    data = Text(spans.start, spans.end)
    if options.get("prefix"):
        joined = pc.binary_join_element_wise(
            options["prefix"], spans_to_array(data, texts.buffer), ""
        )
        return texts.append(joined), good
    return data, good


def _is_integer(spans: Spans) -> np.ndarray:
    _, good = parse_integer(spans)
    return good & (spans.length <= 18)


def decimal_columns(spans: Spans, options: Mapping[str, Any], _: Texts) -> Read:
    """Exact decimals in units of 10^-scale."""
    return parse_scaled(spans, options["scale"], options["precision"])


def epoch_columns(unit_ns: int) -> Columnar:
    """Numbers since 1970 in a unit, to ns."""
    scale = len(str(unit_ns)) - 1

    def read(spans: Spans, _: Mapping[str, Any], __: Texts) -> Read:
        if scale == 0:
            return parse_integer(spans)
        if scale == 9:
            return _seconds(spans)
        # 13 digits of ms or 16 of us may pass 2^63 but not 2^64: that shows as a negative.
        value, good = parse_scaled(spans, scale, 19)
        return value, good & (value >= 0)

    return read


def _seconds(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Seconds to ns: read in units of 10^-8 (18 digits), a ninth decimal is left alone."""
    value, good = parse_scaled(spans, 8, 18)
    good &= (value >= 0) & (value < 9 * 10**17)
    return value * 10, good


def enum_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """A few known strings."""
    return _choose(spans, options["values"], texts)


def bool_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """The literals true and false."""
    values = options["values"]
    return _choose(spans, {"true": values[True], "false": values[False]}, texts)


def _choose(spans: Spans, values: Mapping[str, str], texts: Texts) -> Read:
    start = np.zeros(len(spans.start), np.int64)
    end = np.zeros(len(spans.start), np.int64)
    good = np.zeros(len(spans.start), bool)
    for text, meaning in values.items():
        hit = is_literal(spans, text.encode())
        at = texts.constant(meaning)
        np.copyto(start, at[0], where=hit)
        np.copyto(end, at[1], where=hit)
        good |= hit
    return Text(start, end), good


def is_literal(spans: Spans, text: bytes) -> np.ndarray:
    """Which values are exactly these bytes."""
    hit: np.ndarray = spans.length == len(text)
    for j in range((len(text) + 7) // 8):
        part = text[8 * j : 8 * j + 8]
        wanted = np.uint64(int.from_bytes(part, "little"))
        hit &= (spans.word(j) & keep_low(len(part))) == wanted
    return hit


def is_plain_scalar(spans: Spans) -> np.ndarray:
    """Which values are JSON numbers without exponent, true, false or null: for values not read."""
    _, good = parse_scaled(spans, 18, 36)
    if not good.all():
        for literal in (b"true", b"false", b"null"):
            good |= is_literal(spans, literal)
    return good


def time_columns(separator: str, *, has_zone: bool) -> Columnar:
    """ISO times in UTC; other offsets are left to the scalar reader."""

    def read(spans: Spans, _: Mapping[str, Any], __: Texts) -> Read:
        date, clock, tail = spans.word(0), spans.word(1), spans.word(2)
        if has_zone:
            good = (spans.length >= 20) & (spans.length <= 30) & (spans.length != 21)
            last = np.maximum(spans.end - 1, 0)
            good &= spans.buffer[last] == _Z
        else:
            good = spans.length == 19
        days, is_date = _days(date, clock)
        day_ns, is_clock = _clock(clock, tail, separator)
        good &= is_date & is_clock
        ns = days * DAY_NS + day_ns
        if has_zone and longest(spans) > 20:
            fraction, is_fraction = _fraction(spans, tail)
            ns += fraction
            good &= is_fraction
        return ns, good

    return read


def zone_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """Times of a place; days on which its clocks change are left to the scalar reader."""
    ns, good = _plain_time(spans, options, texts)
    assert isinstance(ns, np.ndarray)
    assert good is not None
    days = ns // DAY_NS
    for day in np.unique(days[good]).tolist():
        offset = day_offset(options["zone"], day)
        here = good & (days == day)
        if offset is None:
            good &= ~here
        else:
            ns[here] -= offset * 1_000_000_000
    return ns, good & (ns >= 0)


def local_date_columns(spans: Spans, options: Mapping[str, Any], texts: Texts) -> Read:
    """The days of times without zone."""
    ns, good = _plain_time(spans, options, texts)
    assert isinstance(ns, np.ndarray)
    return ns // DAY_NS, good


def date_columns(spans: Spans, _: Mapping[str, Any], __: Texts) -> Read:
    """Days as their midnight UTC."""
    days, good = _days(spans.word(0), spans.word(1))
    return days * DAY_NS, good & (spans.length == 10)


_plain_time = time_columns(" ", has_zone=False)

_DATE = np.uint64(int.from_bytes(b"0000-00-", "little"))
_DATE_LIMITS = np.uint64(int.from_bytes(b"\x76\x76\x76\x76\x7f\x76\x76\x7f", "little"))
_HIGH = np.uint64(0x8080808080808080)
_BYTE = np.uint64(0xFF)


def _digit(word: np.ndarray, at: int) -> np.ndarray:
    digit: np.ndarray = ((word >> np.uint64(8 * at)) & _BYTE).astype(np.int64)
    return digit


def _days(date: np.ndarray, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970 of "YYYY-MM-" and "DD": once, if all are the same day."""
    day_word = clock & np.uint64(0xFFFF)
    if len(date) and (date == date[0]).all() and (day_word == day_word[0]).all():
        days, good = _each_day(date[:1], day_word[:1])
        return np.full(len(date), days[0]), np.full(len(date), good[0])
    return _each_day(date, day_word)


def _each_day(date: np.ndarray, day_word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    digits = date ^ _DATE
    good = (((digits + _DATE_LIMITS) | digits) & _HIGH) == 0
    day_digits = day_word ^ np.uint64(0x3030)
    good &= (((day_digits + np.uint64(0x7676)) | day_digits) & np.uint64(0x8080)) == 0
    year = (
        _digit(digits, 0) * 1000
        + _digit(digits, 1) * 100
        + _digit(digits, 2) * 10
        + _digit(digits, 3)
    )
    month = _digit(digits, 5) * 10 + _digit(digits, 6)
    day = _digit(day_digits, 0) * 10 + _digit(day_digits, 1)
    good &= (year >= 1970) & (year <= 2261) & (month >= 1) & (month <= 12) & (day >= 1)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return first + day - 1, good & (first + day <= after)


_CLOCK_LIMITS = np.uint64(int.from_bytes(b"\x7f\x7f\x7f\x76\x76\x7f\x76\x76", "little"))
_TAIL = np.uint64(int.from_bytes(b":00", "little"))
_TAIL_LIMITS = np.uint64(int.from_bytes(b"\x7f\x76\x76", "little"))


def _clock(clock: np.ndarray, tail: np.ndarray, separator: str) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds of the day of "??THH:MM" and ":SS"."""
    pattern = int.from_bytes(f"\0\0{separator}00:00".encode(), "little")
    digits = (clock & np.uint64(0xFFFFFFFFFFFF0000)) ^ np.uint64(pattern)
    good = (((digits + _CLOCK_LIMITS) | digits) & _HIGH) == 0
    rest = (tail & np.uint64(0xFFFFFF)) ^ _TAIL
    good &= (((rest + _TAIL_LIMITS) | rest) & np.uint64(0x808080)) == 0
    hour = _digit(digits, 3) * 10 + _digit(digits, 4)
    minute = _digit(digits, 6) * 10 + _digit(digits, 7)
    second = _digit(rest, 1) * 10 + _digit(rest, 2)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000, good


def _fraction(spans: Spans, tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds of ".123456" between the seconds and the Z: characters 19 to the last but one."""
    has_fraction = spans.length > 20
    point = (tail >> np.uint64(24)) & _BYTE
    good = ~has_fraction | (point == ord("."))
    count = np.clip(spans.length - 21, 0, 9)
    third = spans.word(3)
    first8 = (tail >> np.uint64(32)) | (third << np.uint64(32))
    value, is_good = parse_digits(first8, np.minimum(count, 8))
    good &= is_good
    if longest(spans) > 29:
        last, is_good = parse_digits(third >> np.uint64(32), np.maximum(count - 8, 0))
        value = np.where(count > 8, value * np.uint64(10) + last, value)
        good &= is_good
    return (value * POW10[9 - count]).astype(np.int64), good
