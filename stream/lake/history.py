"""What the ledger says now of every slice: its newest record, and what was redriven since. Pure.

A slice is committed once, then may be replayed (a new record of the same slice supersedes the
old one and everything that was redriven of it) and redriven (rows added to it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from stream.lake.entries import Entry, ObjectRef, Redriven, SliceRecord


@dataclass(frozen=True, slots=True)
class SliceState:
    """One slice now. `number`: the entry that first committed it, `replayed`: the last replay."""

    record: SliceRecord
    number: int
    feed: str
    replayed: int | None = None
    redriven: tuple[Redriven, ...] = ()
    dropped: int = 0

    @property
    def silver(self) -> tuple[ObjectRef, ...]:
        """The files that were written for its rows; compaction may have rewritten them since."""
        return (*self.record.silver, *(item for r in self.redriven for item in r.silver))

    @property
    def silver_rows(self) -> int:
        """Rows that Silver holds of it."""
        return self.record.silver_rows + sum(r.silver_rows for r in self.redriven) - self.dropped

    @property
    def landed(self) -> frozenset[tuple[str, int, int]]:
        """Quarantined messages that were redriven: (object, record_no, line_no)."""
        return frozenset((r.quarantine, *key) for r in self.redriven for key in r.keys)


def current_slices(
    entries: Iterable[Entry], known: Mapping[str, SliceState] | None = None
) -> dict[str, SliceState]:
    """Every slice by its id, in the order of their first commits.

    Args: entries: oldest first. known: what an earlier call found, to go on from there.
    """
    states = dict(known or {})
    for entry in entries:
        for record in entry.slices:
            state = states.get(record.slice_id)
            if state is None or entry.kind != "replay":
                states[record.slice_id] = SliceState(record, entry.number, entry.feed)
            else:
                states[record.slice_id] = replace(
                    state, record=record, replayed=entry.number, redriven=(), dropped=0
                )
        for landed in entry.redriven:
            state = states[landed.slice_id]
            states[landed.slice_id] = replace(state, redriven=(*state.redriven, landed))
        for slice_id, rows in entry.dropped.items():
            state = states[slice_id]
            states[slice_id] = replace(state, dropped=state.dropped + rows)
    return states
