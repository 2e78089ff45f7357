"""`backfill-ingestion`: fill a range of days from a source of history.

One flow run for the whole range; the chunks, their claims and what was done before live in the
ledger of `batch.actions.backfill`. So a killed run is continued by a retry or by a new run, and
two runs at once share the work. The run owns its claims by its id: a retry takes its own chunks
back at once. When every chunk is done it announces exactly the days that it touched; compaction
and the Gold models start from that event (deploy/prefect).
Not here: claims, extracts, replay (`batch`).
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from datetime import date

from prefect import flow
from prefect.concurrency.sync import concurrency

from batch.flows.report import BACKFILL_COMPLETED, ProgressBar, announce, write_table
from batch.flows.run import check_parallel, check_range, flow_run_id, open_run
from stream.errors import RetryableError

log = logging.getLogger(__name__)

LIMITS = {"fmp": "fmp-api", "mongo": "mongo-dump"}
"""What a source can bear over all runs; a run without a declared limit goes ahead."""


@flow(name="backfill-ingestion", flow_run_name="{source}-{dataset}-{start_date}-{end_date}")
def backfill_ingestion(
    source: str,
    start_date: date,
    end_date: date,
    parallel_days: int = 8,
    *,
    dataset: str,
    symbols: list[str] | None = None,
    options: dict[str, str] | None = None,
    path: str | None = None,
    version: int = 1,
) -> dict[str, int]:
    """Fill the days from `start_date` to `end_date`, both included, from a source of history.

    Args: parallel_days: days in work at once, 1 to 64. dataset: one that the source has.
    symbols: none means all. path: of source "files". version: a higher one ingests days again
    that are done.
    """
    check_range(start_date, end_date)
    check_parallel(parallel_days)
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    with _slot(source):
        report = actions.backfill(
            settings,
            source=source,
            dataset=dataset,
            first_day=start_date,
            last_day=end_date,
            parallel_days=parallel_days,
            symbols=tuple(symbols or ()),
            options=options or {},
            path=path,
            version=version,
            owner=flow_run_id(),
            progress=ProgressBar(f"{source} {dataset} {start_date} to {end_date}").show,
        )
    write_table(
        f"backfill-{source}",
        report.to_rows(),
        f"{source} {dataset} {start_date} to {end_date}: {report}",
    )
    if not report.is_complete:
        raise RetryableError(
            f"not every day is done ({report}): see the table of this run. Retry the run, or "
            "start it again with the same parameters: days that are done stay done."
        )
    _announce(source, dataset, list(report.days_touched))
    return {"planned": report.planned, "done_now": report.done_now, "rows": report.rows}


def _slot(source: str) -> AbstractContextManager[None]:
    """Wait for a slot of the source's limit; a lost lease never ends the run."""
    return concurrency(LIMITS[source], strict=False) if source in LIMITS else nullcontext()


def _announce(source: str, dataset: str, days: list[date]) -> None:
    if not days:
        log.info("no day was touched: nothing to compact, nothing to build")
        return
    payload = {
        "source": source,
        "dataset": dataset,
        "first_day": min(days),
        "last_day": max(days),
        "days": sorted(days),
    }
    announce(BACKFILL_COMPLETED, f"backfill.{source}.{dataset}", payload)
