"""What a replay found and did: counts, rows by day, differences with samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from stream.lake.entries import ObjectRef, SliceRecord
from stream.lake.layout import SilverKey


@dataclass(frozen=True, slots=True)
class DayRows:
    """Rows of the replayed slices on one UTC day of event time."""

    day: date
    before: int
    after: int


@dataclass(slots=True)
class ReplayReport:
    """`rows_added` and `rows_removed` are rows that differ; equal rows count in neither.

    `restored`: objects that were missing and are there again (in a dry run: would be).
    """

    feed: str
    source: str
    table: str
    is_applied: bool
    slices: int = 0
    records: int = 0
    messages: int = 0
    changed_slices: int = 0
    rows_before: int = 0
    rows_after: int = 0
    rows_added: int = 0
    rows_removed: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    restored: int = 0
    days: list[DayRows] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows_by_shard: dict[str, int] = field(default_factory=dict)
    commit: int | None = None
    seconds: float = 0.0

    @property
    def is_changed(self) -> bool:
        """Whether the outcome differs from what Silver and the ledger hold."""
        return self.changed_slices > 0

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"is_changed": self.is_changed, **asdict(self)}

    def to_rows(self) -> list[dict[str, object]]:
        """Rows by day, as a table."""
        return [{"day": d.day.isoformat(), "before": d.before, "after": d.after} for d in self.days]

    def count_days(self, before: Sequence[ObjectRef], after: Sequence[ObjectRef]) -> None:
        """Fill `days` and the row counts from data files of slices, old and new."""
        old, new = rows_by_day(before), rows_by_day(after)
        self.days = [
            DayRows(day, old.get(day, 0), new.get(day, 0)) for day in sorted(old.keys() | new)
        ]
        self.rows_before, self.rows_after = sum(old.values()), sum(new.values())

    def count_new(self, records: Sequence[SliceRecord]) -> None:
        """Counts of slices that are new to the table: all of their rows are added."""
        held = [record for record in records if record.rows]
        self.slices = self.changed_slices = len(held)
        self.count_records(held)
        self.count_days([], [item for record in held for item in record.silver])
        self.rows_added = self.rows_after

    def count_records(self, records: Sequence[SliceRecord]) -> None:
        """Counts of what was decoded."""
        self.records = sum(record.rows for record in records)
        self.messages = sum(record.messages for record in records)
        self.duplicates = sum(record.duplicates for record in records)
        for record in records:
            for reason, count in record.rejected.items():
                self.rejected[reason] = self.rejected.get(reason, 0) + count


def rows_by_day(files: Sequence[ObjectRef]) -> Mapping[date, int]:
    """Rows per UTC day: a data file holds one."""
    rows: dict[date, int] = {}
    for item in files:
        day = SilverKey.parse(item.path).day
        rows[day] = rows.get(day, 0) + item.rows
    return rows
