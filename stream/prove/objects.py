"""Rehash and recount the objects that slices wrote: Bronze and quarantine.

Each check reads one object, compares it with its ledger record and returns what it found; they
run in a few threads, so one object per thread is in memory.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.bronze import read_bronze
from stream.errors import FatalError
from stream.lake.entries import GapRecord, Head, ObjectRef, SliceRecord
from stream.lake.layout import BronzeKey
from stream.lake.store import ObjectInfo, Store, sha256
from stream.prove.proof import Difference, Proof
from stream.slices import is_after
from stream.sources.ledger import ExtractParts, is_extract_part, read_recorded

RESTORE = "Restore the object from the bucket's versions; its name and hash are in the ledger."
REPLAY = (
    "Restore it from the bucket's versions; while the stream still holds the records, a replay "
    "of the slice writes the same bytes."
)


@dataclass(slots=True)
class Found:
    """What reading one object showed."""

    rows: int = 0
    size: int = 0
    differences: list[Difference] = field(default_factory=list)
    data: bytes | None = None


def read_object(store: Store, reference: ObjectRef, kind: str, advice: str) -> Found:
    """Fetch an object and compare its hash; `data` is None where it cannot be trusted."""
    data = store.get(reference.path)
    return judge_object(None if data is None else (data, sha256(data)), reference, kind, advice)


def judge_object(
    fetched: tuple[bytes, str] | None, reference: ObjectRef, kind: str, advice: str
) -> Found:
    """Compare an object's bytes and hash with what the ledger recorded."""
    if fetched is None:
        missing = Difference(
            f"{kind}_missing", reference.path, f"an object of {reference.rows} rows", "none", advice
        )
        return Found(differences=[missing])
    data, digest = fetched
    found = Found(size=len(data))
    if digest != reference.sha256:
        found.differences.append(
            Difference(
                f"{kind}_changed",
                reference.path,
                f"sha256 {reference.sha256[:16]}…, {reference.bytes} bytes",
                f"sha256 {digest[:16]}…, {len(data)} bytes",
                advice,
            )
        )
        return found
    found.data = data
    return found


def check_bronze(store: Store, parts: ExtractParts, record: SliceRecord) -> Found:
    """A slice's Bronze object: there, unchanged, and the records that the ledger counted."""
    if record.bronze is None:
        return Found()
    if is_extract_part(record.bronze.path):
        found = judge_object(parts.fetch(record.bronze.path), record.bronze, "bronze", REPLAY)
    else:
        found = read_object(store, record.bronze, "bronze", REPLAY)
    if found.data is None:
        return found
    if is_extract_part(record.bronze.path):
        try:
            table = pa.Table.from_batches([read_recorded(record, found.data, parts)])
        except FatalError as error:
            found.differences.append(
                Difference("manifest", record.slice_id, "a readable extract", str(error), RESTORE)
            )
            found.data = None
            return found
    else:
        numbers = ["sequence_number", "ts_arrival_ns"]
        table = pq.read_table(io.BytesIO(found.data), columns=numbers)
    found.rows = table.num_rows
    _compare_records(record, table, found)
    return found


def check_quarantine(store: Store, record: SliceRecord) -> Found:
    """A slice's rejects: there, unchanged, as many as the ledger counted."""
    rejected = sum(record.rejected.values())
    if record.quarantine is None:
        found = Found()
        if rejected:
            found.differences.append(
                Difference(
                    "quarantine_missing",
                    record.slice_id,
                    f"an object of {rejected} rows",
                    "no object in the ledger",
                    "The entry is inconsistent: re-decode the slice with `headrace prove --deep`.",
                )
            )
        return found
    found = read_object(store, record.quarantine, "quarantine", RESTORE)
    if found.data is not None:
        found.rows = pq.read_metadata(io.BytesIO(found.data)).num_rows
        if found.rows != rejected:
            found.differences.append(
                Difference(
                    "quarantine_rows",
                    record.quarantine.path,
                    f"{rejected} rows",
                    f"{found.rows} rows",
                    "The ledger and the object disagree although hashes match: report it.",
                )
            )
    return found


