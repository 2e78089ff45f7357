"""Run recorded slices through the live dataflow and keep what came out, for comparison.

`Road.process` is the live one; only the lanes (recorded slices), the duplicates' memory
(`dedup`), the store (`stores`) and the end (nothing is committed here) are a replay's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from batch.replay.dedup import ReplayDedup
from batch.replay.stores import ReplayStore
from stream.clock import Clock
from stream.engine import Committer, Epoch, SliceLanes, Stop, build_dataflow, run_dataflow
from stream.errors import FatalError
from stream.feeds.contract import Contract
from stream.flow import Road, RoadCommitter, SliceResult
from stream.lake.entries import ObjectRef
from stream.lake.history import SliceState
from stream.lake.store import Store
from stream.masking import Masker
from stream.slices import Slice
from stream.sources.ledger import RecordedLanes

EPOCH_SECONDS = 1.0
Progress = Callable[[int, int], None]
"""What is done of how much: slices of a recorded range, items of an extract."""


class ReplaySource(Protocol):
    """Where the records of recorded slices are read again."""

    name: str

    def lanes(self, states: Sequence[SliceState]) -> SliceLanes:
        """Bounded lanes that yield these slices, in this order per shard."""
        ...

    def keep(self, store: ReplayStore, state: SliceState, item: Slice) -> ObjectRef:
        """The slice's object in Bronze; from the stream it is written again if it is missing."""
        ...


class BronzeSource:
    """Recorded slices out of Bronze: each object's hash is checked before it is used."""

    name = "bronze"

    def __init__(self, store: Store) -> None:
        self._store = store

    def lanes(self, states: Sequence[SliceState]) -> SliceLanes:
        return RecordedLanes(self._store, [state.record for state in states])

    def keep(self, store: ReplayStore, state: SliceState, item: Slice) -> ObjectRef:  # noqa: ARG002
        assert state.record.bronze is not None
        return state.record.bronze


@dataclass(slots=True)
class Collector:
    """`engine.Committer` that only collects: nothing of a replay is visible until it is whole."""

    total: int
    progress: Progress
    results: list[SliceResult] = field(default_factory=list)

    def add(self, results: Sequence[SliceResult]) -> None:
        """Keep results, in order."""
        self.results.extend(results)
        self.progress(len(self.results), self.total)

    def commit(self) -> None:
        """Nothing: the whole replay is one commit."""


class Tee:
    """Hands results to the committer and keeps them for the report."""

    def __init__(self, seen: Committer[SliceResult], committer: RoadCommitter) -> None:
        self._seen, self._committer = seen, committer

    def add(self, results: Sequence[SliceResult]) -> None:
        """Collect results of the running epoch."""
        self._seen.add(results)
        self._committer.add(results)

    def commit(self) -> None:
        """Make them visible."""
        self._committer.commit()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One replayed slice: what the ledger says of it, and what came out now."""

    state: SliceState
    result: SliceResult

    def without_files(self) -> Outcome:
        """Its counts alone."""
        return Outcome(self.state, SliceResult(self.result.record))

    @property
    def is_same(self) -> bool:
        """Whether files, quarantine and counts are the recorded ones, byte for byte; or nothing
        may be replaced, because retention dropped rows of the slice.
        """
        old, new = self.state.record, self.result.record
        return bool(self.state.dropped) or (not self.state.redriven and old == new)


class Reprocess:
    """Reprocesses slices of one feed; state is kept from one call to the next."""

    def __init__(
        self,
        contract: Contract,
        store: ReplayStore,
        schema: pa.Schema,
        dedup: ReplayDedup,
        source: ReplaySource,
        *,
        masker: Masker | None,
        max_bytes: int,
        upload_threads: int,
        clock: Clock,
    ) -> None:
        self._feed = contract.feed
        self._source = source
        self._max_bytes = max_bytes
        self._clock = clock
        self._states: dict[str, SliceState] = {}
        self._road = Road(
            contract,
            store,
            schema,
            dedup,
            upload_threads,
            masker=masker,
            for_bars=False,
            keep_bronze=lambda item: source.keep(store, self._states[item.id], item),
        )

    def run(
        self,
        states: Sequence[SliceState],
        progress: Progress = lambda _done, _total: None,
    ) -> list[Outcome]:
        """Process slices, in the order of their commits, that `dedup` was told of before.

        Raises: what a step raised.
        """
        if not states:
            return []
        self._states |= {state.record.slice_id: state for state in states}
        collector = Collector(len(states), progress)
        epoch = Epoch(Stop(), self._max_bytes, self._clock)
        flow = build_dataflow(
            self._feed,
            self._source.lanes(states),
            self._road.process,
            collector,
            epoch=epoch,
            epoch_seconds=EPOCH_SECONDS,
        )
        run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
        by_id = {result.record.slice_id: result for result in collector.results}
        missing = [s.record.slice_id for s in states if s.record.slice_id not in by_id]
        if missing:
            raise FatalError(
                f"{len(missing)} of {len(states)} slices did not come out of the replay, the first "
                f"is {missing[0]}; nothing was committed. Run `headrace prove` for its range."
            )
        return [Outcome(state, by_id[state.record.slice_id]) for state in states]

    def close(self) -> None:
        """End the upload threads."""
        self._road.close()
