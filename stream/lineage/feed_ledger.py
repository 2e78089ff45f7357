"""One feed's ledger, read newest first and no further than a question needs.

What happened to a slice lies in its first commit and in those after it, never before: so a walk
from the head may end there. Every entry is checked against its name and its place in the chain
(`prove.chain`); what is broken is named and the walk goes on below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from stream.lake.connect import Lake
from stream.lake.entries import Entry, ObjectRef, SliceRecord
from stream.lake.history import SliceState, current_slices
from stream.lineage.tree import Reads
from stream.prove.chain import Chain
from stream.prove.proof import Difference, Proof
from stream.slices import is_after

PROGRESS_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote a Silver file: an entry; `slice_id`: the one whose rows it holds, if it is one."""

    number: int
    kind: str
    reference: ObjectRef
    slice_id: str | None


class FeedLedger:
    """The entries of a feed that were read so far, and where things are in them."""

    def __init__(
        self,
        lake: Lake,
        feed: str,
        broken: list[Difference],
        reads: Reads,
        progress: Callable[[str], None],
    ) -> None:
        """Raises: ConfigError if the feed was never started."""
        self.feed = feed
        self.table, ledger = lake.ledger(feed)
        self.head = ledger.head()
        self.entries: dict[int, Entry] = {}
        self.bronze: dict[str, list[str]] = {}
        self.written: dict[str, Written] = {}
        self.removed: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._touching: dict[str, list[int]] = {}
        self._shards: dict[str, list[SliceRecord]] = {}
        self._reads = reads
        self._progress = progress
        proof = Proof(feed, None, None, differences=broken)
        self._walk: Iterator[Entry] = Chain(feed, self.head, lake.store, proof).walk(0)

    def read_until(self, is_done: Callable[[], bool], since_ms: int = 0) -> bool:
        """Read on, newest first, until that holds; False: not even the oldest entry made it so,
        or none committed since `since_ms` did.
        """
        while not is_done():
            entry = next(self._walk, None)
            if entry is None:
                return False
            self._add(entry)
            if entry.committed_ms < since_ms:
                return is_done()
        return True

    def find_slice(self, slice_id: str, since_ms: int = 0) -> SliceState | None:
        """A slice as it is now; None if no commit (since then) holds it."""
        if self.read_until(lambda: slice_id in self._first, since_ms):
            return self.state(slice_id)
        return None

    def find_record(self, shard: str, sequence_number: str) -> SliceState | None:
        """The slice of a shard (`ShardRef` text) that holds a record; None if none does."""

        def holder() -> SliceRecord | None:
            return next(
                (r for r in self._shards.get(shard, ()) if _holds(r, sequence_number)), None
            )

        if not self.read_until(lambda: holder() is not None):
            return None
        found = holder()
        return self.state(found.slice_id) if found else None

    def find_entry(self, number: int) -> Entry | None:
        """An entry of the chain by its number."""
        if number > self.head.number or number < 1:
            return None
        self.read_until(lambda: number in self.entries)
        return self.entries.get(number)

    def state(self, slice_id: str) -> SliceState:
        """A slice whose first commit was read."""
        mine = [_only(self.entries[n], slice_id) for n in reversed(self._touching[slice_id])]
        return current_slices(mine)[slice_id]

    def states(self) -> list[SliceState]:
        """Every slice whose first commit was read, in the order of their first commits."""
        return [self.state(slice_id) for slice_id in reversed(self._first)]

    def events(self, slice_id: str) -> list[Entry]:
        """The entries that say something of a slice, reduced to that, oldest first."""
        return [_only(self.entries[n], slice_id) for n in reversed(self._touching[slice_id])]

    def slices_of_shard(self, shard: str) -> list[SliceRecord]:
        """The slices of a shard that were read so far, newest first."""
        return self._shards.get(shard, [])

    def _add(self, entry: Entry) -> None:
        entry = replace(entry, positions={})  # they repeat in every entry
        number, kind = entry.number, entry.kind
        self.entries[number] = entry
        self._reads.ledger_entries += 1
        if self._reads.ledger_entries % PROGRESS_ENTRIES == 0:
            self._progress(f"ledger of {self.feed}: entry {number} of {self.head.number}")
        for record in entry.slices:
            self._add_slice(number, kind, record)
        for landed in entry.redriven:
            self._touch(landed.slice_id, number)
            for item in landed.silver:
                self.written.setdefault(item.path, Written(number, kind, item, landed.slice_id))
        for slice_id in entry.dropped:
            self._touch(slice_id, number)
        for rewrite in entry.rewrites:
            self.removed.update(dict.fromkeys(rewrite.removed, number))
            for item in rewrite.written:
                self.written.setdefault(item.path, Written(number, kind, item, None))

    def _add_slice(self, number: int, kind: str, record: SliceRecord) -> None:
        slice_id = record.slice_id
        self._touch(slice_id, number)
        for item in record.silver:
            self.written.setdefault(item.path, Written(number, kind, item, slice_id))
        if kind == "replay":
            return
        self._first[slice_id] = number
        self._shards.setdefault(str(record.shard), []).append(record)
        if record.bronze:
            self.bronze.setdefault(record.bronze.path, []).append(slice_id)

    def _touch(self, slice_id: str, number: int) -> None:
        numbers = self._touching.setdefault(slice_id, [])
        if not numbers or numbers[-1] != number:
            numbers.append(number)


def _holds(record: SliceRecord, sequence_number: str) -> bool:
    if not record.rows:
        return False
    return not is_after(record.first, sequence_number) and not is_after(
        sequence_number, record.last
    )


def _only(entry: Entry, slice_id: str) -> Entry:
    """What an entry says of one slice."""
    return replace(
        entry,
        slices=tuple(r for r in entry.slices if r.slice_id == slice_id),
        redriven=tuple(r for r in entry.redriven if r.slice_id == slice_id),
        dropped={s: rows for s, rows in entry.dropped.items() if s == slice_id},
        rewrites=(),
    )
