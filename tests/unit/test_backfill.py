"""The engine on SQLite: shared work, failures, lost leases, stops; each with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch.backfill.claims import SqliteClaims
from batch.backfill.plan import Chunk
from batch.backfill.report import BackfillReport, Progress
from batch.backfill.run import MAX_FAILURES_IN_A_ROW, run_backfill
from stream.clock import SYSTEM_CLOCK, Clock, ManualClock
from stream.errors import (
    CommitUnknownError,
    ConfigError,
    FatalError,
    StoreUnavailableError,
    ThrottledError,
)

FIRST = date(2025, 1, 1)
Batch = list[tuple[Chunk, str]]


def chunks(count: int) -> list[Chunk]:
    days = [FIRST + timedelta(days=n) for n in range(count)]
    return [Chunk("fmp", "prices_daily", day, day) for day in days]


class Land:
    """Where chunks land; remembers every batch and can be told to fail."""

    def __init__(self, refuse: Callable[[Batch], None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self._refuse = refuse

    def __call__(self, batch: Batch) -> list[dict[str, int | str]]:
        self._refuse(batch)
        self.batches.append([chunk.key for chunk, _ in batch])
        return [{"rows": 10, "run_id": chunk.run_id} for chunk, _ in batch]

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch]


def fetch(chunk: Chunk) -> str:
    return f"rows of {chunk.first_day}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(10**18)


@pytest.fixture
def claims(path: Path, clock: ManualClock) -> Iterator[SqliteClaims]:
    with SqliteClaims(path, clock) as found:
        yield found


@pytest.fixture
def real_claims(path: Path) -> Iterator[SqliteClaims]:
    """With leases on the machine's clock."""
    with SqliteClaims(path) as found:
        yield found


def backfill(
    claims: SqliteClaims,
    plan: list[Chunk],
    land: Land,
    fetch: Callable[[Chunk], Any] = fetch,
    *,
    owner: str = "one",
    clock: Clock = SYSTEM_CLOCK,
    **options: Any,
) -> BackfillReport:
    return run_backfill(
        claims, plan, fetch, land, **{"owner": owner, "parallel_days": 4, "clock": clock, **options}
    )


def test_backfill_of_a_month_lands_every_day_once(claims: Any, clock: Any) -> None:
    land, seen = Land(), list[Progress]()
    report = backfill(claims, chunks(30), land, clock=clock, progress=seen.append)
    assert sorted(land.keys) == [chunk.key for chunk in chunks(30)]
    assert report.is_complete
    assert (report.planned, report.done_before, report.done_now, report.rows) == (30, 0, 30, 300)
    assert (report.failed, report.open_keys, report.lost, report.stopped) == ({}, (), 0, None)
    assert report.results[chunks(1)[0].key]["run_id"] == "fmp-prices_daily-v1-2025-01-01"
    assert seen[0] == Progress(planned=30, done=0, running=0, failed=0, rows=0)
    assert seen[-1] == Progress(planned=30, done=30, running=0, failed=0, rows=300)
    assert max(one.running for one in seen) <= 2 * 4


def test_backfill_that_is_done_fetches_nothing_again(claims: Any, clock: Any) -> None:
    backfill(claims, chunks(10), Land(), clock=clock)
    land = Land()
    report = backfill(claims, chunks(12), land, owner="two", clock=clock)
    assert sorted(land.keys) == [chunk.key for chunk in chunks(12)[10:]]
    assert (report.done_before, report.done_now, report.is_complete) == (10, 2, True)


def test_backfill_lands_what_is_ready_together_and_in_the_calling_thread(real_claims: Any) -> None:
    threads: set[int] = set()
    begun = threading.Barrier(4)

    def fetch_together(chunk: Chunk) -> int:
        begun.wait(10)  # four chunks are fetched at once, or this breaks
        return threading.get_ident()

    def land_slowly(_: Batch) -> None:
        threads.add(threading.get_ident())
        SYSTEM_CLOCK.sleep(0.03)  # the others of the four are ready by then

    land = Land(land_slowly)
    report = backfill(real_claims, chunks(16), land, fetch_together)
    assert report.is_complete
    assert threads == {threading.get_ident()}
    assert len(land.batches) < 16
    assert max(map(len, land.batches)) > 1


def test_backfill_fetches_on_while_it_lands(real_claims: Any) -> None:
    """And never has more than twice the parallel days in hand."""
    fetched, landed = threading.Semaphore(0), list[int]()

    def count_fetch(chunk: Chunk) -> str:
        fetched.release()
        return ""

    def wait_for_next(batch: Batch) -> None:
        landed.append(len(batch))
        if sum(landed) + len(batch) < 12:
            assert fetched.acquire(timeout=10)

    seen: list[Progress] = []
    report = backfill(
        real_claims,
        chunks(12),
        Land(wait_for_next),
        count_fetch,
        parallel_days=1,
        progress=seen.append,
    )
    assert report.is_complete
    assert max(one.running for one in seen) == 2


