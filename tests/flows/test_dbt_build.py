"""`dbt-build`: what it asks for, leaves behind and says when Gold is rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pytest

from batch.flows.backfill import backfill_ingestion
from batch.flows.dbt_build import dbt_build, default_target
from batch.gold import report
from stream.errors import FatalError
from stream.lake.connect import connect_lake
from stream.lake.gold import read_published, slot_file
from stream.settings import load_settings

ONE, TWO = date(2026, 1, 5), date(2026, 1, 6)
FAILURE = report.TestFailure(
    name="price_is_positive", model="fct_x", severity="error", failures=1_200, message="Got 1200",
    samples=({"symbol": "ACME", "day": ONE}, {"symbol": "B", "day": TWO}),
)  # fmt: skip
PUBLISHED = report.GoldReport(
    "published", "local", 3, "s", (ONE.isoformat(),), "1 commits touched 1 days", 2.5,
    models=tuple(report.ModelResult(n, "success", 0.4, r) for n, r in (("fct_x", 10), ("v", None))),
    tests_passed=7, failures=(replace(FAILURE, name="w", severity="warn", samples=()),),
)  # fmt: skip
REJECTED = replace(PUBLISHED, verdict="rejected", number=2, failures=(FAILURE, *PUBLISHED.failures))

UNCHANGED = report.GoldReport("unchanged", "local", 3, "s", (), "no news")


def test_build_that_is_published_leaves_models_warnings_one_event_and_the_docs(heard, answers):
    answers(build_gold=PUBLISHED, gold_docs=b"page")

    told = dbt_build.fn()

    assert told == {"verdict": "published", "build": 3, "days": ["2026-01-05"]}
    assert [(row["name"], row["rows"]) for row in heard.tables["gold-models"]] == [
        ("fct_x", 10),
        ("v", None),
    ]
    ((event, subject, payload),) = heard.events
    assert (event, subject) == ("headrace.gold.published", "gold.local")
    assert payload == {
        "build": 3, "days": ["2026-01-05"], "models": 2, "tests_passed": 7, "tests_failed": 0,
        "tests_warned": 1, "failing": [], "seconds": 2.5,
    }  # fmt: skip
    assert [name for name, _ in heard.calls] == ["build_gold", "gold_docs"]


def test_build_that_is_rejected_fails_naming_the_tests_after_its_tables_and_event(heard, answers):
    answers(build_gold=REJECTED, gold_docs=b"page")

    with pytest.raises(FatalError, match=r"price_is_positive on fct_x \(1,200 rows\)"):
        dbt_build.fn()

    rows = heard.tables["gold-failed-tests"]
    assert [json.loads(row["sample"]) for row in rows[:2]] == [
        {"symbol": "ACME", "day": "2026-01-05"},
        {"symbol": "B", "day": "2026-01-06"},
    ]
    assert [(row["test"], row["severity"]) for row in rows[2:]] == [("w", "warn")]
    ((event, _, payload),) = heard.events
    assert (event, payload["build"]) == ("headrace.gold.rejected", 2)
    assert payload["failing"] == ["price_is_positive on fct_x (1,200 rows)"]
    assert [name for name, _ in heard.calls] == ["build_gold"], "no docs of what nobody sees"


def test_model_that_cannot_be_built_is_named_and_a_long_list_is_cut(heard, answers):
    broken = tuple(report.ModelResult(f"m{i}", "error", 0.1) for i in range(30))
    answers(build_gold=replace(REJECTED, models=broken, failures=()), gold_docs=b"")
    with pytest.raises(FatalError, match=r"model m0, .* 20 more\. The rows"):
        dbt_build.fn()


def test_build_without_news_completes_without_tables_or_events(heard, answers):
    answers(
        build_gold=report.GoldReport("unchanged", "local", 3, "s", (), "no news"), gold_docs=b"page"
    )
    assert dbt_build.fn()["verdict"] == "unchanged"
    assert (heard.tables, heard.events) == ({}, [])


@pytest.mark.parametrize(
    ("parameters", "asked"),
    [
        ({}, {"target": "local", "is_full": False, "days": [], "select": None}),
        ({"models": "+var_calculations"}, {"select": "+var_calculations"}),
        ({"days": [TWO, ONE, TWO], "full": True}, {"days": [ONE, TWO], "is_full": True}),
        ({"target": "athena"}, {"target": "athena"}),
    ],
)
def test_parameters_reach_the_build(heard, answers, parameters, asked):
    answers(build_gold=PUBLISHED, gold_docs=b"page")
    dbt_build.fn(**parameters)
    (_, build), (_, docs) = heard.calls
    assert {name: build[name] for name in asked} == asked
    assert docs["target"] == build["target"]


def test_target_follows_the_catalog(settings):
    assert default_target(settings) == "local"
    assert default_target(settings.model_copy(update={"catalog": "glue"})) == "athena"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_real_build_is_published_with_every_artifact_and_the_second_one_is_unchanged(heard):
    small = {"rows_per_day": "300", "rows_per_part": "100"}
    backfill_ingestion.fn("simulated", ONE, TWO, 2, dataset="trades", options=small)

    told = dbt_build.fn()

    assert (told["verdict"], told["build"]) == ("published", 1)
    assert {row["status"] for row in heard.tables["gold-models"]} == {"success"}
    assert [event for event, _, _ in heard.events][1:] == ["headrace.gold.published"]
    store = connect_lake(load_settings()).store
    kept = {info.path for info in store.list("dbt-artifacts/local/")}
    names = ("manifest.json", "run_results.json", "catalog.json", "static_index.html")
    for folder in ("dbt-artifacts/local", "dbt-artifacts/local/builds/00000001"):
        assert {f"{folder}/{name}" for name in names} <= kept
    results = json.loads(_read(store, "dbt-artifacts/local/run_results.json"))
    assert results["args"]["which"] == "build", "the documentation's results hid the build's"

    assert dbt_build.fn()["verdict"] == "unchanged"
    assert len(heard.events) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_published_file_stays_open_to_readers_while_its_docs_are_made(heard, monkeypatch):
    """DuckDB locks a file that dbt opens for writing: the page is made from a copy."""
    small = {"rows_per_day": "300", "rows_per_part": "100"}
    backfill_ingestion.fn("simulated", ONE, ONE, 1, dataset="trades", options=small)
    opened = []

    def watch(project: Any, arguments: Any, folder: Any, environment: dict[str, str]) -> None:
        opened.append(environment["DBT_GOLD_FILE"])
        assert duckdb.connect(environment["DBT_GOLD_FILE"]).execute("SELECT 1").fetchone()
        (folder / "target").mkdir(parents=True, exist_ok=True)
        (folder / "target" / "static_index.html").write_text("page")

    monkeypatch.setattr("batch.gold.docs.run_dbt", watch)
    dbt_build.fn()

    settings = load_settings()
    build = read_published(connect_lake(settings).store, "local")
    assert opened
    assert opened != [str(slot_file(settings.home, build.slot))]


def _read(store: Any, path: str) -> bytes:
    data = store.get(path)
    assert data is not None
    return data
