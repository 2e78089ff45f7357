"""A stand-in for Athena: moto's S3, Glue and Athena, whose statements take effect on DuckDB.

moto accepts any statement and does nothing. Here each one is parsed as Athena's SQL, translated by
sqlglot, run on DuckDB, and what it made or removed is put into moto's Glue, so that dbt-athena
finds the tables that it created. Every statement is kept, word for word.

What that proves: which statements dbt-athena sends, in which order; that their text says in
Athena's dialect what the local models say, up to sqlglot's translation. What it does not: that
Trino accepts them, or computes the same. Where the two engines are known to differ the
translation follows Trino (`_as_trino`); it refuses what Athena refuses: a table that exists, a
location that was used, a DELETE from what is no Iceberg table.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from moto.athena.models import AthenaBackend, Execution, QueryResults, athena_backends
from moto.core.base_backend import BackendDict
from moto.glue.models import glue_backends
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from sqlglot import exp

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = "headrace-lake"
CATALOG = "awsdatacatalog"
HIVE = re.compile(r"(?is)create\s+external|create\s+schema|alter\s+table|(deallocate\s+)?prepare\s")
READ_ONLY = ("silver", "ledger", "absent")
"""Schemas that other programs write: they are read through `sources`, at each statement anew."""

TRINO_MACROS = (
    # to the nearest microsecond, as Trino's cast to timestamp(6) afterwards
    "CREATE MACRO from_unixtime_nanos(n) AS make_timestamptz(CAST((n + 500) // 1000 AS BIGINT))",
)
Sources = Callable[[str, str], pa.Table | None]
"""The rows of a table that other programs write, by schema and name; None: there is none. The same
object as before says that nothing changed."""


@dataclass(frozen=True)
class Statement:
    """One statement as it was sent, and why it failed, if it did."""

    sql: str
    error: str | None = None

    @property
    def text(self) -> str:
        """Without the comment that dbt puts in front."""
        return re.sub(r"(?s)\A\s*(--[^\n]*\n|/\*.*?\*/)\s*", "", self.sql).strip().rstrip(";")


class StandIn:
    """One account. `statements`: all that was sent, oldest first."""

    def __init__(self, endpoint: str, sources: Sources) -> None:
        self.endpoint = endpoint
        self.sources = sources
        self.statements: list[Statement] = []
        self._locations: set[str] = set()
        self._loaded: dict[tuple[str, str], pa.Table] = {}
        self._results: dict[str, QueryResults] = {}
        self._lock = threading.Lock()
        self._engine = duckdb.connect(config={"threads": 2})
        self._engine.execute(f"ATTACH ':memory:' AS {CATALOG}")
        self._engine.execute(f"USE {CATALOG}")
        self._engine.execute("SET TimeZone = 'UTC'")
        for macro in TRINO_MACROS:
            self._engine.execute(macro)
        for schema in READ_ONLY:
            self._create_schema(schema)

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "stand-in",
            "AWS_SECRET_ACCESS_KEY": "stand-in",
            "AWS_DEFAULT_REGION": REGION,
        }

    @property
    def locations(self) -> frozenset[str]:
        """Where tables were made."""
        return frozenset(self._locations)

    @property
    def results(self) -> frozenset[str]:
        """Where the statements were told to leave their results."""
        executions = athena_backends[ACCOUNT][REGION].executions.values()
        return frozenset(execution.config["OutputLocation"] for execution in executions)

    def folders(self, bucket: str) -> frozenset[str]:
        """Top folders of a bucket."""
        keys = s3_backends[ACCOUNT]["aws"].buckets[bucket].keys
        return frozenset(key.split("/")[0] for key in keys)

    def rows(self, schema: str, table: str) -> pa.Table:
        """What a table or view holds."""
        with self._lock:
            return self._engine.execute(f"FROM {CATALOG}.{schema}.{table}").to_arrow_table()

    def run(self, sql: str) -> QueryResults:
        """Let a statement take effect. Raises: what DuckDB or we refuse; it is kept either way."""
        with self._lock:
            try:
                result = self._run(Statement(sql).text)
            except Exception as error:
                self.statements.append(Statement(sql, f"{type(error).__name__}: {error}"))
                raise
            self.statements.append(Statement(sql))
            return result

    def _run(self, sql: str) -> QueryResults:
        if HIVE.match(sql):
            self._run_hive(sql)
            return QueryResults([], [])
        tree = sqlglot.parse_one(sql, read="athena")
        for table in tree.find_all(exp.Table):
            self._load(table.db, table.name)
        if isinstance(tree, exp.Create):
            self._create(tree)
        elif isinstance(tree, exp.Delete):
            self._check_iceberg(tree.this)
            self._execute(tree)
        elif isinstance(tree, exp.Insert):
            self._execute(tree)
        else:
            return _results(self._execute(tree).to_arrow_table())
        return QueryResults([], [])

    def _create(self, tree: exp.Create) -> None:
        table = tree.find(exp.Table)
        assert table is not None
        schema, name = table.db, table.name
        is_view = tree.kind == "VIEW"
        given = {p.this.name: p.args["value"].name for p in tree.find_all(exp.Property)
                 if p.args.get("value") is not None}  # fmt: skip
        location = next((p.this.name for p in tree.find_all(exp.LocationProperty)), None)
        if not is_view:
            assert self._glue(schema, name) is None, f"table {schema}.{name} already exists"
            assert location, "a table needs a location of its own"
            assert location not in self._locations, f"{location} is not empty"
            self._locations.add(location)
            tree.set("replace", True)
        tree.set("properties", None)
        self._execute(tree)
        kind = "VIRTUAL_VIEW" if is_view else "EXTERNAL_TABLE"
        is_iceberg = given.get("table_type") == "iceberg"
        parameters = {"table_type": "ICEBERG"} if is_iceberg else {}
        self._describe(schema, name, kind, location or "", parameters)

    def _run_hive(self, sql: str) -> None:
        if found := re.match(r"(?is)create\s+schema\s+if\s+not\s+exists\s+`?(\w+)`?", sql):
            self._create_schema(found[1])
        elif found := re.match(
            r"(?is)alter\s+table\s+`(\w+)`\.`(\w+)`\s+rename\s+to\s+`(\w+)`\.`(\w+)`", sql
        ):
            self._rename(*found.groups())
        elif found := re.match(r"(?is)create\s+external\s+table\s+`(\w+)`\.`(\w+)`", sql):
            self._create_external(found[1], found[2], sql)
        elif found := re.match(r"(?is)prepare\s+\w+\s+from\s+(.*)", sql):
            tree = sqlglot.parse_one(found[1], read="athena")
            for table in tree.find_all(exp.Table):
                self._load(table.db, table.name)
            self._engine.execute("EXPLAIN " + _to_duckdb(tree).replace("?", "0"))
        elif not re.match(
            r"(?is)deallocate\s+prepare|alter\s+table\s+\S+\s+set\s+tblproperties", sql
        ):
            raise ValueError(f"no statement that the stand-in takes: {sql[:200]}")

    def _create_external(self, schema: str, name: str, sql: str) -> None:
        """A seed's CSV: all columns are text; the header is skipped."""
        columns = re.findall(r"`(\w+)`\s+string", sql)
        location = re.search(r"location\s+'([^']+)'", sql)
        assert location is not None
        bucket, _, prefix = location[1].removeprefix("s3://").partition("/")
        keys = s3_backends[ACCOUNT]["aws"].buckets[bucket].keys
        texts = [key.value.decode() for path, key in keys.items() if path.startswith(prefix)]
        rows = [row for text in texts for row in list(csv.reader(io.StringIO(text)))[1:]]
        values = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(columns))]
        data = pa.table(values, columns)
        self._replace(schema, name, data)
        self._describe(schema, name, "EXTERNAL_TABLE", location[1], {})

    def _rename(self, schema: str, name: str, new_schema: str, new_name: str) -> None:
        old = self._glue(schema, name)
        assert old is not None, f"no table {schema}.{name}"
        assert schema == new_schema
        assert self._glue(new_schema, new_name) is None, f"table {new_name} already exists"
        self._engine.execute(f"DROP TABLE IF EXISTS {CATALOG}.{schema}.{new_name}")
        self._engine.execute(f"ALTER TABLE {CATALOG}.{schema}.{name} RENAME TO {new_name}")
        glue = glue_backends[ACCOUNT][REGION]
        location = old["StorageDescriptor"]["Location"]
        self._describe(new_schema, new_name, old["TableType"], location, old["Parameters"])
        glue.delete_table(schema, name)

    def _create_schema(self, schema: str) -> None:
        self._engine.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{schema}")
        glue = glue_backends[ACCOUNT][REGION]
        if schema not in glue.databases:
            glue.create_database(schema, {"Name": schema})

    def _load(self, schema: str, name: str) -> None:
        if schema not in READ_ONLY:
            return
        rows = self.sources(schema, name)
        assert rows is not None, f"no table {schema}.{name}"
        if self._loaded.get((schema, name)) is not rows:
            self._replace(schema, name, rows)
            self._loaded[schema, name] = rows

    def _replace(self, schema: str, name: str, rows: pa.Table) -> None:
        self._engine.register("given", rows)
        self._engine.execute(f"CREATE OR REPLACE TABLE {CATALOG}.{schema}.{name} AS FROM given")
        self._engine.unregister("given")

    def _execute(self, tree: exp.Expression) -> duckdb.DuckDBPyConnection:
        return self._engine.execute(_to_duckdb(tree))

    def _glue(self, schema: str, name: str) -> Mapping[str, Any] | None:
        database = glue_backends[ACCOUNT][REGION].databases.get(schema)
        table = database.tables.get(name) if database else None
        return table.as_dict() if table else None

    def _check_iceberg(self, table: exp.Table) -> None:
        found = self._glue(table.db, table.name)
        assert found is not None, f"no table {table.db}.{table.name}"
        assert found["Parameters"].get("table_type") == "ICEBERG", "only Iceberg takes a DELETE"

    def _describe(
        self, schema: str, name: str, kind: str, location: str, parameters: Mapping[str, str]
    ) -> None:
        glue = glue_backends[ACCOUNT][REGION]
        described = self._engine.execute(f"DESCRIBE {CATALOG}.{schema}.{name}").fetchall()
        columns = [{"Name": column, "Type": _hive_type(kind_)} for column, kind_, *_ in described]
        table = {
            "Name": name,
            "TableType": kind,
            "Parameters": dict(parameters),
            "PartitionKeys": [],
            "StorageDescriptor": {"Columns": columns, "Location": location},
        }
        if self._glue(schema, name) is None:
            glue.create_table(schema, name, table)
        else:
            glue.update_table(schema, name, table)


