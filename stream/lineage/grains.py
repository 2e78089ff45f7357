"""Which rows of Silver a row of Gold is made of: one entry per model and feed. Pure.

    row       exactly the rows that `equal`, `day` and `width_ns` name, of which `STANDING` says
              which count; `checks` recompute columns of the Gold row from them
    day       those rows, and others that no key of the row names (`why` says which)
    snapshot  the whole pinned snapshot: the model mixes rows over time
    none      a parent in dbt's graph whose rows change no column

A model without an entry is traced to its pinned snapshots, and to its day if it has one. A test
compares this file with the dbt project: every mart has an entry, every column exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["row", "day", "snapshot", "none"]

_MINUTE = 60_000_000_000
_FIRST = "(ts_event_ns, length(trade_id), trade_id)"
_NOTIONAL = "sum(price::DECIMAL(19,8) * size::DECIMAL(19,8))::DECIMAL(38,16)"


@dataclass(frozen=True, slots=True)
class Standing:
    """Which of several rows of one fact counts: the first of `order` per `key`, if `keep` holds.
    `reach`: rows up to `reach_days` around may stand in its way.
    """

    key: tuple[str, ...]
    order: str
    keep: str = "true"
    reach: str = "false"
    reach_days: int = 0


@dataclass(frozen=True, slots=True)
class Grain:
    """How a Gold row names rows of one feed.

    `equal`: Silver column -> Gold column. `member`: the same for a comma-separated Silver column
    that must hold the value. `day`: the Gold column with the UTC day of `ts_event`. `width_ns`: the
    row is the span [ts_event_ns, + width). `checks`: Gold column -> SQL over the rows that count.
    `only`: Gold column -> value that the row must have for this to apply.
    """

    level: Level
    equal: Mapping[str, str] = field(default_factory=dict)
    member: Mapping[str, str] = field(default_factory=dict)
    day: str | None = None
    width_ns: int | None = None
    checks: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def gold_columns(self) -> set[str]:
        """Every column of the Gold row that this relies on."""
        time = {"ts_event_ns"} if self.width_ns else set()
        day = {self.day} if self.day else set()
        used = [*self.equal.values(), *self.member.values(), *self.checks, *self.only]
        return {*used, *time, *day}


STANDING: Mapping[str, Standing] = {
    "trades": Standing(
        ("venue", "symbol", "trade_id"),
        "known_at_ns DESC, CASE kind WHEN 'cancel' THEN 2 WHEN 'correct' THEN 1 ELSE 0 END DESC, "
        "ts_event_ns DESC, price DESC, size DESC, ts_arrival_ns, slice_id, "
        "length(sequence_number), sequence_number, line_no",
        keep="kind <> 'cancel'",
        reach="kind IN ('correct', 'cancel')",
        reach_days=7,
    ),
    "quotes": Standing(
        ("venue", "symbol", "ts_event_ns", "quote_id"),
        "ts_arrival_ns, slice_id, length(sequence_number), sequence_number, line_no",
    ),
    "news": Standing(
        ("ts_event::DATE", "source", "story_id", "symbols"),
        "ts_arrival_ns, ts_published_ns, shard, length(sequence_number), sequence_number, line_no",
    ),
    "positions": Standing(
        ("portfolio", "symbol", "session_date"),
        "known_at_ns DESC, ts_event_ns DESC, quantity DESC, average_cost DESC NULLS LAST, currency",
    ),
    "transactions": Standing(
        ("portfolio", "transaction_id"),
        "known_at_ns DESC, ts_event_ns DESC, kind, symbol NULLS LAST, currency, quantity DESC, "
        "price DESC NULLS LAST, fee DESC",
    ),
    "prices_daily": Standing(
        ("source", "symbol", "session_date"),
        "known_at_ns DESC, ts_arrival_ns DESC, close DESC, adj_close DESC NULLS LAST, open DESC, "
        "high DESC, low DESC, volume DESC NULLS LAST",
    ),
}
"""The rules of dbt's staging models and of `macros/current_trades.sql`."""

_INSTRUMENT = {"venue": "venue", "symbol": "symbol"}
_BAR_CHECKS = {
    "open": f"arg_min(price, {_FIRST})",
    "high": "max(price)",
    "low": "min(price)",
    "close": f"arg_max(price, {_FIRST})",
    "volume": "sum(size)",
    "notional": _NOTIONAL,
    "trades": "count(*)",
    "first_trade_ns": "min(ts_event_ns)",
    "last_trade_ns": "max(ts_event_ns)",
}
_UNUSED_QUOTES = Grain("none", why="joined by int_enriched_trades; no column here comes from them")


def _bars(minutes: int) -> Mapping[str, Grain]:
    trades = Grain("row", _INSTRUMENT, width_ns=minutes * _MINUTE, checks=_BAR_CHECKS)
    return {"trades": trades, "quotes": _UNUSED_QUOTES}


