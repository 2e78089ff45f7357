"""What became of every message of a slice: a row, a duplicate, no data, or quarantine. Pure.

    lines of the records ─▶ decoded now ─┬─▶ is in Silver ........................ silver
                                         ├─▶ is not: its key was known ........... duplicate
             quarantine of the slice ────┼─▶ refused, and nobody landed it ....... quarantine
                                         └─▶ neither rows nor rejects ............ ignored

A message may hold several rows, each with its own fate. A message that was redriven counts by what
it became. Where the decoder of today says something else than the ledger counted, the fate is
"undecided": which of its rows were duplicates then, nobody can say without that decoder.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stream.lineage.source import DecodedNow, Source

Kind = Literal["silver", "duplicate", "ignored", "quarantine", "undecided"]
Place = tuple[int, int]
"""Number of the record in its slice, and line."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one row, or of a message without rows. `row`: as decoded; `says`: why."""

    kind: Kind
    says: str = ""
    row: Mapping[str, Any] | None = None
    path: str | None = None


@dataclass(slots=True)
class Message:
    """One line of a record. `is_redriven`: it was in quarantine and landed later."""

    record_no: int
    line_no: int
    sequence_number: str
    raw: bytes
    is_redriven: bool = False
    fates: list[Fate] = field(default_factory=list)


def read_fates(
    source: Source,
    numbers: Sequence[int],
    now: DecodedNow,
    *,
    silver: Sequence[Mapping[str, Any]],
    quarantined: Sequence[Mapping[str, Any]],
    landed: frozenset[Place],
) -> list[Message]:
    """The messages of some records of a slice, in order, each with at least one fate.

    Args: silver: rows of the slice (the compared columns, sequence_number, line_no, path).
    quarantined: its quarantine rows. landed: messages of it that were redriven.
    """
    messages = _split(source, numbers)
    stored = _Stored(silver, now)
    rejected: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
    for item in quarantined:
        rejected[item["record_no"], item["line_no"]].append(item)
    decoded: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
    for place, row in zip(now.places, now.rows, strict=True):
        decoded[place].append(row)
    for message in messages:
        place = (message.record_no, message.line_no)
        message.is_redriven = place in landed
        kept = [] if message.is_redriven else rejected[place]
        message.fates = _fates(message, decoded[place], kept, now.refused.get(place, []), stored)
    return messages


def count_fates(messages: Sequence[Message]) -> Counter[Kind]:
    """How many rows and messages met each fate."""
    return Counter(fate.kind for message in messages for fate in message.fates)


class _Stored:
    """Silver's rows of a slice; each is found once."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], now: DecodedNow) -> None:
        self._compared = now.compared
        self._free: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        self._at: Counter[tuple[str, int]] = Counter()
        for row in rows:
            place = (row["sequence_number"], row["line_no"])
            self._free[(*place, self._text(row))].append(row["path"])
            self._at[place] += 1

    def take(self, message: Message, row: Mapping[str, Any]) -> str | None:
        """The file of the row that this decoded one is; None if Silver has none (left)."""
        place = (message.sequence_number, message.line_no)
        free = self._free.get((*place, self._text(row)))
        if not free:
            return None
        self._at[place] -= 1
        return free.pop()

    def left(self, message: Message) -> int:
        """Rows of a message that no decoded one was found for yet."""
        return self._at[message.sequence_number, message.line_no]

    def _text(self, row: Mapping[str, Any]) -> str:
        return repr([row[name] for name in self._compared])


def _fates(
    message: Message,
    rows: Sequence[Mapping[str, Any]],
    kept: Sequence[Mapping[str, Any]],
    refused: Sequence[str],
    stored: _Stored,
) -> list[Fate]:
    fates, unmatched = [], []
    for row in rows:
        path = stored.take(message, row)
        if path is None:
            unmatched.append(row)
        else:
            fates.append(Fate("silver", row=row, path=path))
    for item in kept:
        says = item["reason"] if refused else f"{item['reason']}; the decoder of today accepts it"
        fates.append(Fate("quarantine", says))
    if stored.left(message) and not kept:
        return [*fates, Fate("undecided", "Silver's row differs from what decodes now")]
    if refused and not kept:
        return [*fates, Fate("undecided", f"accepted then, refused now: {', '.join(refused)}")]
    if len(refused) == len(kept):  # else these rows are what a redrive would land
        fates += [Fate("duplicate", row=row) for row in unmatched]
    return fates or [Fate("ignored", "no data: a heartbeat, an acknowledgement, a snapshot")]


def _split(source: Source, numbers: Sequence[int]) -> list[Message]:
    """The messages of records: lines that are not blank; a record without any is one, empty."""
    sequences = source.records["sequence_number"]
    found = []
    for record_no in numbers:
        payload: bytes = source.records["payload"][record_no].as_py()
        lines = [
            (line_no, line.removesuffix(b"\r"))
            for line_no, line in enumerate(payload.split(b"\n"))
            if line.strip(b" \t\r")
        ]
        for line_no, raw in lines or [(0, payload)]:
            found.append(Message(record_no, line_no, sequences[record_no].as_py(), raw))
    return found
