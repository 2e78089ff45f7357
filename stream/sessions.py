"""When a venue trades: whether a market is open, and how much trading time lies between two times.

A closed market is not lag, a silent open one is. The hours come from the `exchange-calendars`
library, by the name that a feed's contract gives (`calendar`: "24/7", or an ISO market identifier
such as XNYS). All times are milliseconds since the Unix epoch, UTC; a session's end is exclusive.

Not here: what is measured against it (`lag`, `telemetry`), the session's date of a row (Gold).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from stream.clock import to_utc
from stream.errors import ConfigError

ALWAYS = "24/7"
"""Of venues that never close. Answered without the library, which costs a second to import."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MarketState:
    """A market at one time. `next_change_ms`: when it opens or closes next; None: never."""

    calendar: str
    is_open: bool
    next_change_ms: int | None


def market_state(calendar: str, at_ms: int) -> MarketState:
    """Whether the market is open then.

    Raises: ConfigError for an unknown calendar.

    >>> market_state("24/7", 0)
    MarketState(calendar='24/7', is_open=True, next_change_ms=None)
    """
    if calendar == ALWAYS:
        return MarketState(calendar, is_open=True, next_change_ms=None)
    spans = _spans_around(calendar, at_ms, at_ms)
    number = bisect_right(spans, (at_ms, 1 << 62)) - 1
    if number >= 0 and at_ms < spans[number][1]:
        return MarketState(calendar, is_open=True, next_change_ms=spans[number][1])
    following = spans[number + 1][0] if number + 1 < len(spans) else None
    return MarketState(calendar, is_open=False, next_change_ms=following)


def open_spans(calendar: str, from_ms: int, to_ms: int) -> list[Span]:
    """The times of [from_ms, to_ms) at which the market is open, in order, not touching.

    Raises: ConfigError for an unknown calendar.
    """
    if calendar == ALWAYS:
        return [(from_ms, to_ms)] if from_ms < to_ms else []
    clipped = (
        (max(start, from_ms), min(end, to_ms))
        for start, end in _spans_around(calendar, from_ms, to_ms)
    )
    return [(start, end) for start, end in clipped if start < end]


def closed_spans(calendar: str, from_ms: int, to_ms: int) -> list[Span]:
    """The rest of [from_ms, to_ms): see `open_spans`.

    >>> closed_spans("24/7", 0, 1000)
    []
    """
    spans, at = [], from_ms
    for start, end in open_spans(calendar, from_ms, to_ms):
        if at < start:
            spans.append((at, start))
        at = end
    return [*spans, (at, to_ms)] if at < to_ms else spans


def open_ms_between(calendar: str, from_ms: int, to_ms: int) -> int:
    """Trading time within [from_ms, to_ms): what of a silence an open market has to answer for.

    >>> open_ms_between("24/7", 1_000, 4_000), open_ms_between("24/7", 4_000, 1_000)
    (3000, 0)
    """
    return sum(end - start for start, end in open_spans(calendar, from_ms, to_ms))


def check_calendar(calendar: str) -> None:
    """Raises: ConfigError, with the nearest names, if there is no such calendar."""
    if calendar == ALWAYS:
        return
    from exchange_calendars import get_calendar_names  # noqa: PLC0415 - a second, with pandas

    names = get_calendar_names()
    if calendar not in names:
        near = get_close_matches(calendar.upper(), names, n=3, cutoff=0.5)
        raise ConfigError(
            f"no market calendar {calendar!r}; {'did you mean ' + ', '.join(near) if near else ''}"
            f"{'? ' if near else ''}Names are {ALWAYS} and ISO market identifiers such as XNYS."
        )


def _spans_around(calendar: str, from_ms: int, to_ms: int) -> tuple[Span, ...]:
    """All sessions of the years that the range touches, and of a month before and after it."""
    month = 31 * 86_400_000
    first, last = (to_utc(ms * 1_000_000).year for ms in (from_ms - month, to_ms + month))
    return _year_spans(calendar, first, last)


@lru_cache(maxsize=32)
def _year_spans(calendar: str, first: int, last: int) -> tuple[Span, ...]:
    check_calendar(calendar)
    from exchange_calendars import get_calendar  # noqa: PLC0415 - a second, with pandas

    hours = get_calendar(calendar, start=f"{first}-01-01", end=f"{last}-12-31")
    columns = [
        series.dt.tz_convert(None).to_numpy("datetime64[ms]").astype("int64").tolist()
        for series in (hours.opens, hours.break_starts, hours.break_ends, hours.closes)
    ]
    spans: list[Span] = []
    for opens, pause, resumes, closes in zip(*columns, strict=True):
        # A session without a break has "not a time" there: the smallest integer.
        parts = [(opens, closes)] if pause < 0 else [(opens, pause), (resumes, closes)]
        for start, end in parts:
            if spans and spans[-1][1] >= start:  # a venue that closes and opens at once
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
    return tuple(spans)
