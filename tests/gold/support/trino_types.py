"""Trino's types as far as Gold uses them: which converts into which by itself, what functions take.

A type is a tuple: its name, then its parameters: ("decimal", 18, 8), ("array", ("varchar",)).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Type = tuple[Any, ...]

BOOLEAN, VARCHAR, DATE, DOUBLE = ("boolean",), ("varchar",), ("date",), ("double",)
INTEGER, BIGINT, UNKNOWN, VARBINARY = ("integer",), ("bigint",), ("unknown",), ("varbinary",)
ZONED = ("timestamp with time zone",)
INTERVAL = ("interval",)
WIDTH = {"integer": 10, "bigint": 19}
"""Digits of an integer that becomes a decimal."""


class TrinoTypeError(Exception):
    """Trino's analyzer would refuse this."""


def timestamp(precision: int = 3) -> Type:
    return ("timestamp", precision)


def decimal(precision: int, scale: int) -> Type:
    if scale > 38:
        raise TrinoTypeError(f"decimal scale {scale} is more than 38")
    return ("decimal", min(precision, 38), scale)


def parse_type(text: str) -> Type:
    """Of YAML, Glue and SQL: "decimal(18, 8)", "timestamp(6)", "array(varchar)"."""
    found = re.fullmatch(r"\s*([a-z ]+?)\s*(?:\((.*)\))?\s*", text.lower())
    if found is None:
        raise TrinoTypeError(f"{text} is no type")
    name, inner = found[1], found[2]
    name = {"int": "integer", "text": "varchar", "string": "varchar"}.get(name, name)
    if name in ("timestamptz", "timestamp with time zone"):
        return ZONED
    if name == "timestamp":
        return timestamp(int(inner or 3))
    if name == "decimal":
        precision, _, scale = (inner or "38").partition(",")
        return decimal(int(precision), int(scale or 0))
    if name == "array":
        return ("array", parse_type(inner or ""))
    return (name,)


def show(kind: Type) -> str:
    """As people write it."""
    name, *rest = kind
    shown = ", ".join(show(part) if isinstance(part, tuple) else str(part) for part in rest)
    return f"{name}({shown})" if rest else str(name)


def common(one: Type, other: Type) -> Type:
    """The type that both become in a comparison, a CASE or a UNION. Raises: TrinoTypeError."""
    if one == other or other == UNKNOWN:
        return one
    if one == UNKNOWN:
        return other
    names = {one[0], other[0]}
    if names <= {"integer", "bigint"}:
        return BIGINT
    if names <= {"integer", "bigint", "decimal"}:
        a, b = as_decimal(one), as_decimal(other)
        scale = max(a[2], b[2])
        return decimal(max(a[1] - a[2], b[1] - b[2]) + scale, scale)
    if "double" in names and names <= {"integer", "bigint", "decimal", "double"}:
        return DOUBLE
    if names == {"timestamp"}:
        return timestamp(max(one[1], other[1]))
    if names == {"date", "timestamp"}:
        return one if one[0] == "timestamp" else other
    if names == {"row"} and len(one) == len(other):
        return ("row", *map(common, one[1:], other[1:]))
    raise TrinoTypeError(f"{show(one)} and {show(other)} have no common type")


def converts(kind: Type, into: Type) -> bool:
    """Whether a value becomes the other type without a cast."""
    try:
        return common(kind, into) == into
    except TrinoTypeError:
        return False


def as_decimal(kind: Type) -> Type:
    return kind if kind[0] == "decimal" else decimal(WIDTH[kind[0]], 0)


def is_number(kind: Type) -> bool:
    return kind[0] in ("integer", "bigint", "decimal", "double")


def arithmetic(sign: str, one: Type, other: Type) -> Type:
    """The type of `one sign other`. Raises: TrinoTypeError."""
    if {one[0], other[0]} & {"interval"}:
        return other if one == INTERVAL else one
    if UNKNOWN in (one, other):
        return common(one, other)
    if not (is_number(one) and is_number(other)):
        raise TrinoTypeError(f"{sign} takes no {show(one)} and {show(other)}")
    shared = common(one, other)
    if shared[0] != "decimal" or sign in "%/":
        return shared
    a, b = as_decimal(one), as_decimal(other)
    if sign == "*":
        return decimal(a[1] + b[1], a[2] + b[2])
    scale = max(a[2], b[2])
    return decimal(max(a[1] - a[2], b[1] - b[2]) + scale + 1, scale)


@dataclass(frozen=True)
class Signature:
    """One line of functions.txt."""

    arguments: tuple[str, ...]
    result: str

    def match(self, given: list[Type]) -> Type | None:
        """The type of the result; None if it does not take these."""
        wanted = list(self.arguments)
        if wanted and wanted[-1] == "...":
            wanted = [*wanted[:-1], *[wanted[-2]] * (len(given) - len(wanted) + 1)]
        bound: dict[str, Type] = {}
        if len(wanted) != len(given) or not all(map(partial(_takes, bound), wanted, given)):
            return None
        if self.result == "decimal38":
            return decimal(38, bound["decimal"][2])
        if self.result == "array(T)":
            return ("array", bound["T"])
        return bound.get(self.result) or parse_type(self.result)


def _takes(bound: dict[str, Type], word: str, kind: Type) -> bool:
    """Whether an argument is taken for a word of the signature; what it stands for is noted."""
    if word == "N" and not (is_number(kind) or kind == UNKNOWN):
        return False
    if word in ("decimal", "timestamp"):
        bound[word] = kind
        return bool(kind[0] == word)
    if word not in ("T", "O", "N"):
        return converts(kind, parse_type(word))
    try:
        bound[word] = common(bound.get(word, UNKNOWN), kind)
    except TrinoTypeError:
        return False
    return True


def read_functions() -> dict[str, list[Signature]]:
    """functions.txt: name -> its signatures."""
    found = defaultdict(list)
    for line in Path(__file__).with_name("functions.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, rest = line.split("(", 1)
            arguments, result = rest.rsplit(") -> ", 1)
            words = tuple(word.strip() for word in arguments.split(",") if word.strip())
            found[name].append(Signature(words, result))
    return dict(found)


FUNCTIONS = read_functions()


def call(name: str, given: list[Type]) -> Type:
    """The type of a call. Raises: TrinoTypeError: no such function, or not for these arguments."""
    if name not in FUNCTIONS:
        raise TrinoTypeError(f"function {name} is not in functions.txt")
    for signature in FUNCTIONS[name]:
        if (result := signature.match(given)) is not None:
            return result
    raise TrinoTypeError(f"{name} takes no ({', '.join(map(show, given))})")
