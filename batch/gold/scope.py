"""What a build covers: pinned Silver, the days to compute again, and whether there is work.

The published build remembers per feed the ledger entry that it includes. Everything that was
committed after that is new; its days, and those that corrections and quotes reach, are computed
again. A change of dbt's code concerns every day that Silver still has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from batch.gold.days import retired_days, touched_days
from batch.gold.pins import Pins, read_new_entries, take_pins
from batch.gold.reach import reached_days
from batch.gold.slots import Slot
from stream.lake.connect import Lake
from stream.lake.entries import Entry
from stream.lake.gold import GoldBuild
from stream.lake.layout import SilverKey
from stream.settings import Settings

QUIET = ("start", "close", "compact")
"""Kinds of entries after which every row is as it was."""


@dataclass(frozen=True, slots=True)
class Scope:
    """`days` None: all that there are. `retired`: days that only Gold still has."""

    pins: Pins
    days: tuple[date, ...] | None
    retired: tuple[str, ...]
    reason: str


def is_up_to_date(lake: Lake, published: GoldBuild | None, project: str) -> bool:
    """Whether nothing that Gold is made of changed since the published build."""
    if published is None or published.project != project:
        return False
    pins = take_pins(lake, published.numbers)
    return not any(entry.kind not in QUIET for entry in _entries(lake, pins))


def plan_scope(
    settings: Settings,
    lake: Lake,
    slot: Slot,
    project: str,
    *,
    correction_days: int,
    quote_seconds: int,
    extra_days: Sequence[date] = (),
) -> Scope:
    """Pin Silver and name the days that this slot lacks."""
    basis = slot.basis
    pins = take_pins(lake, basis.numbers if basis else {})
    entries = _entries(lake, pins)
    if basis is None:
        return Scope(pins, None, (), "everything, from empty")
    retired = {*map(date.fromisoformat, basis.retired), *retired_days(entries)}
    kept = tuple(sorted(day.isoformat() for day in retired))
    if basis.project != project:
        days = _days_of_silver(lake, pins) | set(extra_days)
        reason = f"the models changed: {len(days)} days of Silver"
    else:
        days = touched_days(entries) | set(extra_days)
        days = reached_days(
            settings,
            lake,
            pins,
            days,
            correction_days=correction_days,
            quote_seconds=quote_seconds,
        )
        reason = f"{len(entries)} commits touched {len(days)} days"
    return Scope(pins, tuple(sorted(days - retired)), kept, reason)


def _entries(lake: Lake, pins: Pins) -> list[Entry]:
    return [e for name, pin in pins.tables.items() for e in read_new_entries(lake, name, pin)]


def _days_of_silver(lake: Lake, pins: Pins) -> set[date]:
    return {day for name in pins.tables for day in _file_days(lake, pins, name)}


def _file_days(lake: Lake, pins: Pins, name: str) -> Iterable[date]:
    snapshot = pins.tables[name].snapshot_id
    files = lake.catalog.open(name).data_files(snapshot) if snapshot is not None else []
    return (SilverKey.parse(lake.store.relative(address)).day for address, _ in files)
