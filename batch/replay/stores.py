"""The store that a replay writes through: what is there already is never written again.

Names of Silver and quarantine objects contain their content's hash. An object that the table or
the ledger needs now is there; one that the ledger names from before a compaction may be gone, and
is put aside on the local disk until it is known whether its slice changed (`publish`). A dry run
puts everything aside.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from stream.lake.store import Store


class ReplayStore(Store):
    """The lake's store, seen by a replay. Thread-safe, as the store is."""

    def __init__(
        self,
        lake: Store,
        scratch: Store,
        *,
        present: Collection[str] = (),
        recorded: Collection[str] = (),
        is_dry: bool,
    ) -> None:
        """`present`: paths that are in the lake for sure. `recorded`: paths that the ledger names.
        `scratch`: where objects are put aside.
        """
        super().__init__(lake.places)
        self._present = frozenset(present)
        self._recorded = frozenset(recorded)
        self._scratch = scratch
        self._is_dry = is_dry
        self._lock = threading.Lock()
        self._aside: set[str] = set()
        self._published: set[str] = set()
        self.created: set[str] = set()

    def put_once(self, path: str, data: bytes) -> bool:
        """Create an object that is missing; only said, not done, in a dry run."""
        is_new = not self.exists(path) if self._is_dry else super().put_once(path, data)
        if is_new:
            with self._lock:
                self.created.add(path)
        return is_new

    def put(self, path: str, data: bytes) -> None:
        """Write an object, put it aside, or see that it is there; one that is gone although it is
        needed is restored.
        """
        if path in self._present:
            if not self.exists(path):
                with self._lock:
                    self.created.add(path)
                if not self._is_dry:
                    super().put(path, data)
            return
        if not self._is_dry and path not in self._recorded:
            super().put(path, data)
            return
        self._scratch.put(path, data)
        with self._lock:
            self._aside.add(path)

    def get(self, path: str) -> bytes | None:
        """An object that was put aside, or one of the lake."""
        return self._scratch.get(path) if path in self._aside else super().get(path)

    def forget(self, paths: Iterable[str]) -> None:
        """Objects that were put aside and are not needed."""
        for path in sorted(self._aside.intersection(paths)):
            self._scratch.delete(path)
            self._aside.discard(path)

    def publish(self, paths: Iterable[str]) -> None:
        """Write objects that were put aside into the lake: a commit is about to name them."""
        for path in sorted(self._aside.intersection(paths) - self._published):
            data = self._scratch.get(path)
            assert data is not None
            super().put(path, data)
            self._published.add(path)
