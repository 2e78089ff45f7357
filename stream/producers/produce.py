"""Run one producer: source -> pack -> publish, with progress, a clean stop and a report.

`produce` is what `headrace produce` calls; `run` is the same for callers with an event loop.
A stop flushes for a few seconds and puts the rest into the spool. Not here: what the sources are
(`simulate`, `replay_file`, `venue`, `news`), creating the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import StoreUnavailableError
from stream.producers.kinesis import open_sender
from stream.producers.pack import Pack, Packer, PackRule
from stream.producers.publish import Publisher, PublishRule, Receipt, Sender
from stream.producers.spool import Spool

log = logging.getLogger(__name__)

Batches = AsyncIterator[list[tuple[str, bytes]]]
"""What a source yields: (partition key, message) pairs."""

MAX_MESSAGE_BYTES = 1024 * 1024 - 256
"""Kinesis' default record limit, less the longest partition key."""

STOP_FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where to publish. Without a spool folder, what cannot be sent is counted and lost."""

    stream: str
    region: str
    endpoint_url: str | None = None
    spool_folder: Path | None = None
    spool_max_bytes: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ProduceReport:
    """What happened. `receipt.messages` is what the stream acknowledged."""

    stream: str
    seconds: float
    read_messages: int
    oversized_messages: int
    receipt: Receipt

    @property
    def messages_per_second(self) -> float:
        """Acknowledged messages per second of the whole run."""
        return self.receipt.messages / self.seconds if self.seconds else 0.0


Progress = Callable[[ProduceReport], None]


def produce(
    target: Target,
    batches: Batches,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    on_settled: Callable[[], None] | None = None,
    pack_rule: PackRule | None = None,
    publish_rule: PublishRule | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ProduceReport:
    """Publish a source until it ends or `stop` is set (from any thread or a signal handler).

    Raises: ConfigError (no stream, no permission, spool folder not usable).
    """
    return asyncio.run(
        run(
            target,
            batches,
            stop=stop,
            progress=progress,
            on_settled=on_settled,
            pack_rule=pack_rule,
            publish_rule=publish_rule,
            clock=clock,
        )
    )


async def run(
    target: Target,
    batches: Batches,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    on_settled: Callable[[], None] | None = None,
    pack_rule: PackRule | None = None,
    publish_rule: PublishRule | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ProduceReport:
    """`produce` inside an event loop."""
    spool = open_spool(target, clock)
    try:
        async with open_sender(
            target.stream, region=target.region, endpoint_url=target.endpoint_url
        ) as sender:
            # An unreachable stream is no reason not to start: that is what the spool is for.
            with contextlib.suppress(StoreUnavailableError):
                await sender.check()
            publisher = Publisher(sender, rule=publish_rule, spool=spool, clock=clock)
            pump = Pump(
                publisher,
                Packer(pack_rule),
                target.stream,
                stop=stop,
                progress=progress,
                on_settled=on_settled,
                clock=clock,
            )
            return await pump.run(batches)
    finally:
        if spool is not None:
            spool.close()


def open_spool(target: Target, clock: Clock = SYSTEM_CLOCK) -> Spool | None:
    """The target's spool: one folder per stream."""
    if target.spool_folder is None:
        return None
    folder = target.spool_folder / target.stream
    return Spool(folder, max_bytes=target.spool_max_bytes, clock=clock)


async def publish_messages(
    sender: Sender, messages: Iterable[tuple[str, bytes]], rule: PackRule | None = None
) -> Receipt:
    """Pack and publish a finite list; for tests and benchmarks."""
    packer = Packer(rule)
    async with Publisher(sender) as publisher:
        for pack in [*packer.add_many(messages, 0.0), *packer.flush()]:
            await publisher.put(pack)
    return publisher.receipt


class Pump:
    """Move messages from a source into a publisher. One use."""

    def __init__(
        self,
        publisher: Publisher,
        packer: Packer,
        stream: str,
        *,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
        on_settled: Callable[[], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._publisher = publisher
        self._on_settled = on_settled
        self._packer = packer
        self._stream = stream
        self._stop = stop or threading.Event()
        self._progress = progress
        self._clock = clock
        self._begin = clock.monotonic()
        self._shown_at = self._begin
        self._read = 0
        self._oversized = 0
        self._waiting: deque[Pack] = deque()
        self._stopped_at: float | None = None

    async def run(self, batches: Batches) -> ProduceReport:
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

    def _is_overdue(self) -> bool:
        """Whether the stop was asked for and the time to flush is over."""
        if not self._stop.is_set():
            return False
        if self._stopped_at is None:
            self._stopped_at = self._clock.monotonic()
        return self._clock.monotonic() - self._stopped_at >= STOP_FLUSH_SECONDS

    def report(self) -> ProduceReport:
        """The figures so far."""
        seconds = self._clock.monotonic() - self._begin
        receipt = self._publisher.receipt
        return ProduceReport(self._stream, seconds, self._read, self._oversized, receipt)

    async def _work(self, batches: Batches) -> None:
        tick = max(0.005, self._packer.rule.linger_seconds / 4)
        upcoming = asyncio.ensure_future(anext(batches, None))
        try:
            while not self._stop.is_set():
                await asyncio.wait({upcoming}, timeout=tick)
                if upcoming.done():
                    batch = upcoming.result()
                    if batch is None:
                        break
                    await self._accept(batch)
                    upcoming = asyncio.ensure_future(anext(batches, None))
                await self._put(self._packer.due(self._clock.monotonic()))
                if not upcoming.done():
                    self._tell_settled()
                self._show()
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})
            close = getattr(batches, "aclose", None)
            if close is not None:
                await close()
        await self._put(self._packer.flush())

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
