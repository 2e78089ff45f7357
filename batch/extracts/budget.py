"""How many calls a minute: one budget for all threads of a process that call one API.

Guarantee: no more than `calls_per_minute` calls begin within any 60 seconds, and none while the
API asked us to hold back. Not here: budgets across processes (Prefect's limit `fmp-api`).
"""

from __future__ import annotations

import threading
from collections import deque

from stream.clock import Clock
from stream.errors import ConfigError

MINUTE_SECONDS = 60.0
_SHORTEST_SLEEP_SECONDS = 0.001
"""So that a difference below the clock's resolution cannot spin."""


class CallBudget:
    """Lets calls through, or makes them wait.

    >>> from stream.clock import ManualClock
    >>> clock = ManualClock()
    >>> budget = CallBudget(2, clock)
    >>> for _ in range(3):
    ...     budget.wait()
    >>> clock.monotonic()
    60.0
    """

    def __init__(self, calls_per_minute: int, clock: Clock) -> None:
        if calls_per_minute < 1:
            raise ConfigError(f"calls per minute: expected at least 1, found {calls_per_minute}")
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: deque[float] = deque(maxlen=calls_per_minute)
        self._held_until = float("-inf")

    def wait(self) -> None:
        """Return when a call may begin now; it then counts."""
        while (seconds := self._reserve()) > 0:
            self._clock.sleep(max(seconds, _SHORTEST_SLEEP_SECONDS))

    def hold_back(self, seconds: float) -> None:
        """No call of any thread begins before this time has passed."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _reserve(self) -> float:
        """Count a call and return 0, or say how long to wait before asking again."""
        with self._lock:
            now = self._clock.monotonic()
            free_at = self._held_until
            if len(self._begun) == self._begun.maxlen:
                free_at = max(free_at, self._begun[0] + MINUTE_SECONDS)
            if free_at > now:
                return free_at - now
            self._begun.append(now)
            return 0.0
