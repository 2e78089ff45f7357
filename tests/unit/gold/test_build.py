"""Builds of Gold with real dbt: what is recomputed, what is published, what stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from batch.gold.build import build_gold
from batch.maintain.retention import apply_retention
from stream.errors import CommitConflictError, PipelineError
from stream.lake.gold import build_numbers, publish, read_published, slot_file
from stream.settings import child_environment

pytestmark = pytest.mark.slow

MONDAY, FRIDAY = date(2025, 11, 24), date(2025, 11, 21)


def ns(day: date, second: int = 0) -> int:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return (int(at.timestamp()) + second) * 10**9


def row(day: date, trades: int) -> dict[str, object]:
    return {"event_day": day, "trades": trades, "volume": Decimal(2 * trades)}


def test_build_follows_the_ledger_day_by_day(small_gold, land, small_lake, trade):
    land((1, ns(FRIDAY)), (2, ns(FRIDAY, 1)), (3, ns(MONDAY)))
    first = small_gold.build()
    assert (first.verdict, first.days, first.number) == ("published", None, 1)
    assert small_gold.rows() == [row(FRIDAY, 2), row(MONDAY, 1)]
    assert first.numbers == {"trades": small_lake.ledger.head().number}

    again = small_gold.build()
    assert (again.verdict, again.number) == ("unchanged", 1)

    land((4, ns(MONDAY, 2)))
    second = small_gold.build()
    assert (second.verdict, second.days) == ("published", ("2025-11-24",))
    assert small_gold.rows() == [row(FRIDAY, 2), row(MONDAY, 2)]

    land((1, ns(MONDAY, 5)), kind="correct", known_at_ns=ns(MONDAY, 6))
    third = small_gold.build()
    assert third.days == ("2025-11-21", "2025-11-24"), "the correction reaches Friday"
    assert small_gold.rows() == [row(FRIDAY, 1), row(MONDAY, 3)]

    land((2, ns(FRIDAY, 1)), kind="cancel", known_at_ns=ns(MONDAY, 9))
    small_gold.build()
    assert small_gold.rows() == [row(MONDAY, 3)], "a day that became empty is empty"

    incremental = small_gold.rows()
    assert small_gold.build(is_full=True).days is None
    assert small_gold.rows() == incremental


def test_failing_gate_keeps_the_old_gold_and_names_the_rows(small_gold, land):
    land((1, ns(MONDAY)))
    small_gold.build()
    land((2, ns(MONDAY, 1)), (3, ns(MONDAY, 2)), price="5000.25")
    report = small_gold.build()
    assert (report.verdict, report.number, report.is_ok) == ("rejected", 1, False)
    (failure,) = report.errors
    assert (failure.name, failure.failures) == ("price_is_sane", 2)
    assert [(r["trade_id"], r["price"], r["event_day"]) for r in failure.samples] == [
        ("2", Decimal("5000.25000000"), MONDAY),
        ("3", Decimal("5000.25000000"), MONDAY),
    ]
    assert small_gold.rows() == [row(MONDAY, 1)]
    small_gold.write("data_tests/price_is_sane.sql", "{{ config(severity='warn') }} select 1 as x")
    report = small_gold.build()
    assert (report.verdict, report.days) == ("published", ("2025-11-24",)), "caught up at once"
    assert [(f.name, f.severity) for f in report.failures] == [("price_is_sane", "warn")]
    assert small_gold.rows() == [row(MONDAY, 3)]


def test_changed_model_computes_every_day_of_silver_but_keeps_retired_ones(
    small_gold, land, small_lake
):
    land((1, ns(FRIDAY)), (2, ns(MONDAY)))
    small_gold.build()
    small_lake.arrival_ns += 3 * 86_400 * 10**9
    land((3, ns(date(2025, 11, 27))))
    apply_retention(small_lake.lake, "trades", keep_days=4, apply=True, clock=small_lake.clock)
    days = [row(FRIDAY, 1), row(MONDAY, 1), row(date(2025, 11, 27), 1)]
    report = small_gold.build()
    assert report.days == ("2025-11-27",)
    assert small_gold.rows() == days, "retention takes nothing from Gold"
    model = small_gold.project / "models/day_trades.sql"
    model.write_text(model.read_text() + "-- another formula\n")
    report = small_gold.build()
    assert set(report.days) == {"2025-11-24", "2025-11-27"}
    assert small_gold.rows() == days


def test_build_of_some_models_leaves_the_rest_to_the_next(small_gold, land):
    small_gold.write(
        "models/other.sql", "select count(*) as n from {{ source('silver', 'trades') }}"
    )
    land((1, ns(MONDAY)))
    small_gold.build()
    land((2, ns(MONDAY, 1)))
    assert small_gold.build(select="other").verdict == "published"
    assert small_gold.rows() == [row(MONDAY, 1)]
    assert small_gold.build().days == ("2025-11-24",)
    assert small_gold.rows() == [row(MONDAY, 2)]


def test_build_that_lost_its_number_publishes_nothing(small_gold, land, monkeypatch):
    land((1, ns(MONDAY)))
    first = small_gold.build()
    land((2, ns(MONDAY, 1)))
    store = small_gold.small.lake.store
    other = read_published(store, "local")

    def publish_second(store, target, build):
        assert publish(store, target, type(other)(**{**_fields(other), "number": 2}))
        return publish(store, target, build)

    monkeypatch.setattr("batch.gold.build.publish", publish_second)
    with pytest.raises(CommitConflictError, match="number 2"):
        small_gold.build()
    assert read_published(store, "local").slot == first.slot
    assert small_gold.rows() == [row(MONDAY, 1)]


def _fields(build):
    return {name: getattr(build, name) for name in type(build).__dataclass_fields__}


def test_broken_model_says_what_and_where(small_gold, land):
    land((1, ns(MONDAY)))
    small_gold.write("models/broken.sql", "select {{ ref('nowhere') }}")
    with pytest.raises(PipelineError, match=r"(?s)dbt build failed.*nowhere"):
        small_gold.build()
    small_gold.write("models/broken.sql", "select nothing from nowhere")
    report = small_gold.build()
    assert report.verdict == "rejected"
    assert any("nowhere" in m.message for m in report.models if m.status == "error")


def test_build_killed_at_any_moment_leaves_the_old_gold(small_gold, land):
    land((1, ns(MONDAY)))
    small_gold.build()
    land((2, ns(MONDAY, 1)))
    settings = small_gold.small.settings
    code = (
        "import batch.gold.project, pathlib, sys\n"
        f"batch.gold.project.PROJECT = pathlib.Path({str(small_gold.project)!r})\n"
        "from batch.cli import main\nmain(['gold'])\n"
    )
    for delay in (0.5, 1.5, 2.5, 3.5):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=child_environment(settings), start_new_session=True
        )
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert small_gold.rows() in ([row(MONDAY, 1)], [row(MONDAY, 2)])
    report = small_gold.build()
    assert small_gold.rows() == [row(MONDAY, 2)]
    kept = {f.name for f in (settings.home / "gold").iterdir() if f.is_dir()}
    assert report.slot in kept
    assert len(kept) <= 2, f"killed builds left {kept}"


def test_two_builds_at_once_take_turns(small_gold, land):
    land((1, ns(MONDAY)))
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(build_gold(small_gold.small.settings)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.verdict for report in reports) == ["published", "unchanged"]
    assert build_numbers(small_gold.small.lake.store, "local") == [1]
    assert slot_file(small_gold.small.settings.home, reports[0].slot).is_file()