_ENRICHED = Grain(
    "row",
    {**_INSTRUMENT, "trade_id": "trade_id"},
    day="event_day",
    checks={"price": "any_value(price)", "size": "any_value(size)"},
)
_SESSION = Grain(
    "row",
    _INSTRUMENT,
    day="event_day",
    checks={
        "first_price": f"arg_min(price, {_FIRST})",
        "last_price": f"arg_max(price, {_FIRST})",
        "high": "max(price)",
        "low": "min(price)",
        "volume": "sum(size)",
        "notional": _NOTIONAL,
        "trades": "count(*)",
    },
)
_CLOSES = Grain("snapshot", why="the last close at most seven days old values a position")
_YEAR = Grain("snapshot", why="returns of the last 250 sessions are simulated")

GRAINS: Mapping[str, Mapping[str, Grain]] = {
    "fct_bars_1m": _bars(1),
    "fct_bars_5m": _bars(5),
    "fct_bars_1h": _bars(60),
    "fct_bars_1d": _bars(1_440),
    "int_enriched_trades": {
        "trades": _ENRICHED,
        "quotes": Grain(
            "day", _INSTRUMENT, day="event_day", why="the last quote within 60 seconds before"
        ),
    },
    "fct_session_vwap": {
        "trades": _SESSION,
        "quotes": Grain(
            "day", _INSTRUMENT, day="event_day", why="they decide the aggressor where it is unknown"
        ),
    },
    "fct_spread_liquidity": {
        "quotes": Grain("row", _INSTRUMENT, day="event_day", checks={"quotes": "count(*)"}),
        "trades": Grain("row", _INSTRUMENT, day="event_day", checks={"trades": "count(*)"}),
    },
    "fct_data_condition": {
        "trades": Grain(
            "row",
            {"venue": "venue"},
            day="event_day",
            checks={
                "trades": "count(*)",
                "first_trade_ns": "min(ts_event_ns)",
                "last_trade_ns": "max(ts_event_ns)",
            },
        ),
        "quotes": _UNUSED_QUOTES,
    },
    "dim_instruments": {
        "trades": Grain("snapshot", why="all trades of the symbol; ask for a bar of one day"),
        "quotes": _UNUSED_QUOTES,
    },
    "trades_current": {"trades": Grain("row")},
    "fct_stories": {
        "news": Grain(
            "row",
            {"source": "source", "story_id": "story_id", "symbols": "symbols"},
            day="event_day",
            checks={
                "title": "any_value(title)",
                "ts_published_ns": "any_value(ts_published_ns)",
                "first_seen_ns": "any_value(ts_arrival_ns)",
            },
            why="novelty and story_group also look at titles of the day and the two before",
        ),
    },
    "fct_news_symbol_day": {
        "news": Grain(
            "row",
            member={"symbols": "symbol"},
            day="event_day",
            checks={"stories": "count(DISTINCT source || '|' || story_id || '|' || symbols)"},
            why="novelty and groups also look at titles of the day and the two before",
        ),
    },
    "daily_portfolio_summary": {
        "positions": Grain(
            "row",
            {"portfolio": "portfolio", "currency": "currency", "session_date": "session_date"},
            checks={"positions": "count(*) FILTER (symbol <> currency AND quantity <> 0)"},
            why="changes are against the portfolio's session before",
        ),
        "transactions": Grain(
            "day",
            {"portfolio": "portfolio", "currency": "currency", "session_date": "session_date"},
            why="what happened since the session before is booked on the next one",
        ),
        "prices_daily": _CLOSES,
    },
    "var_calculations": {
        "positions": Grain(
            "day", {"session_date": "as_of_date"}, why="TOTAL sums all portfolios of the day"
        ),
        "prices_daily": _YEAR,
    },
    "fct_anomalies": {
        "trades": Grain(
            "day",
            _INSTRUMENT,
            day="event_day",
            only={"feed": "trades"},
            why="mean and deviation are of the 20 days with data before",
        ),
        "quotes": _UNUSED_QUOTES,
    },
}
"""Models whose rows come from rows of Silver."""

BY_DAY = {"fct_feed_day": "arrival_day", "fct_rejects_day": "arrival_day"}
"""Models that count slices by the day of their first arrival: Gold column with that day."""
FROM_LEDGER = {
    **BY_DAY,
    "fct_cost_day": "commit_day",
    "fct_freshness": "",
}
"""Models that are made of the ledger alone."""


def grain_of(model: str, feed: str, columns: Mapping[str, str]) -> Grain:
    """How a row of a model names rows of a feed; of an unknown model no more than its day."""
    known = GRAINS.get(model)
    if known is not None:
        return known.get(feed, Grain("none", why="no column of a row comes from it directly"))
    day = next((name for name in ("event_day", "session_date") if name in columns), None)
    why = "this model has no entry in stream/lineage/grains.py: which rows it joins is not known"
    if day == "event_day":
        return Grain("day", day=day, why=why)
    return Grain("snapshot", why=why)
