"""One thread that reads the state, for any number of open pages.

While a page is open it reads once a second; with none, every few seconds, so that graphs have a
past when one is opened. After a slow reading it rests longer, because the road has the machine
first. A page that is slow to take a state gets the newest one next.
Not here: what a state holds (`stream.watch`), how it travels (`app`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import PipelineError

log = logging.getLogger(__name__)

OPEN_SECONDS = 1.0
IDLE_SECONDS = 5.0
BEAT_SECONDS = 2.0
REST = 2.0
"""After a reading it rests at least so many times as long as that took, …"""
MAX_REST_SECONDS = 3.0
"""… but not longer than this: who is paged waits for what comes next."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One state as JSON text. `number` grows by one with each; `at` is monotonic seconds."""

    number: int
    at: float
    body: bytes


class Beat:
    """Nothing new for a while, and all is well: a state takes long to read."""


class _Subscriber:
    """The newest reading that one open page has not seen, handed over to its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Reading | None] = asyncio.Queue(1)

    def tell(self, reading: Reading | None) -> None:
        """From any thread. None: there will be no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._replace, reading)

    async def next(self) -> Reading | Beat | None:
        try:
            return await asyncio.wait_for(self._news.get(), BEAT_SECONDS)
        except TimeoutError:
            return Beat()

    def _replace(self, reading: Reading | None) -> None:
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait(reading)


class Collector:
    """Calls `read` in a thread and passes what it returns on to every `readings()`.

    Args: read: the state, as plain JSON values; it may raise PipelineError or OSError, which pages
    see as a problem beside the last state. When it raises anything else, `failure` holds that, no
    reading follows and `on_failure` is called.
    """

    def __init__(self, read: Callable[[], Mapping[str, Any]], clock: Clock = SYSTEM_CLOCK) -> None:
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._read, self._clock = read, clock
        self._latest: Reading | None = None
        self._state: Mapping[str, Any] = {}
        self._subscribers: set[_Subscriber] = set()
        self._lock = threading.Lock()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def stop(self) -> None:
        """End, and end every `readings()`. A reading that hangs is left behind."""
        self.release()
        self._thread.join(2)

    def release(self) -> None:
        """End every `readings()` and read no more, without waiting. Safe in a signal handler."""
        self._stopped.set()
        self._wake.set()
        for subscriber in list(self._subscribers):
            subscriber.tell(None)

    @property
    def open_pages(self) -> int:
        """How many `readings()` run."""
        return len(self._subscribers)

    def age_seconds(self) -> float | None:
        """Since the last reading; None before the first."""
        return self._clock.monotonic() - self._latest.at if self._latest else None

    async def readings(self) -> AsyncGenerator[Reading | Beat, None]:
        """The newest reading, if there is one, and each later one until `stop`; a beat whenever
        there was none for two seconds.
        """
        subscriber = _Subscriber()
        with self._lock:
            self._subscribers.add(subscriber)
            latest = self._latest
        self._wake.set()
        try:
            if latest is not None:
                yield latest
            while not self._stopped.is_set() and (reading := await subscriber.next()):
                yield reading
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                started = self._clock.monotonic()
                self._publish(self._read_or_explain())
                self._rest(self._clock.monotonic() - started)
        except BaseException as error:  # noqa: BLE001 - raised by who runs the server
            self.failure = error
            self.release()
            self.on_failure()

    def _read_or_explain(self) -> Mapping[str, Any]:
        try:
            self._state = self._read()
        except (PipelineError, OSError) as error:
            log.warning("the state could not be read: %s", error)
            problem = {"what": str(error), "where": "the page's collector", "advice": "It retries."}
            return {**self._state, "problems": [problem, *self._state.get("problems", ())]}
        return self._state

    def _publish(self, state: Mapping[str, Any]) -> None:
        body = orjson.dumps(state)
        with self._lock:
            number = self._latest.number + 1 if self._latest else 1
            self._latest = Reading(number, self._clock.monotonic(), body)
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber.tell(self._latest)

    def _rest(self, worked_seconds: float) -> None:
        rest = min(REST * worked_seconds, MAX_REST_SECONDS)
        self._stopped.wait(max(OPEN_SECONDS - worked_seconds, rest))
        if not self._subscribers:  # a page that is opened meanwhile ends the longer rest
            self._wake.clear()
            if not self._subscribers and not self._stopped.is_set():
                self._wake.wait(IDLE_SECONDS - OPEN_SECONDS)
