"""Market hours: known days of real venues, and rules that hold for every calendar and range."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.clock import parse_time_ms
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.sessions import (
    check_calendar,
    closed_spans,
    market_state,
    open_ms_between,
    open_spans,
)

HOUR_MS = 3_600_000
FROM_MS, TO_MS = parse_time_ms("2024-01-01"), parse_time_ms("2027-12-31")


@pytest.mark.parametrize(
    ("calendar", "at", "is_open", "changes"),
    [
        ("XNYS", "2026-11-27T15:00", True, "2026-11-27T18:00"),  # ends early after Thanksgiving
        ("XNYS", "2026-11-26T15:00", False, "2026-11-27T14:30"),
        ("XNYS", "2026-11-29T15:00", False, "2026-11-30T14:30"),
        ("XNYS", "2026-11-30T14:30", True, "2026-11-30T21:00"),
        ("XNYS", "2026-11-30T21:00", False, "2026-12-01T14:30"),
        ("XNYS", "2026-07-01T13:30", True, "2026-07-01T20:00"),  # summer time
        ("XTKS", "2026-11-30T02:45", False, "2026-11-30T03:30"),  # Tokyo's lunch
        ("XNYS", "2026-12-31T22:00", False, "2027-01-04T14:30"),  # into another year
    ],
)
def test_market_hours_of_known_days(calendar, at, is_open, changes):
    state = market_state(calendar, parse_time_ms(at))
    assert (state.is_open, state.next_change_ms) == (is_open, parse_time_ms(changes))


def test_week_of_thanksgiving_has_29_and_a_half_hours():
    span = parse_time_ms("2026-11-20"), parse_time_ms("2026-11-30")
    assert open_ms_between("XNYS", *span) == 29.5 * HOUR_MS


def test_venue_that_never_closes_is_open_all_the_time():
    assert market_state("24/7", 0).is_open
    assert (open_ms_between("24/7", 5, 9), closed_spans("24/7", 5, 9)) == (4, [])


def test_unknown_calendar_is_refused_with_the_nearest_names():
    with pytest.raises(ConfigError, match=r"no market calendar 'XNYZ'; did you mean .*XNYS"):
        market_state("XNYZ", 0)


@pytest.mark.parametrize("feed", sorted(load_feeds()))
def test_calendar_of_every_feed_exists(feed):
    check_calendar(load_feeds()[feed].calendar)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["24/7", "XNYS", "XTKS", "XLON"]),
    st.lists(st.integers(FROM_MS, TO_MS), min_size=3, max_size=3).map(sorted),
)
def test_open_and_closed_times_tile_every_range(calendar, times):
    start, middle, end = times
    opened, closed = open_spans(calendar, start, end), closed_spans(calendar, start, end)
    tiles = sorted(opened + closed)
    if start < end:
        assert (tiles[0][0], tiles[-1][1]) == (start, end)
    assert all(left[1] == right[0] for left, right in pairwise(tiles))
    assert open_ms_between(calendar, start, end) == open_ms_between(
        calendar, start, middle
    ) + open_ms_between(calendar, middle, end)
    is_inside = any(first <= middle < last for first, last in open_spans(calendar, start, end + 1))
    assert market_state(calendar, middle).is_open is is_inside
