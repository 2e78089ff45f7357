"""The days that corrections reach: where other versions of a corrected trade lie.

A commit that brings a correction of Monday's trade with Tuesday's time touches Tuesday's files
only, yet takes the trade out of Monday's bars. So the days of every other version of the trades
that were corrected on the touched days are computed again, too, as far back and forth as
`correction_days` of dbt's project.
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
)
SELECT DISTINCT ts_event::DATE FROM lake.silver.trades
SEMI JOIN corrected USING (venue, symbol, trade_id)
WHERE ts_event >= $low AND ts_event < $high
"""


def reached_days(
    settings: Settings, lake: Lake, pins: Pins, days: Collection[date], reach_days: int
) -> set[date]:
    """`days` and those that corrections on them reach."""
    if not days or "trades" not in pins.tables:
        return set(days)
    first, last = min(days), max(days) + timedelta(days=1)
    with connect_sql(settings.lake, settings.region) as connection:
        attach_tables(connection, lake, pins, ["trades"])
        found = _query(
            connection,
            {
                "days": sorted(days),
                "first": first,
                "last": last,
                "low": first - timedelta(days=reach_days),
                "high": last + timedelta(days=reach_days),
            },
        )
    return {*days, *found}


def _query(connection: duckdb.DuckDBPyConnection, values: dict[str, object]) -> set[date]:
    return {day for (day,) in connection.execute(REACHED, values).fetchall()}
