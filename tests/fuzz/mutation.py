"""Change an input as strangers do: other digits, other types, cut, doubled, spliced.

Blind changes of bytes rarely leave JSON that is still JSON. Half of these change a whole token
(a number, a text, a literal) for another awkward one. Seeded: the same seed, the same changes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

TOKENS: Sequence[bytes] = tuple(
    text.encode()
    for text in (
        *("0", "-0", "1", "-1", "00", "01", "1.", ".5", "1e2", "1E-3", "1e400", "1e-400", "-0.0"),
        *("0.00000001", "0.000000001", "9999999999.99999999", "10000000000", "12345678.123456789"),
        *(
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "99999999999999999",
        ),
        *("1764000000000000000", "1764000000000", "1764000000", "1534614057.321597", "1.764e18"),
        *("null", "true", "false", "NaN", "Infinity", "-Infinity", "{}", "[]", "[[]]", '""', '"0"'),
        *('"1"', '"101.25"', '" 1"', '"1 "', '"+1"', '"1_0"', '"0x1"', '"\u0661"', '"é"', '"日本"'),
        *('"\\u00e9"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"a\\"b"', '"\\\\"', '"\\/"'),
        *('"2025-11-24T16:00:00Z"', '"2025-02-29T00:00:00Z"', '"2025-11-24T24:00:00Z"'),
        *('"2025-11-24T23:59:60Z"', '"2025-11-24 16:00:00"', '"2025-11-24"', '"0000-01-01"'),
        *('"9999-12-31T23:59:59.999999999Z"', '"2025-11-02 01:30:00"', '"2025-03-09 02:30:00"'),
        *('"Mon, 24 Nov 2025 09:30:00 GMT"', '"Mon, 24 Nov 99999 09:30:00 +9999"', '"buy"', '"b"'),
        *(
            '"new"',
            '"cancel"',
            '"XBT/USD"',
            '"sim"',
            '"coinbase"',
            '"trade"',
            '"ticker"',
            '"match"',
        ),
        *('{"$numberLong":"1"}', '{"$numberDecimal":"1E+3"}', '{"$date":{"$numberLong":"0"}}'),
        *('{"a":1,"a":2}', "[1,[2,[3,[4]]]]", "\ufeff", "\x00", "\x7f", "\r\n", "\n", "\t", " "),
    )
)
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"(?!\s*:)|-?[0-9][0-9.eE+-]*|true|false|null', re.DOTALL)
_NAME = re.compile(rb'"(?:[^"\\]|\\.)*"(?=\s*:)', re.DOTALL)


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes] = (b"",)) -> bytes:
    """One to four changes of an input; `others`: inputs to take pieces from."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(_CHANGES)(data, rng, others)
    return data


def _another_value(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return _replace(data, _SCALAR, rng, rng.choice(TOKENS))


def _swapped_values(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    found = list(_SCALAR.finditer(data))
    return _replace(data, _SCALAR, rng, rng.choice(found)[0]) if found else data


def _another_name(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    names = _NAME.findall(rng.choice(others)) or _NAME.findall(data)
    return _replace(data, _NAME, rng, rng.choice(names)) if names else data


def _other_digits(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    digits = [m.start() for m in re.finditer(rb"[0-9]", data)]
    if not digits:
        return data
    at = rng.choice(digits)
    piece = bytes(rng.choice(b"0123456789.-e") for _ in range(rng.choice((0, 1, 1, 2, 12, 30))))
    return data[:at] + piece + data[at + 1 :]


def _other_bytes(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 1, 3))))
    return data[:at] + piece + data[at + rng.choice((0, 1, 1, 4)) :]


def _token(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _cut(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:] if rng.random() < 0.5 else data[:last]


def _doubled(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:]


def _beside(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another payload after this one: often nearly the same."""
    one = rng.choice((data.split(b"\x1e")[0], rng.choice(others)))
    return data + b"\x1e" + mutate(one, rng) if len(data) < 4_000 else data


def _spliced(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _replace(data: bytes, pattern: re.Pattern[bytes], rng: random.Random, new: bytes) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return data + new
    where = rng.choice(found)
    return data[: where.start()] + new + data[where.end() :]


_CHANGES = (
    *(_another_value,) * 4,
    *(_other_digits,) * 2,
    *(_beside,) * 2,
    *(_swapped_values, _another_name, _other_bytes, _token, _cut, _doubled, _spliced),
)
