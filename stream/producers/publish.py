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
from dataclasses import dataclass
from typing import Protocol, Self

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import PipelineError, RetryableError, ThrottledError
from stream.producers.outbox import Outbox, PublishRule
from stream.producers.pack import Pack
from stream.producers.spool import Spool

log = logging.getLogger(__name__)

WARN_SECONDS = 10.0
SPOOL_AGAIN_SECONDS = 10.0
THROTTLED = "ProvisionedThroughputExceededException"


class Sender(Protocol):
    """One call that stores records. `kinesis.KinesisSender` is the real one."""

    async def send(self, packs: Sequence[Pack]) -> list[str | None]:
        """Store records; per record None (stored) or an error code (not stored).

        Raises: RetryableError (the whole call failed), ConfigError (it never will succeed).
        """
        ...


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
        self._box = Outbox(self.rule, jitter or random.Random())
        self._calls: set[asyncio.Task[None]] = set()
        self._overflow: deque[Pack] = deque()  # younger than the spool, older than any `put`
        self._left: deque[Pack] = deque()
        self._is_draining = False  # what is in memory came from the spool and is still there
        self._is_spooling = spool is not None and not spool.is_empty
        self._spool_at = 0.0  # not before: the disk took nothing, memory has to do
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
        return self._box.bytes

    @property
    def is_settled(self) -> bool:
        """Whether everything `put` accepted is stored, in the stream or in the spool."""
        if self._is_spooling:
            return not self._overflow
        return not (self._box.packs or self._calls)

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
            elif not self._box.packs or (
                self._box.bytes + pack.size <= self.rule.max_pending_bytes
            ):
                self._box.add(pack)
                self._wake.set()
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
        while self._box.packs or self._calls or self._is_spooling:
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
            batch = self._box.take_call(self._clock.monotonic())
            if not batch:
                return self._box.next_wait(self._clock.monotonic())
            task = asyncio.create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._finish_call)
        return 1.0  # the end of a call wakes us

    async def _call(self, batch: list[Pack]) -> None:
        try:
            codes = await self._sender.send(batch)
        except RetryableError as error:
            self.receipt.failed_calls += 1
            self.receipt.throttled += len(batch) * isinstance(error, ThrottledError)
            codes = [str(error)] * len(batch)
        except PipelineError as error:
            self._fatal = error
            codes = ["stopped"] * len(batch)
        except BaseException:
            self._settle(batch, ["stopped"] * len(batch))
            raise
        self._settle(batch, codes)

    def _warn(self, what: str) -> None:
        """One line per `WARN_SECONDS`: a stream away for an hour must not fill the log."""
        now = self._clock.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            log.warning("publish: %s; trying again", what)

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
        failed = [code for code in codes if code is not None and code != "stopped"]
        self.receipt.retried_records += len(failed)
        self.receipt.throttled += failed.count(THROTTLED)
        if failed:
            self._warn(f"{len(failed)} of {len(batch)} records failed, the first with {failed[0]}")
        for pack, code in zip(batch, codes, strict=True):
            if code is None:
                self._good_at = now
                self._acknowledge(pack)
            else:
                self._box.failed(pack, now)

    def _acknowledge(self, pack: Pack) -> None:
        self._box.stored(pack)
        self.receipt.messages += pack.messages
        self.receipt.records += 1
        self.receipt.bytes += len(pack.data)

    # -- memory and spool ---------------------------------------------------------------------

    def _start_spooling_if_away(self) -> bool:
        """Move what waits to disk once the stream has stored nothing for too long.

        True: hold new calls until those that are out have ended. Their failed records must be
        spooled before later ones of their key.
        """
        now = self._clock.monotonic()
        if not self._box.packs:
            self._good_at = now
        away = now - self._good_at
        if self._spool is None or self._is_spooling or now < self._spool_at:
            return False
        if away < self.rule.spool_after_seconds:
            return False
        if self._calls:
            return True
        log.warning(
            "publish: nothing stored for %.0f s; %d packs go to the spool %s until it works again",
            away,
            self._box.packs,
            self._spool.folder,
        )
        self._is_spooling = True
        self._overflow.extend(self._box.clear())
        self._spool_overflow()
        self._moved.set()
        return False

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
        if not self._is_spooling or self._box.packs or self._calls:
            return
        assert self._spool is not None
        was_draining = self._is_draining
        if was_draining:
            self._spool.acknowledge()
        packs = self._spool.read(self.rule.max_pending_bytes // 4)
        self._is_draining = bool(packs)
        if not packs:
            packs = list(self._overflow)
            self._overflow.clear()
            self._is_spooling = False
            if was_draining:
                log.info("publish: the spool %s is empty again", self._spool.folder)
            else:  # the disk is full: asking it at once again would only burn CPU
                self._spool_at = self._clock.monotonic() + SPOOL_AGAIN_SECONDS
        for pack in packs:
            self._box.add(pack)
        self._moved.set()

    def _keep_rest(self) -> None:
        """At the end: what the stream did not take goes to the spool, or is named as not sent."""
        if not self._is_draining:  # else the packs in memory are still on disk
            self._overflow.extend(self._box.clear())
        self._overflow.extend(self._left)
        self._left.clear()
        packs = len(self._overflow)
        if self._spool is not None:
            if self._is_draining and not self._box.packs:
                self._spool.acknowledge()
                self._is_draining = False
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
