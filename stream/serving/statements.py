"""The API's SQL: text made of constants of this program, values bound beside it. Pure.

One text serves both engines, DuckDB and Athena (Trino): it uses only what both read alike, and
what is read `FROM` is the engine's own (`source`). No text of a caller is ever part of it: values
are parameters, columns and order are the resource's, numbers of rows are integers made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from stream.serving.moments import sql_time
from stream.serving.resource import INTERVALS, Resource

Value = str | int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a resource. Times are ns since 1970; `end_ns` is not included.

    `equal`: column → value. `after`: the key of the last row that was already given.
    """

    resource: Resource
    start_ns: int
    end_ns: int
    equal: Mapping[str, str] = field(default_factory=dict)
    symbol: str | None = None
    known_at_ns: int | None = None
    after: tuple[Value, ...] | None = None
    limit: int = 1000

    @property
    def page_start_ns(self) -> int:
        """No row of this page is older. Versions that lost against younger rows do not matter."""
        return max(self.start_ns, int(self.after[0])) if self.after else self.start_ns


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `?` for each of its values, in order."""

    sql: str
    values: tuple[Value, ...]


class _Builder:
    """Collects conditions and their values in the order of the text."""

    def __init__(self) -> None:
        self.values: list[Value] = []

    def bind(self, text: str, *values: Value) -> str:
        self.values.extend(values)
        return text


def select_rows(asked: Selection, source: str) -> Statement:
    """One page: at most `limit` rows after `after`, in the order of the resource's key.

    Args: source: what stands after FROM, made by the engine out of its own names.
    """
    resource, build = asked.resource, _Builder()
    if resource.layer == "gold":
        return _select_gold(asked, source, build)
    inner = _inner_conditions(asked, build)
    partition = ", ".join(resource.identity)
    outer = ["version_rank = 1", *([resource.stands] if resource.stands else [])]
    if resource.reaches_out:  # versions from outside the range took part, but are no answer
        outer.append(build.bind(_range(resource.time), asked.page_start_ns, asked.end_ns))
    if asked.after:
        outer.append(_after(resource.key, asked.after, build))
    columns = ", ".join(resource.schema.names)
    sql = (
        f"SELECT {columns} FROM (SELECT *, row_number() OVER (PARTITION BY {partition} "  # noqa: S608  # nosec B608: constants and bound values
        f"ORDER BY {resource.newest}) AS version_rank FROM {source} "
        f"WHERE {' AND '.join(inner)}) AS versions "
        f"WHERE {' AND '.join(outer)} ORDER BY {', '.join(resource.key)} LIMIT {int(asked.limit)}"
    )
    return Statement(sql, tuple(build.values))


def select_in_force(asked: Selection, source: str) -> Statement:
    """The newest row per venue in the range: what is in force at its end."""
    resource, build = asked.resource, _Builder()
    inner = _inner_conditions(asked, build)
    columns = ", ".join(resource.schema.names)
    sql = (
        f"SELECT {columns} FROM (SELECT *, row_number() OVER (PARTITION BY venue ORDER BY "  # noqa: S608  # nosec B608: constants and bound values
        f"{resource.time} DESC, quote_id DESC, ts_arrival_ns DESC) AS version_rank FROM {source} "
        f"WHERE {' AND '.join(inner)}) AS versions "
        f"WHERE version_rank = 1 ORDER BY venue LIMIT {int(asked.limit)}"
    )
    return Statement(sql, tuple(build.values))


CONDITION = Resource(
    name="condition",
    table="fct_data_condition",
    schema=pa.schema(
        [
            pa.field("venue", pa.string(), nullable=False),
            pa.field("event_day", pa.date32(), nullable=False),
            pa.field("data_condition", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
            pa.field("trades", pa.int64()),
            pa.field("hours_with_trades", pa.int64()),
            pa.field("silent_hours", pa.int64()),
            pa.field("gaps", pa.int64()),
            pa.field("reject_share", pa.float64()),
        ]
    ),
    time="event_day",
    key=("event_day", "venue"),
    identity=(),
    newest="",
    layer="gold",
)
"""Whether a day of a venue's trades can be relied on."""


def select_condition(asked: Selection, source: str) -> Statement:
    """Days that begin in the range."""
    build = _Builder()
    where = [build.bind(f"{name} = ?", value) for name, value in asked.equal.items()]
    first, after = (sql_time(time)[:10] for time in (asked.start_ns, asked.end_ns))
    where.append(
        build.bind("event_day >= CAST(? AS DATE) AND event_day < CAST(? AS DATE)", first, after)
    )
    sql = (
        f"SELECT {', '.join(CONDITION.schema.names)} FROM {source} "  # noqa: S608  # nosec B608: constants and bound values
        f"WHERE {' AND '.join(where)} ORDER BY event_day, venue LIMIT {int(asked.limit)}"
    )
    return Statement(sql, tuple(build.values))


