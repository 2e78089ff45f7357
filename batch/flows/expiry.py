"""`expire-snapshots`: forget old Iceberg snapshots, whose number every commit pays for.

A dry run unless `apply` is set; the table artifact holds files and bytes before and after.
Not here: what may go and what must stay (`batch.maintain`).
"""

from __future__ import annotations

from prefect import flow

from batch.flows.report import write_table
from batch.flows.run import open_run


@flow(name="expire-snapshots")
def expire_snapshots(tables: list[str] | None = None, *, apply: bool = False) -> dict[str, int]:
    """Expire the snapshots that the tables' rules no longer keep.

    Args: tables: none means all. apply: false only reports what would change.
    """
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    reports = actions.expire_snapshots(settings, tuple(tables or ()), apply=apply)
    rows = [report.to_row() for report in reports]
    write_table(
        "snapshot-expiry", rows, "snapshots expired" if apply else "dry run: snapshots expired"
    )
    return {"tables": len(rows)}
