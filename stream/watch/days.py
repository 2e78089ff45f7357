"""The condition of each UTC day of a feed: what a calendar heat map shows.

Where a build of Gold is published its `fct_data_condition` decides, folded over the venues. For
days that it does not know, and for the other feeds, the ledger does: rows per day of the event,
gaps, and the share of rejected messages. A day on which the market was closed is no day at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from stream.errors import StoreUnavailableError
from stream.feeds.contract import Contract
from stream.gold_views import find_gold
from stream.lake.gold import slot_file
from stream.lake.sql import quote_name
from stream.lake.store import Store
from stream.sessions import open_spans
from stream.watch.commits import DayFacts, day_of
from stream.watch.state import Day, DayCondition

KEPT_DAYS = 371
"""53 weeks: the columns of a calendar."""
MAX_REJECT_SHARE = 0.01
"""The same limit as `fct_data_condition`."""
CONDITION, FEED_DAY = "fct_data_condition", "fct_feed_day"
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class GoldDays:
    """What a published build says of days: conditions of trades, and counts per feed.

    `build`: its number; None if none is published here.
    """

    build: int | None = None
    trades: Mapping[str, Day] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, DayFacts]] = field(default_factory=dict)


def read_gold_days(store: Store, home: Path, known: GoldDays) -> GoldDays:
    """The days of the published build; `known` again while no newer one is published.

    Raises: StoreUnavailableError, FatalError (a record that no build wrote).
    """
    build = find_gold(store, home)
    if build is None:
        return GoldDays()
    if build.number == known.build:
        return known
    tables = build.relations or {}
    try:
        with closing(duckdb.connect(str(slot_file(home, build.slot)), read_only=True)) as gold:
            trades = _fold(_rows(gold, tables, CONDITION)) if CONDITION in tables else {}
            counts = _counts(_rows(gold, tables, FEED_DAY)) if FEED_DAY in tables else {}
    except duckdb.Error as error:
        raise StoreUnavailableError(
            f"cannot read build {build.number} of Gold: {str(error).splitlines()[0]} "
            "`headrace gold` makes a new one."
        ) from error
    return GoldDays(build.number, trades, counts)


def judge_days(
    contract: Contract,
    rows: Mapping[str, int],
    facts: Mapping[str, DayFacts],
    gold: GoldDays,
    now_ms: int,
) -> tuple[Day, ...]:
    """The condition of each day from the first one with rows to today, oldest first. Pure.

    Args: rows: rows in Silver per day of the event. facts: what the ledger says per day.
    """
    today = day_of(now_ms)
    counts = {**gold.counts.get(contract.feed, {}), **facts}
    told = gold.trades if contract.feed == "trades" else {}
    found = [*(day for day, count in rows.items() if count), *told]
    if not found:
        return ()
    first = max(min(found), (_date(today) - timedelta(days=KEPT_DAYS - 1)).isoformat())
    days = _days(first, max(today, *found))
    open_days = _open_days(contract.calendar, days)
    judged = []
    for day in days:
        known = told.get(day)
        if known is not None and known.condition != "pending":
            judged.append(known if known.rows is not None else replace(known, rows=rows.get(day)))
        elif day in open_days or rows.get(day):
            fact = counts.get(day, DayFacts())
            judged.append(_judge(contract, day, rows.get(day, 0), fact, is_over=day < today))
    return tuple(judged)


def _judge(contract: Contract, day: str, rows: int, facts: DayFacts, *, is_over: bool) -> Day:
    share = facts.rejected / facts.messages if facts.messages else 0.0
    condition: DayCondition = "available"
    why = ""
    if facts.gaps:
        condition, why = "degraded", "the source no longer held some records"
    elif share > MAX_REJECT_SHARE:
        condition, why = "degraded", f"{share:.1%} of messages were rejected"
    elif not is_over:
        condition, why = "pending", "the day may go on"
    elif not rows and contract.volume.min_per_minute:
        condition, why = "missing", "no rows, although the market was open"
    elif not rows:
        why = "no rows; the contract promises none"
    return Day(day, condition, rows, why)


def _fold(rows: Iterable[tuple[object, ...]]) -> dict[str, Day]:
    """One condition per day from those of its venues: missing only if all of them are."""
    venues: dict[str, list[tuple[str, str, str, int]]] = {}
    for venue, day, condition, reason, trades in rows:
        told = (str(venue), str(condition), str(reason or ""), int(str(trades)))
        venues.setdefault(str(day), []).append(told)
    return {day: _worst(day, told) for day, told in venues.items()}


def _worst(day: str, told: list[tuple[str, str, str, int]]) -> Day:
    conditions = {condition for _, condition, _, _ in told}
    worst: DayCondition = "available"
    if conditions == {"missing"}:
        worst = "missing"
    elif conditions & {"missing", "degraded"}:
        worst = "degraded"
    elif "pending" in conditions:
        worst = "pending"
    reasons = [
        f"{venue}: {reason}" for venue, condition, reason, _ in told if condition != "available"
    ]
    return Day(day, worst, sum(trades for *_, trades in told), "; ".join(sorted(reasons)))


def _counts(rows: Iterable[tuple[object, ...]]) -> dict[str, dict[str, DayFacts]]:
    counts: dict[str, dict[str, DayFacts]] = {}
    for feed, day, messages, rejected, gaps in rows:
        facts = DayFacts(*(int(str(count)) for count in (messages, rejected, gaps)))
        counts.setdefault(str(feed), {})[str(day)] = facts
    return counts


_COLUMNS = {
    CONDITION: "venue, event_day, data_condition, reason, trades",
    FEED_DAY: "feed, arrival_day, messages, rejected, gaps",
}


def _rows(
    gold: duckdb.DuckDBPyConnection, tables: Mapping[str, str], name: str
) -> list[tuple[object, ...]]:
    source = f"{quote_name(tables[name])}.{quote_name(name)}"
    return gold.execute(f"SELECT {_COLUMNS[name]} FROM {source}").fetchall()  # noqa: S608  # nosec B608: quoted


def _days(first: str, last: str) -> list[str]:
    begin, end = _date(first), _date(last)
    return [(begin + timedelta(days=n)).isoformat() for n in range((end - begin).days + 1)]


def _open_days(calendar: str, days: list[str]) -> set[str]:
    """The days on which the market is open at any time."""
    begin, end = _day_ms(days[0]), _day_ms(days[-1]) + DAY_MS
    return {
        day_of(at)
        for start, stop in open_spans(calendar, begin, end)
        for at in (*range(start, stop, DAY_MS), stop - 1)
    }


def _date(day: str) -> date:
    return date.fromisoformat(day)


def _day_ms(day: str) -> int:
    return int(datetime.combine(_date(day), datetime.min.time(), UTC).timestamp() * 1000)
