"""Which event days a build must compute again: exactly those that commits touched. Pure.

The ledger knows: rows of slices and redriven messages lie in data files that are named by day,
and a replay records the event times of the rows that it replaced. Compaction moves rows between
files and touches nothing. Retention takes days away from Silver but not from Gold: they are
retired, and a late row for one of them must not make Gold forget the rest of that day.
Corrections concern the days of the other versions of their trade, too: `reach` finds those,
because it can see rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from stream.clock import to_utc
from stream.lake.entries import Entry, ObjectRef
from stream.lake.layout import SilverKey


def touched_days(entries: Iterable[Entry]) -> set[date]:
    """The UTC event days whose rows these entries added or replaced."""
    return {day for entry in entries for day in _days_of(entry)}


def retired_days(entries: Iterable[Entry]) -> set[date]:
    """The days that retention took out of Silver."""
    return {
        SilverKey.parse(path).day
        for entry in entries
        if entry.kind == "retention"
        for rewrite in entry.rewrites
        for path in rewrite.removed
    }


def _days_of(entry: Entry) -> Iterator[date]:
    if entry.kind == "replay":
        for first_ns, last_ns in entry.event_spans:
            yield from days_between(to_utc(first_ns).date(), to_utc(last_ns).date())
        return
    for record in entry.slices:
        yield from _file_days(record.silver)
    for landed in entry.redriven:
        yield from _file_days(landed.silver)


def _file_days(files: Iterable[ObjectRef]) -> Iterator[date]:
    return (SilverKey.parse(file.path).day for file in files)


def days_between(first: date, last: date) -> Iterator[date]:
    """Both included.

    >>> [day.day for day in days_between(date(2026, 1, 31), date(2026, 2, 2))]
    [31, 1, 2]
    """
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)