def test_backfill_failure_of_a_day_is_reported_and_the_others_go_on(
    claims: Any, clock: Any
) -> None:
    def fetch_but(chunk: Chunk) -> str:
        if chunk.first_day.day == 3:
            raise ConfigError("HTTP 402: this symbol is not in your plan")
        return ""

    report = backfill(claims, chunks(9), Land(), fetch_but, clock=clock)
    bad = chunks(3)[2].key
    assert report.failed == {bad: "HTTP 402: this symbol is not in your plan"}
    assert (report.done_now, report.is_complete, report.open_keys) == (8, False, ())
    again = backfill(claims, chunks(9), Land(), clock=clock)
    assert (again.done_now, again.is_complete, again.failed) == (1, True, {})


def test_backfill_tries_again_what_may_succeed_later(claims: Any, clock: Any) -> None:
    calls: list[date] = []
    lock = threading.Lock()

    def flaky(chunk: Chunk) -> str:
        with lock:
            calls.append(chunk.first_day)
            if calls.count(chunk.first_day) < 4:
                raise ThrottledError("429")
        return ""

    report = backfill(claims, chunks(3), Land(), flaky, clock=clock)
    assert report.is_complete
    assert len(calls) == 12
    assert {row.attempts for _, row in report.chunks} == {1}


def test_backfill_gives_up_on_a_day_that_never_succeeds(claims: Any, clock: Any) -> None:
    calls: list[Chunk] = []

    def down(chunk: Chunk) -> str:
        calls.append(chunk)
        raise StoreUnavailableError("no answer")

    report = backfill(claims, chunks(1), Land(), down, clock=clock)
    assert report.failed == {chunks(1)[0].key: "no answer"}
    assert len(calls) == 4


def test_backfill_with_a_wrong_key_stops_instead_of_failing_every_day(
    claims: Any, clock: Any
) -> None:
    calls: list[Chunk] = []

    def refused(chunk: Chunk) -> str:
        calls.append(chunk)
        raise ConfigError("401: the key is not valid")

    report = backfill(claims, chunks(365), Land(), refused, clock=clock)
    assert len(calls) <= MAX_FAILURES_IN_A_ROW + 2 * 4
    assert "chunks failed in a row, the last: 401: the key is not valid" in str(report)
    assert len(report.failed) + len(report.open_keys) == 365
    assert not {row.state for _, row in report.chunks} - {"failed", "planned"}


def test_backfill_with_many_bad_days_among_good_ones_goes_on(claims: Any, clock: Any) -> None:
    def fetch_even(chunk: Chunk) -> str:
        if chunk.first_day.toordinal() % 2:
            raise ConfigError("404: no file for this day")
        return ""

    report = backfill(claims, chunks(80), Land(), fetch_even, parallel_days=1, clock=clock)
    assert (report.done_now, len(report.failed), report.stopped) == (40, 40, None)


def test_backfill_lands_one_by_one_to_find_the_chunk_that_is_bad(real_claims: Any) -> None:
    gate = threading.Barrier(4)

    def refuse(batch: Batch) -> None:
        SYSTEM_CLOCK.sleep(0.03)
        if any(chunk.first_day.day == 2 for chunk, _ in batch):
            raise FatalError("part 0 is cut")

    land = Land(refuse)
    report = backfill(real_claims, chunks(4), land, lambda _: gate.wait(10))
    assert report.failed == {chunks(2)[1].key: "part 0 is cut"}
    assert sorted(land.keys) == [chunk.key for n, chunk in enumerate(chunks(4)) if n != 1]


@pytest.mark.parametrize("error", [CommitUnknownError("sent"), StoreUnavailableError("down")])
def test_backfill_never_splits_a_batch_after_what_is_no_chunks_fault(
    claims: Any, clock: Any, error: Exception
) -> None:
    calls: list[int] = []

    def refuse(batch: Batch) -> None:
        calls.append(len(batch))
        raise error

    report = backfill(claims, chunks(4), Land(refuse), clock=clock)
    assert set(report.failed.values()) == {str(error)}
    per_batch = 4 if isinstance(error, StoreUnavailableError) else 1
    assert sum(calls) == 4 * per_batch


