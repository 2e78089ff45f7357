"""The store that a replay writes through: what is there already is never written again.

Names of Silver and quarantine objects contain their content's hash, so an object that the ledger
names need not be written. A dry run puts everything else aside into a folder that vanishes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from stream.lake.store import Store


class ReplayStore(Store):
    """The lake's store, seen by a replay.

    `recorded`: paths that the ledger names. `scratch`: where a dry run writes; None writes to
    the lake. Thread-safe, as the store is.
    """

    def __init__(self, lake: Store, recorded: Collection[str], scratch: Store | None) -> None:
        super().__init__(lake._backend, lake.root)  # noqa: SLF001 - the same store, seen twice
        self._recorded = frozenset(recorded)
        self._scratch = scratch
        self._lock = threading.Lock()
        self._aside: set[str] = set()
        self.created: set[str] = set()

    def put_once(self, path: str, data: bytes) -> bool:
        """Create an object that is missing; only said, not done, in a dry run."""
        is_new = not self.exists(path) if self._scratch else super().put_once(path, data)
        if is_new:
            with self._lock:
                self.created.add(path)
        return is_new

    def put(self, path: str, data: bytes) -> None:
        """Write an object unless the ledger knows it."""
        if path in self._recorded:
            return
        if self._scratch is None:
            super().put(path, data)
        else:
            self._scratch.put(path, data)
            with self._lock:
                self._aside.add(path)

    def get(self, path: str) -> bytes | None:
        """An object of the lake, or one that was put aside."""
        if self._scratch is not None and path in self._aside:
            return self._scratch.get(path)
        return super().get(path)

    def uri(self, path: str) -> str:
        """The address of an object, wherever it lies."""
        if self._scratch is not None and path in self._aside:
            return self._scratch.uri(path)
        return super().uri(path)
