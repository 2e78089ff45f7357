"""Who takes part: how each is started, where it leaves its output, and what it leaves out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from peers.job import COLUMNS

_JSON_COLUMNS = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table.

    `module`: of `peers`; `environment`: below the virtual environment, "" is headrace's own.
    `silver`, `bronze`, `quarantine`: SQL of DuckDB over the output folder `{out}`; lines are a
    column `line`, None says that the contender keeps none. `by_day`: a Silver file holds one day.
    `lacks`: what else it leaves out. `is_slow`: takes the smaller input, if there are two.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    environment: str = ""
    options: tuple[str, ...] = ()
    silver: str = "SELECT * FROM '{out}/silver/**/*.parquet'"
    bronze: str | None = "SELECT line FROM '{out}/bronze.parquet'"
    quarantine: str | None = "SELECT line FROM '{out}/quarantine.parquet'"
    by_day: bool = True
    is_slow: bool = False
    needs_java: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its environment, which need not exist."""
        if not self.environment:
            return Path(sys.executable)
        return Path(sys.prefix) / self.environment / "bin" / "python"

    @property
    def leaves_out(self) -> str:
        """All that it does not do of the job, in words."""
        missing = [
            *(["Bronze"] if self.bronze is None else []),
            *(["quarantine"] if self.quarantine is None else []),
            *([] if self.by_day else ["day partitions"]),
        ]
        return ", ".join([*missing, *self.lacks]) or "nothing"

    def versions(self) -> dict[str, str] | None:
        """The versions of its packages; None if it is not installed."""
        if not self.python.is_file():
            return None
        code = (
            "import json, sys; from importlib.metadata import version;"
            "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
        )
        command = [str(self.python), "-c", code, *self.packages]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return None if answer.returncode else dict(json.loads(answer.stdout))

    def absence(self) -> str | None:
        """Why it cannot run here, and what to do; None if it can."""
        if self.versions() is None:
            packages = ", ".join(self.packages)
            return f"not installed: {packages} (python tests/benchmarks/peers/install.py)"
        if self.needs_java and not shutil.which("java"):
            return "needs Java 17: there is no `java` on the path"
        return None


_HEADRACE = {
    "module": "run_headrace",
    "packages": ("headrace", "bytewax", "pyarrow", "pyiceberg"),
    "silver": "SELECT * FROM '{out}/lake/silver/**/*.parquet'",
    "bronze": "SELECT line FROM (SELECT unnest(string_split(decode(payload), chr(10))) AS line "
    "FROM '{out}/lake/bronze/**/*.parquet') WHERE line <> ''",
    "quarantine": "SELECT decode(raw) AS line FROM '{out}/lake/quarantine/**/*.parquet'",
}

CONTENDERS = (
    Contender("headrace", "headrace", **_HEADRACE),
    Contender("headrace-1", "headrace, 1 a record", options=("lines=1",), **_HEADRACE),
    Contender(
        "duckdb",
        "DuckDB, one SQL script",
        "run_duckdb",
        ("duckdb",),
        lacks=("streaming", "restart", "exactly-once", "state over runs"),
    ),
    Contender(
        "polars",
        "Polars, one shot",
        "run_polars",
        ("polars",),
        environment="peers",
        lacks=("streaming", "restart", "exactly-once", "state over runs"),
    ),
    Contender(
        "spark",
        "PySpark Structured Streaming",
        "run_spark",
        ("pyspark",),
        environment="peers",
        silver="SELECT * FROM '{out}/silver/**/*.parquet'",
        bronze="SELECT value AS line FROM '{out}/bronze/*.parquet'",
        quarantine="SELECT line FROM '{out}/quarantine/*.parquet'",
        lacks=("one commit over its three outputs", "Iceberg", "lineage"),
        is_slow=True,
        needs_java=True,
    ),
    Contender(
        "flink",
        "PyFlink SQL",
        "run_flink",
        ("apache-flink",),
        environment="flink",
        silver="SELECT *, filename FROM read_json('{out}/silver/**/part-*', format='nd', "
        f"columns={{{{{_JSON_COLUMNS}}}}}, filename=true, hive_partitioning=false)",
        bronze="SELECT line FROM read_csv('{out}/bronze/part-*', columns={{'line': 'VARCHAR'}}, "
        "delim='\\x01', quote='', escape='', header=false, auto_detect=false)",
        quarantine=None,
        lacks=(
            "Parquet (JSON instead: none in the wheel)",
            "microseconds of ts_event",
            "Iceberg",
            "lineage",
        ),
        is_slow=True,
        needs_java=True,
    ),
    Contender(
        "pathway",
        "Pathway, static",
        "run_pathway",
        ("pathway",),
        environment="peers",
        silver="SELECT * FROM read_json('{out}/silver.jsonl', format='nd', "
        f"columns={{{{{_JSON_COLUMNS}}}}})",
        bronze=None,
        quarantine=None,
        by_day=False,
        lacks=("Parquet (JSON instead)", "restart (persistence is off)", "dedup horizon"),
        is_slow=True,
    ),
    Contender(
        "bytewax",
        "Bytewax, record by record",
        "run_bytewax",
        ("bytewax",),
        bronze="SELECT line FROM '{out}/bronze/*.parquet'",
        quarantine="SELECT line FROM '{out}/quarantine/*.parquet'",
        lacks=("exactly-once (recovery is off)", "dedup horizon", "Iceberg", "lineage"),
        is_slow=True,
    ),
)


def find_contenders(names: list[str]) -> list[Contender]:
    """By name, in the table's order; all for no name. Raises: ValueError naming the valid ones."""
    known = {one.name: one for one in CONTENDERS}
    if unknown := set(names) - set(known):
        raise ValueError(f"no contender {sorted(unknown)}; there are {', '.join(known)}")
    return [one for one in CONTENDERS if not names or one.name in names]
