"""`dbt-build`: bring Gold up to date with Silver, audit it, publish it, and keep its artifacts.

Started by events (deploy/prefect): a backfill that ended, and feeds whose streams are complete up
to the end of an hour. The ledger knows which days that touched, so no event names days, and a run
that finds nothing new says "unchanged" within a second. Runs take turns: locally by a lock, across
machines by the limit `gold-build`, so a second run waits and then finds the work done.
A build that fails its tests fails the run; the old Gold stays.
Not here: what is built, the gate, publication (`batch.gold`); dbt has a process of its own there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Any, Literal

from prefect import flow
from prefect.concurrency.sync import concurrency

from batch.flows.report import GOLD_PUBLISHED, GOLD_REJECTED, announce, write_table
from batch.flows.run import open_run
from batch.gold.report import GoldReport
from stream.errors import FatalError
from stream.settings import Settings

log = logging.getLogger(__name__)

LIMIT = "gold-build"
"""One build at a time, wherever it runs: two on Athena would write the same schema."""
MAX_NAMED = 10


@flow(name="dbt-build")
def dbt_build(
    models: str | None = None,
    *,
    target: Literal["local", "athena"] | None = None,
    days: list[date] | None = None,
    full: bool = False,
) -> dict[str, Any]:
    """Build what commits touched since the published build; publish it if its tests pass.

    Args: models: a selection in dbt's words; none means all. target: none means athena where the
    catalog is Glue, else local. days: compute these as well, touched or not. full: forget what
    Gold has.
    """
    from batch import actions  # noqa: PLC0415 - needs the settings' AWS first

    settings = open_run()
    where = target or default_target(settings)
    with concurrency(LIMIT, strict=False):  # a lost lease never ends the run
        report = actions.build_gold(
            settings, target=where, is_full=full, days=sorted(set(days or ())), select=models
        )
        _leave(report)
        actions.gold_docs(settings, target=where)  # made once per build, whoever published it
    return {"verdict": report.verdict, "build": report.number, "days": _days(report)}


def default_target(settings: Settings) -> str:
    """Where Gold lives: on Athena, whose catalog is Glue, or in a file of this machine."""
    return "athena" if settings.catalog == "glue" else "local"


def _leave(report: GoldReport) -> None:
    """Tables and events. Raises: FatalError naming what stopped a rejected build."""
    log.info("gold %s: %s", report.target, report)
    if report.models:
        write_table("gold-models", map(asdict, report.models), f"gold {report.target}: {report}")
    if report.failures:
        write_table("gold-failed-tests", _failed_rows(report), f"gold {report.target}: {report}")
    if report.verdict == "published":
        announce(GOLD_PUBLISHED, f"gold.{report.target}", _payload(report))
    if not report.is_ok:
        announce(GOLD_REJECTED, f"gold.{report.target}", _payload(report))
        raise FatalError(
            f"Gold was not published, {report.reason}: {', '.join(_stoppers(report))}. The rows "
            "are in this run's table gold-failed-tests; see runbooks/gold-was-rejected.md."
        )


def _payload(report: GoldReport) -> dict[str, Any]:
    """`build` is what readers see now: of a rejected build the one before it."""
    return {
        "build": report.number,
        "days": _days(report),
        "models": sum(model.status == "success" for model in report.models),
        "tests_passed": report.tests_passed,
        "tests_failed": len(report.errors),
        "tests_warned": len(report.failures) - len(report.errors),
        "failing": _stoppers(report),
        "seconds": round(report.seconds, 1),
    }


def _days(report: GoldReport) -> list[str] | None:
    """None: all days."""
    return None if report.days is None else list(report.days)


def _stoppers(report: GoldReport) -> list[str]:
    """What stopped a build: tests of severity error, models that could not be built."""
    tests = [f"{f.name} on {f.model} ({f.failures:,} rows)" for f in report.errors]
    broken = [f"model {m.name}" for m in report.models if m.status == "error"]
    found = broken + tests
    more = [f"{len(found) - MAX_NAMED} more"] if len(found) > MAX_NAMED else []
    return found[:MAX_NAMED] + more


def _failed_rows(report: GoldReport) -> Iterator[dict[str, Any]]:
    """A row per row that a test kept; one without, of a test that kept none."""
    for failure in report.failures:
        test = {
            "severity": failure.severity,
            "test": failure.name,
            "model": failure.model,
            "rows": failure.failures,
            "message": failure.message,
        }
        for sample in failure.samples or ({},):
            yield {**test, "sample": json.dumps(dict(sample), default=str) if sample else ""}
