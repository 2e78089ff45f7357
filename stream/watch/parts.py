"""Read something slow or unreliable beside the screen: in the background, with a deadline.

A part is read by a thread of its own. Who collects waits a bounded time for it and otherwise goes
on with what was read last, so that a service that hangs costs one problem line and not the view.
A part is not read again before it has rested a multiple of what its reading took: watching never
takes much of a core, however large a lake becomes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stream.clock import SYSTEM_CLOCK, Clock, now_ms

T = TypeVar("T")

WAIT_SECONDS = 2.0
REST = 10.0
"""A reading that took 100 ms is repeated after a second."""
MAX_REST_SECONDS = 3.0
"""A machine that is busy makes readings slow; what is shown must not grow old for that."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What is known of a part: the last good value, when it was read, and what went wrong since.

    `late_seconds`: how long a reading has been under way that has not come back.
    """

    value: T | None = None
    at_ms: int | None = None
    error: BaseException | None = None
    late_seconds: float | None = None


@dataclass(slots=True)
class _Attempt(Generic[T]):
    """One reading by one thread."""

    read: Callable[[], T]
    began: float
    clock: Clock
    done: threading.Event
    value: T | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    at_ms: int = 0

    def run(self) -> None:
        """Read; whatever happens is kept for the thread that asks."""
        try:
            self.value = self.read()
        except BaseException as error:  # noqa: BLE001 - handed over, see `Part.look`
            self.error = error
        self.seconds, self.at_ms = self.clock.monotonic() - self.began, now_ms(self.clock)
        self.done.set()


class Part(Generic[T]):
    """One thing that is read again and again.

    >>> part = Part(lambda: 42)
    >>> part.start()
    >>> part.look(wait_seconds=1.0).value
    42
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        rest_seconds: float = 0.5,
        name: str = "watch",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`rest_seconds`: at least so long between two readings."""
        self._read, self._rest, self._name, self._clock = read, rest_seconds, name, clock
        self._running: _Attempt[T] | None = None
        self._known: Reading[T] = Reading()
        self._due = float("-inf")
        self._is_first = True

    def start(self) -> None:
        """Begin a reading, if it is time and none is under way."""
        if self._running is not None or self._clock.monotonic() < self._due:
            return
        attempt = _Attempt(self._read, self._clock.monotonic(), self._clock, threading.Event())
        self._running = attempt
        threading.Thread(target=attempt.run, name=self._name, daemon=True).start()

    def look(self, wait_seconds: float = WAIT_SECONDS) -> Reading[T]:
        """What is known, after waiting at most so long for a reading that is under way."""
        attempt = self._running
        if attempt is None:
            return self._known
        if not attempt.done.wait(max(0.0, wait_seconds)):
            late = self._clock.monotonic() - attempt.began
            return Reading(self._known.value, self._known.at_ms, self._known.error, late)
        self._running = None
        # The first reading opens, imports and catches up: it says nothing about the next one.
        cost = 0.0 if self._is_first else attempt.seconds
        self._is_first = False
        rest = max(self._rest, min(REST * cost, MAX_REST_SECONDS))
        self._due = self._clock.monotonic() + rest
        if attempt.error is None:
            self._known = Reading(attempt.value, attempt.at_ms)
        else:
            self._known = Reading(self._known.value, self._known.at_ms, attempt.error)
        return self._known
