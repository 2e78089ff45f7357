"""What Gold's SQL must not say: it means something else in Trino, or Athena refuses it.

`judge` gives one query's faults, as "rule: what". The rules see Trino's parse tree (`grammar`),
sqlglot's, and types (`analyse`). `judge_statement` unwraps what dbt-athena sends: CTAS, views,
INSERT, DELETE, and Hive's DDL. Each rule has a planted fault in test_rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlglot
from analyse import Analysis, Tables, analyse
from grammar import TrinoSyntaxError, function_names, parse
from sqlglot import exp
from trino_types import FUNCTIONS, ZONED, Type, show

MACRO_ONLY = re.compile(
    r"(?i)\b(regexp_\w+|md5|split|string_split|from_unixtime\w*|make_timestamp\w*|date_add|date_sub"
    r"|to_hex|unnest|at\s+time\s+zone|ignore\s+nulls|asof)\b"
)
"""Written through a macro of macros/dialect.sql, never in a model."""

DDL_RESERVED = frozenset(
    """
all alter and array as authorization between bigint binary boolean both by cache case cast
char column commit conf constraint create cross cube current cursor database date dayofweek
decimal delete describe distinct div double drop else end exchange exists extended external
extract false fetch float floor following for foreign from full function grant group grouping
having if import in inner insert int integer intersect interval into is join lateral left less
like local macro map more none not null numeric of on only or order out outer over partialscan
partition percent preceding precision preserve primary procedure range reads reduce references
regexp revoke right rlike rollback rollup row rows select set smallint start table tablesample
then time timestamp to transform trigger true truncate unbounded union uniquejoin update user
using utc_timestamp values varchar views when where window with
    """.split()  # noqa: SIM905 - a text can be compared with the page
)
"""Names that Athena's DDL takes in backticks only:
https://docs.aws.amazon.com/athena/latest/ug/reserved-words.html"""

STORED = {"boolean", "integer", "bigint", "double", "decimal", "date", "varchar"}
"""Types that Gold's tables have, timestamp(6) apart."""

EXPECTED_DIVISORS = (exp.Literal, exp.Nullif)


def judge(
    sql: str, tables: Tables, *, is_stored: bool = True, is_model: bool = False
) -> tuple[list[str], Analysis]:
    """A query's faults, and what it gives. `is_stored`: its rows go into a table or a view.
    `is_model`: it gives the same rows whenever it runs.
    """
    try:
        written = parse(sql)
    except TrinoSyntaxError as error:
        return [f"syntax: {str(error)[:200]}"], Analysis()
    analysis = analyse(sql, tables)
    faults = [f"analysis: {fault}" for fault in analysis.faults]
    unknown = function_names(written) - FUNCTIONS.keys()
    faults += [f"unknown-function: {name}" for name in sorted(unknown)]
    if analysis.tree is not None:
        for node in analysis.tree.walk():
            faults += _judge_node(node, analysis)
            faults += _judge_repeatable(node) if is_model else ()
    if analysis.written is not None:
        names = {node.name for node in analysis.written.find_all(exp.Identifier)}
        mixed = sorted(name for name in names if name != name.lower())
        faults += [f"mixed-case: Athena knows lower case only: {name}" for name in mixed]
    if is_stored:
        faults += _judge_outputs(analysis.columns)
    return list(dict.fromkeys(faults)), analysis


def judge_source(text: str) -> list[str]:
    """Faults of a model as it was written, before macros."""
    code = re.sub(r"(?s)\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}|--[^\n]*", " ", text)
    code = re.sub(r"'[^']*'", "''", code)
    return [f"macro-only: {found}" for found in sorted(set(MACRO_ONLY.findall(code)))]


