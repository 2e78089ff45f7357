"""What a process of a cluster that does not commit does beside the road.

It passes on what only it knows of its shards, and looks at what was committed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stream.errors import PipelineError
from stream.flow import SliceResult
from stream.lake.entries import GapRecord
from stream.slices import ShardPosition, ShardRef, Slice
from stream.telemetry.frontier import Reached

log = logging.getLogger(__name__)


def pass_on(
    process: Callable[[Sequence[Slice]], list[SliceResult]],
    take_gaps: Callable[[], Sequence[GapRecord]],
    parents_of: Callable[[ShardRef], tuple[str, ...]],
) -> Callable[[Sequence[Slice]], list[SliceResult]]:
    """`process` of a process that does not commit: its results bring what only this one knows.

    That is the gaps that were found (the first result has them all: no position moves past a gap
    before that slice is committed, so a crash finds it again), and the parents of a shard that
    begins: the committer may not have listed it yet.
    """

    def run(slices: Sequence[Slice]) -> list[SliceResult]:
        results = process(slices)
        found = [
            replace(result, parents=parents_of(result.record.shard))
            if result.record.prev is None
            else result
            for result in results
        ]
        if found:  # each slice was polled after the gap before it was reported
            found[0] = replace(found[0], gaps=tuple(take_gaps()))
        return found

    return run


class CommittedWatch:
    """Reads committed positions now and then, in a process that does not commit: what it says of
    its own shards' freshness is then as true as in the one that does. Nothing depends on it.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, ShardPosition]],
        reached: dict[str, Reached],
        seconds: float,
    ) -> None:
        """`read`: positions by `ShardRef` text, fresh from the catalog, from this thread alone."""
        self._read, self._reached, self._seconds = read, reached, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="committed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; does nothing before `start`."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2)

    def look(self) -> None:
        """Look once. Raises: StoreUnavailableError, ConfigError (no permission)."""
        for shard, position in self._read().items():
            self._reached[shard] = Reached(position.sequence_number, position.arrival_ms)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.look()
            except PipelineError as error:
                log.debug("reading committed positions: %s", error)
