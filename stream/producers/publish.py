"""Send packs to a stream: every message at least once, in order within its key, none dropped.

At most one record of a key is in flight; later packs of the key wait and are merged meanwhile.
PutRecords promises no order within a call and fails per record, so this is the only safe way.
Failed records alone are sent again, after a back-off with jitter. What cannot be sent for
`spool_after_seconds` goes to disk (`spool`) and leaves from there, in order, before anything
newer. When memory and spool are full, `put` blocks its caller. Guarantees hold for packs that
`put` accepted, a crash aside: until spooled, they are in memory. Not here: AWS (`kinesis`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import PipelineError, RetryableError, ThrottledError
from stream.producers.pack import Pack, merge
from stream.producers.spool import Spool

log = logging.getLogger(__name__)


WARN_SECONDS = 10.0


class Sender(Protocol):
    """One call that stores records. `kinesis.KinesisSender` is the real one."""

    async def send(self, packs: Sequence[Pack]) -> list[str | None]:
        """Store records; per record None (stored) or an error code (not stored).

        Raises: RetryableError (the whole call failed), ConfigError (it never will succeed).
        """
        ...


@dataclass(frozen=True, slots=True)
class PublishRule:
    """Limits of a call, of memory and of patience.

    Kinesis takes 500 records and 10 MiB a call; 1 MB is a second's worth of one shard, and a larger
    body holds up the event loop while it is encoded and signed.
    """

    max_records: int = 500
    max_call_bytes: int = 1_000_000
    max_record_bytes: int = 200_000
    max_calls: int = 4
    max_pending_bytes: int = 16_000_000
    backoff_seconds: float = 0.05
    max_backoff_seconds: float = 5.0
    spool_after_seconds: float = 10.0
    close_seconds: float = 2.0


@dataclass(slots=True)
class Receipt:
    """What the stream acknowledged: what Bronze must hold at least.

    At the end `unsent_messages` are lost (there was no spool or no room in it), `waiting_bytes`
    are in the spool for the next start; `spooled_messages` ever went through it.
    """

    messages: int = 0
    records: int = 0
    bytes: int = 0
    calls: int = 0
    retried_records: int = 0
    throttled: int = 0
    failed_calls: int = 0
    spooled_messages: int = 0
    unsent_messages: int = 0
    waiting_bytes: int = 0


@dataclass(slots=True)
class _Key:
    packs: deque[Pack] = field(default_factory=deque)
    in_flight: bool = False
    not_before: float = 0.0
    failures: int = 0


class Publisher:
    """Publish packs through a sender. Use as an async context manager, from one event loop.

    Leaving the context flushes; on an error or after `close(flush_seconds=0)` what was not
    acknowledged goes to the spool, or is counted in `receipt.unsent_messages` and logged.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        rule: PublishRule | None = None,
        spool: Spool | None = None,
        clock: Clock = SYSTEM_CLOCK,
        jitter: random.Random | None = None,
    ) -> None:
        self.rule = rule or PublishRule()
        self.receipt = Receipt()
        self._sender = sender
        self._spool = spool
        self._clock = clock
        self._jitter = jitter or random.Random()
        self._keys: dict[str, _Key] = {}
        self._ready: deque[str] = deque()
        self._pending_bytes = 0
        self._pending_packs = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._overflow: deque[Pack] = deque()  # younger than the spool, older than any `put`
        self._left: deque[Pack] = deque()
        self._is_draining = False  # what is in memory came from the spool and is still there
        self._is_spooling = spool is not None and not spool.is_empty
        self._good_at = clock.monotonic()
        self._warn_at = self._good_at
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._fatal: PipelineError | None = None
        self._is_closing = False
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._good_at = self._clock.monotonic()
        self._loop = asyncio.create_task(self._run())
        self._loop.add_done_callback(self._finish_call)
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            await self.close()
        else:
            await self._stop()

    @property
    def pending_bytes(self) -> int:
        """Bytes in memory that the stream has not acknowledged."""
        return self._pending_bytes

    @property
    def is_settled(self) -> bool:
        """Whether everything `put` accepted is stored, in the stream or in the spool."""
        return self._is_spooling or not (self._pending_packs or self._calls)

    async def put(self, pack: Pack) -> None:
        """Accept one pack; wait while memory (or the full spool) has no room.

        Raises: ConfigError as soon as a call showed that publishing cannot work.
        """
        while True:
            self._check()
            if self._is_spooling:
                if self._spool_overflow() and self._append(pack):
                    self._wake.set()
                    return
            elif not self._pending_packs or (
                self._pending_bytes + pack.size <= self.rule.max_pending_bytes
            ):
                self._enqueue(pack)
                return
            await self._wait_moved()

    def leave(self, packs: Iterable[Pack]) -> None:
        """Packs that `put` did not accept before the end: spooled after everything else."""
        self._left.extend(packs)
        if self._loop is None:
            self._keep_rest()

    async def flush(self, timeout_seconds: float | None = None) -> bool:
        """Wait until everything accepted is acknowledged; False if the time was not enough.

        An empty spool counts too: without a timeout this waits as long as the stream is away.
        """
        end = None if timeout_seconds is None else self._clock.monotonic() + timeout_seconds
        while self._pending_packs or self._calls or self._is_spooling:
            self._check()
            if end is not None and self._clock.monotonic() >= end:
                return False
            await self._wait_moved()
        self._check()
        return True

    async def close(self, flush_seconds: float | None = None) -> None:
        """Flush, stop, and keep the rest: in the spool, or named in an error line."""
        if self._loop is None:
            return
        try:
            await self.flush(flush_seconds)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        self._is_closing = True
        self._wake.set()
        await asyncio.wait([loop])
        self._keep_rest()

    # -- the sending loop ---------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._is_closing and self._fatal is None:
            self._wake.clear()
            if self._spool is not None:
                self._spool.sync_if_due()
            is_held = self._start_spooling_if_away()
            self._refill_from_spool()
            wait = 1.0 if is_held else self._start_calls()
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue
        if self._calls:
            # What a cancelled call carried counts as not sent: it may arrive twice, never not.
            _, late = await asyncio.wait(self._calls, timeout=self.rule.close_seconds)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _start_calls(self) -> float:
        """Start as many calls as fit; return how long nothing can change by itself."""
        while len(self._calls) < self.rule.max_calls:
            batch = self._take_batch()
            if not batch:
                break
            task = asyncio.create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._finish_call)
        return self._next_wait()

    def _next_wait(self) -> float:
        now = self._clock.monotonic()
        waits = [
            state.not_before - now
            for state in self._keys.values()
            if state.packs and not state.in_flight
        ]
        # Ready work waits for a call slot, whose end wakes us; the second is a safety net.
        return min(1.0, max(0.001, min(waits, default=1.0))) if self._has_slot() else 1.0

    def _has_slot(self) -> bool:
        return len(self._calls) < self.rule.max_calls

    def _take_batch(self) -> list[Pack]:
        """One record per ready key, within the limits of a call; keys take turns."""
        now = self._clock.monotonic()
        batch: list[Pack] = []
        size = 0
        for _ in range(len(self._ready)):
            key = self._ready.popleft()
            state = self._keys[key]
            if state.in_flight or not state.packs:
                continue  # it comes back when its call ends or a pack arrives
            fits = size + state.packs[0].size <= self.rule.max_call_bytes or not batch
            if state.not_before > now or not fits or len(batch) == self.rule.max_records:
                self._ready.append(key)
                continue
            record = self._take_record(state, self.rule.max_call_bytes - size)
            state.in_flight = True
            size += record.size
            batch.append(record)
        return batch

    def _take_record(self, state: _Key, room: int) -> Pack:
        """Merge what waited; a record that failed before keeps its bytes."""
        packs = [state.packs.popleft()]
        limit = min(self.rule.max_record_bytes, room)
        size = packs[0].size
        while (
            not state.failures
            and state.packs
            and size + len(state.packs[0].data) + 1 <= limit
            and packs[-1].is_open
            and state.packs[0].is_open
        ):
            packs.append(state.packs.popleft())
            size += len(packs[-1].data) + 1
        record = merge(packs)
        self._pending_packs -= len(packs) - 1
        self._pending_bytes += record.size - sum(pack.size for pack in packs)
        return record

    async def _call(self, batch: list[Pack]) -> None:
        try:
            codes = await self._sender.send(batch)
        except RetryableError as error:
            self.receipt.failed_calls += 1
            self._warn(batch, error)
            code = "throttled" if isinstance(error, ThrottledError) else "call failed"
            codes = [code] * len(batch)
        except PipelineError as error:
            self._fatal = error
            codes = ["stopped"] * len(batch)
        except BaseException:
            self._settle(batch, ["stopped"] * len(batch))
            raise
        self._settle(batch, codes)

    def _warn(self, batch: list[Pack], error: RetryableError) -> None:
        """One line per `WARN_SECONDS`: a stream away for an hour must not fill the log."""
        now = self._clock.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            log.warning("publish: %d records failed, will try again: %s", len(batch), error)

    def _finish_call(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._fatal is None:
            self._fatal = PipelineError(f"publish: sending stopped: {error!r}")
            self._fatal.__cause__ = error
        self._wake.set()
        self._moved.set()

    def _settle(self, batch: list[Pack], codes: list[str | None]) -> None:
        now = self._clock.monotonic()
        self.receipt.calls += 1
        for pack, code in zip(batch, codes, strict=True):
            state = self._keys[pack.key]
            state.in_flight = False
            if code is None:
                self._good_at = now
                self._acknowledge(pack, state)
            else:
                self.receipt.retried_records += code != "stopped"
                self.receipt.throttled += "throughput" in code.lower() or code == "throttled"
                state.packs.appendleft(pack)
                state.failures += 1
                state.not_before = now + self._backoff(state.failures)
            if state.packs:
                self._ready.append(pack.key)

    def _acknowledge(self, pack: Pack, state: _Key) -> None:
        self.receipt.messages += pack.messages
        self.receipt.records += 1
        self.receipt.bytes += len(pack.data)
        self._pending_bytes -= pack.size
        self._pending_packs -= 1
        state.failures = 0
        if not state.packs:
            del self._keys[pack.key]

    def _backoff(self, failures: int) -> float:
        """Half to full of a doubling delay: retries of many keys do not come at once."""
        full = self.rule.backoff_seconds * 2.0 ** min(failures - 1, 20)
        return min(full, self.rule.max_backoff_seconds) * (0.5 + self._jitter.random() / 2)

    # -- memory and spool ---------------------------------------------------------------------

    def _enqueue(self, pack: Pack) -> None:
        state = self._keys.setdefault(pack.key, _Key())
        state.packs.append(pack)
        self._pending_bytes += pack.size
        self._pending_packs += 1
        if len(state.packs) == 1 and not state.in_flight:
            self._ready.append(pack.key)
        self._wake.set()

    def _start_spooling_if_away(self) -> bool:
        """Move what waits to disk once the stream has stored nothing for too long.

        True: hold new calls until those that are out have ended. Their failed records must be
        spooled before later ones of their key.
        """
        now = self._clock.monotonic()
        if not self._pending_packs:
            self._good_at = now
        away = now - self._good_at
        if self._spool is None or self._is_spooling or away < self.rule.spool_after_seconds:
            return False
        if self._calls:
            return True
        log.warning(
            "publish: nothing stored for %.0f s; %d packs go to the spool %s until it works again",
            away,
            self._pending_packs,
            self._spool.folder,
        )
        self._is_spooling = True
        for state in self._keys.values():
            self._overflow.extend(state.packs)
        self._forget_pending()
        self._spool_overflow()
        self._moved.set()
        return False

    def _forget_pending(self) -> None:
        self._keys.clear()
        self._ready.clear()
        self._pending_bytes = self._pending_packs = 0

    def _spool_overflow(self) -> bool:
        """Write what found no room on disk; it is older than whatever `put` brings next."""
        while self._overflow and self._append(self._overflow[0]):
            self._overflow.popleft()
        return not self._overflow

    def _append(self, pack: Pack) -> bool:
        assert self._spool is not None
        if not self._spool.append(pack):
            return False
        self.receipt.spooled_messages += pack.messages
        return True

    def _refill_from_spool(self) -> None:
        """While spooling, memory holds a batch from the spool's head; ack it, take the next."""
        if not self._is_spooling or self._pending_packs or self._calls:
            return
        assert self._spool is not None
        if self._is_draining:
            self._spool.acknowledge()
        packs = self._spool.read(self.rule.max_pending_bytes // 4)
        self._is_draining = bool(packs)
        if not packs:
            packs = list(self._overflow)
            self._overflow.clear()
            self._is_spooling = False
            log.info("publish: the spool %s is empty again", self._spool.folder)
        for pack in packs:
            self._enqueue(pack)
        self._moved.set()

    def _keep_rest(self) -> None:
        """At the end: what the stream did not take goes to the spool, or is named as not sent."""
        if not self._is_draining:  # else the packs in memory are still on disk
            for state in self._keys.values():
                self._overflow.extend(state.packs)
        self._forget_pending()
        self._overflow.extend(self._left)
        self._left.clear()
        packs = len(self._overflow)
        if self._spool is not None:
            self._spool_overflow()
            self.receipt.waiting_bytes = self._spool.waiting_bytes
        lost = sum(pack.messages for pack in self._overflow)
        self._overflow.clear()
        self.receipt.unsent_messages += lost
        if lost:
            log.error("publish: %d messages were not sent and there is no room to spool", lost)
        elif packs:
            log.warning("publish: %d packs wait in the spool for the next start", packs)

    # -- waiting ------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    async def _wait_moved(self) -> None:
        self._moved.clear()
        try:
            await asyncio.wait_for(self._moved.wait(), 1.0)
        except TimeoutError:
            return
