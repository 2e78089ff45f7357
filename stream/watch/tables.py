"""A feed's Silver table in numbers: snapshots, files, rows per day. From metadata alone.

A plan of the current snapshot reads its manifests, so it is made when the table has changed and
not more often than `Tables` are worth (see `parts`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stream.lake.catalog import LakeTable
from stream.lake.layout import SilverKey
from stream.lake.store import Store
from stream.watch.state import Tables

SMALL_BYTES = 384_000_000
"""What compaction merges: files below three quarters of the size that it aims at."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table's current snapshot. `rows`: per UTC day of the event, `YYYY-MM-DD`."""

    tables: Tables = field(default_factory=Tables)
    rows: Counter[str] = field(default_factory=Counter)


def read_table(table: LakeTable, store: Store) -> TableFacts:
    """Count the table's files and rows as last refreshed. Raises: StoreUnavailableError."""
    rows: Counter[str] = Counter()
    small = count = total = 0
    for file in table.files():
        count, total = count + 1, total + file.rows
        small += file.bytes < SMALL_BYTES
        if (day := _day(store.relative(file.address))) is not None:
            rows[day] += file.rows
    return TableFacts(Tables(table.snapshot_count, small, count, total), rows)


def _day(path: str) -> str | None:
    """The day of a data file; None for one that was not written by us."""
    try:
        return SilverKey.parse(path).day.isoformat()
    except ValueError:
        return None