def test_backfill_bug_in_fetch_is_raised_and_nothing_stays_claimed(claims: Any, clock: Any) -> None:
    def buggy(chunk: Chunk) -> str:
        raise KeyError("price")

    with pytest.raises(KeyError, match="price"):
        backfill(claims, chunks(9), Land(), buggy, clock=clock)
    rows = claims.read("fmp/")
    assert {row.state for row in rows} == {"failed", "planned"}
    assert [row.error for row in rows if row.state == "failed"] == ["KeyError: 'price'"]


def test_backfill_land_that_forgets_a_result_is_a_bug(claims: Any, clock: Any) -> None:
    with pytest.raises(ValueError, match="land gave 0 results for"):
        run_backfill(
            claims, chunks(3), fetch, lambda _: [], owner="one", parallel_days=2, clock=clock
        )
    assert {row.state for row in claims.read("fmp/")} == {"planned"}


def test_backfill_waits_for_a_dead_owners_lease_and_takes_over(claims: Any, clock: Any) -> None:
    for chunk in chunks(3):
        assert claims.claim(chunk.key, "dead", 60)
    began, land = clock.monotonic(), Land()
    report = backfill(claims, chunks(5), land, clock=clock)
    assert report.is_complete
    assert 60 <= clock.monotonic() - began < 70
    assert [row.attempts for _, row in report.chunks] == [2, 2, 2, 1, 1]
    assert sorted(land.keys) == [chunk.key for chunk in chunks(5)]


def test_backfill_started_again_takes_its_own_leases_back_at_once(claims: Any, clock: Any) -> None:
    for chunk in chunks(3):
        assert claims.claim(chunk.key, "flow-run-1", 60)
    began = clock.monotonic()
    report = backfill(claims, chunks(5), Land(), owner="flow-run-1", clock=clock)
    assert report.is_complete
    assert clock.monotonic() == began


def test_backfill_counts_what_another_run_did_meanwhile(claims: Any, clock: Any) -> None:
    other = claims.claim(chunks(1)[0].key, "two", 60)

    def finish_the_other(_: Batch) -> None:
        assert claims.complete(other, {"rows": 5})

    report = backfill(claims, chunks(3), Land(finish_the_other), parallel_days=1, clock=clock)
    assert report.is_complete
    assert (report.done_now, report.done_elsewhere, report.rows) == (2, 1, 25)


def test_backfill_tries_what_failed_in_another_run_once_itself(claims: Any, clock: Any) -> None:
    assert claims.fail(claims.claim(chunks(1)[0].key, "two", 60), "their key expired")
    report = backfill(claims, chunks(2), Land(), clock=clock)
    assert report.is_complete


def test_backfill_by_two_runs_shares_the_work(path: Path) -> None:
    plan, lands = chunks(60), [Land(), Land()]

    def run(number: int) -> BackfillReport:
        def slow(chunk: Chunk) -> str:
            SYSTEM_CLOCK.sleep(0.005)
            return ""

        with SqliteClaims(path) as claims:
            return backfill(claims, plan, lands[number], slow, owner=f"run-{number}")

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(run, range(2))
    assert one.is_complete
    assert two.is_complete
    assert sorted(lands[0].keys + lands[1].keys) == [chunk.key for chunk in plan]
    assert min(one.done_now, two.done_now) >= 10
    assert one.done_now + two.done_now == 60


def test_backfill_chunk_whose_lease_was_lost_is_not_landed(claims: Any, clock: Any) -> None:
    stolen: list[Any] = []

    def pause_of_the_process(chunk: Chunk) -> str:
        if not stolen:
            clock.sleep(61)
            stolen.append(claims.claim(chunk.key, "two", 600))
            claims.complete(stolen[0], {"rows": 1})
        return ""

    land = Land()
    report = backfill(claims, chunks(2), land, pause_of_the_process, parallel_days=1, clock=clock)
    assert report.is_complete
    assert land.keys == [chunks(2)[1].key]
    assert (report.lost, report.done_now, report.done_elsewhere) == (1, 1, 1)


def test_backfill_zombie_that_lands_too_late_does_not_count(claims: Any, clock: Any) -> None:
    def pause_of_the_process(batch: Batch) -> None:
        clock.sleep(61)
        heir = claims.claim(batch[0][0].key, "two", 60)
        assert heir is not None
        assert claims.complete(heir, {"rows": 1})

    report = backfill(claims, chunks(1), Land(pause_of_the_process), clock=clock)
    assert (report.lost, report.done_now, report.done_elsewhere, report.rows) == (1, 0, 1, 1)
    assert report.is_complete


