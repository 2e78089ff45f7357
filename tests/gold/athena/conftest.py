"""The project compiled for Athena, with a type for every column of every relation.

dbt asks Glue what exists, so moto answers; nothing leaves this machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import rules
import stand_in
from trino_types import Type, parse_type, timestamp

from batch.gold.dbt_process import run_dbt

PROJECT = Path(__file__).parents[3] / "dbt"


@dataclass
class Project:
    """`nodes`: models and tests, each after what it reads. `tables`: what all of it reads and
    gives, "schema.name" -> column -> type. `faults`: by name of the node.
    """

    manifest: Mapping[str, Any]
    nodes: list[Mapping[str, Any]]
    tables: dict[str, dict[str, Type]]
    faults: dict[str, list[str]]

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [node for node in self.nodes if node["resource_type"] == kind]


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything compiled, and judged on the way: types of a model follow from what it reads."""
    folder = tmp_path_factory.mktemp("compiled")
    with stand_in.open_stand_in(lambda _schema, _name: None) as account:
        environment = {**os.environ, **account.environment, "DBT_TARGET": "athena"}
        run = run_dbt(PROJECT, ["compile"], folder, environment)
    return judge_project(run.manifest)


def judge_project(manifest: Mapping[str, Any]) -> Project:
    nodes = {k: n for k, n in manifest["nodes"].items() if n["resource_type"] in ("model", "test")}
    order = TopologicalSorter({k: n["depends_on"]["nodes"] for k, n in nodes.items()})
    found = Project(manifest, [], source_tables(manifest), {})
    for key in order.static_order():
        if (node := nodes.get(key)) is None:
            continue
        is_model = node["resource_type"] == "model"
        faults, analysis = rules.judge(node["compiled_code"], found.tables, is_model=is_model)
        if is_model:
            faults += rules.judge_source(node["raw_code"])
            found.tables[f"{node['schema']}.{node['alias']}"] = analysis.columns
        found.nodes.append(node)
        found.faults[node["name"]] = faults
    return found


def source_tables(manifest: Mapping[str, Any]) -> dict[str, dict[str, Type]]:
    """Columns of Silver and the ledger as _sources.yml has them, of seeds as their YAML."""
    tables = {}
    for source in manifest["sources"].values():
        columns = {c["name"]: yaml_type(c["data_type"]) for c in source["columns"].values()}
        tables[f"{source['schema']}.{source['identifier']}"] = columns
    for node in manifest["nodes"].values():
        if node["resource_type"] == "seed":
            kinds = node["config"]["column_types"]
            columns = {name: yaml_type(kind) for name, kind in kinds.items()}
            tables[f"{node['schema']}.{node['alias']}"] = columns
    return tables


def yaml_type(text: str) -> Type:
    """A `data_type` of our YAML: a timestamp is Iceberg's, of microseconds."""
    return timestamp(6) if text == "timestamp" else parse_type(text)
