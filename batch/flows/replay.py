"""`replay`: send a feed's recorded messages of a time range through the same dataflow again.

A dry run unless `apply` is set: the table artifact then says what would change, day by day.
Not here: the replay itself (`batch`), whole ranges of history (`backfill`).
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow

from batch.flows.report import write_table
from batch.flows.run import open_run, parse_interval_ms
from stream.errors import ConfigError


@flow(name="replay", flow_run_name="{feed}-{source}")
def replay(
    feed: str,
    start: str | None = None,
    end: str | None = None,
    *,
    source: Literal["bronze", "kinesis", "extract"] = "bronze",
    run_id: str | None = None,
    into: str | None = None,
    apply: bool = False,
) -> dict[str, Any]:
    """Replay arrivals in [start, end), two ISO times (UTC without a zone), or a whole extract.

    Args: run_id: the extract, for source "extract", which takes no times. into: another table
    than the live one. apply: false only reports what would change.
    """
    span = _check_span(source, start, end, run_id)
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    report = actions.replay(
        settings, feed, *span, source=source, run_id=run_id, into=into, apply=apply
    )
    verb = "replayed" if apply else "dry run of"
    write_table(
        f"replay-{feed}",
        report.to_rows(),
        f"{verb} {report.table} from {run_id or f'{source}, {start} to {end}'}: "
        f"{report.slices} slices, {report.changed_slices} differ, "
        f"{report.rows_added} rows added, {report.rows_removed} removed",
    )
    return {
        "changed_slices": report.changed_slices,
        "rows_added": report.rows_added,
        "rows_removed": report.rows_removed,
    }


def _check_span(
    source: str, start: str | None, end: str | None, run_id: str | None
) -> tuple[int | None, int | None]:
    """Raises: ConfigError for parameters that do not belong together."""
    if source == "extract":
        if run_id is None or start is not None or end is not None:
            raise ConfigError("source 'extract' takes a run_id and neither start nor end")
        return None, None
    if run_id is not None or start is None or end is None:
        raise ConfigError(f"source {source!r} takes start and end and no run_id")
    return parse_interval_ms(start, end)
