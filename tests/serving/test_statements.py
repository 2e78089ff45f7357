"""The API's SQL: one text for Trino's grammar and DuckDB, without any text of a caller."""

from __future__ import annotations

import duckdb
import pytest
from grammar import parse

from stream.lake.sql import duckdb_type
from stream.serving.resource import Resource, bars, news, quotes, trades
from stream.serving.statements import (
    CONDITION,
    Selection,
    select_condition,
    select_in_force,
    select_rows,
)

EVIL = "x' OR 1=1 --"
AFTER = {
    "trades": (5, "sim", EVIL, EVIL),
    "quotes": (5, "sim", EVIL, EVIL),
    "news": (5, EVIL, EVIL, EVIL),
}


def selections() -> dict[str, tuple[Selection, object]]:
    """Every kind of statement, with every parameter that it may have."""
    found = {}
    for resource in (trades(), quotes(), news(), *map(bars, ("1m", "5m", "15m", "1h", "1d"))):
        equal = {} if resource.name == "news" else {"venue": EVIL}
        after = AFTER.get(resource.name, (5, "sim", EVIL))
        first = Selection(resource, 0, 10**18, equal, EVIL, 7)
        later = Selection(resource, 0, 10**18, equal, EVIL, 7, after, 3)
        found[resource.name] = (first, select_rows)
        found[f"{resource.name}-later"] = (later, select_rows)
    found["as-of"] = (Selection(quotes(), 0, 10**18, {"venue": EVIL}, EVIL, 7), select_in_force)
    found["condition"] = (Selection(CONDITION, 0, 10**18, {"venue": EVIL}), select_condition)
    return found


SELECTIONS = selections()


@pytest.mark.parametrize("name", SELECTIONS)
def test_statement_is_trinos_with_a_value_for_each_mark_and_no_text_of_a_caller(name):
    asked, make = SELECTIONS[name]
    statement = make(asked, '"silver"."t" FOR VERSION AS OF 123')
    assert statement.sql.count("?") == len(statement.values)
    assert EVIL not in statement.sql
    parse(statement.sql)


@pytest.mark.parametrize("name", SELECTIONS)
def test_statement_runs_in_duckdb_and_gives_the_columns_of_the_resource(name):
    asked, make = SELECTIONS[name]
    with duckdb.connect() as sql:
        sql.execute(f"CREATE TABLE t ({_columns(asked.resource)})")
        statement = make(asked, "t")
        found = sql.execute(statement.sql, list(statement.values)).to_arrow_table()
    assert found.num_rows == 0
    assert found.cast(asked.resource.schema).schema == asked.resource.schema


def test_bars_of_fifteen_minutes_are_those_of_five_put_together():
    with duckdb.connect() as sql:
        sql.execute(f"CREATE TABLE t ({_columns(bars('5m'))})")
        minute = 60 * 10**9
        for start, price in ((0, 10), (5, 12), (10, 8), (15, 9)):
            sql.execute(
                "INSERT INTO t SELECT 'sim', 'A', ?, ?, ?, ?, ?, 2, ?, ?, 3, 1, 1, "
                "CAST('1970-01-01' AS DATE), CAST('1970-01-01' AS TIMESTAMP)",
                [start * minute, price, price + 1, price - 1, price, 2 * price, price],
            )
        asked = Selection(bars("15m"), 0, 10**15, {}, "A")
        statement = select_rows(asked, "t")
        rows = sql.execute(statement.sql, list(statement.values)).to_arrow_table().to_pylist()
    assert [
        (r["ts_event_ns"] // minute, r["open"], r["high"], r["low"], r["close"], r["volume"],
         r["notional"], r["vwap"], r["trades"])
        for r in rows
    ] == [(0, 10, 13, 7, 8, 6, 60, 10, 9), (15, 9, 10, 8, 9, 2, 18, 9, 3)]  # fmt: skip


def _columns(resource: Resource) -> str:
    """A table of these columns, and those that statements need beside them."""
    types = {field.name: duckdb_type(field.type) for field in resource.schema}
    if resource.layer == "silver":
        types |= {
            "ts_event": "TIMESTAMP",
            "sequence_number": "VARCHAR",
            "line_no": "INTEGER",
            "shard": "VARCHAR",
            "revision": "BIGINT",
        }
    else:
        types |= {"event_day": "DATE", "ts_event": "TIMESTAMP"}
    return ", ".join(f"{name} {kind}" for name, kind in types.items())
