"""The dbt project's own SQL on tables that a test makes up: compiled once, run in DuckDB.

A profile of its own replaces the plugin that pins a lake: Silver and the ledger are a second DuckDB
database `lake` that holds what the test puts there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml

from stream.feeds import load_feeds
from stream.ledger_tables import LEDGER_TABLES

PROJECT = Path(__file__).parents[2] / "dbt"


def run_dbt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """dbt on the real project; Gold and the lake are files in `folder`."""
    lake = {"path": str(folder / "lake.duckdb"), "alias": "lake"}
    gold = {"type": "duckdb", "path": str(folder / "gold.duckdb"), "schema": "gold", "threads": 2}
    profile = {"headrace": {"target": "local", "outputs": {"local": gold | {"attach": [lake]}}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("dbt")),
            *arguments,
            *("--project-dir", str(PROJECT), "--profiles-dir", str(folder)),
            *("--target-path", str(folder / "target"), "--log-path", str(folder / "log")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DBT_USE_COLORS": "0"},
    )


@pytest.fixture(name="run_dbt")
def dbt_runner() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_dbt` for tests that build: (folder, *arguments)."""
    return run_dbt


@dataclass(frozen=True)
class Compiled:
    """SQL and relation of every node that was selected, by name."""

    sql: Mapping[str, str]
    relation: Mapping[str, str]


SELECTED = (
    "path:models/marts/ops path:models/marts/news stg_news__stories "
    "int_news_titles int_news_tokens int_news_similar int_null_shares_day "
    "int_ledger_events int_ledger_commits int_ledger_rejects int_ledger_gaps "
    "int_ledger_slices silver_holds_what_the_ledger_says"
)


@pytest.fixture(scope="session")
def compile_gold(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[tuple[str, ...] | None], Compiled]:
    """Compile the models under test for some days (None: all); once per session and days."""

    @cache
    def compile_days(days: tuple[str, ...] | None) -> Compiled:
        folder = tmp_path_factory.mktemp("compiled")
        variables = json.dumps({"days": days})
        done = run_dbt(folder, "compile", "--select", SELECTED, "--vars", variables)
        assert done.returncode == 0, done.stdout + done.stderr
        manifest = json.loads((folder / "target/manifest.json").read_text())
        nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
        return Compiled(
            {n["name"]: n["compiled_code"] for n in nodes if n.get("compiled_code")},
            {n["name"]: n["relation_name"] for n in nodes if n.get("relation_name")},
        )

    return compile_days


class GoldTables:
    """An empty Silver and ledger, and a Gold that compiled models are built into."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        for database in ("lake", "gold"):
            self.connection.execute(f"attach ':memory:' as {database}")
        for schema in (
            *("lake.silver", "lake.ledger"),
            *("gold.gold", "gold.gold_staging", "gold.gold_intermediate"),
        ):
            self.connection.execute(f"create schema {schema}")
        for feed, contract in load_feeds().items():
            self.put(f"lake.silver.{feed}", contract.silver_schema.empty_table())
        for name, (schema, _) in LEDGER_TABLES.items():
            self.put(f"lake.ledger.{name}", schema.empty_table())

    def put(self, relation: str, table: pa.Table) -> None:
        """A table with these rows in place of what was there."""
        self.connection.register("put_rows", table)
        self.connection.execute(f"create or replace table {relation} as from put_rows")
        self.connection.unregister("put_rows")

    def build(self, compiled: Compiled, *models: str, forget: str = "") -> None:
        """Build models anew; with `forget`, delete these rows and append, as a partial run does."""
        for model in models:
            relation = compiled.relation[model]
            if forget:
                self.connection.execute(f"delete from {relation} where {forget}")
                self.connection.execute(f"insert into {relation} {compiled.sql[model]}")
            else:
                self.connection.execute(
                    f"create or replace table {relation} as {compiled.sql[model]}"
                )

    def rows(self, sql: str) -> list[dict[str, object]]:
        return self.connection.execute(sql).to_arrow_table().to_pylist()


@pytest.fixture
def gold_tables() -> GoldTables:
    return GoldTables()