def judge_statement(sql: str, tables: Tables) -> tuple[list[str], dict[str, Type]]:
    """Faults of a statement as it is sent to Athena; the columns of the query in it."""
    if re.match(r"(?is)(create\s+external|create\s+schema|alter\s+table)", sql):
        return _judge_hive(sql), {}
    try:
        parse(sql)
    except TrinoSyntaxError as error:
        return [f"syntax: {str(error)[:200]}"], {}
    if found := re.match(r"(?is)prepare\s+\w+\s+from\s+(.*)", sql):
        query = found[1].replace("?", "cast(0 as bigint)")
        faults, analysis = judge(query, tables, is_stored=False)
        return faults, analysis.columns
    tree = sqlglot.parse_one(sql, read="athena")
    if isinstance(tree, exp.Create):
        query = re.split(r"(?i)\bas\s", sql, maxsplit=1)[1]
        faults, analysis = judge(query, tables)
        return [*faults, *_judge_properties(tree, analysis)], analysis.columns
    if isinstance(tree, exp.Insert):
        return _judge_insert(tree, tables)
    if isinstance(tree, exp.Delete):
        where = tree.args.get("where")
        condition = where.this.sql(dialect="athena") if where is not None else "true"
        query = f"select 1 as one from {tree.this.sql(dialect='athena')} where {condition}"
        faults, _ = judge(query, tables)
        return faults, {}
    faults, analysis = judge(sql, tables, is_stored=False)
    return faults, analysis.columns


def _judge_node(node: exp.Expression, analysis: Analysis) -> Iterator[str]:
    text = node.sql(dialect="trino")[:80]
    if isinstance(node, exp.Div):
        yield from _judge_division(node, analysis, text)
    elif isinstance(node, exp.DateDiff):
        yield from _judge_date_diff(node, analysis, text)
    elif isinstance(node, exp.DateAdd) and not _is_cast_to(node.parent, "date"):
        yield f"date-add: DuckDB gives a timestamp, cast it to a date: {text}"
    elif isinstance(node, exp.AtTimeZone):
        if node.args["zone"].name != "UTC" or not _is_cast_to(node.parent, "timestamp"):
            yield f"at-time-zone: only the macro's cast to UTC: {text}"
    elif isinstance(node, exp.Try):
        yield f"try: DuckDB's swallows other errors: {text}"
    elif isinstance(node, exp.Qualify):
        yield f"qualify: Trino has none: {text}"
    elif isinstance(node, exp.Group) and node.args.get("all"):
        yield "group-by-all: Trino has none"
    elif isinstance(node, exp.ArrayAgg) and node.find(exp.Order) is None:
        yield f"array-agg: without an order: {text}"
    elif isinstance(node, exp.Cast):
        yield from _judge_cast(node, analysis, text)


def _judge_repeatable(node: exp.Expression) -> Iterator[str]:
    if isinstance(node, exp.CurrentTimestamp | exp.CurrentDate | exp.CurrentTime):
        yield f"clock: a second run would give other rows: {node.sql(dialect='trino')}"
    elif isinstance(node, exp.Limit) and node.parent.args.get("order") is None:
        yield f"limit: without an order: {node.sql(dialect='trino')}"


def _judge_division(node: exp.Div, analysis: Analysis, text: str) -> Iterator[str]:
    kinds = {analysis.type_of(part)[0] for part in (node.this, node.expression)}
    if kinds <= {"integer", "bigint"}:
        yield f"integer-division: Trino cuts off, DuckDB does not: {text}"
    elif "double" not in kinds and kinds & {"decimal"}:
        yield f"decimal-division: a decimal in Trino, a double in DuckDB; use ratio(): {text}"
    elif not isinstance(node.expression.unnest(), EXPECTED_DIVISORS):
        yield f"division: by what may be 0; use ratio(): {text}"


def _judge_date_diff(node: exp.DateDiff, analysis: Analysis, text: str) -> Iterator[str]:
    unit = str(node.args["unit"]).lower()
    kinds = {analysis.type_of(part)[0] for part in (node.this, node.expression)}
    if unit != ("millisecond" if "timestamp" in kinds else "day"):
        yield f"date-diff: whole units in Trino, boundaries in DuckDB: {text}"


