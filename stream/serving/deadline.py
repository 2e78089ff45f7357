"""Stop a query that runs too long: one watching thread for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stream.clock import SYSTEM_CLOCK, Clock

TICK_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class Running:
    """A query under watch. `is_stopped`: it took too long and was told to stop."""

    ends_at: float
    stop: Callable[[], None]
    is_stopped: bool = False


class Deadlines:
    """Queries under watch. Threads may share it."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._running: set[Running] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @contextmanager
    def within(self, seconds: float, stop: Callable[[], None]) -> Iterator[Running]:
        """`stop` is called, from another thread, if the block takes longer."""
        running = Running(self._clock.monotonic() + seconds, stop)
        with self._changed:
            self._running.add(running)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            if len(self._running) == 1:
                self._changed.notify()
        try:
            yield running
        finally:
            with self._changed:
                self._running.discard(running)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._running and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                now = self._clock.monotonic()
                for running in self._running:
                    if now >= running.ends_at:
                        # Again at each tick: a query that was just about to begin is stopped, too.
                        running.is_stopped = True
                        running.stop()
                self._changed.wait(TICK_SECONDS)
