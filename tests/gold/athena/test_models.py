"""Every model and test of the project, compiled for Athena, is what Athena understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rules import judge, judge_statement
from trino_types import parse_type, timestamp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DBT = Path(__file__).parents[3] / "dbt"


def show(found: dict[str, list[str]]) -> str:
    return "\n".join(f"{name}: {fault}" for name, faults in found.items() for fault in faults)


def test_every_model_and_test_is_judged(project: Any) -> None:
    models = {path.stem for path in (DBT / "models").rglob("*.sql")}
    assert {node["name"] for node in project.of("model")} == models
    assert len(project.of("test")) >= 180
    assert {"trades_current", "stg_trades__trades"} <= models


def test_no_model_says_what_means_something_else_in_trino(project: Any) -> None:
    names = {node["name"] for node in project.of("model")}
    found = {name: faults for name, faults in project.faults.items() if faults and name in names}
    assert not found, show(found)


def test_no_data_test_says_what_means_something_else_in_trino(project: Any) -> None:
    names = {node["name"] for node in project.of("test")}
    found = {name: faults for name, faults in project.faults.items() if faults and name in names}
    assert not found, show(found)


def test_columns_that_a_mart_gives_are_those_of_its_contract(project: Any) -> None:
    for path in (DBT / "models" / "marts").rglob("_*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", ()):
            node = next(n for n in project.of("model") if n["name"] == model["name"])
            given = project.tables[f"{node['schema']}.{node['alias']}"]
            assert list(given) == [column["name"] for column in model["columns"]], model["name"]
            for column in model["columns"]:
                kind = column["data_type"]
                wanted = timestamp(6) if kind == "timestamp" else parse_type(kind)
                if model["name"] != "trades_current":  # a view: Silver's own types
                    assert given[column["name"]] == wanted, f"{model['name']}.{column['name']}"


def test_incremental_models_and_kept_rows_are_iceberg_tables_by_day(project: Any) -> None:
    for node in project.of("model"):
        config = node["config"]
        if config["materialized"] == "view":
            continue
        assert (config["table_type"], config["format"]) == ("iceberg", "parquet"), node["name"]
        columns = project.tables[f"{node['schema']}.{node['alias']}"]
        assert set(config.get("partitioned_by") or ()) <= columns.keys(), node["name"]
        if config["materialized"] == "incremental":
            assert config["incremental_strategy"] == "append", node["name"]
            assert config["pre-hook"], node["name"]
    for node in project.manifest["nodes"].values():
        if node["resource_type"] in ("test", "seed"):
            assert node["config"]["table_type"] == "iceberg", node["name"]


def test_names_of_tables_are_lower_case_as_glue_keeps_them(project: Any) -> None:
    names = [node["alias"] for node in project.manifest["nodes"].values()]
    assert [name for name in names if name != name.lower()] == []


def test_trades_asof_is_a_statement_that_athena_can_prepare(project: Any) -> None:
    nodes = project.manifest["nodes"].values()
    sql = next(node["compiled_code"] for node in nodes if node["name"] == "trades_asof")
    assert judge(sql, project.tables, is_stored=False)[0] == []
    last = str(2**63 - 1)
    assert last in sql
    prepared = "prepare trades_asof from " + sql.replace(last, "?")
    assert judge_statement(prepared, project.tables)[0] == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("event_day", "event_dya", "analysis"),
        ("cast(", "try_castt(", "unknown-function"),
        (" as bigint", " as varchar", ""),
        ("select", "select distinct on (1)", "syntax"),
    ],
)
def test_real_models_that_are_broken_on_purpose_are_refused(
    project: Any, old: str, new: str, rule: str
) -> None:
    """The judges look at the models, not past them. No rule: the columns' types must differ."""
    refused = {}
    for node in project.of("model"):
        broken = node["compiled_code"].replace(old, new)
        if broken != node["compiled_code"]:
            faults, analysis = judge(broken, project.tables, is_model=True)
            given = project.tables[f"{node['schema']}.{node['alias']}"]
            is_caught = any(fault.startswith(rule) for fault in faults) or analysis.columns != given
            refused[node["name"]] = is_caught
    assert len(refused) > 5
    assert all(refused.values()), [name for name, is_caught in refused.items() if not is_caught]
