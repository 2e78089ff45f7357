"""Slim CI builds a changed model and its children, reads the rest from production, cleans up.

One published build on a small lake is production; every test runs `deploy/dbt-slim-ci` as the
workflow does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from batch import actions
from batch.gold.project import PROJECT
from stream.lake.connect import connect_lake
from stream.lake.gold import read_published, slot_file
from stream.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "dbt-slim-ci"
WORKFLOW = ROOT / ".github" / "workflows" / "dbt-slim-ci.yml"
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Production:
    """A published build. `state`: the directory with its manifest."""

    settings: Settings
    state: Path
    file: Path
    manifest: dict[str, Any]

    def descendants(self, model: str) -> set[str]:
        """The model and every model below it, by the manifest's own edges."""
        found, edge = set(), [model]
        while edge:
            one = edge.pop()
            found.add(one)
            below = self.manifest["child_map"][one]
            edge += [c for c in below if c.startswith("model.") and c not in found]
        return found

    def unit_tests_of(self, models: set[str]) -> set[str]:
        tests = self.manifest["unit_tests"].items()
        return {name for name, test in tests if set(test["depends_on"]["nodes"]) & models}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    home = tmp_path_factory.mktemp("production")
    settings = Settings(home=home, lake=f"file://{home}/lake")
    actions.backfill(
        settings, source="simulated", dataset="trades", first_day=date(2026, 1, 5),
        last_day=date(2026, 1, 6), options={"rows_per_day": "300"},
    )  # fmt: skip
    report = actions.build_gold(settings)
    assert report.verdict == "published", report.errors
    store = connect_lake(settings).store
    build = read_published(store, "local")
    manifest = store.get("dbt-artifacts/local/manifest.json")
    assert build
    assert manifest
    state = tmp_path_factory.mktemp("state")
    (state / "manifest.json").write_bytes(manifest)
    return Production(settings, state, slot_file(home, build.slot), json.loads(manifest))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script with a folder of its own."""

    def call(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PYTHON": sys.executable, "DBT_CI_FOLDER": str(tmp_path / "ci"), **environment}
        command = [str(SCRIPT), *map(str, arguments)]
        return subprocess.run(
            command, env={**os.environ, **given}, capture_output=True, text=True, check=False
        )

    return call


def lake_of(production: Production) -> dict[str, str]:
    settings = production.settings
    return {"HEADRACE_HOME": str(settings.home), "HEADRACE_LAKE": settings.lake}


def built(folder: Path) -> dict[str, str]:
    """What the run did, by node."""
    results = json.loads((folder / "ci" / "target" / "run_results.json").read_text())["results"]
    return {result["unique_id"]: result["status"] for result in results}


def of_kind(nodes: dict[str, str], kind: str) -> set[str]:
    return {name for name in nodes if name.startswith(f"{kind}.")}


def schemas(file: Path) -> set[str]:
    with duckdb.connect(str(file), read_only=True) as connection:
        found = connection.execute("SELECT DISTINCT schema_name FROM duckdb_schemas()").fetchall()
    return {name for (name,) in found if name.startswith("ci_")}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_unchanged_project_builds_nothing(production, run, tmp_path):
    answer = run(production.state, "ci", **lake_of(production))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Nothing to do" in answer.stdout
    assert not of_kind(built(tmp_path), "model")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_changed_model_and_its_children_are_built_and_the_rest_is_productions(
    production, run, tmp_path
):
    models = [n for n in production.manifest["nodes"] if n.startswith("model.")]
    below = {name: production.descendants(name) for name in models}
    changed = min((n for n in models if len(below[n]) > 1), key=lambda n: (len(below[n]), n))
    project = shutil.copytree(PROJECT, tmp_path / "dbt")
    node = production.manifest["nodes"][changed]
    with (project / node["original_file_path"]).open("a") as file:
        file.write("\n-- a change\n")

    answer = run(production.state, "ci", DBT_PROJECT_DIR=str(project), **lake_of(production))

    assert answer.returncode == 0, answer.stdout + answer.stderr
    done = built(tmp_path)
    assert of_kind(done, "model") == below[changed]
    assert not of_kind(done, "seed")
    assert of_kind(done, "unit_test") == production.unit_tests_of(below[changed])
    with duckdb.connect(str(tmp_path / "ci" / "ci.duckdb")) as connection:
        connection.execute(f"ATTACH '{production.file}' AS headrace (READ_ONLY)")
        for name in below[changed]:
            node = production.manifest["nodes"][name]
            if node["config"]["materialized"] == "view":
                continue
            theirs = node["relation_name"]
            ours = f"ci.{node['schema'].replace('gold', 'ci_local', 1)}.{node['alias']}"
            for one, other in ((theirs, ours), (ours, theirs)):
                left = connection.execute(f"FROM {one} EXCEPT ALL FROM {other}").fetchall()
                assert not left, f"{name}: {left[:3]}"
        (made,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM duckdb_tables() WHERE database_name = 'ci' AND"
            " schema_name NOT LIKE '%failures' UNION ALL SELECT 1 FROM duckdb_views()"
            " WHERE database_name = 'ci' AND NOT internal AND schema_name NOT LIKE '%failures')"
        ).fetchone()
    assert made == len(below[changed])

    assert schemas(tmp_path / "ci" / "ci.duckdb")
    answer = run("--drop", "ci", DBT_PROJECT_DIR=str(project), **lake_of(production))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not schemas(tmp_path / "ci" / "ci.duckdb")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["{file}", "ci"], {}, "manifest.json is a file; STATE is the directory that holds"),
        (["{folder}/none", "ci"], {}, "none does not exist: make a directory"),
        (["{folder}/empty", "ci"], {}, "empty holds no manifest.json: copy it from"),
        (["{folder}", "prod"], {}, "target 'prod': expected ci or athena"),
        (["{folder}"], {}, "two arguments, please"),
        (["{folder}", "ci"], {"DBT_GOLD_SCHEMA": "gold"}, "'gold' does not begin with ci_"),
        (["--drop", "athena"], {"DBT_GOLD_SCHEMA": "gold_blue"}, "does not begin with ci_"),
        (["{folder}", "ci"], {"DBT_PUBLISHED_FILE": "none"}, "no published build on this machine"),
    ],
)
def test_wrong_use_is_refused_with_what_is_wrong(run, tmp_path, arguments, environment, message):
    file = tmp_path / "manifest.json"
    file.write_text("{}")
    (tmp_path / "empty").mkdir()
    answer = run(*(a.format(file=file, folder=tmp_path) for a in arguments), **environment)
    assert (answer.returncode, message in answer.stderr) == (2, True), answer.stderr


def test_workflow_grants_nothing_it_does_not_need_and_pins_every_action():
    text = WORKFLOW.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", use) for use in uses)
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"id-token": "write", "contents": "read"}
        assert job["timeout-minutes"] <= 60
        assert "head.repo.full_name == github.repository" in job["if"], "no role for forks"
    assert "pull_request_target" not in text


def test_workflow_builds_with_the_script_that_is_tested_here_and_always_drops():
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    runs = {step.get("run", ""): step.get("if", "") for step in job["steps"]}
    assert "deploy/dbt-slim-ci state athena" in runs
    assert "always()" in runs["deploy/dbt-slim-ci --drop athena"]
    assert job["env"]["DBT_GOLD_SCHEMA"] == "ci_pr_${{ github.event.pull_request.number }}"
    checkouts = [step for step in job["steps"] if "checkout@" in step.get("uses", "")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]
    assert not [run for run in runs if "${{" in run], "text of a pull request never becomes shell"