@contextmanager
def open_stand_in(sources: Sources, *more_buckets: str) -> Iterator[StandIn]:
    """A stand-in on a free port of this machine, its buckets and workgroup made."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    try:
        for bucket in (BUCKET, *more_buckets):
            s3_backends[ACCOUNT]["aws"].create_bucket(bucket, REGION)
        athena_backends[ACCOUNT][REGION].create_work_group("headrace", {}, "", [])
        stand_in = StandIn(f"http://{host}:{port}", sources)
        _let_it_answer(stand_in, patch)
        yield stand_in
    finally:
        patch.undo()
        server.stop()
        BackendDict.reset()  # the account lives in this process, and another test wants its names


def _let_it_answer(stand_in: StandIn, patch: pytest.MonkeyPatch) -> None:
    """Put it in place of moto's Athena, which runs nothing."""
    begin = AthenaBackend.start_query_execution
    failed: set[str] = set()

    def start(self: AthenaBackend, query: str, *args: Any, **kwargs: Any) -> str:
        identifier = begin(self, query, *args, **kwargs)
        try:
            self.query_results[identifier] = stand_in.run(query)
        except Exception:  # noqa: BLE001 - kept with its statement
            failed.add(identifier)
        return identifier

    def get(self: AthenaBackend, exec_id: str) -> Execution:
        execution = self.executions[exec_id]
        execution.status = "FAILED" if exec_id in failed else "SUCCEEDED"
        return execution

    patch.setattr(AthenaBackend, "start_query_execution", start)
    patch.setattr(AthenaBackend, "get_query_execution", get)


