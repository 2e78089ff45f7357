"""The only place that reads a wall clock or sleeps.

Nothing that decides names or bytes in Bronze or Silver may depend on it: slices are cut by
arrival time. The clock only says when to look again, when a quiet window is over, and what
time a status line shows.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the platform may ask of time."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; a virtual clock returns at once and moves on."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to: for tests and simulations.

    >>> clock = ManualClock(start_ns=5_000_000_000)
    >>> clock.sleep(1.5)
    >>> clock.now_ns()
    6500000000
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic(self) -> float:
        return self._now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now_ns += int(seconds * 1e9)


SYSTEM_CLOCK = SystemClock()


def now_ms(clock: Clock = SYSTEM_CLOCK) -> int:
    """Milliseconds since the Unix epoch."""
    return clock.now_ns() // 1_000_000


def to_utc(timestamp_ns: int) -> datetime:
    """An aware UTC datetime (microseconds are kept, nanoseconds cut).

    >>> to_utc(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def parse_time_ms(text: str) -> int:
    """Milliseconds since the Unix epoch of an ISO time; without a zone it is taken as UTC.

    Raises: ValueError if it is none.

    >>> parse_time_ms("1970-01-01T00:00:01"), parse_time_ms("1970-01-01T01:00:01+01:00")
    (1000, 1000)
    """
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
