"""Now and then, beside the road: how many snapshots and small files a table has, the retention.

Counting files reads the snapshot's manifests, so a thread of its own does it, so seldom that it
takes at most half a percent of a core. Only files of days before today count as small: today's are
merged when the day is over. Nothing depends on it. Each look also gives freed memory back.
"""

from __future__ import annotations

import logging
import threading

from stream.clock import Clock, to_utc
from stream.errors import PipelineError
from stream.lake.catalog import LakeTable
from stream.lake.catalog_maintenance import SMALL_FILE_BYTES, day_files
from stream.observe.memory import give_back_memory
from stream.sources import StreamReader

log = logging.getLogger(__name__)

REST = 200
"""Times the length of a look that the next one waits at least."""


class TableWatch:
    """Looks until it is stopped; what it found is read from other threads."""

    def __init__(
        self, table: LakeTable, reader: StreamReader, seconds: float, clock: Clock
    ) -> None:
        """`seconds`: between looks, at least."""
        self._table, self._reader, self._seconds, self._clock = table, reader, seconds, clock
        self._stopped = threading.Event()
        self._small_files: int | None = None
        self.retention_ms: int | None = None
        self._thread = threading.Thread(target=self._run, name="table-watch", daemon=True)

    def start(self) -> None:
        """Begin; the first look is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join(2)

    def facts(self) -> dict[str, int]:
        """`snapshots` of the last commit; `small_files` of the last look, if there was one."""
        small = {} if self._small_files is None else {"small_files": self._small_files}
        return {"snapshots": self._table.snapshot_count, **small}

    def look(self) -> None:
        """Look once. Raises: StoreUnavailableError, ConfigError (no permission)."""
        self.retention_ms = self._reader.retention_ms
        today = to_utc(self._clock.now_ns()).date()
        old = day_files(self._table, before=today)
        self._small_files = sum(file.bytes < SMALL_FILE_BYTES for file in old)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            began = self._clock.monotonic()
            try:
                self.look()
            except PipelineError as error:
                log.debug("looking at table %s: %s", self._table.name, error)
            give_back_memory()
            pause = max(self._seconds, REST * (self._clock.monotonic() - began))
