"""Run the road in one plain loop, in this thread: the engine's contract without Bytewax.

Lanes are polled in turn, what a pass brings is processed at once, and the epoch's end commits.
Uses: the reference that the engine must equal and is measured against, and the simulation, which
calls `Loop.step` in an order of its own on a virtual clock. No cluster, no signals, no watchdog.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from stream.engine import Committer, Epoch, SliceLanes
from stream.slices import Slice

Result = TypeVar("Result")


def run_loop(
    lanes: SliceLanes,
    process: Callable[[list[Slice]], Iterable[Result]],
    committer: Committer[Result],
    *,
    epoch: Epoch,
    epoch_seconds: float,
) -> None:
    """Run until the lanes end or a stop is requested; the open epoch is committed.

    Raises: what a step raised. Nothing of its epoch was committed.
    """
    loop = Loop(lanes, process, committer, epoch=epoch, epoch_seconds=epoch_seconds)
    epoch.begin()
    try:
        while not loop.is_over:
            if (pause := loop.step()) > 0:
                epoch.clock.sleep(pause)
    finally:
        epoch.is_over = True


class Loop(Generic[Result]):
    """One dataflow, step by step."""

    def __init__(
        self,
        lanes: SliceLanes,
        process: Callable[[list[Slice]], Iterable[Result]],
        committer: Committer[Result],
        *,
        epoch: Epoch,
        epoch_seconds: float,
    ) -> None:
        self._lanes, self._process, self._committer = lanes, process, committer
        self._epoch, self._epoch_seconds = epoch, epoch_seconds
        self._numbers = range(len(lanes.names))
        self._pause = min(epoch_seconds / 20, 0.05)
        self.is_over = False
        """Whether everything is committed, or a step failed: no step may follow."""

    def step(self) -> float:
        """One pass: poll every lane once, process what is there, commit if the epoch is over.

        Returns: seconds until the next step is worth it; 0 = at once.
        Raises: what failed; nothing of its epoch is committed, not later either.
        """
        try:
            return self._step()
        except BaseException as error:
            self._epoch.fail(error)
            self.is_over = True
            raise

    def _step(self) -> float:
        slices = [] if self._epoch.stop.requested else list(self._poll())
        if slices:
            self._committer.add(list(self._process(slices)))
        self.is_over = self._epoch.stop.requested or self._are_finished()
        if self.is_over or self._epoch.age_seconds() >= self._epoch_seconds:
            self._committer.commit()
            self._epoch.begin()
        return 0.0 if slices or self.is_over else self._pause

    def _poll(self) -> Iterator[Slice]:
        for lane in self._numbers:
            if self._epoch.credit <= 0:
                return
            if not self._lanes.is_finished(lane) and (item := self._lanes.poll(lane)) is not None:
                self._epoch.credit -= item.payload_bytes
                yield item

    def _are_finished(self) -> bool:
        return all(self._lanes.is_finished(lane) for lane in self._numbers)
