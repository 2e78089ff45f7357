"""The dbt project as a whole: it builds on an empty lake, formulas are tested, all is described."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch.gold.dbt_process import DbtRun, run_dbt
from batch.gold.project import project_hash
from stream.feeds import load_feeds

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "dbt"
MARTS = PROJECT / "models" / "marts"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DbtRun:
    """`dbt build` with all unit tests and all data tests; there is no table in the lake."""
    folder = tmp_path_factory.mktemp("project")
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(folder / "home"),
        "HEADRACE_LAKE": (folder / "lake").as_uri(),
        "DBT_GOLD_FILE": str(folder / "headrace.duckdb"),
    }
    found = run_dbt(PROJECT, ["build"], folder, environment)
    found.results["events"] = [
        json.loads(line) for line in (folder / "dbt.jsonl").read_text().splitlines()
    ]
    return found


def results_of(run: DbtRun, kind: str) -> dict[str, str]:
    return {
        result["unique_id"].split(".")[-1] if kind != "unit_test" else result["unique_id"]: result[
            "status"
        ]
        for result in run.results["results"]
        if result["unique_id"].startswith(f"{kind}.")
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_project_builds_on_an_empty_lake_and_passes_its_unit_tests(run: DbtRun) -> None:
    assert run.exit_code == 0, [
        r for r in run.results["results"] if r["status"] in ("error", "fail")
    ]
    units = results_of(run, "unit_test")
    assert len(units) >= 38
    assert set(units.values()) == {"pass"}
    assert len(results_of(run, "model")) >= 44


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_dbt_deprecates_nothing_that_we_use(run: DbtRun) -> None:
    names = {event["info"]["name"] for event in run.results["events"]}
    assert not {name for name in names if "Deprecat" in name or name == "UnusedResourceConfigPath"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_mart_with_a_formula_has_a_unit_test(run: DbtRun) -> None:
    tested = {node["model"] for node in run.manifest["unit_tests"].values()}
    marts = {path.stem for path in MARTS.rglob("*.sql")}
    assert marts - tested <= {"trades_current"}, "a view of a staging model that is tested"


def documented(folder: Path) -> dict[str, dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in folder.rglob("*.yml")]
    return {model["name"]: model for file in files for model in file.get("models", ())}


def test_every_mart_and_each_of_its_columns_is_described() -> None:
    models = documented(MARTS)
    assert {path.stem for path in MARTS.rglob("*.sql")} == models.keys()
    silent = [
        f"{name}.{column['name']}"
        for name, model in models.items()
        for column in [{"name": "", **model}, *model["columns"]]
        if not column.get("description")
    ]
    assert not silent


def test_every_model_says_what_it_is_in_its_first_lines() -> None:
    models = sorted((PROJECT / "models").rglob("*.sql"))
    assert len(models) >= 44
    silent = [path.name for path in models if "{#-" not in path.read_text()[:500]]
    assert not silent


def test_every_feed_is_a_source_and_has_a_staging_view() -> None:
    views = {path.stem.removeprefix("stg_").split("__")[0] for path in PROJECT.rglob("stg_*.sql")}
    assert views == {*load_feeds(), "bars_1m"}


def test_code_hash_follows_models_and_variables_alone(tmp_path: Path) -> None:
    for name, text in (
        ("dbt_project.yml", "vars: {}"),
        ("models/a.sql", "select 1"),
        ("x.md", "x"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    first = project_hash(tmp_path)
    (tmp_path / "x.md").write_text("y")
    (tmp_path / "models/a.yml").write_text("version: 2")
    assert project_hash(tmp_path) == first
    (tmp_path / "models/a.sql").write_text("select 2")
    second = project_hash(tmp_path)
    (tmp_path / "dbt_project.yml").write_text("vars: {x: 1}")
    assert len({first, second, project_hash(tmp_path)}) == 3
