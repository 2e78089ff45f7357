"""The days that a change reaches: of other versions of a trade, of trades that saw a quote.

A commit that brings a correction of Monday's trade with Tuesday's time touches Tuesday's files
only, yet takes the trade out of Monday's bars. So the days of every other version of the trades
that were corrected on the touched days are computed again, too, as far back and forth as
`correction_days` of dbt's project. Likewise Monday's last quotes stand when Tuesday's first trades
happen: Tuesday is computed again when quotes of Monday's end may be new.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

import duckdb

from batch.gold.attach import attach_tables
from batch.gold.pins import Pins
from stream.lake.connect import Lake
from stream.lake.sql import connect_sql
from stream.settings import Settings

REACHED = """
WITH corrected AS (
  SELECT DISTINCT venue, symbol, trade_id FROM lake.silver.trades
  WHERE kind IN ('correct', 'cancel')
    AND ts_event >= $first AND ts_event < $last AND ts_event::DATE IN (SELECT unnest($days))
), next_days AS (
  SELECT DISTINCT ts_event::DATE + 1 AS day FROM lake.silver.quotes
  WHERE ts_event >= $first AND ts_event < $last AND ts_event::DATE IN (SELECT unnest($days))
    AND ts_event >= ts_event::DATE + INTERVAL 1 DAY - to_seconds($quote_seconds)
)
SELECT DISTINCT ts_event::DATE FROM lake.silver.trades
SEMI JOIN corrected USING (venue, symbol, trade_id)
WHERE ts_event >= $low AND ts_event < $high
UNION
SELECT DISTINCT ts_event::DATE FROM lake.silver.trades
WHERE ts_event >= $first AND ts_event <= $last::TIMESTAMP + to_seconds($quote_seconds)
  AND ts_event::DATE IN (SELECT day FROM next_days)
  AND ts_event <= ts_event::DATE + to_seconds($quote_seconds)
"""


def reached_days(
    settings: Settings,
    lake: Lake,
    pins: Pins,
    days: Collection[date],
    *,
    correction_days: int,
    quote_seconds: int,
) -> set[date]:
    """`days` and those that their corrections and quotes reach."""
    if not days or "trades" not in pins.tables:
        return set(days)
    with connect_sql(settings.lake, settings.region) as connection:
        attach_tables(connection, lake, pins, ["trades", "quotes"])
        found = find_reached(connection, days, correction_days, quote_seconds)
    return {*days, *found}


def find_reached(
    connection: duckdb.DuckDBPyConnection,
    days: Collection[date],
    correction_days: int,
    quote_seconds: int,
) -> set[date]:
    """The same of `lake.silver` of a connection; without `days` that reach nothing."""
    first, last = min(days), max(days) + timedelta(days=1)
    values = {
        "days": sorted(days),
        "first": first,
        "last": last,
        "low": first - timedelta(days=correction_days),
        "high": last + timedelta(days=correction_days),
        "quote_seconds": quote_seconds,
    }
    return {day for (day,) in connection.execute(REACHED, values).fetchall()}
