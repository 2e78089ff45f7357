"""However calls come, no minute holds more of them than the budget."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.extracts.budget import CallBudget
from stream.clock import ManualClock
from stream.errors import ConfigError

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["work", "hold"]),
        st.one_of(st.just(0.0), st.floats(0, 90), st.floats(0, 1e-6)),
    ),
    max_size=60,
)


def assert_within(begun: Sequence[float], calls: int) -> None:
    for first, beyond in zip(begun, begun[calls:], strict=False):
        assert beyond - first > 60.0 - 1e-9


@given(calls=st.integers(1, 8), steps=STEPS)
def test_no_minute_holds_more_calls_than_the_budget(
    calls: int, steps: list[tuple[str, float]]
) -> None:
    clock = ManualClock()
    budget = CallBudget(calls, clock)
    begun: list[float] = []
    held_until = 0.0
    for step, seconds in steps:
        if step == "hold":
            budget.hold_back(seconds)
            held_until = max(held_until, clock.monotonic() + seconds)
        else:
            clock.sleep(seconds)
        budget.wait()
        assert clock.monotonic() >= held_until
        begun.append(clock.monotonic())
    assert_within(begun, calls)


@given(calls=st.integers(1, 5))
def test_budget_is_used_up_before_anybody_waits(calls: int) -> None:
    clock = ManualClock()
    budget = CallBudget(calls, clock)
    for _ in range(calls):
        budget.wait()
    assert clock.monotonic() == 0.0
    budget.wait()
    assert clock.monotonic() == 60.0


def test_threads_draw_from_one_budget() -> None:
    clock = ManualClock()
    budget = CallBudget(7, clock)

    def work() -> None:
        for _ in range(9):
            budget.wait()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() >= (9 * 6 - 1) // 7 * 60.0


def test_budget_of_no_calls_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        CallBudget(0, ManualClock())
