"""Find the rows that a user's conditions name, in a table of Silver, its views, or quarantine.

Columns are checked against the table, values are bound. A condition on the event time prunes files
by day; all others are left to Parquet's statistics and bloom filters.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from stream.bars import TABLE as BARS_TABLE
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.lake.catalog import LakeTable
from stream.lake.sql import duckdb_type
from stream.lineage.grains import STANDING
from stream.lineage.question import Condition, RowName, condition_sql
from stream.lineage.scope import Scope, explained
from stream.lineage.silver import plan_files, query_files, typed
from stream.query import connect

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_US = 253_402_300_799_000_000
VIEWS = {"trades_current": "trades", "bars_1m_current": BARS_TABLE}
"""Views of Silver that one row per fact: their table."""
QUARANTINE = "quarantine"


class AmbiguousRowsError(ConfigError):
    """Several rows are named; the message lists a command for each."""


@dataclass(frozen=True, slots=True)
class Named:
    """Rows that were found. `count`: how many there are, of which `rows` are at most the limit."""

    rows: pa.Table
    count: int


def find_silver_rows(scope: Scope, question: RowName) -> Named:
    """Rows of a feed's table, of `bars_1m`, or of their current views, with the file of each.

    Raises: ConfigError: no such column, a value that does not fit, no such row.
    """
    name = question.table
    table = scope.table(VIEWS.get(name, name))
    types = {field.name: duckdb_type(field.type) for field in table.arrow_schema}
    check_columns(name, question.conditions, types)
    where, values = condition_sql(question.conditions, types)
    reach = 7 * DAY if name == "trades_current" else timedelta()
    paths = plan_files(scope, table, event_span(question.conditions, reach), None)
    limit = scope.options.limit or 1_000_000
    found = query_files(
        scope,
        table,
        paths,
        lambda source: (
            f"SELECT *, count(*) OVER () AS found FROM {_relation(name, source)} "  # noqa: S608  # nosec B608: checked names, bound values
            f"WHERE {where} ORDER BY ts_event, {_order(table)} LIMIT {limit}"
        ),
        values,
    )
    count = found["found"][0].as_py() if found.num_rows else 0
    return Named(typed(found.drop_columns(["found"]), table), count)


def find_quarantined(scope: Scope, question: RowName) -> list[dict[str, Any]]:
    """Rejected messages that nobody landed: their slice, place and object."""
    with closing(connect(scope.settings, [])) as sql:
        columns = sql.execute(f"DESCRIBE {QUARANTINE}").fetchall()
        types = {row[0]: row[1] for row in columns}
        check_columns(QUARANTINE, question.conditions, types)
        where, values = condition_sql(question.conditions, types)
        statement = (
            "SELECT feed, slice_id, sequence_number, record_no, line_no, reason, "  # noqa: S608  # nosec B608: checked names, bound values
            f"count(*) OVER () AS found FROM {QUARANTINE} "
            f"WHERE {where} ORDER BY ALL LIMIT {scope.options.limit or 1_000_000}"
        )
        with explained():
            rows: list[dict[str, Any]] = sql.execute(statement, values).to_arrow_table().to_pylist()
        return rows


def check_columns(table: str, conditions: Iterable[Condition], types: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a column that the table lacks, with the nearest."""
    for condition in conditions:
        if condition.column not in types:
            near = difflib.get_close_matches(condition.column, types, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"table {table} has no column {condition.column!r}.{hint} Columns: "
                f"{', '.join(types)}."
            )


def need_one(
    scope: Scope, table: str, rows: Sequence[Mapping[str, Any]], count: int, names: Sequence[str]
) -> None:
    """Refuse conditions that name no row, or several unless all are wanted.

    Args: names: the columns that tell rows apart. Raises: AmbiguousRowsError, ConfigError.
    """
    if not count:
        raise ConfigError(
            f"no row of {table} meets these conditions. `headrace query` shows what there is; "
            "values are compared exactly, times are UTC."
        )
    if count == 1 or scope.options.traces_all:
        return
    shown = "\n".join(f"  {command(table, row, names)}" for row in rows)
    raise AmbiguousRowsError(
        f"{count:,} rows of {table} meet these conditions. Name one, or trace the first "
        f"{len(rows)} with --all:\n{shown}"
    )


def command(table: str, row: Mapping[str, Any], names: Sequence[str]) -> str:
    """What to type to trace exactly this row."""
    words = [f"{name}={_text(row[name])}" for name in names if row.get(name) is not None]
    return " ".join(["headrace lineage", table, *(shlex.quote(word) for word in words)])


def telling_columns(table: str) -> list[str]:
    """The columns that tell rows of a table of Silver apart."""
    if VIEWS.get(table, table) == BARS_TABLE:
        return ["venue", "symbol", "ts_event_ns", "revision"]
    contract = load_feeds()[VIEWS.get(table, table)]
    return [*contract.key, "sequence_number", "line_no"]


def event_span(
    conditions: Sequence[Condition], reach: timedelta = timedelta()
) -> tuple[int, int] | None:
    """The event times (µs) that conditions leave, widened; None if they leave all."""
    low, high = 0, FAR_US
    for condition in conditions:
        at = _event_us(condition)
        if at is None:
            continue
        if condition.op in ("=", ">=", ">"):
            low = max(low, at)
        if condition.op in ("=", "<=", "<"):
            high = min(high, at)
    if (low, high) == (0, FAR_US):
        return None
    by = reach // timedelta(microseconds=1)
    return max(0, low - by), min(FAR_US, high + by)


def _event_us(condition: Condition) -> int | None:
    try:
        if condition.column == "ts_event_ns":
            return int(condition.value) // 1000
        if condition.column == "ts_event":
            moment = datetime.fromisoformat(condition.value)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (aware - EPOCH) // timedelta(microseconds=1)
    except ValueError:
        return None  # `condition_sql` says what is wrong with it
    return None


def _relation(name: str, source: str) -> str:
    """The rows of a table or of its current view."""
    if name == "trades_current":
        rule = STANDING["trades"]
        ranked = (
            f"SELECT * FROM {source} QUALIFY row_number() OVER ("  # noqa: S608  # nosec B608: constants
            f"PARTITION BY {', '.join(rule.key)} ORDER BY {rule.order}) = 1"
        )
        return f"(SELECT * FROM ({ranked}) WHERE {rule.keep})"  # noqa: S608  # nosec B608: constants
    if name == "bars_1m_current":
        return (
            f"(SELECT * FROM {source} QUALIFY row_number() OVER ("  # noqa: S608  # nosec B608: constants
            "PARTITION BY venue, symbol, ts_event_ns ORDER BY revision DESC) = 1)"
        )
    return source


def _order(table: LakeTable) -> str:
    if table.name == BARS_TABLE:
        return "venue, symbol, revision DESC"
    return "slice_id, length(sequence_number), sequence_number, line_no"


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
