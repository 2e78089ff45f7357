"""Forward from slices to Gold: builds that include them, models, the rows that they fall into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stream.lake.history import SliceState
from stream.lake.layout import SilverKey
from stream.lake.sql import quote_name, quote_text
from stream.lineage.builds import Gold, Model, first_build_with, pinned_snapshot, read_gold
from stream.lineage.grains import FROM_LEDGER, GRAINS, Grain
from stream.lineage.scope import Scope
from stream.lineage.slices import moment
from stream.lineage.tree import Link

REACH_ROWS = 100_000
"""Above so many rows their Gold rows are not counted, only named by day."""


def gold_links(
    scope: Scope, feed: str, states: Sequence[SliceState], rows: pa.Table | None
) -> list[Link]:
    """What is published of these slices, per target. `rows`: theirs in Silver, if known."""
    number = max((s.replayed or s.number for s in states), default=0)
    days = sorted(_days(states, rows))
    links = []
    for gold in read_gold(scope):
        included = gold.build.numbers.get(feed, 0)
        facts: dict[str, Any] = {"published": moment(gold.build.published_ms * 10**6)}
        link = Link("Gold", gold.name, facts)
        links.append(link)
        if included < number:
            link.says = f"includes {feed} up to #{included}; `headrace gold` brings #{number}"
            continue
        first = first_build_with(scope, gold.target, feed, number)
        _, snapshot = pinned_snapshot(scope, gold, feed)
        facts |= {
            "includes": f"{feed}#{included}",
            "pinned snapshot": str(snapshot) if snapshot else "no longer retained",
            "since build": first.number if first else gold.build.number,
            "days": ", ".join(map(str, days[:7])) + (" …" if len(days) > 7 else ""),
        }
        link.judge(is_good=True, says=f"its record includes {feed}#{number}")
        _add_models(scope, gold, feed, rows, link)
    if not links:
        links.append(Link("Gold", "nothing is published yet", {}, "stated", "`headrace gold`"))
    return links


def _days(states: Sequence[SliceState], rows: pa.Table | None) -> set[date]:
    if rows is not None:
        return set(pc.unique(rows["ts_event"].cast(pa.date32())).to_pylist())
    found = set()
    for state in states:
        for item in state.silver:
            found.add(SilverKey.parse(item.path).day)
    return found


def _add_models(scope: Scope, gold: Gold, feed: str, rows: pa.Table | None, link: Link) -> None:
    models = gold.marts_of(f"silver.{feed}")
    counts = _reached(scope, gold, feed, models, rows) if rows is not None else {}
    for model in models:
        grain = GRAINS.get(model.name, {}).get(feed, Grain("day"))
        if grain.level == "none":
            continue
        facts: dict[str, Any] = {"trace": grain.level}
        if model.name in counts:
            facts["rows"] = counts[model.name]
        link.add(Link("model", model.name, facts, "stated", grain.why))
    ledger = [name for name in FROM_LEDGER if name in gold.models]
    if ledger:
        link.add(Link("models", ", ".join(ledger), {"trace": "counts of the ledger"}))


def _reached(
    scope: Scope, gold: Gold, feed: str, models: Sequence[Model], rows: pa.Table | None
) -> dict[str, int]:
    """Per model, how many of its rows these Silver rows fall into."""
    if gold.file is None or rows is None or not 0 < rows.num_rows <= REACH_ROWS:
        return {}
    counts = {}
    with attached(scope, gold) as sql:
        for model in models:
            grain = GRAINS.get(model.name, {}).get(feed)
            is_stored = model.name in (gold.build.relations or {})
            if grain is None or grain.level != "row" or not is_stored:
                continue
            wanted = [*grain.equal, *grain.member, "ts_event_ns", "ts_event"]
            some = [name for name in dict.fromkeys(wanted) if name in rows.column_names]
            sql.register("traced", rows.select(some))
            found = sql.execute(
                f"SELECT count(*) FROM {relation(gold, model.name)} g "  # noqa: S608  # nosec B608: names of the build and of `grains`
                f"WHERE EXISTS (SELECT 1 FROM traced s WHERE {_falls_into(grain)})"
            ).fetchone()
            sql.unregister("traced")
            counts[model.name] = int(found[0]) if found else 0
    return counts


def _falls_into(grain: Grain) -> str:
    terms = [f"s.{quote_name(s)} = g.{quote_name(g)}" for s, g in grain.equal.items()]
    terms += [
        f"list_contains(string_split(s.{quote_name(s)}, ','), g.{quote_name(g)})"
        for s, g in grain.member.items()
    ]
    if grain.day:
        terms.append(f"s.ts_event::DATE = g.{quote_name(grain.day)}")
    if grain.width_ns:
        span = f"g.ts_event_ns AND g.ts_event_ns + {grain.width_ns - 1}"
        terms.append(f"s.ts_event_ns BETWEEN {span}")
    return " AND ".join(terms)


@contextmanager
def attached(scope: Scope, gold: Gold) -> Iterator[duckdb.DuckDBPyConnection]:
    """The trace's connection with the build's file as `published`."""
    assert gold.file is not None
    sql = scope.sql
    sql.execute(f"ATTACH {quote_text(str(gold.file.absolute()))} AS published (READ_ONLY)")
    try:
        yield sql
    finally:
        sql.execute("DETACH published")


def relation(gold: Gold, table: str) -> str:
    """A table of an attached build, as SQL."""
    schema = (gold.build.relations or {})[table]
    return f"published.{quote_name(schema)}.{quote_name(table)}"


def gold_tables(golds: Collection[Gold]) -> list[str]:
    """The tables that can be asked for here."""
    return sorted({t for gold in golds if gold.file for t in (gold.build.relations or {})})
