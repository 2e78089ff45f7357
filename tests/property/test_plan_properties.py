"""A plan holds every day once, and the same days always get the same names."""

from __future__ import annotations

import re
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from batch.backfill.plan import Chunk, plan_days, scope_of
from stream.clock import ManualClock, parse_time_ms

CLOCK = ManualClock(parse_time_ms("2026-11-25T12:00:00") * 1_000_000)
DAYS = st.dates(date(2000, 1, 1), date(2026, 11, 24))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
DATASETS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
SCOPES = st.one_of(st.just(""), st.text(min_size=1).map(lambda symbol: scope_of([symbol])))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[date, date]:
    first = draw(DAYS)
    last = first + timedelta(days=draw(st.integers(0, 800)))
    return first, min(last, date(2026, 11, 24))


def plan(days: tuple[date, date], chunk_days: int = 1) -> list[Chunk]:
    return plan_days("fmp", "prices_daily", *days, chunk_days=chunk_days, clock=CLOCK)


@given(ranges(), st.integers(1, 366))
def test_plan_holds_each_day_once_in_order(days: tuple[date, date], chunk_days: int) -> None:
    chunks = plan(days, chunk_days)
    found = [day for chunk in chunks for day in chunk.days]
    count = (days[1] - days[0]).days + 1
    assert found == [days[0] + timedelta(days=n) for n in range(count)]
    assert all(1 <= len(chunk.days) <= chunk_days for chunk in chunks)
    keys = [chunk.key for chunk in chunks]
    assert keys == sorted(set(keys))


@given(ranges(), ranges(), st.integers(1, 31))
def test_plans_that_overlap_share_all_chunks_but_those_cut_short(
    one: tuple[date, date], two: tuple[date, date], chunk_days: int
) -> None:
    first, last = max(one[0], two[0]), min(one[1], two[1])
    inside = [
        {c.key for c in plan(days, chunk_days) if first <= c.first_day and c.last_day <= last}
        for days in (one, two)
    ]
    shared, different = inside[0] & inside[1], inside[0] ^ inside[1]
    assert len(different) <= 4, "at most the chunks at the ends of the overlap"
    covered = {day for key in shared for day in Chunk.parse(key).days}
    both = max((last - first).days + 1, 0)
    assert len(covered) >= both - 2 * (chunk_days - 1)


@given(NAMES, DATASETS, ranges(), st.integers(1, 999), SCOPES)
def test_chunk_key_reads_back_and_run_id_is_a_name(
    source: str, dataset: str, days: tuple[date, date], version: int, scope: str
) -> None:
    chunk = Chunk(source, dataset, *days, version, scope)
    assert Chunk.parse(chunk.key) == chunk
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}", chunk.run_id)


CHUNKS = st.builds(
    lambda source, dataset, days, version, scope: Chunk(source, dataset, *days, version, scope),
    st.sampled_from(["a", "a_b", "a1"]),
    st.from_regex(r"[a1](-|\.|v|1|-v1-2026-11-24){0,3}", fullmatch=True),
    st.sampled_from(
        [
            (date(2026, 11, 24), date(2026, 11, 24)),
            (date(2026, 11, 23), date(2026, 11, 24)),
        ]
    ),
    st.integers(1, 12),
    st.sampled_from(["", "0123456789ab"]),
)


@given(CHUNKS, CHUNKS)
def test_run_ids_are_equal_only_for_equal_chunks(one: Chunk, two: Chunk) -> None:
    """Even for data sets whose names look like the rest of a run id."""
    assert (one.run_id == two.run_id) == (one == two)
