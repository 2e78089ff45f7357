"""Move messages from a source through packing into a publisher, and stop cleanly.

A stop (or the end of the source) flushes; what the stream does not take within
`STOP_FLUSH_SECONDS` after a stop goes to the spool. Guarantees: every message that the source
yielded is stored, spooled, or counted and named in an error line. Not here: what the sources are,
how a run is configured (`produce`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from stream.clock import SYSTEM_CLOCK, Clock
from stream.producers.pack import Pack, Packer
from stream.producers.publish import Publisher, Receipt

log = logging.getLogger(__name__)

Batches = AsyncIterator[list[tuple[str, bytes]]]
"""What a source yields: (partition key, message) pairs."""

MAX_MESSAGE_BYTES = 1024 * 1024 - 256
"""Kinesis' default record limit, less the longest partition key."""

STOP_FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened so far. `receipt.messages` is what the stream acknowledged."""

    stream: str
    seconds: float
    read_messages: int
    oversized_messages: int
    receipt: Receipt

    @property
    def messages_per_second(self) -> float:
        """Acknowledged messages per second of the whole run."""
        return self.receipt.messages / self.seconds if self.seconds else 0.0


Progress = Callable[[Figures], None]


class Pump:
    """Move messages from a source into a publisher, for at most `seconds`. One use.

    `on_settled` is called whenever everything that the source yielded is stored: only then may a
    source move a cursor of its own.
    """

    def __init__(
        self,
        publisher: Publisher,
        packer: Packer,
        stream: str,
        *,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
        on_settled: Callable[[], None] | None = None,
        seconds: float | None = None,
        stop_flush_seconds: float = STOP_FLUSH_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._publisher = publisher
        self._on_settled = on_settled
        self._seconds = seconds
        self._stop_flush_seconds = stop_flush_seconds
        self._packer = packer
        self._stream = stream
        self._stop = stop or threading.Event()
        self._progress = progress
        self._clock = clock
        self._begin = clock.monotonic()
        self._shown_at = self._begin
        self._tick = max(0.005, packer.rule.linger_seconds / 2)
        self._due_at = self._begin
        self._read = 0
        self._oversized = 0
        self._waiting: deque[Pack] = deque()
        self._stopped_at: float | None = None

    async def run(self, batches: Batches) -> Figures:
        """Until the source ends or `stop` is set; then flush, spool the rest, report."""
        async with self._publisher:
            work = asyncio.create_task(self._work(batches))
            try:
                await self._until_done_or_stopped(work)
                await self._flush()
            finally:
                await _cancel(work)
                self._publisher.leave([*self._waiting, *self._packer.flush()])
        report = self.report()
        if self._progress is not None:
            self._progress(report)
        return report

    async def _until_done_or_stopped(self, work: asyncio.Task[None]) -> None:
        """A stopped source may be held back by a full spool: give it a little time, then leave."""
        while not work.done() and not self._is_overdue():
            await asyncio.wait([work], timeout=0.1)
            self._show()
        if work.done():
            work.result()

    async def _flush(self) -> None:
        while not await self._publisher.flush(0.1) and not self._is_overdue():
            self._show()
        self._tell_settled()
        await self._publisher.close(flush_seconds=0)

    def _is_time_over(self) -> bool:
        if self._seconds is None:
            return False
        return self._clock.monotonic() - self._begin >= self._seconds

    def _is_overdue(self) -> bool:
        """Whether the stop was asked for and the time to flush is over."""
        if not self._stop.is_set():
            return False
        if self._stopped_at is None:
            self._stopped_at = self._clock.monotonic()
        return self._clock.monotonic() - self._stopped_at >= self._stop_flush_seconds

    def report(self) -> Figures:
        """The figures so far."""
        seconds = self._clock.monotonic() - self._begin
        receipt = self._publisher.receipt
        return Figures(self._stream, seconds, self._read, self._oversized, receipt)

    async def _work(self, batches: Batches) -> None:
        upcoming = asyncio.ensure_future(anext(batches, None))
        try:
            while not self._stop.is_set() and not self._is_time_over():
                await asyncio.wait({upcoming}, timeout=self._tick)
                if upcoming.done():
                    if upcoming.exception() is not None or upcoming.result() is None:
                        break
                    await self._accept(upcoming.result() or [])
                    upcoming = asyncio.ensure_future(anext(batches, None))
                await self._put_due()
                if not upcoming.done():
                    self._tell_settled()
                self._show()
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()
        await self._finish(upcoming)

    async def _finish(self, last: asyncio.Future[list[tuple[str, bytes]] | None]) -> None:
        """Publish what is left; then, if the source broke, raise its error."""
        error = None if last.cancelled() else last.exception()
        if error is None and not last.cancelled():
            # The stop came between a batch and its turn.
            await self._accept(last.result() or [])
        await self._put(self._packer.flush())
        if error is not None:
            # What came before the source broke is whole: it goes out first.
            await self._publisher.flush(self._stop_flush_seconds)
            raise error

    async def _accept(self, batch: list[tuple[str, bytes]]) -> None:
        self._read += len(batch)
        if max((len(message) for _, message in batch), default=0) > MAX_MESSAGE_BYTES:
            batch = self._without_oversized(batch)
        await self._put(self._packer.add_many(batch, self._clock.monotonic()))

    def _without_oversized(self, batch: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Kinesis takes no such record, so it cannot reach Bronze: name it, loudly."""
        for key, message in batch:
            if len(message) > MAX_MESSAGE_BYTES:
                self._oversized += 1
                log.error(
                    "publish to %s: a message of %d bytes (key %s, begins %r) is above the limit "
                    "of %d and was NOT published",
                    self._stream,
                    len(message),
                    key,
                    message[:80],
                    MAX_MESSAGE_BYTES,
                )
        return [pair for pair in batch if len(pair[1]) <= MAX_MESSAGE_BYTES]

    async def _put_due(self) -> None:
        """Two looks per linger time, each taking what would be overdue at the next.

        A call costs about 2 ms of CPU however small it is: packs should leave in few waves.
        """
        now = self._clock.monotonic()
        if now >= self._due_at:
            self._due_at = now + self._tick
            await self._put(self._packer.due(self._due_at))

    async def _put(self, packs: list[Pack]) -> None:
        self._waiting.extend(packs)
        while self._waiting:
            await self._publisher.put(self._waiting[0])
            self._waiting.popleft()

    def _tell_settled(self) -> None:
        """A source may only move its cursor past messages that a crash cannot lose any more."""
        held_back = len(self._packer) + len(self._waiting)
        if self._on_settled is not None and not held_back and self._publisher.is_settled:
            self._on_settled()

    def _show(self) -> None:
        now = self._clock.monotonic()
        if self._progress is not None and now - self._shown_at >= 0.5:
            self._shown_at = now
            self._progress(self.report())


async def _cancel(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
