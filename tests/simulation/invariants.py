"""What must hold whatever fails, and whenever: the judge of every simulated run.

Nothing here calls the road. The expectation comes from what producers were acknowledged (`Truth`)
and from a model of Silver in plain Python; what is judged is what lies in the lake afterwards.

1. every record is exactly once in a committed slice, or lies in a gap that the ledger names
2. positions never go back, and an ended shard stays ended (looked at after every commit)
3. a Bronze object never changes, and nothing but a create ever touches one (at every write)
4. Silver and quarantine are the model's rows of the committed Bronze records, each once
5. the ledger is one chain, and every object that it names is there with the recorded hash
6. after the last fault all is committed within a budget of time (`simulation` counts it)
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson
import pyarrow.parquet as pq

from stream.lake.entries import Entry, GapRecord, SliceRecord
from stream.slices import ShardPosition, pad_sequence


class BrokenInvariantError(AssertionError):
    """One of the six does not hold; the message says which and where."""


@dataclass(frozen=True, slots=True)
class TrueRecord:
    """A record that the stream acknowledged."""

    sequence_number: str
    payload: bytes


@dataclass(slots=True)
class Truth:
    """What producers were told, per shard in order, and the shards' parents."""

    records: dict[str, list[TrueRecord]] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def ancestors(self, shard: str) -> set[str]:
        """All parents, grandparents ... of a shard."""
        found: set[str] = set()
        queue = list(self.parents.get(shard, ()))
        while queue:
            if (name := queue.pop()) not in found:
                found.add(name)
                queue.extend(self.parents.get(name, ()))
        return found


@dataclass(frozen=True, slots=True)
class Lake:
    """What lies in the lake: objects by path, the table's live files, the ledger's entries."""

    objects: Mapping[str, bytes]
    silver: Sequence[str]
    entries: Sequence[Entry]


def check_lake(truth: Truth, lake: Lake) -> None:
    """Everything that can be judged at the end. Raises: BrokenInvariantError."""
    check_chain(lake)
    check_records(truth, lake)
    check_silver(truth, lake)


def check_positions(
    before: Mapping[str, ShardPosition], after: Mapping[str, ShardPosition]
) -> None:
    """Invariant 2, for two states that followed one another."""
    for shard, old in before.items():
        new = after.get(shard)
        if new is None:
            raise BrokenInvariantError(f"position of {shard} vanished (it was {old})")
        if pad_sequence(new.sequence_number) < pad_sequence(old.sequence_number):
            raise BrokenInvariantError(f"position of {shard} went back from {old} to {new}")
        if old.is_ended and new != old:
            raise BrokenInvariantError(f"{shard} had ended at {old} and is now at {new}")


def check_write(path: str, before: bytes | None, after: bytes, verb: str) -> None:
    """Invariant 3, for a write that took effect. Only Bronze and the ledger are immutable."""
    if not path.startswith(("bronze/", "ledger/")):
        return
    if verb != "put_once":
        raise BrokenInvariantError(f"{path} was written with {verb}, which can replace it")
    if before is not None and before != after:
        raise BrokenInvariantError(f"{path} changed")


def check_chain(lake: Lake) -> None:
    """Invariant 5."""
    numbers = [entry.number for entry in lake.entries]
    if numbers != list(range(1, len(numbers) + 1)):
        raise BrokenInvariantError(f"ledger entries are numbered {numbers}")
    for record in slices_of(lake.entries):
        for item in (record.bronze, record.quarantine, *record.silver):
            if item is not None and _digest(lake.objects.get(item.path)) != item.sha256:
                raise BrokenInvariantError(
                    f"{item.path} of slice {record.slice_id} is not what the ledger recorded"
                )


def check_records(truth: Truth, lake: Lake) -> None:
    """Invariant 1: a shard's committed slices, end to end, are its records without the gaps."""
    found = {name: list(rows) for name, rows in committed_records(lake).items()}
    gaps = [gap for entry in lake.entries for gap in entry.gaps]
    for shard, records in truth.records.items():
        got = [(number, payload) for number, payload in found.pop(shard, [])]
        wanted = [(record.sequence_number, record.payload) for record in records]
        if twice := [number for number, count in Counter(n for n, _ in got).items() if count > 1]:
            raise BrokenInvariantError(f"{shard}: records {twice[:5]} are in two committed slices")
        lost = sorted(set(wanted) - set(got), key=lambda item: int(item[0]))
        unnamed = [n for n, _ in lost if not any(_is_in(n, shard, gap) for gap in gaps)]
        if unnamed:
            raise BrokenInvariantError(
                f"{shard}: records {unnamed[:5]} are lost, no gap names them"
            )
        if strange := sorted(set(got) - set(wanted)):
            raise BrokenInvariantError(f"{shard}: {strange[:2]} were never put to the stream")
        if got != [item for item in wanted if item in set(got)]:
            raise BrokenInvariantError(f"{shard}: records were committed out of order")
    if found:
        raise BrokenInvariantError(f"slices of unknown shards: {sorted(found)}")


