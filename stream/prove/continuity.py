"""Check that each shard's slices follow one another without a hole, newest first.

A slice says after which record it begins (`prev`) and where it ends (`last`). Walking back from
the committed position, each slice must end exactly where its successor begins, down to the
pinned start of the shard. That is the proof that every record of the shard was read once.
"""

from __future__ import annotations

from collections.abc import Mapping

from stream.lake.entries import Entry, Head, SliceRecord
from stream.prove.proof import Proof
from stream.slices import is_after

ADVICE_HOLE = (
    "Records between were skipped: replay the shard from the first position into a fresh slice "
    "while the stream still holds them, and keep this output."
)


class Continuity:
    """Feed it entries newest first; it names holes, overlaps and doubled slices."""

    def __init__(self, head: Head, proof: Proof) -> None:
        self._head = head
        self._proof = proof
        self._wanted: dict[str, str | None] = {
            s: p.sequence_number for s, p in head.positions.items()
        }
        self._pinned: dict[str, str | None] = {}
        self._newer: dict[str, str] = {}
        self._seen: set[str] = set()
        self._number: int | None = None
        self._first_commit: dict[str, int] = {}
        self._end_commit: dict[str, int] = {}

    @property
    def slice_ids(self) -> set[str]:
        """Every slice that was walked."""
        return self._seen

    def check(self, entry: Entry) -> None:
        """Check one entry's slices against what follows them."""
        if self._number is not None and entry.number != self._number - 1:
            self._wanted.clear()  # entries between could not be read: named by the chain
        self._number = entry.number
        for record in reversed(entry.slices if entry.kind != "replay" else ()):
            self._check_slice(record, entry.number)
        if entry.kind == "start":  # the oldest one counts: later ones repeat older positions
            self._pinned.update({s: p.sequence_number for s, p in entry.positions.items()})

    def check_start(self) -> None:
        """After the first entry: every shard's oldest slice must begin at its pinned start."""
        for shard, wanted in self._wanted.items():
            is_start = wanted is None or wanted == self._pinned.get(shard)
            if not is_start and shard in self._newer:
                self._proof.differ(
                    "hole",
                    f"{shard}, before slice {self._newer[shard]}",
                    "a first slice that begins at the shard's start",
                    f"one that begins after {wanted}",
                    ADVICE_HOLE,
                )

    def check_parents(self, parents: Mapping[str, tuple[str, ...]]) -> None:
        """A child's first slice may not be committed before its parents were read to their end.

        Args: parents: shard -> parents, as `slices.ShardRef` texts.
        """
        for child, first in sorted(self._first_commit.items()):
            for parent in parents.get(child, ()):
                position = self._head.positions.get(parent)
                if position is None:
                    continue  # retention removed it before the first start
                end = self._end_commit.get(parent, 0 if position.is_ended else None)
                if end is None or end > first:
                    self._proof.differ(
                        "child_before_parent",
                        child,
                        f"commits after the end of its parent {parent}",
                        f"first commit {first}, parent ended in {end or 'none'}",
                        "Order across the reshard is not guaranteed for these rows: report it.",
                    )

    def _check_slice(self, record: SliceRecord, number: int) -> None:
        shard = str(record.shard)
        self._check_position(shard)
        if record.slice_id in self._seen:
            self._proof.differ(
                "slice_doubled",
                f"{record.slice_id} in commit {number}",
                "one commit of this slice",
                "a later commit holds it, too",
                "Its rows are in Silver twice: remove one set in a maintenance commit.",
            )
            return
        self._seen.add(record.slice_id)
        self._first_commit[shard] = number
        if record.ends_shard:
            self._end_commit[shard] = number
        if shard in self._wanted and record.last != self._wanted[shard]:
            self._name_misfit(record, shard, self._wanted[shard])
        self._wanted[shard] = record.prev
        self._newer[shard] = record.slice_id

    def _check_position(self, shard: str) -> None:
        if shard in self._head.positions or shard in self._newer:
            return
        self._proof.differ(
            "position_missing",
            shard,
            "a committed position, in the table property or closed/",
            "none",
            "A late writer could land the shard again: restore its object under closed/ from the "
            "bucket's versions.",
        )

    def _name_misfit(self, record: SliceRecord, shard: str, wanted: str | None) -> None:
        newer = self._newer.get(shard)
        follower = f"slice {newer} begins after {wanted}" if newer else f"it is {wanted}"
        is_overlap = is_after(record.last, wanted)
        self._proof.differ(
            "overlap" if is_overlap else "hole",
            f"{shard}, after slice {record.slice_id}",
            f"the next slice begins after {record.last}"
            if newer
            else f"the committed position is {record.last}",
            follower,
            "The same records may be in Silver twice: compare both Bronze objects."
            if is_overlap
            else ADVICE_HOLE,
        )
