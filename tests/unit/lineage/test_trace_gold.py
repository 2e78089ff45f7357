"""From a value of Gold back to bytes: what the bytes say is what Gold says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from batch import actions
from batch.extracts import ExtractRequest
from batch.gold.build import build_gold
from stream.lineage import tracer
from stream.producers.simulate_books import BOOKS
from stream.query import run_query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAY = date(2025, 11, 24)
HOUR_NS = 3_600_000_000_000
START_NS = 1_763_942_400_000_000_000


def land(traced: Any) -> None:
    """Two hours of trades with a correction and a cancel, a duplicate and a broken message."""
    small, trade = traced.small, traced.trade
    for hour in range(2):
        start = START_NS + hour * HOUR_NS
        small.arrival_ns = start + HOUR_NS // 2
        first = hour * 100
        made = [
            trade(first + i, f"{100 + i % 7}.25", str(1 + i % 3), at_ns=start + i * 25 * 10**9)
            for i in range(70)
        ]
        known = start + HOUR_NS // 2
        made += [
            trade(
                first + 3, "98.5", at_ns=start + 3 * 25 * 10**9, kind="correct", known_at_ns=known
            ),
            trade(first + 4, at_ns=start + 4 * 25 * 10**9, kind="cancel", known_at_ns=known),
            made[0],
            b"{broken",
        ]
        small.land(small.slice(made[:40]), small.slice(made[40:]))


def land_books(traced: Any) -> None:
    """Three weeks of prices, a few days of portfolios."""
    settings = traced.small.settings
    symbols = tuple(sorted({symbol for book in BOOKS for symbol in book.weights}))
    for feed, days, names in (
        ("prices_daily", 20, symbols),
        ("positions", 3, ()),
        ("transactions", 3, ()),
    ):
        request = ExtractRequest(feed, DAY - timedelta(days=days), DAY, names, {})
        actions.extract(settings, "simulated", request, f"run-{feed}")
        actions.replay(settings, feed, source="extract", run_id=f"run-{feed}", apply=True)


def link_of(found: Any, feed: str) -> Any:
    [link] = [x for x in found.back.walk() if x.kind == "Silver" and x.name == f"silver.{feed}"]
    return link


def test_bar_of_gold_is_what_its_source_bytes_add_up_to(
    traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(traced)
    land_books(traced)
    report = build_gold(traced.small.settings, clock=traced.small.clock)
    assert report.verdict == "published", report.failures
    conditions = ("symbol=ACME", "venue=sim", "ts_event=2025-11-24T01:00")
    row = bar_of(traced)
    found = traced.ask("fct_bars_1h", *conditions)
    assert found.is_whole, found.broken
    assert link_of(found, "trades").state == "verified"
    assert len(found.records) == row["trades"] == 69
    trades = [orjson.loads(record.message) for record in found.records]
    trades.sort(key=lambda t: (t["ts_event_ns"], len(t["trade_id"]), t["trade_id"]))
    prices = [Decimal(str(t["price"])) for t in trades]
    sizes = [Decimal(str(t["size"])) for t in trades]
    assert (row["open"], row["close"]) == (prices[0], prices[-1])
    assert (row["high"], row["low"]) == (max(prices), min(prices))
    assert row["volume"] == sum(sizes)
    assert row["notional"] == sum(p * s for p, s in zip(prices, sizes, strict=True))

    check_other_tables(traced)
    check_forward(traced)
    check_after_changes(traced, conditions, monkeypatch)


def bar_of(traced: Any) -> dict[str, Any]:
    rows = run_query(
        traced.small.settings,
        "SELECT * FROM gold.fct_bars_1h WHERE ts_event = TIMESTAMP '2025-11-24 01:00'",
    ).to_pylist()
    [row] = rows
    return dict(row)


def check_other_tables(traced: Any) -> None:
    """Each level of exactness says so, and what can be computed again is."""
    session = traced.ask("fct_session_vwap", "symbol=ACME", limit=3)
    assert link_of(session, "trades").state == "verified"
    assert len(session.records) == 3
    day = traced.ask("fct_feed_day", "feed=trades", "arrival_day=2025-11-24")
    [ledger] = [link for link in day.back.walk() if link.kind == "ledger"]
    assert (ledger.state, ledger.facts["slices"]) == ("verified", 4)
    summary = traced.ask("daily_portfolio_summary", "session_date=2025-11-24", traces_all=True)
    assert summary.is_whole, summary.broken
    assert summary.hides_bytes
    assert "exact per snapshot" in link_of_any(summary, "prices_daily").says
    risk = traced.ask("var_calculations", traces_all=True, limit=1)
    assert "250 sessions" in link_of_any(risk, "prices_daily").says


def link_of_any(found: Any, feed: str) -> Any:
    return next(x for x in found.back.walk() if x.kind == "Silver" and x.name == f"silver.{feed}")


def check_forward(traced: Any) -> None:
    """A slice names the build that includes it, and how many rows of each table it is in."""
    slice_id = traced.small.results[0].record.slice_id
    found = traced.ask(slice_id)
    [gold] = [link for link in found.forward.walk() if link.kind == "Gold"]
    assert (gold.state, gold.facts["since build"]) == ("verified", 1)
    rows = {link.name: link.facts.get("rows") for link in gold.links}
    assert (rows["fct_bars_1h"], rows["fct_bars_1d"]) == (1, 1)
    assert rows["fct_bars_1m"] == len({n * 25 // 60 for n in range(40)})


def check_after_changes(
    traced: Any, conditions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pinned snapshot answers after a compaction and later commits; a harmed value is named."""
    before = traced.ask("fct_bars_1h", *conditions)
    traced.small.arrival_ns = START_NS + 2 * HOUR_NS
    late = traced.trade(999, "77.0", at_ns=START_NS + HOUR_NS + 1)
    traced.small.land(traced.small.slice([late]))
    traced.compact()
    after = traced.ask("fct_bars_1h", *conditions)
    assert after.is_whole, after.broken
    assert after.records == before.records
    [gold] = [x for x in traced.ask("trades", "trade_id=999").forward.walk() if x.kind == "Gold"]
    assert "`headrace gold` brings" in gold.says

    find: Callable[..., Any] = tracer.find_gold_rows

    def harmed(*arguments: Any) -> Any:
        found = find(*arguments)
        found.rows[0]["high"] += 1
        return found

    monkeypatch.setattr(tracer, "find_gold_rows", harmed)
    [broken] = traced.ask("fct_bars_1h", *conditions).broken
    assert (broken.kind, broken.expected) == ("gold_differs", "high 107.25000000")
