"""One build of Gold: write into a slot, audit, publish; or keep the old Gold and say why not.

    up to date? ─▶ slot (copy of what is published) ─▶ pins, days ─▶ dbt build (models and tests)
        └─ unchanged                                      no error ─▶ record = published
                                                          an error ─▶ rejected, rows named

Guarantees: readers see the old build or the new one, whole; a build that is killed leaves nothing
that is read; a second run without new commits does nothing; two builds at once publish one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from batch.gold.artifacts import keep_artifacts, read_artifact
from batch.gold.athena import check_installed, publish_views, write_absent, write_ledger
from batch.gold.dbt_process import DbtRun, Progress, run_dbt
from batch.gold.project import find_project, project_hash, project_variable
from batch.gold.report import GoldReport
from batch.gold.results import count_passed, model_results, stored_relations, test_failures
from batch.gold.scope import Scope, is_up_to_date, plan_scope
from batch.gold.slots import Slot, one_build, open_slot, remove_old_slots
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import CommitConflictError, ConfigError
from stream.lake.connect import Lake, connect_lake
from stream.lake.gold import GoldBuild, publish, read_published, slot_file
from stream.settings import Settings, child_environment


def build_gold(
    settings: Settings,
    *,
    target: str = "local",
    is_full: bool = False,
    days: Sequence[date] = (),
    select: str | None = None,
    progress: Progress = lambda _begun, _total, _what: None,
    clock: Clock = SYSTEM_CLOCK,
) -> GoldReport:
    """Bring Gold up to date, and publish it if every test of severity "error" passes.

    Args: is_full: forget what Gold has and compute everything that Silver has. days: compute
    these as well, touched or not. select: dbt's selection of models; what they lack stays noted,
    so the next build makes the others.

    Raises: ConfigError (no lake, no project, a selection on Athena), PipelineError (dbt itself
    failed), CommitConflictError (another build was published meanwhile).
    """
    with one_build(settings.home, clock):
        return _build(
            settings,
            target=target,
            is_full=is_full,
            days=days,
            select=select,
            progress=progress,
            clock=clock,
        )


def _build(
    settings: Settings,
    *,
    target: str,
    is_full: bool,
    days: Sequence[date],
    select: str | None,
    progress: Progress,
    clock: Clock,
) -> GoldReport:
    began, project = clock.monotonic(), find_project()
    if target == "athena":
        check_installed()
    lake, code = connect_lake(settings), project_hash(project)
    if not lake.catalog.names():
        raise ConfigError(
            f"the lake {settings.lake} has no tables yet: start a feed with `headrace run FEED`, "
            "or land history with `headrace backfill`."
        )
    published = read_published(lake.store, target)
    if published:
        complete_publication(settings, lake, target, published)
    is_asked = is_full or bool(days) or select is not None
    if published and not is_asked and is_up_to_date(lake, published, code):
        reason = "nothing was committed since this build"
        return GoldReport(
            "unchanged", target, published.number, published.slot, (), reason,
            clock.monotonic() - began, numbers=published.numbers,
        )  # fmt: skip
    if select is not None and target == "athena":
        raise ConfigError(
            "--select is for the target local: on Athena the other tables of a slot are as old as "
            "the slot, and they would be published with it. Build all of it, or run dbt by hand."
        )
    slot = open_slot(settings, lake.store, target, published, is_full=is_full, clock=clock)
    scope = plan_scope(
        settings,
        lake,
        slot,
        code,
        correction_days=project_variable(project, "correction_days"),
        quote_seconds=project_variable(project, "quote_max_age_seconds"),
        extra_days=days,
    )
    arguments = _arguments(settings, scope, select)
    environment = _prepare(settings, lake, slot, scope)
    run = run_dbt(
        find_project(), arguments, slot.folder, environment, progress=progress, clock=clock
    )
    failures = test_failures(run, slot.file)
    is_good = run.exit_code == 0
    build = _describe(published, slot, scope, code, run, is_partial=select is not None, clock=clock)
    if is_good:
        _publish(settings, lake, slot, build)
    return GoldReport(
        verdict="published" if is_good else "rejected",
        target=target,
        number=build.number if is_good else (published.number if published else None),
        slot=slot.name,
        days=None if scope.days is None else tuple(day.isoformat() for day in scope.days),
        reason=scope.reason if is_good else "what is published stays",
        seconds=clock.monotonic() - began,
        models=model_results(run, slot.file),
        tests_passed=count_passed(run),
        failures=failures,
        numbers=scope.pins.numbers,
        file=str(slot.file) if slot.file else None,
    )


def _prepare(settings: Settings, lake: Lake, slot: Slot, scope: Scope) -> dict[str, str]:
    """Lay out what dbt's process reads; its environment."""
    pins = slot.folder / "pins.json"
    pins.write_bytes(scope.pins.to_bytes())
    places = slot.environment(lake.store)
    if slot.target == "athena":
        write_ledger(settings, lake, scope.pins)
        places |= write_absent(settings, lake, scope.pins)
    return {**child_environment(settings), **places, "DBT_PINS": str(pins.absolute())}


def _arguments(settings: Settings, scope: Scope, select: str | None) -> list[str]:
    variables = {
        "days": None if scope.days is None else [day.isoformat() for day in scope.days],
        "silence_severity": "error" if settings.silence_stops_gold else "warn",
    }
    arguments = ["build", "--vars", json.dumps(variables), "--exclude-resource-type", "unit_test"]
    if scope.days is None:
        arguments.append("--full-refresh")
    if select is not None:
        arguments += ["--select", *select.split()]
    return arguments


def _describe(
    published: GoldBuild | None,
    slot: Slot,
    scope: Scope,
    code: str,
    run: DbtRun,
    *,
    is_partial: bool,
    clock: Clock,
) -> GoldBuild:
    basis = slot.basis
    if is_partial:  # the models that were left out still lack what is new
        numbers = basis.numbers if basis else {}
        code = basis.project if basis else ""
    else:
        numbers = scope.pins.numbers
    return GoldBuild(
        number=published.number + 1 if published else 1,
        slot=slot.name,
        published_ms=now_ms(clock),
        project=code,
        numbers=numbers,
        days=() if scope.days is None else tuple(day.isoformat() for day in scope.days),
        retired=scope.retired,
        relations=stored_relations(run.manifest, with_views=slot.target == "athena"),
    )


def _publish(settings: Settings, lake: Lake, slot: Slot, build: GoldBuild) -> None:
    if not publish(lake.store, slot.target, build):
        raise CommitConflictError(
            f"another build of Gold was published as number {build.number} while this one ran. "
            "That one stands and nothing of ours is seen; run `headrace gold` again for what was "
            "committed since."
        )
    complete_publication(settings, lake, slot.target, build, slot.folder)


def complete_publication(
    settings: Settings, lake: Lake, target: str, build: GoldBuild, folder: Path | None = None
) -> None:
    """What follows a publication: views, artifacts, old slots. Done again by the next build if we
    die here; its sign of being done is the build's manifest.
    """
    if read_artifact(lake.store, target, "manifest.json", build.number) is not None:
        return
    if target == "athena":
        publish_views(settings, lake, build)
        keep_artifacts(lake.store, target, build.number, folder)
        return
    slot = slot_file(settings.home, build.slot).parent
    keep_artifacts(lake.store, target, build.number, slot)
    remove_old_slots(lake.store, settings, target, build)
