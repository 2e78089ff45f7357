"""Compiled models on made-up tables: dbt compiles once, DuckDB runs the text as often as wanted.

Imported by tests of Gold. A model is asked for with some of its inputs given as Arrow tables:
`{"int_daily_returns": …, "silver.positions": …}`; the models in between are built on the way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

ROOT = Path(__file__).parents[3]


class Relation(NamedTuple):
    """A model or a source: what it is called in SQL, its text, and what it reads."""

    name: str
    address: str
    sql: str | None
    inputs: tuple[str, ...]


def compile_models(
    folder: Path, *models: str, variables: Mapping[str, Any] | None = None
) -> CompiledModels:
    """Compile models and all that they read; the lake that dbt sees is empty."""
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(folder / "home"),
        "HEADRACE_LAKE": (folder / "lake").as_uri(),
        "DBT_GOLD_FILE": str(folder / "headrace.duckdb"),
        "PYTHONPATH": str(ROOT),
    }
    dbt, paths = ROOT / "dbt", ("--target-path", folder / "target", "--log-path", folder / "log")
    arguments = ["compile", "--project-dir", dbt, "--profiles-dir", dbt, *paths]
    arguments += ["--vars", json.dumps(variables or {}), "--select", *[f"+{m}" for m in models]]
    code = "import sys; from dbt.cli.main import cli; cli(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, cwd=dbt, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((folder / "target/manifest.json").read_text())
    relations = [_model(node) for key, node in manifest["nodes"].items() if key.startswith("model")]
    relations += [_source(node) for node in manifest["sources"].values()]
    return CompiledModels({relation.name: relation for relation in relations})


def _model(node: Mapping[str, Any]) -> Relation:
    inputs = tuple(".".join(key.split(".")[2:]) for key in node["depends_on"]["nodes"])
    return Relation(node["name"], node["relation_name"], node.get("compiled_code"), inputs)


def _source(node: Mapping[str, Any]) -> Relation:
    return Relation(f"{node['source_name']}.{node['name']}", node["relation_name"], None, ())


class CompiledModels:
    """What `compile_models` gives."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self.relations = relations

    def answer(self, wanted: str, given: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
        """The rows of a model, its inputs given. KeyError: one is neither given nor compiled."""
        (rows,) = self.answers([wanted], given)
        return rows

    def answers(
        self, wanted: list[str], given: Mapping[str, pa.Table]
    ) -> list[list[dict[str, Any]]]:
        """Several models of the same inputs."""
        with duckdb.connect(config={"threads": 1}) as connection:
            for name, table in given.items():
                connection.register("given", table)
                connection.execute(f'CREATE TABLE "{name}" AS FROM given')
                connection.unregister("given")
            built = set(given)
            for name in wanted:
                self._build(connection, name, built)
            tables = [connection.execute(f'FROM "{name}"').to_arrow_table() for name in wanted]
        return [table.to_pylist() for table in tables]

    def _build(self, connection: duckdb.DuckDBPyConnection, name: str, built: set[str]) -> None:
        if name in built:
            return
        relation = self.relations[name]
        if relation.sql is None:
            raise KeyError(f"{name} is neither given nor compiled")
        sql = relation.sql
        for source in relation.inputs:
            self._build(connection, source, built)
            sql = sql.replace(self.relations[source].address, f'"{source}"')
        connection.execute(f'CREATE TABLE "{name}" AS {sql}')
        built.add(name)
