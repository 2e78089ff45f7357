"""`retention`: delete what is older than its feed's contract keeps.

A dry run unless `apply` is set; the table artifact holds files and bytes before and after.
Not here: what may go and what must stay (`batch.maintain`).
"""

from __future__ import annotations

from prefect import flow

from batch.flows.report import write_table
from batch.flows.run import open_run


@flow(name="retention")
def retention(tables: list[str] | None = None, *, apply: bool = False) -> dict[str, int]:
    """Apply the retention of the contracts.

    Args: tables: none means all. apply: false only reports what would change.
    """
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    reports = actions.apply_retention(settings, tuple(tables or ()), apply=apply)
    rows = [report.to_row() for report in reports]
    write_table("retention", rows, "retention applied" if apply else "dry run: retention applied")
    return {"tables": len(rows)}
