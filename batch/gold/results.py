"""Read dbt's results: which models were built, which tests found rows, and which rows. Pure
but for the failing rows, which are read from the build's file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from batch.gold.dbt_process import DbtRun
from batch.gold.report import ModelResult, TestFailure

BUILT = ("model", "seed")
STORED = ("table", "incremental", "seed")
SAMPLES = 5


def model_results(run: DbtRun, file: Path | None) -> tuple[ModelResult, ...]:
    """Models and seeds in the order in which they ended; rows are counted in `file`."""
    rows = _count_rows(file) if file else {}
    return tuple(
        ModelResult(
            name=node["name"],
            status=result["status"],
            seconds=round(result["execution_time"], 3),
            rows=rows.get((node["schema"], node["alias"])),
            message=_message(result) if result["status"] in ("error", "skipped") else "",
        )
        for node, result in _nodes(run)
        if node["resource_type"] in BUILT
    )


def test_failures(run: DbtRun, file: Path | None) -> tuple[TestFailure, ...]:
    """Tests that found rows or could not run, the gate's first."""
    found = [
        TestFailure(
            name=node["name"],
            model=_tested_model(node),
            severity="warn" if result["status"] == "warn" else "error",
            failures=result["failures"] or 0,
            message=_message(result),
            kept_in=node.get("relation_name") or "",
            samples=_sample(file, node) if file and result["failures"] else (),
        )
        for node, result in _nodes(run)
        if node["resource_type"] == "test" and result["status"] in ("fail", "warn", "error")
    ]
    return tuple(sorted(found, key=lambda failure: (failure.severity != "error", failure.name)))


def count_passed(run: DbtRun) -> int:
    """Tests that found nothing."""
    return sum(
        node["resource_type"] == "test" and result["status"] == "pass"
        for node, result in _nodes(run)
    )


def stored_relations(manifest: Mapping[str, Any], *, with_views: bool = False) -> dict[str, str]:
    """The tables that readers may ask for: name -> schema. `with_views`: those of the marts, too;
    locally `headrace query` has its own.
    """
    return {
        node["alias"]: node["schema"]
        for node in manifest["nodes"].values()
        if node["resource_type"] in BUILT
        and (node["config"]["materialized"] in STORED or (with_views and node["fqn"][1] == "marts"))
    }


def _nodes(run: DbtRun) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for result in run.results["results"]:
        node = run.manifest["nodes"].get(result["unique_id"])
        if node is not None:
            yield node, result


def _message(result: Mapping[str, Any]) -> str:
    return " ".join((result.get("message") or "").split())


def _tested_model(node: Mapping[str, Any]) -> str:
    attached = node.get("attached_node") or next(iter(node["depends_on"]["nodes"]), "")
    return str(attached).rpartition(".")[2]


def _count_rows(file: Path) -> dict[tuple[str, str], int]:
    with duckdb.connect(str(file), read_only=True) as connection:
        found = connection.execute(
            "SELECT schema_name, table_name, estimated_size FROM duckdb_tables()"
        ).fetchall()
    return {(schema, table): rows for schema, table, rows in found}


def _sample(file: Path, node: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    with duckdb.connect(str(file), read_only=True) as connection:
        try:
            rows = connection.execute(f"FROM {node['relation_name']} LIMIT {SAMPLES}")
        except duckdb.CatalogException:  # a test that keeps no rows
            return ()
        return tuple(rows.to_arrow_table().to_pylist())
