"""Every generic data test finds what it should, names it, and lets the rest pass.

One small dbt project, one run: a table and a test per case; the rows that a test stored are
compared with the rows that the case expects it to name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

pytestmark = pytest.mark.slow  # dbt compiles the project: 10 s and more

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """`rows`: SQL values; `names`: what each failing row must hold, as "column=value"."""

    test: str
    means: str
    columns: str
    rows: str
    arguments: dict[str, Any]
    names: list[str]
    column: str | None

    @property
    def id(self) -> str:
        return f"{self.test}__{self.means}".replace(" ", "_").replace("-", "_").lower()


def read_cases() -> list[Case]:
    raw = yaml.safe_load(Path(__file__).with_name("generic_tests.yml").read_text())
    cases = []
    for test, items in raw["cases"].items():
        for item in items:
            table = item["table"]
            table = raw["tables"][table] if isinstance(table, str) else table
            names, arguments = item.get("names", []), item.get("arguments", {})
            column = item.get("column")
            cases.append(
                Case(test, item["means"], **table, arguments=arguments, names=names, column=column)
            )
    return cases


CASES = read_cases()


def write_project(folder: Path) -> None:
    """A dbt project with a model and a test for every case."""
    shutil.copytree(ROOT / "dbt/data_tests/generic", folder / "data_tests/generic")
    shutil.copytree(ROOT / "dbt/macros", folder / "macros")
    (folder / "models").mkdir()
    models: list[dict[str, Any]] = []
    for case in CASES:
        source = f"(values {case.rows or _nulls(case)}) as t({case.columns})"
        (folder / f"models/{case.id}.sql").write_text(
            f"select * from {source}" + ("" if case.rows else " where false")
        )
        test = {case.test: {"name": f"test_{case.id}", "arguments": case.arguments}}
        model: dict[str, Any] = {"name": case.id}
        if case.column:
            model["columns"] = [{"name": case.column, "data_tests": [test]}]
        else:
            model["data_tests"] = [test]
        models.append(model)
    (folder / "models/parents.sql").write_text(
        "select * from (values ('A', true), ('A', true), ('B', false)) as t(name, is_open)"
    )
    (folder / "models/cases.yml").write_text(yaml.safe_dump({"version": 2, "models": models}))
    project = {
        "name": "cases",
        "version": "1.0",
        "config-version": 2,
        "profile": "cases",
        "test-paths": ["data_tests"],
        "flags": {"send_anonymous_usage_stats": False},
        "vars": {"days": None, "correction_days": 7, "now": "2026-11-24 12:30:00"},
        "data_tests": {"+store_failures": True, "+schema": "failures"},
    }
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(project))
    output = {"type": "duckdb", "path": str(folder / "cases.duckdb"), "threads": 2}
    profile = {"cases": {"target": "local", "outputs": {"local": output}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))


def _nulls(case: Case) -> str:
    return f"({', '.join('null' for _ in case.columns.split(','))})"


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The rows that each case's test stored, and what dbt said of it."""
    folder = tmp_path_factory.mktemp("cases")
    write_project(folder)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("dbt")),
            "build",
            "--project-dir",
            str(folder),
            "--profiles-dir",
            str(folder),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "DBT_USE_COLORS": "0"},
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    assert "deprecat" not in done.stdout.lower(), done.stdout
    results = json.loads((folder / "target/run_results.json").read_text())["results"]
    manifest = json.loads((folder / "target/manifest.json").read_text())["nodes"]
    found = {}
    with duckdb.connect(str(folder / "cases.duckdb"), read_only=True) as connection:
        for result in results:
            node = manifest[result["unique_id"]]
            if node["resource_type"] != "test":
                assert result["status"] == "success", result["message"]
                continue
            assert result["status"] in {"pass", "fail"}, (node["name"], result["message"])
            rows = connection.execute(f"from {node['relation_name']}").to_arrow_table().to_pylist()
            assert len(rows) == result["failures"]
            found[node["name"]] = [{k: str(v) for k, v in row.items()} for row in rows]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_generic_test_names_exactly_the_rows_that_fail(
    case: Case, failures: dict[str, list[dict[str, str]]]
) -> None:
    rows = failures[f"test_{case.id}"]
    wanted = [_parse(text) for text in case.names]
    assert len(rows) == len(wanted), rows
    for expected in wanted:
        assert any(expected.items() <= row.items() for row in rows), (expected, rows)


def test_every_generic_test_has_a_case_that_passes_and_one_that_fails() -> None:
    files = {path.stem for path in (ROOT / "dbt/data_tests/generic").glob("*.sql")}
    assert files == {case.test for case in CASES if case.names}
    assert files == {case.test for case in CASES if not case.names}


def _parse(text: str) -> dict[str, str]:
    """ "s=A max_timestamp=2026-11-24 12:00:00" as a dictionary."""
    found: dict[str, str] = {}
    for word in text.split(" "):
        if "=" in word:
            name, value = word.split("=", 1)
            found[name] = value
        else:
            found[name] += f" {word}"
    return found
