"""The end of `headrace demo`: history and books land beside the stream, then Gold answers.

While trades flow, simulated daily prices, positions and transactions are extracted and landed by
the same verbs that a user has, in a process of their own (`python -m batch.gold_demo`): it can be
ended at any moment, which a thread inside of Arrow's code cannot. After the proof, Gold is built,
tested and published, and asked for the top movers of the stream and the value at risk of the
sample portfolios.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from batch import actions
from batch.extracts import ExtractRequest
from batch.gold.report import GoldReport
from stream.cli.failure import run_command
from stream.clock import SYSTEM_CLOCK, to_utc
from stream.demo_screen import cells_of, table_of
from stream.errors import PipelineError
from stream.local.process import last_line, reap, spawn
from stream.producers.simulate_books import BOOKS
from stream.query import run_query
from stream.settings import Settings, child_environment, load_settings

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
    _landing: subprocess.Popen[bytes] | None = None

    def begin(self, settings: Settings) -> None:
        """Land the books and their prices in the background."""
        self._settings = settings
        command = [sys.executable, "-m", "batch.gold_demo"]
        # Books name account holders: the key that masks them goes along.
        self._landing = spawn(command, _log(settings), child_environment(settings, ("pii_key",)))

    def end(self) -> None:
        """Stop landing, wherever it is."""
        if self._landing is not None:
            reap(self._landing)

    def conclude(self, console: Console) -> tuple[bool, Any]:
        """Build Gold and ask it."""
        assert self._settings is not None
        self._wait_until_landed(self._settings)
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

    def _wait_until_landed(self, settings: Settings) -> None:
        assert self._landing is not None
        try:
            code = self._landing.wait(LAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise PipelineError(
                f"simulated history did not land within {LAND_SECONDS:.0f} s: this machine is too "
                "slow for the demo's rate. Try --rate 500, or --no-gold."
            ) from None
        if code != 0:
            raise PipelineError(f"simulated history did not land: {last_line(_log(settings))}")


def land_history(settings: Settings) -> None:
    """Daily prices of every symbol in the sample books, then the books, up to yesterday."""
    yesterday = to_utc(SYSTEM_CLOCK.now_ns()).date() - timedelta(days=1)
    symbols = tuple(sorted({symbol for book in BOOKS for symbol in book.weights}))
    wanted = (("prices_daily", PRICE_DAYS, symbols), ("positions", BOOK_DAYS, ()),
              ("transactions", BOOK_DAYS, ()))  # fmt: skip
    for feed, days, names in wanted:
        run_id = f"demo-{feed}"
        request = ExtractRequest(feed, yesterday - timedelta(days=days - 1), yesterday, names)
        actions.extract(settings, "simulated", request, run_id)
        actions.replay(settings, feed, source="extract", run_id=run_id, apply=True)


def _log(settings: Settings) -> Path:
    return settings.home.absolute() / "log" / "history.log"


def _describe(report: GoldReport) -> str:
    rows = sum(model.rows or 0 for model in report.models)
    return (
        f"headrace gold: {len(report.models)} models, {rows:,} rows, {report.tests_passed} tests "
        f"passed, {len(report.errors)} failed: {report.verdict} in {report.seconds:.1f} s\n"
    )


@click.command("land-history")
def main() -> None:
    """What `GoldFinale` runs beside the stream."""
    land_history(load_settings())


if __name__ == "__main__":
    sys.exit(run_command(main))
