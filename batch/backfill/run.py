"""Run a backfill: claim chunks, fetch them side by side, land many at once, trust the ledger.

    claim ─▶ fetch (a pool of threads) ─▶ land (this thread, all that is ready) ─▶ complete

Pull: a run takes the next chunk that can be claimed whenever it has a free thread, so any number
of runs of the same range share its work, and one that dies leaves its chunks to the others as
soon as its leases end. At most twice `parallel_days` fetched chunks are in memory.
Guarantees: a chunk that is done is not fetched again; a chunk whose lease was lost is not landed;
a run that ends says complete only after reading the ledger again. A crash between landing and
completing lands a chunk again: `land` must be idempotent, all or nothing.
Not here: what is fetched and landed (`extracts`, replay), what Prefect shows (`flows`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from batch.backfill.claims import Claim, ClaimRow, Claims, Result
from batch.backfill.lease import LeaseKeeper
from batch.backfill.patience import call_patiently, sleep_until
from batch.backfill.plan import Chunk
from batch.backfill.report import BackfillReport, Progress, rows_of
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import CommitUnknownError, ConfigError, PipelineError, RetryableError

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_PARALLEL_DAYS = 64
MAX_LEASE_SECONDS = 3_600
MAX_FAILURES_IN_A_ROW = 20
"""So many failures without a success are one failure: a wrong key, a source that is down."""
LOOK_SECONDS = 0.2
"""How long nothing may happen before the stop signal is looked at."""
LOOKS_PER_LEASE = 60
"""How often a run that waits for others reads the ledger while one of their leases lasts."""


def run_backfill(
    claims: Claims,
    chunks: Sequence[Chunk],
    fetch: Callable[[Chunk], T],
    land: Callable[[list[tuple[Chunk, T]]], Sequence[Result]],
    *,
    owner: str,
    parallel_days: int,
    lease_seconds: float = 60,
    clock: Clock = SYSTEM_CLOCK,
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> BackfillReport:
    """Work until every chunk is done or failed, here or in another run, or until told to stop.

    Args: fetch: called in a thread, perhaps again for the same chunk. land: called in this
    thread with whatever is ready; gives a result for each, in order. owner: names this run; a
    run that is started again under the same name takes its own leases back at once. progress,
    should_stop: called often, in this thread.
    A chunk that another run holds is waited for as long as its lease is renewed. When told to
    stop it finishes the landing that is under way and releases what else is in hand.
    Returns: what the ledger says at the end. A chunk's failure is in the report, not raised.
    Raises: ConfigError (arguments), what the ledger raises, and errors that are nobody's plan
    (bugs); whatever is in hand is released before.
    """
    _check_arguments(chunks, owner, parallel_days, lease_seconds)
    with (
        ThreadPoolExecutor(parallel_days, "fetch") as pool,
        LeaseKeeper(claims, lease_seconds, clock) as keeper,
    ):
        run = _Run(
            claims=claims,
            chunks={chunk.key: chunk for chunk in chunks},
            fetch=fetch,
            land=land,
            owner=owner,
            parallel=parallel_days,
            lease_seconds=lease_seconds,
            clock=clock,
            progress=progress,
            should_stop=should_stop,
            keeper=keeper,
            pool=pool,
        )
        return run.run()


def _check_arguments(
    chunks: Sequence[Chunk], owner: str, parallel_days: int, lease_seconds: float
) -> None:
    wrong = []
    if not chunks:
        wrong.append("a backfill of no chunks: there is nothing to be complete")
    if twice := len(chunks) - len({chunk.key for chunk in chunks}):
        wrong.append(f"{twice} chunks are in the plan twice")
    if not owner:
        wrong.append("owner '': expected a name that no other run has at the same time")
    if not 1 <= parallel_days <= MAX_PARALLEL_DAYS:
        wrong.append(f"parallel_days {parallel_days}: expected 1 to {MAX_PARALLEL_DAYS}")
    if not 0 < lease_seconds <= MAX_LEASE_SECONDS:
        wrong.append(f"lease_seconds {lease_seconds}: expected up to {MAX_LEASE_SECONDS}, above 0")
    if wrong:
        raise ConfigError("\n".join(wrong))


@dataclass(frozen=True, slots=True)
class _Fetched(Generic[T]):
    """A chunk in hand that waits to be landed."""

    chunk: Chunk
    claim: Claim
    value: T


@dataclass(slots=True)
class _Run(Generic[T]):
    """One run: what it was asked, and where it is. Only `_fetch` happens in other threads."""

    claims: Claims
    chunks: dict[str, Chunk]
    fetch: Callable[[Chunk], T]
    land: Callable[[list[tuple[Chunk, T]]], Sequence[Result]]
    owner: str
    parallel: int
    lease_seconds: float
    clock: Clock
    progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    keeper: LeaseKeeper
    pool: ThreadPoolExecutor

    waiting: deque[Chunk] = field(default_factory=deque)
    fetching: dict[Future[T], tuple[Chunk, Claim]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    done_now: int = 0
    lost: int = 0
    failures_in_a_row: int = 0
    stopped: str | None = None
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self) -> BackfillReport:
        """Everything, from the plan to the report."""
        began = self.clock.monotonic()
        call_patiently(partial(self.claims.plan, self.chunks), self.clock)
        try:
            self._find_more()
            done_before = len(self.done)
            self._work()
        finally:
            self._give_back()
        return self._report(done_before, self.clock.monotonic() - began)

    def _work(self) -> None:
        while not self._is_stopping():
            ready = self._collect()
            self._refill()  # before landing, so that the pool has work meanwhile
            if ready:
                self._land(ready)
            elif self.fetching:
                wait(self.fetching, LOOK_SECONDS, FIRST_COMPLETED)
            elif not self._find_more():
                return

    def _refill(self) -> None:
        """Claim and submit until every thread has work."""
        before = len(self.fetching)
        while self.waiting and len(self.fetching) < self.parallel and not self._is_stopping():
            chunk = self.waiting.popleft()
            ask = partial(self.claims.claim, chunk.key, self.owner, self.lease_seconds)
            claim = call_patiently(ask, self.clock)
            if claim is None:
                continue  # done or held by another run: `_find_more` sees which
            self.keeper.hold(claim)
            self.fetching[self.pool.submit(self._fetch, chunk)] = (chunk, claim)
        if len(self.fetching) > before:
            self._tell()

    def _fetch(self, chunk: Chunk) -> T:
        return call_patiently(lambda: self.fetch(chunk), self.clock, self.ending.is_set)

    def _collect(self) -> list[_Fetched[T]]:
        """What the pool has finished; failures are settled here."""
        ready = []
        for future in [future for future in self.fetching if future.done()]:
            chunk, claim = self.fetching.pop(future)
            error = future.exception()
            if error is None:
                ready.append(_Fetched(chunk, claim, future.result()))
            else:
                self._fail(chunk, claim, error)
        return ready

    def _land(self, ready: list[_Fetched[T]]) -> None:
        """Land what is still ours in one call; one by one if that fails, to find the culprit."""
        ours = [item for item in ready if self._is_ours(item)]
        if not ours:
            return
        work = [(item.chunk, item.value) for item in ours]
        try:
            results = call_patiently(lambda: self.land(work), self.clock, self._is_stopping)
        except PipelineError as error:
            # A store that is down is no chunk's fault, and after an unknown outcome nothing is
            # sent again before somebody has looked.
            if len(ours) > 1 and not isinstance(error, RetryableError | CommitUnknownError):
                for item in ours:
                    self._land([item])
            else:
                for item in ours:
                    self._fail(item.chunk, item.claim, error)
            return
        if len(results) != len(ours):
            raise ValueError(f"land gave {len(results)} results for {len(ours)} chunks")
        for item, result in zip(ours, results, strict=True):
            self._complete(item, result)
        self._tell()

    def _is_ours(self, item: _Fetched[T]) -> bool:
        if call_patiently(partial(self.keeper.is_ours, item.claim), self.clock):
            return True
        self._lose(item, "before it was landed")
        return False

    def _complete(self, item: _Fetched[T], result: Result) -> None:
        is_done = call_patiently(partial(self.claims.complete, item.claim, result), self.clock)
        if not is_done:
            self._lose(item, "while it was landed")
            return
        self.keeper.drop(item.claim)
        self.done.add(item.chunk.key)
        self.rows += rows_of(result)
        self.done_now += 1
        self.failures_in_a_row = 0

    def _lose(self, item: _Fetched[T], when: str) -> None:
        self.keeper.drop(item.claim)
        self.lost += 1
        log.warning("%s: its lease went to another owner %s", item.chunk.key, when)

    def _fail(self, chunk: Chunk, claim: Claim, error: BaseException) -> None:
        """Settle a chunk's failure; what is not one of our errors is a bug and is raised."""
        is_ours = isinstance(error, PipelineError)
        text = str(error) if is_ours else f"{type(error).__name__}: {error}"
        call_patiently(partial(self.claims.fail, claim, text), self.clock)
        self.keeper.drop(claim)
        self.failed[chunk.key] = text
        self.failures_in_a_row += 1
        if not is_ours:
            raise error
        log.error("%s failed: %s", chunk.key, text)
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.stopped = f"{self.failures_in_a_row} chunks failed in a row, the last: {text}"
        self._tell()

    def _find_more(self) -> bool:
        """Nothing is in hand: is there more to claim, or another run to wait for?"""
        now = now_ms(self.clock)
        todo = [row for row in self._read() if row.state != "done"]
        held = {row.key: row for row in todo if row.is_held(now) and row.owner != self.owner}
        free = [row.key for row in todo if row.key not in held.keys() | self.failed.keys()]
        self.waiting.extend(self.chunks[key] for key in free)
        self._tell()
        if held and not free:
            first_end_ms = min(row.until_ms or now for row in held.values())
            pause = min((first_end_ms - now) / 1000, self.lease_seconds / LOOKS_PER_LEASE)
            sleep_until(max(pause, 0.01), self.clock, self._is_stopping)
        return bool(free or held)

    def _read(self) -> list[ClaimRow]:
        """The rows of all chunks, in plan order; what is done is remembered."""
        groups = sorted({key[: key.rindex("/") + 1] for key in self.chunks})
        found = {
            row.key: row
            for group in groups
            for row in call_patiently(partial(self.claims.read, group), self.clock)
        }
        rows = [found.get(key, ClaimRow(key)) for key in self.chunks]
        self.done = {row.key for row in rows if row.state == "done"}
        self.rows = sum(rows_of(row.result) for row in rows if row.state == "done")
        return rows

    def _report(self, done_before: int, seconds: float) -> BackfillReport:
        rows = self._read()
        return BackfillReport(
            planned=len(rows),
            done_before=done_before,
            done_now=self.done_now,
            failed={row.key: row.error or "" for row in rows if row.state == "failed"},
            open_keys=tuple(row.key for row in rows if row.state in {"planned", "claimed"}),
            lost=self.lost,
            seconds=seconds,
            stopped=self.stopped,
            chunks=tuple((self.chunks[row.key], row) for row in rows),
        )

    def _give_back(self) -> None:
        """Release what is in hand, so that another run can take it at once."""
        self.ending.set()
        for claim in self.keeper.held():
            self.keeper.drop(claim)
            try:
                self.claims.release(claim)
            except RetryableError as error:
                log.warning("%s stays claimed until its lease ends: %s", claim.key, error)

    def _is_stopping(self) -> bool:
        if self.stopped is None and self.should_stop():
            self.stopped = "asked to stop"
        return self.stopped is not None

    def _tell(self) -> None:
        self.progress(
            Progress(
                planned=len(self.chunks),
                done=len(self.done),
                running=len(self.keeper.held()),
                failed=len(self.failed.keys() - self.done),
                rows=self.rows,
            )
        )