def _to_duckdb(tree: exp.Expression) -> str:
    return tree.copy().transform(_as_trino).sql(dialect="duckdb")


def _as_trino(node: exp.Expression) -> exp.Expression:
    """Where sqlglot's translation keeps DuckDB's meaning, Trino's instead."""
    if isinstance(node, exp.DateDiff):  # whole units that have passed, of whole milliseconds
        unit = exp.Literal.string(str(node.args["unit"]).lower())
        cut = [
            exp.Anonymous(this="date_trunc", expressions=[exp.Literal.string("millisecond"), when])
            for when in (node.expression, node.this)
        ]
        return exp.Anonymous(this="date_sub", expressions=[unit, *cut])
    if isinstance(node, exp.DateAdd):  # of a date: a date
        return exp.cast(node, "date")
    return node


def _results(table: pa.Table) -> QueryResults:
    """As GetQueryResults says it: a header, then texts."""
    columns = [{"Name": f.name, "Type": _athena_type(f.type)} for f in table.schema]
    rows = [{"Data": [{"VarCharValue": name} for name in table.column_names]}]
    rows += [{"Data": [_datum(value) for value in row.values()]} for row in table.to_pylist()]
    return QueryResults(rows, columns)


def _datum(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    return {"VarCharValue": str(value).lower() if isinstance(value, bool) else str(value)}


def _athena_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "bigint"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_decimal(kind):
        return "decimal"
    return {"bool": "boolean", "double": "double", "date32[day]": "date"}.get(str(kind), "varchar")


def _hive_type(kind: str) -> str:
    return {"varchar": "string", "integer": "int"}.get(kind.lower(), kind.lower().replace(" ", ""))
