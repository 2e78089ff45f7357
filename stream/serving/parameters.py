"""The parameters of routes: what each accepts, as types that validate and document it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from stream.feeds import load_feeds
from stream.feeds.venues import VENUES
from stream.serving.cursor import PATTERN
from stream.serving.moments import (
    DAY_NS,
    DAY_PATTERN,
    TIME_PATTERN,
    parse_day_ns,
    parse_time_ns,
)
from stream.serving.problem import ProblemError
from stream.serving.resource import INTERVALS

MAX_LIMIT = 10_000
SYMBOL_PATTERN = r"^[A-Z0-9^][A-Z0-9._:/^=-]{0,31}$"

Symbol = Annotated[
    str, Query(pattern=SYMBOL_PATTERN, description="Instrument, as the venue names it")
]
OptionalSymbol = Annotated[
    str | None, Query(pattern=SYMBOL_PATTERN, description="Only stories that name it")
]
Venue = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z]{1,16}$",
        description="Only this venue",
        json_schema_extra={"enum": list(VENUES)},
    ),
]
From = Annotated[
    str | None,
    Query(
        alias="from",
        pattern=TIME_PATTERN,
        description="Start of the range, in it: ISO 8601, UTC without a zone. Default: a day "
        "before the end",
    ),
]
To = Annotated[
    str | None,
    Query(
        alias="to",
        pattern=TIME_PATTERN,
        description="End of the range, not in it. Default: the newest row",
    ),
]
Day = Annotated[
    str | None, Query(pattern=DAY_PATTERN, description="One UTC day, instead of from and to")
]
At = Annotated[str, Query(pattern=TIME_PATTERN, description="The moment, ISO 8601")]
KnownAt = Annotated[
    str | None,
    Query(
        pattern=TIME_PATTERN,
        description="As it was known at this time: later corrections, cancels and arrivals left "
        "out",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows per page, at most")]
NextCursor = Annotated[
    str | None,
    Query(
        alias="cursor",
        pattern=PATTERN,
        max_length=2_048,
        description="`next_cursor` of the page before, with the same parameters",
    ),
]
Interval = Annotated[
    str,
    Query(
        pattern="^(" + "|".join(INTERVALS) + ")$",
        description="Length of a bar",
        json_schema_extra={"enum": list(INTERVALS)},
    ),
]
Feed = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="Only this feed",
        json_schema_extra={"enum": list(load_feeds())},
    ),
]


def read_range(
    start: str | None, end: str | None, day: str | None
) -> tuple[int | None, int | None]:
    """From, to in ns. Raises: ProblemError for both kinds at once, or a day that is none."""
    if day is not None:
        if start is not None or end is not None:
            raise invalid("give `day`, or `from` and `to`, not both")
        begin = _read("day", day, parse_day_ns)
        return begin, begin + DAY_NS
    return read_time("from", start), read_time("to", end)


def read_time(name: str, text: str | None) -> int | None:
    """A time in ns. Raises: ProblemError."""
    return None if text is None else _read(name, text, parse_time_ns)


def check_known(name: str, value: str | None, known: Iterable[str]) -> None:
    """Refuse a value that is none of those known, and name the nearest. Raises: ProblemError."""
    known = list(known)
    if value is None or value in known:
        return
    near = difflib.get_close_matches(value, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise invalid(f"{name}={value!r} is none of {', '.join(known)}.{hint}")


def invalid(detail: str) -> ProblemError:
    """A request that no retry makes right."""
    return ProblemError(422, "invalid-parameter", detail)


def _read(name: str, text: str, parse: object) -> int:
    assert callable(parse)
    try:
        return int(parse(text))
    except (ValueError, OverflowError):
        raise invalid(f"{name}={text!r}: there is no such moment") from None