class BronzeListing:
    """Objects under Bronze that no ledger entry names."""

    def __init__(
        self,
        store: Store,
        head: Head,
        known: Iterable[str],
        proof: Proof,
        gaps: Sequence[GapRecord] = (),
    ) -> None:
        """`gaps`: all that the ledger names."""
        self._store = store
        self._gaps = gaps
        self._head = head
        self._known = sorted(known)
        self._names = set(self._known)
        self._proof = proof

    def check(self, prefixes: Iterable[str]) -> None:
        """List and judge: ahead of the committed position an object is in flight, behind it is
        foreign, unless it repeats records of a known object (the remnant of a lost race). Within a
        gap it was read before the stream lost its records: no restart reads them again.
        """
        for info in self._unknown(prefixes):
            try:
                key = BronzeKey.parse(info.path)
            except ValueError:
                self._name(info.path, "a Bronze object's name", "another name")
                continue
            position = self._head.positions.get(str(key.shard))
            if self._is_in_gap(key):
                self._proof.note(
                    "stranded",
                    info.path,
                    "written, not committed when the stream lost its records: the only copy of a "
                    "part of a gap. Keep it",
                )
            elif position is None or is_after(key.first.lstrip("0"), position.sequence_number):
                self._proof.note(
                    "in_flight", info.path, "written, not yet committed; a restart adopts it"
                )
            elif self._is_remnant(info.path, key):
                self._proof.note(
                    "remnant", info.path, "repeats records of a committed object: a lost race"
                )
            else:
                self._name(
                    info.path,
                    "an object that the ledger names",
                    f"{info.bytes} bytes at or below the committed position",
                )

    def _unknown(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        for prefix in prefixes:
            yield from (i for i in self._store.list(prefix) if i.path not in self._names)

    def _name(self, path: str, expected: str, found: str) -> None:
        self._proof.differ(
            "bronze_foreign", path, expected, found, "Find who wrote it; move it out of Bronze."
        )

    def _is_in_gap(self, key: BronzeKey) -> bool:
        return any(
            gap.shard == key.shard
            and is_after(key.first, gap.after)
            and (gap.first_kept is None or is_after(gap.first_kept, key.first))
            for gap in self._gaps
        )

    def _is_remnant(self, path: str, key: BronzeKey) -> bool:
        cover = self._cover(key)
        mine, theirs = self._store.get(path), self._store.get(cover) if cover else None
        if cover is None or mine is None or theirs is None:
            return False
        try:
            part, whole = read_bronze(mine, path), read_bronze(theirs, cover)
        except FatalError:
            return False
        at = pc.index(whole["sequence_number"], part["sequence_number"][0]).as_py()
        common = min(part.num_rows, whole.num_rows - at)
        return bool(at >= 0 and part.slice(0, common).equals(whole.slice(at, common)))

    def _cover(self, key: BronzeKey) -> str | None:
        """The known object of the same shard that begins last before this one."""
        same = [
            (BronzeKey.parse(path).first, path)
            for path in self._known
            if f"/{key.shard.stream}-{key.shard.shard}-" in path
        ]
        same.sort()
        at = bisect_right(same, (key.first, "\x7f"))
        return same[at - 1][1] if at else None


def _compare_records(record: SliceRecord, table: pa.Table, found: Found) -> None:
    """Rows, first and last sequence number and arrival range against the ledger."""
    numbers, arrivals = table["sequence_number"], table["ts_arrival_ns"]
    ends = pc.min_max(arrivals).as_py()
    actual = {
        "rows": table.num_rows,
        "first": numbers[0].as_py() if table.num_rows else None,
        "last": numbers[-1].as_py() if table.num_rows else None,
        "arrival_ns": (ends["min"], ends["max"]),
    }
    recorded = {
        "rows": record.rows,
        "first": record.first,
        "last": record.last,
        "arrival_ns": record.arrival_ns,
    }
    assert record.bronze is not None
    for name, value in recorded.items():
        if value != actual[name]:
            found.differences.append(
                Difference(
                    "bronze_misfit",
                    f"{record.bronze.path}: {name}",
                    str(value),
                    str(actual[name]),
                    "The ledger entry does not describe its own object: report it.",
                )
            )
