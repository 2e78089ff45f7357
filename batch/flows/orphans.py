"""`remove-orphans`: delete objects that no snapshot and no ledger entry refers to.

A dry run unless `apply` is set; the table artifact holds files and bytes before and after.
Not here: what may go and what must stay (`batch.maintain`).
"""

from __future__ import annotations

from prefect import flow

from batch.flows.report import write_table
from batch.flows.run import open_run


@flow(name="remove-orphans")
def remove_orphans(tables: list[str] | None = None, *, apply: bool = False) -> dict[str, int]:
    """Remove orphans older than the grace.

    Args: tables: none means all. apply: false only reports what would change.
    """
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    reports = actions.remove_orphans(settings, tuple(tables or ()), apply=apply)
    rows = [report.to_row() for report in reports]
    write_table("orphan-removal", rows, "orphans removed" if apply else "dry run: orphans removed")
    return {"tables": len(rows)}
