"""The byte credit that all shards of a process share: what bounds reading ahead.

A reader holds room for an answer while it asks for it; slices that are ready count until they
are polled. Thread-safe.
"""

from __future__ import annotations

import threading


class StopRequestedError(Exception):
    """Ends a fetching thread; never leaves it."""


class Credit:
    """Bytes that all shards together may have ready."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def try_hold(self, size: int) -> bool:
        """Reserve room for an answer that is to be read, if there is room; never waits.

        An answer larger than the whole credit has room when nothing is used.
        """
        with self._changed:
            if not self._has_room(size):
                return False
            self.used_bytes += size
            return True

    def wait_for(self, size: int) -> None:
        """Wait until there may be room. Raises: StopRequestedError once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(size))
            if self._is_closed:
                raise StopRequestedError

    def take(self, size: int) -> None:
        """Count a slice that is ready; never waits."""
        with self._changed:
            self.used_bytes += size

    def give_back(self, size: int) -> None:
        """An answer was read, or a slice was polled."""
        with self._changed:
            self.used_bytes -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Wake and end every waiting reader."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not 0 < self.used_bytes > self.limit_bytes - size
