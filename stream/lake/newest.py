"""How new a state of a table this process has read: an older answer of the catalog is no answer.

A process has several handles on one table: the lanes read positions, the dedup reads rows back,
the committer commits. A catalog that answers one of them with an older state than another has seen
(a cache, a lagging replica) would let rows be looked up that are not there yet, and duplicates
pass. Not here: what a table is (`catalog`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import StoreUnavailableError

PAUSES_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)


class NewestRead:
    """Per table, the highest state number that any handle has read. Thread-safe."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}

    def read(self, name: str, read: Callable[[], tuple[str, int]]) -> None:
        """Call `read` until its answer is as new as what this process knows.

        Args: name: of the table, for the message. read: loads a state; returns what identifies the
        table and a number that grows with its states.

        Raises: StoreUnavailableError when the catalog keeps answering with an older state.
        """
        for pause in (*PAUSES_SECONDS, None):
            table, number = read()
            newest = self.note(table, number)
            if number >= newest:
                return
            if pause is not None:
                self._clock.sleep(pause)
        raise StoreUnavailableError(
            f"table {name}: the catalog answers with state {number}, this process has read state "
            f"{newest} before. Is a cache or a replica behind? Nothing is lost; try again."
        )

    def note(self, table: str, number: int) -> int:
        """Take in a state that was read or committed; returns the newest one."""
        with self._lock:
            newest = max(self._numbers.get(table, 0), number)
            self._numbers[table] = newest
            return newest
