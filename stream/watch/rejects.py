"""What lies in quarantine: counts by reason, what each reason means, and samples of the raw text.

Counts come from the ledger. Once a redrive has landed messages of an object, that object is read
and only what is left of it counts. Samples are the newest messages of each reason. Of a feed with
personal data none is read at all: a message may hold what Silver only has masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from stream.feeds.contract import REASONS, Contract
from stream.lake.entries import Entry, SliceRecord
from stream.lake.store import Store
from stream.quarantine import read_rejects
from stream.watch.state import Reject, Sample

SAMPLES = 3
RAW_CHARACTERS = 300
MAX_OBJECTS = 12
"""Quarantine objects that one look reads at most; what was read is kept, objects never change."""
KEPT_OBJECTS = 64


@dataclass(slots=True)
class _Held:
    """A slice's rejects: how many by reason, and what of its object was redriven."""

    record: SliceRecord
    landed: set[tuple[int, int]] = field(default_factory=set)


class Rejects:
    """The quarantine of one feed. Used by one thread."""

    def __init__(self, contract: Contract, store: Store) -> None:
        self._contract, self._store = contract, store
        self._meanings = {**REASONS, **{rule.reason: rule.doc for rule in contract.rules}}
        self._held: dict[str, _Held] = {}
        self._objects: dict[str, pa.Table] = {}

    def clear(self) -> None:
        """Forget everything: the lake began another life."""
        self._held.clear()
        self._objects.clear()

    def add(self, entries: Sequence[Entry]) -> None:
        """Take in new ledger entries, oldest first."""
        for entry in entries:
            for record in entry.slices:
                self._held.pop(record.slice_id, None)  # a replay says anew what was refused
                if record.quarantine is not None:
                    self._held[record.slice_id] = _Held(record)
            for redriven in entry.redriven:
                # Of a slice that is older than what was read, the rejects are not counted either.
                if (held := self._held.get(redriven.slice_id)) is not None:
                    held.landed.update(redriven.keys)

    def read(self) -> tuple[Reject, ...]:
        """Every reason that has messages, most frequent first.

        Raises: StoreUnavailableError, ConfigError.
        """
        if self._contract.pii_columns:
            return self._show(self._count(), {}, _withheld(self._contract))
        counts = self._count()
        return self._show(counts, self._samples(counts), "")

    def _show(
        self, counts: Counter[str], samples: Mapping[str, list[Sample]], withheld: str
    ) -> tuple[Reject, ...]:
        return tuple(
            Reject(
                reason,
                count,
                self._meanings.get(reason, "a rule of an older contract"),
                tuple(samples.get(reason, ())),
                withheld,
            )
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def _count(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for held in self._held.values():
            left = Counter(held.record.rejected)
            if held.landed:
                left -= self._landed_reasons(held)
            counts.update(left)
        return counts

    def _landed_reasons(self, held: _Held) -> Counter[str]:
        rows = self._object(held)
        keys = zip(rows["record_no"].to_pylist(), rows["line_no"].to_pylist(), strict=True)
        reasons = rows["reason"].to_pylist()
        return Counter(r for r, key in zip(reasons, keys, strict=True) if key in held.landed)

    def _samples(self, counts: Counter[str]) -> dict[str, list[Sample]]:
        """The newest of each reason, from as few objects as possible."""
        samples: dict[str, list[Sample]] = {reason: [] for reason in counts}
        opened = 0
        for held in reversed(self._held.values()):
            missing = {
                reason
                for reason in held.record.rejected
                if reason in samples and len(samples[reason]) < SAMPLES
            }
            if not missing or opened >= MAX_OBJECTS:
                continue
            opened += 1
            for row in self._object(held).to_pylist():
                found = samples.get(row["reason"])
                is_left = (row["record_no"], row["line_no"]) not in held.landed
                if found is not None and is_left and len(found) < SAMPLES:
                    found.append(_sample(row))
        return samples

    def _object(self, held: _Held) -> pa.Table:
        assert held.record.quarantine is not None
        path = held.record.quarantine.path
        if path not in self._objects:
            data = self._store.get(path)
            if len(self._objects) >= KEPT_OBJECTS:
                self._objects.pop(next(iter(self._objects)))
            # One that retention took has nothing to show.
            self._objects[path] = read_rejects(data) if data else _NOTHING.empty_table()
        return self._objects[path]


_NOTHING = pa.schema([("reason", pa.string()), ("record_no", pa.int32()), ("line_no", pa.int32())])


def _sample(row: Mapping[str, object]) -> Sample:
    raw = row["raw"]
    assert isinstance(raw, bytes)
    text = raw[: RAW_CHARACTERS * 4].decode("utf-8", "backslashreplace")
    if len(text) > RAW_CHARACTERS or len(raw) > RAW_CHARACTERS * 4:
        text = text[: RAW_CHARACTERS - 1] + "…"
    line = row["line_no"]
    assert isinstance(line, int)
    return Sample(str(row["slice_id"]), line, str(row["detail"] or ""), text)


def _withheld(contract: Contract) -> str:
    names = ", ".join(column.name for column in contract.pii_columns)
    return f"samples are not shown: messages of {contract.feed} hold personal data ({names})"
