"""Small parts of the API: forms of answers, the throttle, the watch over queries, files to read."""

from __future__ import annotations

import threading
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import ManualClock
from stream.lake.catalog_files import BoundedFile
from stream.serving.deadline import Deadlines
from stream.serving.duckdb_rows import is_needed
from stream.serving.formats import as_text, choose_format
from stream.serving.moments import format_time, parse_time_ns
from stream.serving.problem import ProblemError
from stream.serving.resource import quotes, trades
from stream.serving.statements import Selection
from stream.serving.throttle import Throttle


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("text/*", "csv"),
        ("application/json;q=0.1, text/csv", "csv"),
        ("image/png, */*;q=0.1", "json"),
        ("text/csv;q=0, application/json", "json"),
        ("text/csv;q=zero, application/json", "json"),
    ],
)
def test_form_is_what_the_caller_likes_best(accept, form):
    assert choose_format(accept) == form


def test_form_that_does_not_exist_is_refused():
    with pytest.raises(ProblemError, match="406"):
        choose_format("image/png")


@given(st.integers(-(10**17), 10**17).map(lambda units: Decimal(units).scaleb(-8)))
def test_decimal_as_text_is_exact_and_plain(value):
    rows = pa.table({"price": pa.array([value], pa.decimal128(18, 8))})
    [text] = as_text(rows)["price"].to_pylist()
    assert Decimal(text) == value
    assert "E" not in text


@given(st.integers(0, 4_102_444_800_000_000_000))
def test_time_survives_its_text_to_the_nanosecond(timestamp_ns):
    assert parse_time_ns(format_time(timestamp_ns)) == timestamp_ns
    rows = as_text(pa.table({"ts_ns": pa.array([timestamp_ns], pa.int64())}))
    assert rows["ts"].to_pylist() == [format_time(timestamp_ns)]


def test_throttle_gives_bursts_of_two_seconds_and_refills():
    clock = ManualClock()
    throttle = Throttle(10, clock=clock)
    assert [throttle.take("a") for _ in range(20)] == [0.0] * 20
    assert throttle.take("a") == pytest.approx(0.1)
    assert throttle.take("b") == 0.0
    clock.sleep(0.1)
    assert throttle.take("a") == 0.0
    assert throttle.take("a") > 0


def test_throttle_remembers_a_bounded_number_of_callers():
    throttle = Throttle(1, clock=ManualClock(), max_callers=100)
    for number in range(1_000):
        throttle.take(str(number))
    assert throttle.callers == 100


def test_deadline_stops_what_runs_too_long_and_nothing_else():
    deadlines, stopped = Deadlines(), threading.Event()
    with deadlines.within(60, lambda: pytest.fail("it was quick")):
        pass
    with deadlines.within(0.01, stopped.set) as running:
        assert stopped.wait(5)
    assert running.is_stopped
    deadlines.close()


def test_file_is_read_only_if_it_may_hold_what_is_asked():
    asked = Selection(trades(), 100, 200, {"venue": "sim"}, "ACME")
    inside = {"ts_event_ns": (150, 160), "symbol": ("A", "B"), "venue": ("sim", "sim"),
              "kind": ("new", "new")}  # fmt: skip

    def needed(selection: Selection = asked, **bounds: object) -> bool:
        return is_needed(selection, BoundedFile("x", 1, {**inside, **bounds}))

    assert needed()
    assert not needed(symbol=("B", "C"))
    assert not needed(venue=("kraken", "kraken"))
    assert not needed(ts_event_ns=(0, 99))
    assert needed(ts_event_ns=(0, 99), kind=("correct", "new"))  # it may take a trade back
    assert needed(ts_event_ns=(200, 300))  # the bound itself: SQL decides
    assert is_needed(asked, BoundedFile("x", 1, {}))  # nothing is known
    later = Selection(trades(), 100, 200, {}, "ACME", after=(180, "sim", "ACME", "1"))
    assert not needed(later)
    assert not is_needed(
        Selection(quotes(), 100, 200, {}, "ACME"),
        BoundedFile("x", 1, {"ts_event_ns": (0, 99), "symbol": ("A", "B")}),
    )
