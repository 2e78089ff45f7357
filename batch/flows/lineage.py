"""`lineage-batch`: are the objects that landed in Bronze named by a commit or a manifest by now?

Started by the lineage function once per batch of new objects, for the moment when their grace is
over. Each hour that the batch touched is looked through as a whole. What nothing names is in the
table artifact and in one event per source: a slice whose commit is stalled or that the ledger went
past, a part of an extract that never finished, a stray object. The run itself succeeds: it did
its work, and the automation on the event tells people.
Not here: the look itself (`batch.maintain.unnamed`), who starts it (`batch.aws.lineage`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prefect import flow

from batch.aws.lineage_event import GRACE_MINUTES, BronzeHour
from batch.flows.report import BRONZE_UNNAMED, announce, write_table
from batch.flows.run import open_run
from batch.maintain.unnamed import UNNAMED, HourReport, Unnamed
from stream.errors import ConfigError

MAX_NAMED = 20
MAX_ROWS = 1_000


@flow(name="lineage-batch")
def lineage_batch(
    hours: list[dict[str, Any]], *, grace_minutes: int = GRACE_MINUTES
) -> dict[str, int]:
    """Look through hours of Bronze for objects that nothing names.

    Args: hours: each {"source": feed or source of extracts, "hour": ISO time of a whole hour}.
    grace_minutes: younger objects are only counted.
    """
    wanted = [BronzeHour.parse(raw) for raw in hours]
    if not wanted:
        raise ConfigError("hours is empty: name at least one source and hour")
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    reports = actions.find_unnamed(settings, wanted, grace_minutes=grace_minutes)
    found = [item for report in reports for item in report.unnamed]
    objects = sum(report.objects for report in reports)
    summary = f"{len(found)} of {objects} objects in {len(reports)} hours are named by nothing"
    write_table("lineage-hours", [report.to_row() for report in reports], summary)
    if found:
        rows = [{**asdict(item), "minutes": item.age_ms // 60_000} for item in found[:MAX_ROWS]]
        write_table("lineage-unnamed", rows, summary)
    for source, of_source in _by_source(reports).items():
        _announce(source, of_source, grace_minutes)
    return {"hours": len(reports), "objects": objects, "unnamed": len(found)}


def _by_source(reports: Sequence[HourReport]) -> Mapping[str, list[HourReport]]:
    """Reports with something unnamed, by source."""
    found = defaultdict(list)
    for report in reports:
        if report.unnamed:
            found[report.source].append(report)
    return found


def _announce(source: str, reports: Sequence[HourReport], grace_minutes: int) -> None:
    """One event; the batches of an hour see the same objects, and the server keeps it once."""
    items: list[Unnamed] = [item for report in reports for item in report.unnamed]
    counts = Counter(item.why for item in items)
    names = sorted(f"{item.why} {item.path}" for item in items)
    payload: dict[str, Any] = {
        "source": source,
        "hours": [report.hour.isoformat() for report in reports],
        **{why: counts[why] for why in UNNAMED},
        "oldest_minutes": max(item.age_ms for item in items) // 60_000,
        "grace_minutes": grace_minutes,
        "objects": names[:MAX_NAMED],
    }
    identity = hashlib.sha256("\n".join(names).encode()).hexdigest()
    announce(BRONZE_UNNAMED, f"bronze.{source}", payload, identity=identity)
