"""Forward from trades to `bars_1m`, and back from a bar to the trades that it counts.

A bar's last revision is computed again from the trades that stand; an older one cannot be: it was
made of what was committed then.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stream.bars import MINUTE_NS, TABLE
from stream.feeds.contract import Contract
from stream.lineage.grains import GRAINS, STANDING
from stream.lineage.scope import Scope
from stream.lineage.silver import plan_files, query_files, typed
from stream.lineage.slices import moment, more_link
from stream.lineage.tree import Link

INCLUDED = "headrace.bars.number"
CURRENT_BARS = """
SELECT * FROM {source} WHERE ts_event_ns BETWEEN ? AND ?
QUALIFY row_number() OVER (PARTITION BY venue, symbol, ts_event_ns ORDER BY revision DESC) = 1
"""


def bars_link(scope: Scope, contract: Contract, rows: pa.Table, number: int) -> Link | None:
    """The bars, in their last revision, of the minutes in which these trades lie.

    Args: rows: Silver's rows. number: the newest commit that concerns them.
    """
    if not contract.has_bars or not rows.num_rows or TABLE not in scope.table_names():
        return None
    table = scope.table(TABLE)
    minutes = pa.array(rows["ts_event_ns"].to_numpy() // MINUTE_NS * MINUTE_NS)
    keys = pa.table({"venue": rows["venue"], "symbol": rows["symbol"], "minute_ns": minutes})
    wanted = keys.group_by(["venue", "symbol", "minute_ns"]).aggregate([]).to_pylist()
    low, high = pc.min(minutes).as_py(), pc.max(minutes).as_py()
    paths = plan_files(scope, table, (low // 1000, high // 1000), None)
    found = {
        (row["venue"], row["symbol"], row["ts_event_ns"]): row
        for row in query_files(
            scope, table, paths, lambda source: CURRENT_BARS.format(source=source), [low, high]
        ).to_pylist()
    }
    included = int(table.properties.get(INCLUDED, "0"))
    link = Link("bars", TABLE, {"minutes touched": len(wanted)})
    if included < number:
        link.says = f"not brought up to date yet: they include trades#{included}"
        return link
    missing = [key for key in map(_key, wanted) if key not in found]
    for key in missing:
        scope.break_link(
            "bar_missing", f"{TABLE} {_name(key)}", "a bar of these trades", "none",
            "`headrace prove trades`, then restart the feed: it makes good what bars lack.",
        )  # fmt: skip
    link.judge(is_good=not missing, says="each minute has its bar")
    bars = [found[key] for key in sorted(map(_key, wanted)) if key in found]
    for bar in bars[: scope.options.cap(len(bars))]:
        link.add(_bar_link(bar))
    if len(bars) > len(link.links):
        link.add(more_link(len(bars) - len(link.links), "bars"))
    return link


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["venue"], row["symbol"], row["minute_ns"]


def _name(key: tuple[str, str, int]) -> str:
    return f"venue={key[0]} symbol={key[1]} ts_event_ns={key[2]}"


def _bar_link(bar: dict[str, Any]) -> Link:
    name = _name((bar["venue"], bar["symbol"], bar["ts_event_ns"]))
    facts = {
        "start": moment(bar["ts_event_ns"]),
        "revision": bar["revision"],
        "trades": bar["trades"],
    }
    return Link("bar", name, facts)


def bar_back(scope: Scope, contract: Contract, bar: dict[str, Any]) -> tuple[Link, pa.Table]:
    """The trades that a bar counts, in the order of their events; its last revision is computed
    again from them and compared.
    """
    link, rule = _bar_link(bar), STANDING["trades"]
    table, start = scope.ledger(contract.feed).table, bar["ts_event_ns"]
    end, day = start + MINUTE_NS - 1, 86_400_000_000
    reach = rule.reach_days * day
    paths = plan_files(scope, table, (start // 1000 - reach, end // 1000 + reach), None)
    inside = f"ts_event_ns BETWEEN {start} AND {end}"
    rows = query_files(
        scope,
        table,
        paths,
        lambda source: (
            f"SELECT * FROM (SELECT * FROM {source} WHERE venue = ? AND symbol = ? "  # noqa: S608  # nosec B608: numbers and constants, bound values
            f"AND ({inside} OR {rule.reach}) QUALIFY row_number() OVER (PARTITION BY "
            f"{', '.join(rule.key)} ORDER BY {rule.order}) = 1) WHERE {rule.keep} AND {inside} "
            "ORDER BY ts_event_ns, trade_id"
        ),
        [bar["venue"], bar["symbol"]],
    )
    link.facts["trades that stand"] = rows.num_rows
    _compare(scope, bar, rows, link)
    return link, typed(rows.drop_columns(["filename"]), table)


def _compare(scope: Scope, bar: dict[str, Any], rows: pa.Table, link: Link) -> None:
    """The bar as the trades make it now, against the stored one, if that is the last revision."""
    newest = _newest_revision(scope, bar)
    if newest != bar["revision"]:
        link.says = f"revision {newest} has replaced it: only that can be computed again"
        return
    checks = GRAINS["fct_bars_1m"]["trades"].checks
    terms = ", ".join(f'{expression} AS "{name}"' for name, expression in checks.items())
    scope.sql.register("standing", rows)
    now = scope.sql.execute(f"SELECT {terms} FROM standing").to_arrow_table().to_pylist()[0]  # noqa: S608  # nosec B608: constants
    scope.sql.unregister("standing")
    differing = [n for n in checks if now[n] != bar[n] and not (not now[n] and not bar[n])]
    if not differing:
        link.judge(is_good=True, says=f"computed again, equal: {', '.join(checks)}")
        return
    ledger = scope.ledger("trades")
    included = int(scope.table(TABLE).properties.get(INCLUDED, "0"))
    found = ", ".join(f"{name} {now[name]}" for name in differing)
    if included < ledger.head.number:
        link.says = f"now {found}: bars include trades#{included} of #{ledger.head.number}"
        return
    link.judge(is_good=False, says=f"differs: {found}")
    scope.break_link(
        "bar_differs", link.name, ", ".join(f"{name} {bar[name]}" for name in differing), found,
        "A correction may still wait (the bars are exact six commits later, or when the feed "
        "stops); if it stays, restart the feed: its first commit computes touched bars anew.",
    )  # fmt: skip


def _newest_revision(scope: Scope, bar: dict[str, Any]) -> int:
    at_us = bar["ts_event_ns"] // 1000
    table = scope.table(TABLE)
    paths = plan_files(scope, table, (at_us, at_us), None)
    found = query_files(
        scope,
        table,
        paths,
        lambda source: (
            f"SELECT max(revision) AS newest FROM {source} "  # noqa: S608  # nosec B608: quoted files, bound values
            "WHERE venue = ? AND symbol = ? AND ts_event_ns = ?"
        ),
        [bar["venue"], bar["symbol"], bar["ts_event_ns"]],
    )
    newest: int = found["newest"][0].as_py()
    return newest
