"""Arithmetic on eight bytes at a time, for many places of a buffer at once.

A window is the 64-bit little-endian word at a byte position: its lowest byte is the first
character. Tests and conversions run on arrays of windows, one number per message, so the cost of
Python is per column and not per message. Everything here is exact; no function reads outside the
spans' padding.
"""

from __future__ import annotations

import numpy as np

Words = np.ndarray
"""uint64, one window per message."""

_ONES = 0x0101010101010101
_HIGH = np.uint64(0x8080808080808080)
_LOW_ONE = np.uint64(_ONES)
_ZEROS = np.uint64(0x3030303030303030)
_NOT_DIGIT = np.uint64(0x7676767676767676)

POW10 = np.array([10**k for k in range(20)], np.uint64)


def gather(buffer: np.ndarray, at: np.ndarray, words: int) -> np.ndarray:
    """`words` consecutive windows from each position: an array of shape (positions, words)."""
    width = 8 * words
    kind = "<u8" if words == 1 else f"V{width}"
    view: np.ndarray = np.ndarray((len(buffer) - width + 1,), kind, buffer, strides=(1,))
    windows: np.ndarray = view[at].view("<u8").reshape(len(at), words)
    return windows


def keep_low(count: np.ndarray | int) -> np.ndarray:
    """Masks that keep a window's first `count` (0 to 8) characters."""
    # numpy shifts 64 bits out of 64 to 0, so that 8 keeps all.
    bits = np.asarray(count, np.uint64) << np.uint64(3)
    return np.asarray(~(np.uint64(0xFFFFFFFFFFFFFFFF) << bits))


def _in_word(length: np.ndarray, number: int) -> np.ndarray:
    """How many of a value's characters lie in its window `number`."""
    if number:
        length = np.maximum(length - 8 * number, 0)
    inside: np.ndarray = np.minimum(length, 8)
    return inside


def find_byte(window: Words, byte: int) -> np.ndarray:
    """Index of the first such byte in each window, 8 if there is none; int64.

    The classic zero-byte test: its lowest hit is exact, and only the lowest is used.
    """
    zeroed = window ^ np.uint64(byte * _ONES)
    hits = (zeroed - _LOW_ONE) & ~zeroed
    hits &= _HIGH
    # The bits below the lowest hit: 8 per byte, plus 7; all 64 when there is no hit.
    below = (hits - np.uint64(1)) & ~hits
    index: np.ndarray = (np.bitwise_count(below) >> 3).astype(np.int64)
    return index


def has_byte(window: Words, byte: int) -> np.ndarray:
    """Which windows hold such a byte."""
    zeroed = window ^ np.uint64(byte * _ONES)
    return np.asarray(((zeroed - _LOW_ONE) & ~zeroed & _HIGH) != 0)


