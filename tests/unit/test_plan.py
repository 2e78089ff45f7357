"""Chunks of a range of days: names, cuts, and what is refused."""

from __future__ import annotations

from datetime import date

import pytest

from batch.backfill.plan import Chunk, plan_days, scope_of
from batch.extracts.landing import check_names
from stream.clock import ManualClock, parse_time_ms
from stream.errors import ConfigError

CLOCK = ManualClock(parse_time_ms("2026-11-25T00:00:00") * 1_000_000)


def plan(first: str, last: str, **options: object) -> list[Chunk]:
    return plan_days(
        "fmp",
        "prices_daily",
        date.fromisoformat(first),
        date.fromisoformat(last),
        clock=CLOCK,
        **options,  # type: ignore[arg-type]
    )


def test_plan_of_one_day_is_one_chunk_with_readable_names() -> None:
    [chunk] = plan("2026-11-24", "2026-11-24")
    assert chunk.key == "fmp/prices_daily/v1/2026-11-24"
    assert chunk.run_id == "fmp-prices_daily-v1-2026-11-24"
    check_names(chunk.source, chunk.run_id)


def test_plan_of_a_leap_year_has_a_chunk_a_day() -> None:
    chunks = plan("2024-01-01", "2024-12-31")
    assert len(chunks) == 366
    assert chunks[59].key == "fmp/prices_daily/v1/2024-02-29"


def test_plan_of_longer_chunks_names_both_ends() -> None:
    chunks = plan("2026-11-01", "2026-11-24", chunk_days=7, version=2)
    assert [chunk.key.rpartition("/")[2] for chunk in chunks] == [
        "2026-11-01_2026-11-07",
        "2026-11-08_2026-11-14",
        "2026-11-15_2026-11-21",
        "2026-11-22_2026-11-24",
    ]
    assert chunks[0].run_id == "fmp-prices_daily-v2-2026-11-01_2026-11-07"


def test_plan_of_other_symbols_has_other_chunks() -> None:
    scope = scope_of(["AAPL"], {"interval": "5min"})
    [all_symbols], [few] = (
        plan("2026-11-24", "2026-11-24"),
        plan("2026-11-24", "2026-11-24", scope=scope),
    )
    assert all_symbols.key != few.key
    assert few.key == f"fmp/prices_daily/v1-{scope}/2026-11-24"
    assert few.run_id == f"fmp-prices_daily-v1.{scope}-2026-11-24"
    check_names(few.source, few.run_id)


def test_scope_depends_on_what_is_asked_and_not_on_its_order() -> None:
    assert scope_of() == scope_of([], {}) == ""
    assert scope_of(["B", "A", "A"], {"x": "1", "y": "2"}) == scope_of(
        ["A", "B"], {"y": "2", "x": "1"}
    )
    assert scope_of(["A"]) != scope_of(["B"]) != scope_of(["B"], {"x": "1"})


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2026-11-24", "2026-11-23", "2026-11-24 to 2026-11-23: the first day is after the last"),
        ("2026-11-24", "2026-11-25", "2026-11-25 is not over.*newest day to ask for is 2026-11-24"),
        ("2026-12-01", "2026-12-02", "2026-12-01 is not over"),
        ("0026-11-24", "2026-11-23", "days before 1900-01-01 are taken for a typing error"),
        ("1926-11-24", "2026-11-23", "36,525 days are about 36,525 chunks, at most 10,000.*Split"),
    ],
)
def test_plan_of_a_range_that_cannot_be_meant_says_why(first: str, last: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(first, last)


def test_plan_of_a_century_in_years_is_fine() -> None:
    assert len(plan("1926-11-24", "2026-11-23", chunk_days=366)) == 101


def test_plan_with_every_argument_wrong_names_them_all() -> None:
    with pytest.raises(ConfigError) as caught:
        plan_days(
            "FMP/x",
            "prices daily",
            date(2026, 11, 24),
            date(2026, 11, 23),
            version=0,
            scope="AAPL",
            clock=CLOCK,
        )
    text = str(caught.value)
    assert len(text.splitlines()) == 5
    for part in ("source 'FMP/x'", "data set 'prices daily'", "version 0", "scope 'AAPL'", "after"):
        assert part in text


@pytest.mark.parametrize("chunk_days", [0, -1, 367])
def test_plan_of_impossible_chunks_is_refused(chunk_days: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 366"):
        plan("2026-11-01", "2026-11-24", chunk_days=chunk_days)


def test_plan_whose_run_id_would_be_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 120 fit"):
        plan_days("fmp", "x" * 100, date(2026, 11, 1), date(2026, 11, 24), clock=CLOCK)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "fmp/prices_daily/2026-11-24",
        "fmp/prices_daily/v0/2026-11-24",
        "fmp/prices_daily/v01/2026-11-24",
        "fmp/prices_daily/v1/2026-13-24",
        "fmp/prices_daily/v1/2026-11-24_2026-11-24",
        "fmp/prices_daily/v1/2026-11-24_2026-11-23",
        "fmp/prices_daily/v1-AAPL/2026-11-24",
        "fmp/prices_daily/v1/2026-11-24/",
        "Fmp/prices_daily/v1/2026-11-24",
    ],
)
def test_key_that_no_chunk_has_is_not_read(key: str) -> None:
    with pytest.raises(ValueError, match=r"chunk's key|month must be"):
        Chunk.parse(key)
