"""Daily price bars of all sources in one row shape: one row per session and version.

Accepts our canonical JSON and the items of FMP's `historical-price-eod/full`. Filled by extracts
alone. Assumptions:
- A bar is dated with its session, the exchange's own day. `ts_event_ns` is that day's midnight
  UTC, no moment of trading: the UTC day of a row is its session.
- FMP adjusts open, high, low, close and volume for splits known at the time of asking, not for
  dividends; `adjClose`, which only some of its answers hold, is adjusted for both.
- A bar asked for before its session was over is unfinished. FMP does not mark it; a later
  extract brings the finished one as a newer version (`known_at_ns`, the arrival).
"""

from __future__ import annotations

import pyarrow as pa

from stream.feeds.contract import PRICE, Column, Contract, Field, Shape, VolumeBounds
from stream.feeds.ohlc import (
    BAR_RULES,
    FUTURE_MS,
    HISTORY_MINUTES,
    KNOWN_AT,
    KNOWN_AT_COLUMN,
    REJECT_LIMIT,
    describe_prices,
    read_prices,
)

_SESSION = {"session_date": Field("", "utc_date", {"of": "ts_event_ns"})}

_CANONICAL = Shape(
    "canonical",
    where={"source": None, "session_date": None},
    fields={
        "source": Field("source", "text"),
        "symbol": Field("symbol", "symbol"),
        "ts_event_ns": Field("session_date", "date_assumed_utc"),
        **_SESSION,
        **read_prices(),
        "adj_close": Field("adj_close", "decimal", optional=True),
        "known_at_ns": KNOWN_AT,
    },
)

_FMP = Shape(
    "fmp_eod",
    where={"symbol": None, "date": None, "open": None, "close": None},
    fields={
        "source": Field("", "const", {"value": "fmp"}),
        "symbol": Field("symbol", "symbol"),
        "ts_event_ns": Field("date", "date_assumed_utc"),
        **_SESSION,
        **read_prices(),
        "adj_close": Field("adjClose", "decimal", optional=True),
        "known_at_ns": Field("", "arrival"),
    },
)

CONTRACT = Contract(
    feed="prices_daily",
    doc="Daily price bars: one row per source, symbol, session and version, as the source said it",
    columns=(
        Column("source", pa.string(), "Who said it", encode=True),
        Column("symbol", pa.string(), "Instrument as the source names it, upper case", encode=True),
        Column("session_date", pa.date32(), "The exchange's trading day"),
        Column("ts_event_ns", pa.int64(), "Midnight UTC of session_date, ns since 1970"),
        *describe_prices("FMP adjusts for splits known at known_at_ns, not for dividends"),
        Column(
            "adj_close", PRICE, "Close adjusted for splits and dividends, if given", nullable=True
        ),
        KNOWN_AT_COLUMN,
    ),
    key=("source", "symbol", "session_date", "known_at_ns"),
    order=("symbol", "ts_event_ns", "source", "known_at_ns"),
    event_time="ts_event_ns",
    freshness_seconds=4 * 86_400,
    volume=VolumeBounds(
        min_per_minute=0,
        max_per_minute=1_500_000,
        reason="nothing between extracts; in one, 300 calls a minute of at most 5,000 bars each",
    ),
    rejects=REJECT_LIMIT,
    shapes=(_CANONICAL, _FMP),
    rules=BAR_RULES,
    dedup_minutes=HISTORY_MINUTES,
    future_tolerance_ms=FUTURE_MS,
    has_stream=False,
    calendar="XNYS",
)
