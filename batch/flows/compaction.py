"""`small-file-compaction`: merge small Silver files of past days into large, sorted ones.

Nightly for the days before, and after a backfill for exactly the days that it touched. Two runs
at once are safe and so is a stream that commits meanwhile: see `batch.maintain`. A dry run unless
`apply` is set. What was compacted is announced, for the Gold models.
Not here: choosing and rewriting files, the check before publishing (`batch.maintain`).
"""

from __future__ import annotations

from datetime import date

from prefect import flow

from batch.flows.report import SILVER_COMPACTED, announce, write_table
from batch.flows.run import list_previous_days, open_run
from stream.errors import ConfigError


@flow(name="small-file-compaction")
def small_file_compaction(
    tables: list[str] | None = None,
    *,
    last_days: int | None = None,
    days: list[date] | None = None,
    apply: bool = False,
) -> dict[str, int]:
    """Compact days of Silver tables.

    Args: tables: none means all. last_days: so many full UTC days before today. days: these and
    no others; give one of the two. apply: false only reports what would change.
    """
    if (last_days is None) == (days is None):
        raise ConfigError(f"give last_days or days: last_days is {last_days}, days is {days}")
    if days is not None and not days:
        raise ConfigError("days is empty: name at least one day, e.g. 2026-11-23")
    wanted = sorted(set(days)) if days else list_previous_days(last_days or 0)
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    reports = actions.compact(settings, tuple(tables or ()), days=wanted, apply=apply)
    span = f"{len(wanted)} days, {wanted[0]} to {wanted[-1]}"
    write_table(
        "compaction",
        [report.to_row() for report in reports],
        f"{'compacted' if apply else 'dry run of'} {span}",
    )
    changed = [report.table for report in reports if report.commits]
    if changed:
        announce(
            SILVER_COMPACTED,
            "silver",
            {"tables": changed, "first_day": wanted[0], "last_day": wanted[-1], "days": wanted},
        )
    return {"tables": len(reports), "changed": len(changed)}
