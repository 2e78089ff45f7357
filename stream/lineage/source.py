"""The bytes of a slice, proven, and what decoding them now gives.

A slice's Bronze object (or extract part) is hashed and recounted against the ledger before a byte
of it is shown. A row of Silver is compared with what the decoder of today makes of its record and
line: equal, different in named columns, or refused now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from stream.decode import decode_records
from stream.feeds.contract import Contract
from stream.lake.entries import SliceRecord
from stream.lineage.scope import Scope
from stream.lineage.tree import SourceRecord
from stream.prove.objects import check_bronze
from stream.sources.ledger import read_recorded

Place = tuple[str, int]
"""Where a message is: sequence number and line. Records of one aggregated record share a number."""


@dataclass(frozen=True, slots=True)
class Source:
    """The records of a slice, as they arrived."""

    record: SliceRecord
    records: pa.RecordBatch

    def numbers(self, sequence_numbers: set[str] | None = None) -> list[int]:
        """Which records carry these sequence numbers; None: all."""
        found = self.records["sequence_number"].to_pylist()
        return [i for i, n in enumerate(found) if sequence_numbers is None or n in sequence_numbers]

    def message(self, record_no: int, line_no: int) -> bytes:
        """The exact bytes of one line of a record, without its line end."""
        payload: bytes = self.records["payload"][record_no].as_py()
        lines = payload.split(b"\n")
        return lines[line_no].removesuffix(b"\r") if line_no < len(lines) else b""


def open_source(scope: Scope, record: SliceRecord) -> Source | None:
    """A slice's records if its object is what the ledger recorded; else it is named as broken."""
    if record.bronze is None:
        return None
    found = check_bronze(scope.store, scope.parts, record)
    scope.reads.bronze_objects += 1
    scope.reads.bytes_hashed += found.size
    scope.broken.extend(found.differences)
    if found.data is None:
        return None
    return Source(record, read_recorded(record, found.data, scope.parts))


@dataclass(frozen=True, slots=True)
class DecodedNow:
    """What the decoder of today makes of some records of a slice. `rows`: the contract's columns,
    masked as Silver's are; `places`: record and line of each; `refused`: (record, line) -> why;
    `compared`: the columns that can be compared with Silver's.
    """

    rows: list[dict[str, Any]]
    places: list[tuple[int, int]]
    refused: Mapping[tuple[int, int], list[str]]
    compared: tuple[str, ...]


def decode_now(
    contract: Contract,
    mask: Callable[[pa.Table], pa.Table] | None,
    source: Source,
    numbers: Sequence[int],
) -> DecodedNow:
    """Decode records of a slice. `mask` None: personal columns are not compared."""
    picked = source.records.take(pa.array(numbers, pa.int64()))
    decoded = decode_records(contract, picked)
    rows = decoded.rows if mask is None else mask(decoded.rows)
    hidden = {c.name for c in contract.pii_columns} if mask is None else set()
    compared = tuple(c.name for c in contract.columns if c.name not in hidden)
    refused = defaultdict(list)
    for reject in decoded.rejects.select(["record_no", "line_no", "reason"]).to_pylist():
        refused[numbers[reject["record_no"]], reject["line_no"]].append(reject["reason"])
    records = [numbers[n] for n in rows["record_no"].to_pylist()]
    places = list(zip(records, rows["line_no"].to_pylist(), strict=True))
    return DecodedNow(rows.select(compared).to_pylist(), places, refused, compared)


def trace_rows(
    scope: Scope, contract: Contract, source: Source, silver: pa.Table
) -> list[SourceRecord]:
    """The source of each Silver row of a slice, in the rows' order; a row whose bytes no longer
    decode to it is named as broken.

    Args: silver: the contract's columns, `sequence_number` and `line_no`.
    """
    wanted = set(silver["sequence_number"].to_pylist())
    numbers = source.numbers(wanted)
    now = decode_now(contract, scope.mask(contract), source, numbers)
    if len(now.compared) < len(contract.columns):
        scope.note(
            f"{contract.feed}: personal columns are not compared: the key that masked them is not "
            "on this machine"
        )
    matcher = _Matcher(source, numbers, now)
    rows = silver.select([*now.compared, "sequence_number", "line_no"]).to_pylist()
    found = [matcher.match(row) for row in rows]
    for item in found:
        if item.verdict != "equal":
            scope.break_link(
                "row_differs" if item.verdict == "differs" else "row_refused",
                f"{item.bronze}: record {item.sequence_number}, line {item.line_no}",
                "bytes that decode to Silver's row",
                item.says,
                f"If the decoder was changed since: `headrace replay {contract.feed}` makes the "
                "slice anew. If not, Silver or the decoder is not what it should be.",
            )
    return found


class _Matcher:
    """Finds, for rows of Silver, the decoded rows that they are; each decoded row serves once."""

    def __init__(self, source: Source, numbers: Sequence[int], now: DecodedNow) -> None:
        self._source = source
        self._now = now
        self._sequences = dict(
            zip(
                numbers,
                source.records["sequence_number"].take(pa.array(numbers, pa.int64())).to_pylist(),
                strict=True,
            )
        )
        self._free: dict[Place, list[int]] = defaultdict(list)
        for row, (record_no, line_no) in enumerate(now.places):
            self._free[self._sequences[record_no], line_no].append(row)

    def match(self, silver: Mapping[str, Any]) -> SourceRecord:
        """The source of one row."""
        place = (silver["sequence_number"], silver["line_no"])
        free = self._free.get(place, [])
        for row in free:
            if not self._differing(row, silver):
                free.remove(row)
                return self._record(self._now.places[row], "equal")
        if free:
            nearest = min(free, key=lambda row: len(self._differing(row, silver)))
            columns = self._differing(nearest, silver)
            says = "; ".join(
                f"{name}: Silver {silver[name]!r}, decoded now {self._now.rows[nearest][name]!r}"
                for name in columns
            )
            return self._record(self._now.places[nearest], "differs", columns, says)
        return self._refused(place)

    def _differing(self, row: int, silver: Mapping[str, Any]) -> tuple[str, ...]:
        now = self._now.rows[row]
        return tuple(name for name in self._now.compared if now[name] != silver[name])

    def _refused(self, place: Place) -> SourceRecord:
        sequence_number, line_no = place
        records = [n for n, text in self._sequences.items() if text == sequence_number]
        if not records:
            slice_id = self._source.record.slice_id
            says = f"the slice's Bronze object holds no record {sequence_number}"
            path = self._source.record.bronze.path if self._source.record.bronze else ""
            return SourceRecord(
                slice_id, sequence_number, -1, line_no, path, b"", b"", "refused", (), says
            )
        why = [r for n in records for r in self._now.refused.get((n, line_no), [])]
        says = f"refused now: {', '.join(why)}" if why else "decodes to no such row now"
        return self._record((records[0], line_no), "refused", (), says)

    def _record(
        self,
        place: tuple[int, int],
        verdict: Literal["equal", "differs", "refused"],
        columns: tuple[str, ...] = (),
        says: str = "",
    ) -> SourceRecord:
        record_no, line_no = place
        record = self._source.record
        return SourceRecord(
            slice_id=record.slice_id,
            sequence_number=self._sequences[record_no],
            record_no=record_no,
            line_no=line_no,
            bronze=record.bronze.path if record.bronze else "",
            payload=self._source.records["payload"][record_no].as_py(),
            message=self._source.message(record_no, line_no),
            verdict=verdict,
            columns=columns,
            says=says,
        )