def check_silver(truth: Truth, lake: Lake) -> None:
    """Invariant 4."""
    rows, rejects = silver_model(truth, committed_records(lake))
    _check_equal("Silver", rows, _silver_rows(lake))
    _check_equal("quarantine", rejects, _quarantine_rows(lake))
    counted = sum(record.silver_rows for record in slices_of(lake.entries))
    if counted != rows.total():
        raise BrokenInvariantError(f"the ledger counts {counted} Silver rows of {rows.total()}")


def silver_model(
    truth: Truth, records: Mapping[str, Sequence[tuple[str, bytes]]]
) -> tuple[Counter[Any], Counter[Any]]:
    """Silver in plain Python: (shard, sequence number, trade, price) and what is refused.

    A row is dropped when its trade was seen in this shard before or in any of its ancestors.
    """
    rows: Counter[Any] = Counter()
    rejects: Counter[Any] = Counter()
    decoded = {shard: list(_decode(found, rejects)) for shard, found in records.items()}
    for shard, found in decoded.items():
        seen = {row[1] for name in truth.ancestors(shard) for row in decoded.get(name, ())}
        for number, trade, price in found:
            if trade not in seen:
                seen.add(trade)
                rows[shard, number, trade, price] += 1
    return rows, rejects


def committed_records(lake: Lake) -> dict[str, list[tuple[str, bytes]]]:
    """Shard -> (sequence number, payload) of all committed slices, in the ledger's order."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for record in slices_of(lake.entries):
        rows = found.setdefault(record.shard.shard, [])
        if record.bronze is not None:
            table = _read(lake.objects[record.bronze.path], ["sequence_number", "payload"])
            pairs = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
            rows.extend(pairs)
    return found


def slices_of(entries: Iterable[Entry]) -> Iterator[SliceRecord]:
    """Every committed slice, in order."""
    return (record for entry in entries for record in entry.slices)


def _decode(
    records: Sequence[tuple[str, bytes]], rejects: Counter[Any]
) -> Iterator[tuple[str, str, float]]:
    for number, payload in records:
        for line in payload.split(b"\n"):
            try:
                message = orjson.loads(line)
            except orjson.JSONDecodeError:
                rejects[number, line] += 1
                continue
            if message["price"] <= 0:
                rejects[number, line] += 1
            else:
                yield number, message["trade_id"], message["price"]


def _silver_rows(lake: Lake) -> Counter[Any]:
    columns = ["shard", "sequence_number", "trade_id", "price"]
    found: Counter[Any] = Counter()
    for path in lake.silver:
        table = _read(lake.objects[path], columns)
        for *lineage, price in zip(*(table[name].to_pylist() for name in columns), strict=True):
            found[(*lineage, float(price))] += 1
    return found


def _quarantine_rows(lake: Lake) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for record in slices_of(lake.entries):
        if record.quarantine is not None:
            table = _read(lake.objects[record.quarantine.path], ["sequence_number", "raw"])
            found.update(zip(*(table[n].to_pylist() for n in table.column_names), strict=True))
    return found


def _check_equal(name: str, wanted: Counter[Any], found: Counter[Any]) -> None:
    if wanted != found:
        missing, extra = list((wanted - found).items())[:3], list((found - wanted).items())[:3]
        raise BrokenInvariantError(f"{name} is not f(Bronze): missing {missing}, too much {extra}")


def _is_in(number: str, shard: str, gap: GapRecord) -> bool:
    ends = gap.first_kept is None or int(number) < int(gap.first_kept)
    return gap.shard.shard == shard and ends and int(number) > int(gap.after or -1)


def _digest(data: bytes | None) -> str:
    return "(missing)" if data is None else sha256(data).hexdigest()


def _read(data: bytes, columns: list[str]) -> Any:
    return pq.ParquetFile(io.BytesIO(data)).read(columns=columns)