def _judge_cast(node: exp.Cast, analysis: Analysis, text: str) -> Iterator[str]:
    source, into = analysis.type_of(node.this)[0], node.to.sql("trino").lower()
    inner = node.this.unnest()
    if re.match(r"(varchar|char)\s*\(|char$", into):
        yield f"cast-length: DuckDB ignores it: {text}"
    elif into == "varchar" and source in ("double", "real", "timestamp"):
        yield f"cast-to-text: written differently: {text}"
    elif into in ("integer", "bigint") and source == "double":
        if not isinstance(inner, exp.Ceil | exp.Floor | exp.Round):
            yield f"cast-to-integer: halves go up in Trino, to even in DuckDB: {text}"
    elif into.startswith("decimal") and source == "double" and not isinstance(inner, exp.Round):
        yield f"cast-to-decimal: round() first: {text}"


def _judge_outputs(columns: dict[str, Type]) -> Iterator[str]:
    for name, kind in columns.items():
        if kind == ZONED:
            yield f"zoned: Athena stores no timestamp with time zone: {name}"
        elif kind[0] == "timestamp":
            if kind[1] != 6:
                yield f"precision: Iceberg takes timestamp(6): {name} is {show(kind)}"
        elif kind[0] == "unknown":
            yield f"untyped: {name} is a null without a type"
        elif kind[0] not in STORED:
            yield f"stored-type: {name} is {show(kind)}"


def _judge_properties(tree: exp.Create, analysis: Analysis) -> Iterator[str]:
    """A CTAS: an Iceberg table, not external, partitioned by its own columns."""
    if tree.kind != "TABLE":
        return
    given = {p.this.name.lower(): p.args.get("value") for p in tree.find_all(exp.Property)
             if p.args.get("value") is not None and hasattr(p.this, "name")}  # fmt: skip
    if given.get("table_type") is None or given["table_type"].name != "iceberg":
        yield "hive-table: no DELETE, no timestamp(6), and it lies among the results"
    if given.get("is_external") is None or given["is_external"].sql() != "FALSE":
        yield "is-external: an Iceberg table is none"
    partitions = given.get("partitioning")
    for column in partitions.expressions if partitions is not None else ():
        if column.name not in analysis.columns:
            yield f"partitioning: no column {column.name}"


def _judge_insert(tree: exp.Insert, tables: Tables) -> tuple[list[str], dict[str, Type]]:
    query = tree.expression.unnest()
    faults, analysis = judge(query.sql(dialect="athena"), tables)
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    names = [c.name for c in tree.this.expressions] if isinstance(tree.this, exp.Schema) else None
    wanted = tables.get(f"{target.db}.{target.name}")
    if wanted is None:
        return [*faults, f"analysis: no table {target.db}.{target.name}"], {}
    for name, (given, kind) in zip(names or wanted, analysis.columns.items(), strict=False):
        if wanted.get(name) != kind:
            found = show(wanted.get(name, ("absent",)))
            faults.append(f"insert: {name} is {found}, {given} {show(kind)}")
    if len(names or wanted) != len(analysis.columns):
        faults.append(f"insert: {len(names or wanted)} columns from {len(analysis.columns)}")
    return faults, analysis.columns


def _judge_hive(sql: str) -> list[str]:
    """Hive's DDL has no second parser here: sqlglot reads it, and bare names are looked at."""
    sqlglot.parse_one(sql, read="athena")
    columns = re.search(r"(?is)\((.*?)\)\s*(?:row\s+format|location)", sql)
    words = re.findall(r"(?m)(?:^|,)\s*(\w+)\s+\w+", columns[1]) if columns else []
    return [f"reserved: {word} needs backticks" for word in words if word.lower() in DDL_RESERVED]


def _is_cast_to(node: exp.Expression | None, name: str) -> bool:
    while isinstance(node, exp.Paren):
        node = node.parent
    return isinstance(node, exp.Cast) and node.to.sql("trino").lower().startswith(name)
