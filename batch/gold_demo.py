"""The end of `headrace demo`: history and books land beside the stream, then Gold answers.

While trades flow, simulated daily prices, positions and transactions are extracted and landed by
the same verbs that a user has. After the proof, Gold is built, tested and published, and asked
for the top movers of the stream and the value at risk of the sample portfolios.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from rich.console import Console

from batch import actions
from batch.extracts import ExtractRequest
from batch.gold.report import GoldReport
from stream.clock import SYSTEM_CLOCK, to_utc
from stream.demo_screen import cells_of, table_of
from stream.errors import PipelineError
from stream.producers.simulate_books import BOOKS
from stream.query import run_query
from stream.settings import Settings

PRICE_DAYS, BOOK_DAYS = 90, 5
LAND_SECONDS = 120.0

MOVERS = """
SELECT symbol, venue, open, high, low, close,
       round((close / open - 1) * 10000, 1)::DOUBLE AS move_bps, trades
FROM gold.fct_bars_1d
QUALIFY event_day = max(event_day) OVER ()
ORDER BY abs(close / open - 1) DESC, symbol, venue LIMIT 5
"""
VALUE_AT_RISK = """
SELECT portfolio, method, portfolio_value,
       max(value_at_risk) FILTER (horizon_days = 1 AND confidence = 0.95) AS "1 day 95 %",
       max(value_at_risk) FILTER (horizon_days = 1 AND confidence = 0.99) AS "1 day 99 %",
       max(value_at_risk) FILTER (horizon_days = 10 AND confidence = 0.99) AS "10 days 99 %",
       max(expected_shortfall) FILTER (horizon_days = 1 AND confidence = 0.99) AS "shortfall 99 %"
FROM (SELECT * FROM gold.var_calculations QUALIFY as_of_date = max(as_of_date) OVER ())
GROUP BY portfolio, method, portfolio_value
ORDER BY CASE portfolio WHEN 'TOTAL' THEN 1 ELSE 0 END, portfolio, method
"""


@dataclass(slots=True)
class GoldFinale:
    """See `stream.demo.Finale`."""

    _settings: Settings | None = None
    _thread: threading.Thread | None = None
    _error: PipelineError | None = None
    _landed: list[str] = field(default_factory=list)

    def begin(self, settings: Settings) -> None:
        """Land the books and their prices in the background."""
        self._settings = settings
        self._thread = threading.Thread(target=self._land, name="land-history", daemon=True)
        self._thread.start()

    def conclude(self, console: Console) -> tuple[bool, Any]:
        """Build Gold and ask it."""
        assert self._settings is not None
        assert self._thread is not None
        self._thread.join(LAND_SECONDS)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise PipelineError(
                f"simulated history did not land within {LAND_SECONDS:.0f} s: this machine is too "
                "slow for the demo's rate. Try --rate 500, or --no-gold."
            )
        report = actions.build_gold(self._settings)
        console.print(_describe(report))
        for failure in report.failures:
            word = "FAILED" if failure in report.errors else "warning"
            console.print(f"{word}: {failure.name} on {failure.model}: {failure.message}")
        if not report.is_ok:
            return False, {"build": report, "movers": [], "value_at_risk": []}
        answers = {
            "movers": (MOVERS, "Gold: top movers of the stream"),
            "value_at_risk": (VALUE_AT_RISK, "Gold: value at risk of the sample portfolios, USD"),
        }
        found: dict[str, Any] = {"build": report}
        for name, (sql, title) in answers.items():
            found[name] = run_query(self._settings, sql).to_pylist()
            console.print(table_of([cells_of(row) for row in found[name]], title))
        return True, found

    def _land(self) -> None:
        assert self._settings is not None
        yesterday = to_utc(SYSTEM_CLOCK.now_ns()).date() - timedelta(days=1)
        symbols = tuple(sorted({symbol for book in BOOKS for symbol in book.weights}))
        wanted = (("prices_daily", PRICE_DAYS, symbols), ("positions", BOOK_DAYS, ()),
                  ("transactions", BOOK_DAYS, ()))  # fmt: skip
        try:
            for feed, days, names in wanted:
                self._land_feed(self._settings, feed, yesterday, days, names)
        except PipelineError as error:
            self._error = error

    def _land_feed(
        self, settings: Settings, feed: str, last: date, days: int, symbols: tuple[str, ...]
    ) -> None:
        run_id = f"demo-{feed}"
        request = ExtractRequest(feed, last - timedelta(days=days - 1), last, symbols)
        actions.extract(settings, "simulated", request, run_id)
        actions.replay(settings, feed, source="extract", run_id=run_id, apply=True)
        self._landed.append(feed)


def _describe(report: GoldReport) -> str:
    rows = sum(model.rows or 0 for model in report.models)
    return (
        f"headrace gold: {len(report.models)} models, {rows:,} rows, {report.tests_passed} tests "
        f"passed, {len(report.errors)} failed: {report.verdict} in {report.seconds:.1f} s\n"
    )