def _inner_conditions(asked: Selection, build: _Builder) -> list[str]:
    resource = asked.resource
    found = [build.bind(f"{name} = ?", value) for name, value in asked.equal.items()]
    if asked.symbol is not None:
        found.append(_symbol(resource, asked.symbol, build))
    in_range = build.bind(_range(resource.time), asked.page_start_ns, asked.end_ns)
    days = build.bind(
        "ts_event >= CAST(? AS TIMESTAMP(6)) AND ts_event <= CAST(? AS TIMESTAMP(6))",
        sql_time(asked.page_start_ns),
        sql_time(asked.end_ns),
    )  # the column that Silver is partitioned by
    if resource.reaches_out:
        found.append(f"(({in_range} AND {days}) OR {resource.reaches_out})")
    else:
        found += [in_range, days]
    if asked.known_at_ns is not None and resource.known is not None:
        found.append(build.bind(f"{resource.known} <= ?", asked.known_at_ns))
    return found


def _select_gold(asked: Selection, source: str, build: _Builder) -> Statement:
    resource = asked.resource
    inner = [build.bind(f"{name} = ?", value) for name, value in asked.equal.items()]
    if asked.symbol is not None:
        inner.append(_symbol(resource, asked.symbol, build))
    inner.append(build.bind(_range(resource.time), asked.page_start_ns, asked.end_ns))
    days = (sql_time(asked.page_start_ns)[:10], sql_time(asked.end_ns)[:10])
    inner.append(
        build.bind("event_day >= CAST(? AS DATE) AND event_day <= CAST(? AS DATE)", *days)
    )  # the column that Gold is partitioned by
    columns = ", ".join(resource.schema.names)
    rows = f"{source} WHERE {' AND '.join(inner)}"
    if resource.name == "bars-15m":
        rows = f"({_roll_up(rows, INTERVALS['15m'])}) AS rolled WHERE true"
    if asked.after:
        rows += f" AND {_after(resource.key, asked.after, build)}"
    sql = (
        f"SELECT {columns} FROM {rows} "  # noqa: S608  # nosec B608: constants and bound values
        f"ORDER BY {', '.join(resource.key)} LIMIT {int(asked.limit)}"
    )
    return Statement(sql, tuple(build.values))


def _roll_up(rows: str, width_ns: int) -> str:
    """Longer bars out of shorter ones, as dbt's macro `roll_up` says it."""
    return (
        "SELECT venue, symbol, bar_ns AS ts_event_ns, min_by(open, start_ns) AS open, "  # noqa: S608  # nosec B608: constants and bound values
        "max(high) AS high, min(low) AS low, max_by(close, start_ns) AS close, "
        "sum(volume) AS volume, sum(notional) AS notional, "
        "CAST(least(greatest(CAST(round(CAST(sum(notional) AS DOUBLE) / "
        "CAST(nullif(sum(volume), 0) AS DOUBLE), 8) AS DECIMAL(28,8)), min(low)), max(high)) "
        "AS DECIMAL(18,8)) AS vwap, CAST(sum(trades) AS BIGINT) AS trades, "
        "min(first_trade_ns) AS first_trade_ns, max(last_trade_ns) AS last_trade_ns FROM "
        "(SELECT *, ts_event_ns AS start_ns, "
        f"ts_event_ns - ts_event_ns % {int(width_ns)} AS bar_ns FROM {rows}) AS bars "
        "GROUP BY venue, symbol, bar_ns"
    )


def _symbol(resource: Resource, symbol: str, build: _Builder) -> str:
    if resource.symbol == "equal":
        return build.bind("symbol = ?", symbol)
    return build.bind("strpos(',' || symbols || ',', ?) > 0", f",{symbol},")


def _range(column: str) -> str:
    return f"{column} >= ? AND {column} < ?"


def _after(key: Sequence[str], last: Sequence[Value], build: _Builder) -> str:
    """Rows behind a key in the order of its columns, said so that every engine reads it."""
    if len(key) != len(last):
        raise ValueError(f"a key of {len(key)} columns, {len(last)} values")
    parts: list[str] = []
    for depth, name in enumerate(key):
        equal = [f"{before} = ?" for before in key[:depth]]
        parts.append("(" + " AND ".join([*equal, f"{name} > ?"]) + ")")
        build.values.extend([*last[:depth], last[depth]])
    return f"({' OR '.join(parts)})"
