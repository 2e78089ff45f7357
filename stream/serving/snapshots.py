"""Which snapshot a table is at, looked at no more than once a second, and those that cursors pin.

While one request looks again the others go on with what is known, so that a hot query never waits
for the catalog. Rows that were committed a second before a request are in its answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.lake.catalog import LakeTable
from stream.lake.catalog_files import SnapshotState, current_snapshot, find_snapshot
from stream.lake.connect import Lake
from stream.serving.problem import ProblemError, SnapshotGoneError

REFRESH_SECONDS = 1.0


@dataclass(slots=True)
class _Known:
    table: LakeTable
    state: SnapshotState
    read_at: float
    lock: threading.Lock


class Snapshots:
    """Tables of Silver by name. Threads may share it."""

    def __init__(self, open_lake: Callable[[], Lake], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._open_lake, self._clock = open_lake, clock
        self._lake: Lake | None = None
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def lake(self) -> Lake:
        """The lake, opened at the first request: the API starts while the lake is away."""
        with self._lock:
            if self._lake is None:
                self._lake = self._open_lake()
            return self._lake

    def current(self, name: str) -> tuple[LakeTable, SnapshotState]:
        """A table and its newest snapshot, as of a second ago at most.

        Raises: ProblemError (404: the feed was never started), StoreUnavailableError, ConfigError.
        """
        known = self._known.get(name) or self._open(name)
        if self._clock.monotonic() - known.read_at > REFRESH_SECONDS:
            self._look_again(known)
        return known.table, known.state

    def pinned(self, name: str, snapshot_id: int) -> tuple[LakeTable, SnapshotState]:
        """A table and one snapshot of it. Raises: SnapshotGoneError if it was expired."""
        table, state = self.current(name)
        found = state if state.id == snapshot_id else find_snapshot(table, snapshot_id)
        if found is None:
            raise SnapshotGoneError(f"table {name}: snapshot {snapshot_id} is gone")
        return table, found

    def check(self, name: str, snapshot_id: int) -> None:
        """Look whether a snapshot still is, now. Raises: SnapshotGoneError."""
        table, _ = self.current(name)
        table.refresh()
        if find_snapshot(table, snapshot_id) is None:
            raise SnapshotGoneError(f"table {name}: snapshot {snapshot_id} is gone")

    def _look_again(self, known: _Known) -> None:
        if not known.lock.acquire(blocking=False):
            return  # another request does it
        try:
            known.table.refresh()
            known.state = current_snapshot(known.table)
            known.read_at = self._clock.monotonic()
        finally:
            known.lock.release()

    def _open(self, name: str) -> _Known:
        lake = self.lake()
        with self._lock:
            if name in self._known:
                return self._known[name]
        if name not in lake.catalog.names():
            raise not_started(name)
        try:
            table = lake.catalog.open(name)
        except ConfigError as error:
            raise not_started(name) from error
        known = _Known(table, current_snapshot(table), self._clock.monotonic(), threading.Lock())
        with self._lock:
            return self._known.setdefault(name, known)


def not_started(name: str) -> ProblemError:
    """Nothing was ever committed to a table."""
    feed = "trades" if name == "bars_1m" else name
    return ProblemError(
        404,
        "no-data",
        f"The lake has no table {name} yet: `headrace run {feed}` creates it at its first start.",
    )
