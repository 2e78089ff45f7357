"""Waiting, trying again and stopping; leases that are kept alive meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batch.backfill.claims import Claim, SqliteClaims
from batch.backfill.lease import LeaseKeeper
from batch.backfill.patience import BACK_OFF_SECONDS, call_patiently, sleep_until, stop_on_signals
from stream.clock import SYSTEM_CLOCK, ManualClock, now_ms
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError


def failing(times: int, error: Exception) -> Callable[[], int]:
    """A call that fails so often and then gives the number of calls."""
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return call


def test_call_that_may_succeed_later_is_made_again() -> None:
    clock = ManualClock()
    assert call_patiently(failing(3, ThrottledError("429")), clock) == 4
    assert clock.monotonic() == pytest.approx(sum(BACK_OFF_SECONDS))


def test_call_that_keeps_failing_raises_its_last_error() -> None:
    with pytest.raises(ThrottledError, match="429"):
        call_patiently(failing(4, ThrottledError("429")), ManualClock())


def test_call_that_cannot_succeed_is_made_once() -> None:
    clock = ManualClock()
    with pytest.raises(ConfigError):
        call_patiently(failing(1, ConfigError("wrong key")), clock)
    assert clock.monotonic() == 0


def test_call_is_not_made_again_when_the_work_stops() -> None:
    clock = ManualClock()
    with pytest.raises(ThrottledError):
        call_patiently(failing(1, ThrottledError("429")), clock, lambda: True)
    assert clock.monotonic() == 0


def test_sleep_ends_when_the_work_stops() -> None:
    clock = ManualClock()
    sleep_until(60, clock, lambda: clock.monotonic() > 1)
    assert 1 < clock.monotonic() < 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_becomes_a_stop_and_the_second_one_interrupts(number: int) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    def inside() -> bool:
        with stop_on_signals() as should_stop:
            return should_stop()

    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(inside).result(10)


class Ledger(SqliteClaims):
    """A real ledger whose renewals can be made to fail."""

    error: Exception | None = None

    def renew(self, claim: Claim) -> bool:
        if self.error is not None:
            raise self.error
        return super().renew(claim)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        SYSTEM_CLOCK.sleep(0.01)
    raise AssertionError("did not happen within 5 s")


def test_lease_keeper_hands_over_what_its_thread_met(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path / "claims.db") as claims,
        LeaseKeeper(claims, 0.04, SYSTEM_CLOCK) as keeper,
    ):
        claim = claims.claim("a/1", "one", 60)
        assert claim is not None
        keeper.hold(claim)
        assert keeper.is_ours(claim)
        claims.error = ConfigError("no right to write the table any more")
        wait_until(lambda: keeper.error is not None)
        with pytest.raises(ConfigError, match="no right"):
            keeper.is_ours(claim)


def test_lease_keeper_outlives_a_ledger_that_does_not_answer(tmp_path: Path) -> None:
    clock = ManualClock(10**18)
    with (
        Ledger(tmp_path / "claims.db", clock) as claims,
        LeaseKeeper(claims, 0.04, clock) as keeper,
    ):
        claim = claims.claim("a/1", "one", 60)
        assert claim is not None
        keeper.hold(claim)
        claims.error = StoreUnavailableError("no answer")
        clock.sleep(40)
        with pytest.raises(StoreUnavailableError):
            keeper.is_ours(claim)  # too old to be trusted, and nobody to ask
        claims.error = None
        wait_until(lambda: claims.read("a/")[0].until_ms == now_ms(clock) + 60_000)
        assert keeper.is_ours(claim)


def test_lease_that_another_owner_took_is_dropped(tmp_path: Path) -> None:
    clock = ManualClock(10**18)
    with SqliteClaims(tmp_path / "claims.db", clock) as claims:
        claim = claims.claim("a/1", "one", 60)
        assert claim is not None
        keeper = LeaseKeeper(claims, 60, clock)
        keeper.hold(claim)
        clock.sleep(61)
        assert claims.claim("a/1", "two", 60)
        assert not keeper.is_ours(claim)
        assert keeper.held() == []