def test_backfill_renews_the_leases_of_chunks_that_take_long(path: Path) -> None:
    with SqliteClaims(path) as claims, SqliteClaims(path) as rival:

        def long(chunk: Chunk) -> bool:
            SYSTEM_CLOCK.sleep(0.9)
            return rival.claim(chunk.key, "two", 60) is None

        held: list[bool] = []
        report = backfill(
            claims,
            chunks(2),
            Land(lambda batch: held.extend(bool(value) for _, value in batch)),
            long,
            lease_seconds=0.4,
        )
    assert held == [True, True]
    assert (report.is_complete, report.lost) == (True, 0)


def test_backfill_told_to_stop_lands_what_is_landing_and_releases_the_rest(
    claims: Any, clock: Any
) -> None:
    stop = threading.Event()
    land = Land(lambda _: stop.set())
    report = backfill(claims, chunks(40), land, clock=clock, should_stop=stop.is_set)
    assert report.stopped == "asked to stop"
    assert not report.is_complete
    assert len(land.batches) == 1
    assert report.done_now == len(land.keys)
    assert {row.state for _, row in report.chunks} == {"done", "planned"}
    began = clock.monotonic()
    assert backfill(claims, chunks(40), Land(), owner="two", clock=clock).is_complete
    assert clock.monotonic() == began, "nothing had to be waited for"


def test_backfill_told_to_stop_does_not_sit_out_a_back_off(real_claims: Any) -> None:
    calls: list[Chunk] = []

    def throttled(chunk: Chunk) -> str:
        calls.append(chunk)
        raise ThrottledError("429")

    began = SYSTEM_CLOCK.monotonic()
    report = backfill(
        real_claims, chunks(4), Land(), throttled, should_stop=lambda: len(calls) >= 4
    )
    assert SYSTEM_CLOCK.monotonic() - began < 5
    assert {row.state for _, row in report.chunks} == {"planned"}


def test_backfill_interrupted_in_the_middle_releases_everything(claims: Any, clock: Any) -> None:
    def interrupt(_: Batch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill(claims, chunks(9), Land(interrupt), clock=clock)
    assert {row.state for row in claims.read("fmp/")} == {"planned"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parallel_days": 0}, "parallel_days 0: expected 1 to 64"),
        ({"parallel_days": 65}, "parallel_days 65"),
        ({"owner": ""}, "owner ''"),
        ({"lease_seconds": 0}, "lease_seconds 0"),
        ({"lease_seconds": 7200}, "lease_seconds 7200"),
    ],
)
def test_backfill_with_a_wrong_argument_says_which(
    claims: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        backfill(claims, chunks(1), Land(), **options)
    assert claims.read("") == []


@pytest.mark.parametrize("plan", [[], chunks(2) + chunks(1)])
def test_backfill_of_a_plan_that_is_none_is_refused(claims: Any, plan: list[Chunk]) -> None:
    with pytest.raises(ConfigError, match=r"no chunks|1 chunks are in the plan twice"):
        backfill(claims, plan, Land())


def test_report_shows_every_chunk_as_a_row(claims: Any, clock: Any) -> None:
    def fetch_but(chunk: Chunk) -> str:
        if chunk.first_day.day == 2:
            raise ConfigError("no data")
        return ""

    report = backfill(claims, chunks(2), Land(), fetch_but, clock=clock)
    shared = {"days": 1, "attempts": 1, "owner": "one", "seconds": 0.0}
    name = "fmp/prices_daily/v1/2025-01-0"
    assert report.to_rows() == [
        {**shared, "chunk": f"{name}1", "state": "done", "rows": 10, "error": ""},
        {**shared, "chunk": f"{name}2", "state": "failed", "rows": 0, "error": "no data"},
    ]
    assert str(report).startswith(
        "1/2 chunks done (0 before, 1 now, 0 by other runs), 1 failed, 0 open, 10 rows"
    )


def test_report_names_the_days_that_may_hold_new_rows(claims: Any, clock: Any) -> None:
    """Of every run: the one that did the work may have died before it could tell."""
    week = Chunk("fmp", "prices_daily", date(2025, 1, 8), date(2025, 1, 9))
    results: dict[str, dict[str, int | str]] = {
        chunks(2)[0].key: {"rows": 0},
        chunks(2)[1].key: {"rows": 3, "days": "2025-01-01,2025-01-02"},
        week.key: {"rows": 1},
    }

    def land(batch: Batch) -> list[dict[str, int | str]]:
        return [results[chunk.key] for chunk, _ in batch]

    for owner in ("one", "two"):
        report = run_backfill(
            claims, [*chunks(2), week], fetch, land, owner=owner, parallel_days=1, clock=clock
        )
        assert [day.day for day in report.days_touched] == [1, 2, 8, 9]
