"""Back from one row of Gold: its models, the snapshots it read, the rows of Silver that it counts.

The row's keys and span name rows of the snapshot that the build pinned; the rules of dbt's staging
say which of them count; where a model is a plain aggregate, its columns are computed again from
those and compared. So the step from Gold to Silver is checked, not claimed. Where a model mixes
rows that no key names, the trace says at which level it is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from stream.feeds import load_feeds
from stream.lake.sql import quote_name
from stream.lineage.builds import Gold, pinned_snapshot
from stream.lineage.gold_forward import attached, relation
from stream.lineage.grains import GRAINS, STANDING, Grain, grain_of
from stream.lineage.question import RowName, condition_sql
from stream.lineage.rows import check_columns
from stream.lineage.scope import Scope, explained
from stream.lineage.silver import plan_files, query_files, typed
from stream.lineage.tree import Link

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GoldRows:
    """Rows of a table of Gold that were found, and the columns' SQL types."""

    rows: list[dict[str, Any]]
    count: int
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows of one feed behind a Gold row: per slice how many count, and the first of them.

    `slices`: slice_id -> rows that count; `rows`: the table's columns, at most the limit.
    """

    feed: str
    slices: dict[str, int]
    rows: pa.Table
    link: Link


def find_gold_rows(scope: Scope, gold: Gold, question: RowName) -> GoldRows:
    """The rows of a table of Gold that conditions name. Raises: ConfigError."""
    with attached(scope, gold) as sql:
        table = relation(gold, question.table)
        described = sql.execute(f"DESCRIBE {table}").fetchall()
        types = {row[0]: row[1] for row in described}
        check_columns(question.table, question.conditions, types)
        where, values = condition_sql(question.conditions, types)
        limit = scope.options.limit or 1_000_000
        with explained():
            found = sql.execute(
                f"SELECT *, count(*) OVER () AS found FROM {table} WHERE {where} "  # noqa: S608  # nosec B608: checked names, bound values
                f"ORDER BY ALL LIMIT {limit}",
                values,
            ).to_arrow_table()
        rows = found.to_pylist()
    count = rows[0].pop("found") if rows else 0
    for row in rows[1:]:
        row.pop("found")
    return GoldRows(rows, count, types)


def key_columns(gold: Gold, table: str, types: Mapping[str, str]) -> list[str]:
    """The columns that tell rows of a table of Gold apart: those that dbt tests to be unique, or
    those that name its rows of Silver, or the first few.
    """
    used = {c for g in GRAINS.get(table, {}).values() for c in g.gold_columns - g.checks.keys()}
    model = gold.models.get(table)
    keys = [key for key in model.keys if set(key) <= types.keys()] if model else []
    if keys:
        best = max((len(used.intersection(key)), -len(key), key) for key in keys)
        return list(best[2])
    if used:
        return [name for name in types if name in used]
    return [n for n, kind in types.items() if kind in ("VARCHAR", "DATE", "BIGINT", "INTEGER")][:6]


def count_rows(scope: Scope, gold: Gold, table: str, row: Row, feed: str) -> Counted | None:
    """The Silver rows of one feed behind a Gold row; None if the model takes none from it."""
    grain = grain_of(table, feed, dict.fromkeys(row, ""))
    if grain.level == "none":
        return None
    if not scope.is_started(feed):
        link = Link("Silver", f"silver.{feed}", {"rows": 0}, "stated", "the feed was never started")
        return Counted(feed, {}, pa.table({}), link)
    is_meant = all(row.get(name) == value for name, value in grain.only.items())
    number, snapshot = pinned_snapshot(scope, gold, feed)
    facts: dict[str, Any] = {"up to": f"{feed}#{number}"}
    facts["snapshot"] = str(snapshot) if snapshot else "no longer retained: rows as they are now"
    link = Link("Silver", f"silver.{feed}", facts, "stated", f"exact per {grain.level}")
    if grain.why:
        link.says += f": {grain.why}"
    empty = scope.table(feed).arrow_schema.empty_table()
    if grain.level == "snapshot" or not is_meant:
        files = scope.table(feed).data_files(snapshot)
        link.facts |= {"files": len(files), "rows": sum(rows for _, rows in files)}
        return Counted(feed, {}, empty, link)
    return _count(_Step(scope, gold, row, feed, grain, link, snapshot))


@dataclass(frozen=True, slots=True)
class _Step:
    """From one Gold row to one feed. `snapshot` None: of now, the pinned one is gone."""

    scope: Scope
    gold: Gold
    row: Row
    feed: str
    grain: Grain
    link: Link
    snapshot: int | None


def _count(step: _Step) -> Counted:
    scope, feed, link = step.scope, step.feed, step.link
    table, span = scope.table(feed), _span_us(step.row, step.grain)
    rule = STANDING.get(feed)
    reach = timedelta(days=rule.reach_days if rule else 0) // timedelta(microseconds=1)
    wide = (span[0] - reach, span[1] + reach) if span else None
    paths = plan_files(scope, table, wide, step.snapshot)
    scope.progress(f"reading {len(paths)} files of silver.{feed}")
    where, values = _where(step.row, step.grain)
    inside = "true"
    if span:  # µs: `ts_event` is cut to them
        inside = f"ts_event BETWEEN make_timestamp({span[0]}) AND make_timestamp({span[1]})"
    statement = _standing_sql(feed, where, inside)
    rows = query_files(scope, table, paths, lambda s: statement.format(source=s), values)
    link.facts |= {"rows": rows.num_rows, "files read": len(paths)}
    scope.sql.register("standing", rows)
    try:
        _check(step)
        groups = scope.sql.execute(
            "SELECT slice_id, count(*) FROM standing GROUP BY ALL ORDER BY min(ts_arrival_ns)"
        ).fetchall()
        limit = scope.options.limit or rows.num_rows or 1
        first = scope.sql.execute(
            f"SELECT * FROM standing ORDER BY ts_event, ts_arrival_ns, line_no LIMIT {limit}"  # noqa: S608  # nosec B608: a number
        ).to_arrow_table()
    finally:
        scope.sql.unregister("standing")
    link.facts["slices"] = len(groups)
    return Counted(feed, dict(groups), typed(first, table), link)


def _standing_sql(feed: str, where: str, inside: str) -> str:
    """SQL of the rows that count: of each fact the version that stands, within the span."""
    rule = STANDING.get(feed)
    if rule is None:
        return f"SELECT * FROM {{source}} WHERE {where} AND {inside}"  # noqa: S608  # nosec B608: names of `grains`, bound values
    return (
        f"SELECT * FROM (SELECT * FROM {{source}} WHERE {where} AND ({inside} OR {rule.reach}) "  # noqa: S608  # nosec B608: names of `grains`, bound values
        f"QUALIFY row_number() OVER (PARTITION BY {', '.join(rule.key)} ORDER BY {rule.order}) "
        "= 1) "
        f"WHERE {rule.keep} AND {inside}"
    )


def _where(row: Row, grain: Grain) -> tuple[str, list[Any]]:
    terms, values = ["true"], list[Any]()
    for silver, name in grain.equal.items():
        terms.append(f"{quote_name(silver)} = ?")
        values.append(row[name])
    for silver, name in grain.member.items():
        terms.append(f"list_contains(string_split({quote_name(silver)}, ','), ?)")
        values.append(row[name])
    return " AND ".join(terms), values


def _span_us(row: Row, grain: Grain) -> tuple[int, int] | None:
    """Event times of the row (µs, both ends included); None: it has none."""
    if grain.width_ns:
        start = row["ts_event_ns"] // 1000
        return start, start + grain.width_ns // 1000 - 1
    day = row.get(grain.day) if grain.day else None
    if isinstance(day, date):
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
        return start, start + 86_400_000_000 - 1
    return None


def _check(step: _Step) -> None:
    """Compute columns of the Gold row again from the rows that count."""
    row, grain, link = step.row, step.grain, step.link
    names = [name for name in grain.checks if name in row]
    if not names:
        return
    terms = ", ".join(f"{grain.checks[name]} AS {quote_name(name)}" for name in names)
    [now] = step.scope.sql.execute(f"SELECT {terms} FROM standing").to_arrow_table().to_pylist()  # noqa: S608  # nosec B608: constants of `grains`
    differing = [name for name in names if now[name] != row[name]]
    found = ", ".join(f"{name} {now[name]}" for name in differing)
    if not differing:
        link.judge(is_good=True, says=f"computed again, equal: {', '.join(names)}. {link.says}")
    elif str(row.get("event_day")) in step.gold.build.retired:
        link.says = f"retention took this day out of Silver, Gold alone has it. {link.says}"
    elif step.snapshot is None:
        link.says = (
            f"differs now ({found}): Silver has changed since the build, and the snapshot that it "
            f"read is no longer retained. {link.says}"
        )
    else:
        link.judge(is_good=False, says=f"differs: {found}")
        step.scope.break_link(
            "gold_differs",
            f"{link.name} at snapshot {step.snapshot}",
            ", ".join(f"{name} {row[name]}" for name in differing),
            f"{found}, computed again from {link.facts['rows']} rows",
            "`headrace gold --day DAY` computes the day again; if it stays, the model and "
            "stream/lineage/grains.py disagree.",
        )


def model_link(gold: Gold, table: str, feeds: Sequence[str]) -> Link:
    """The models between a table of Gold and Silver."""
    model = gold.models.get(table)
    ways = [" <- ".join(gold.path_to(table, f"silver.{feed}")) for feed in feeds]
    facts: dict[str, Any] = {"build": gold.name}
    if model is not None:
        facts["parents"] = ", ".join(model.parents)
        if extra := [s for s in model.sources if s.startswith("ledger.")]:
            facts["ledger"] = ", ".join(sorted(extra))
    link = Link(
        "model", table, facts, "stated", "" if model else "no manifest was kept of this build"
    )
    for way in ways:
        link.add(Link("way", way))
    return link


def feeds_of(gold: Gold, table: str) -> list[str]:
    """The feeds that a table of Gold comes from."""
    model = gold.models.get(table)
    known = load_feeds()
    found = {s.removeprefix("silver.") for s in model.sources} if model else set()
    return sorted(found & known.keys())