def parse_digits(window: Words, count: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Value of each window's first `count` (0 to 8) characters, and whether all are digits."""
    shift = np.asarray((8 - count) << 3, np.uint64)
    digits = (window ^ _ZEROS) << shift
    bad = ((digits + _NOT_DIGIT) | digits) & _HIGH
    value = digits * np.uint64(10) + (digits >> np.uint64(8))
    value &= np.uint64(0x00FF00FF00FF00FF)
    value = value * np.uint64(100) + (value >> np.uint64(16))
    value &= np.uint64(0x0000FFFF0000FFFF)
    value = value * np.uint64(10_000) + (value >> np.uint64(32))
    value &= np.uint64(0xFFFFFFFF)
    return value, bad == 0


class Spans:
    """One value of many messages: where it lies, and its first windows."""

    __slots__ = ("_words", "buffer", "length", "start")

    def __init__(
        self,
        buffer: np.ndarray,
        start: np.ndarray,
        length: np.ndarray,
        words: np.ndarray | None = None,
    ) -> None:
        self.buffer = buffer
        self.start = start
        self.length = length
        self._words = words

    @property
    def end(self) -> np.ndarray:
        end: np.ndarray = self.start + self.length
        return end

    def word(self, number: int) -> Words:
        """The window at character 8 * `number`; it may hold bytes behind the value's end."""
        if self._words is not None and number < len(self._words):
            known: Words = self._words[number]
            return known
        # A short value near the buffer's end: stay inside, those bytes are not the value's.
        at = np.minimum(self.start + 8 * number, len(self.buffer) - 8)
        window: Words = gather(self.buffer, at, 1)[:, 0]
        return window

    def text_word(self, number: int) -> Words:
        """The same with everything behind the value's end zeroed."""
        kept: Words = self.word(number) & keep_low(_in_word(self.length, number))
        return kept

    def drop_first(self, count: np.ndarray) -> Spans:
        """The spans without their first `count` characters."""
        return Spans(self.buffer, self.start + count, self.length - count)

    def copy_one(self, model: int, places: np.ndarray) -> None:
        """Put the value of message `model` in place of those at `places`."""
        self.start[places] = self.start[model]
        self.length[places] = self.length[model]
        if self._words is not None:
            self._words[:, places] = self._words[:, model : model + 1]

    def take(self, index: np.ndarray) -> Spans:
        """The spans at these places (an index or a mask)."""
        words = None if self._words is None else self._words[:, index]
        return Spans(self.buffer, self.start[index], self.length[index], words)


def longest(spans: Spans) -> int:
    """Length of the longest span; 0 without any."""
    return int(spans.length.max(initial=0))


def parse_integer(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Values of plain digits without leading zero, up to 19 below 9e18; and which are that."""
    top = longest(spans)
    if top > 19:
        spans = Spans(spans.buffer, spans.start, np.minimum(spans.length, 20), spans._words)  # noqa: SLF001
        top = 20
    value, good = _digits_of([spans.word(j) for j in range((top + 7) // 8)], spans.length)
    first = spans.word(0) & np.uint64(0xFF)
    good &= (spans.length >= 1) & ((first != ord("0")) | (spans.length == 1))
    if top > 18:
        good &= (spans.length < 19) | ((spans.length == 19) & (first < ord("9")))
    return value.view(np.int64), good


def _digits_of(words: list[Words], length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value of each digit string, and whether all its characters are digits."""
    value = np.zeros(len(length), np.uint64)
    good = np.ones(len(length), bool)
    fixed = int(length[0]) if len(length) and (length == length[0]).all() else None
    for j, word in enumerate(words):
        count = min(max(fixed - 8 * j, 0), 8) if fixed is not None else _in_word(length, j)
        if isinstance(count, int) and count == 8 and (word == word[0]).all():
            # Neighbours share the leading digits of a time: convert them once.
            part, is_good = parse_digits(word[:1], 8)
        else:
            part, is_good = parse_digits(word, count)
        value = value * POW10[count] + part if j else part + value
        good &= is_good
    return value, good


def parse_scaled(spans: Spans, scale: int, precision: int) -> tuple[np.ndarray, np.ndarray]:
    """Decimals without exponent in units of 10^-scale, exact; and which are that.

    A leading "-" is read; more decimals than `scale` or more than `precision` digits in all, a
    leading zero, a missing digit beside the point: all not good. `precision` is at most 19.
    """
    negative = (spans.word(0) & np.uint64(0xFF)) == ord("-")
    signed = bool(negative.any())
    if signed:
        spans = spans.drop_first(negative.astype(np.int64))
    words = [spans.word(j) for j in range(max(1, (min(longest(spans), 24) + 7) // 8))]
    point = np.minimum(_find_in(words, ord(".")), spans.length)
    has_point = point < spans.length
    digits = spans.length
    if has_point.any():
        digits = spans.length - has_point
        words = _squeeze(words, point)
    decimals = np.where(has_point, spans.length - point - 1, 0)
    value, good = _digits_of(words, digits)
    first = spans.word(0) & np.uint64(0xFF)
    good &= (point >= 1) & ((first != ord("0")) | (point == 1))
    good &= (decimals <= scale) & (~has_point | (decimals >= 1))
    good &= (point <= precision - scale) & (digits <= min(precision, 18)) & (spans.length <= 24)
    scaled = (value * POW10[np.clip(scale - decimals, 0, 19)]).view(np.int64)
    if signed:
        scaled = np.where(negative, -scaled, scaled)
    return scaled, good


def _find_in(words: list[Words], byte: int) -> np.ndarray:
    found = find_byte(words[0], byte)
    for j, word in enumerate(words[1:], 1):
        missing = found == 8 * j
        if missing.any():
            found += np.where(missing, find_byte(word, byte), 0)
    return found


def _squeeze(words: list[Words], point: np.ndarray) -> list[Words]:
    """Take the character at `point` out: what follows moves up by one."""
    squeezed = []
    for j, word in enumerate(words):
        moved = word >> np.uint64(8)
        if j + 1 < len(words):
            moved |= words[j + 1] << np.uint64(56)
        keep = keep_low(_in_word(point, j))
        squeezed.append((word & keep) | (moved & ~keep))
    return squeezed
