"""Price bars within the day (1 minute to 1 hour) of all sources in one row shape.

Accepts our canonical JSON and the items of FMP's `historical-chart/<interval>`. Those name
neither symbol nor interval nor time zone; the extract says them: a message is
`{"context": {"symbol", "interval", "zone"}, "item": <FMP's item>}`. Filled by extracts alone.
Assumptions, none of which FMP documents for its intraday answers:
- `date` is the exchange's local time, New York's for American symbols; one shape per zone. An
  hour that the clocks show twice, or skip, says no moment: `bad_time`, never a guess.
- `date` is the bar's start: regular sessions are answered as 09:30 to 15:59.
- Prices are adjusted for splits known at the time of asking, not for dividends. The bar that was
  still open when it was asked for is not marked; a later extract brings the finished one as a
  newer version (`known_at_ns`, the arrival).
"""

from __future__ import annotations

import pyarrow as pa

from stream.feeds.contract import Column, Contract, Field, Shape, VolumeBounds
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

INTERVALS = ("1min", "5min", "15min", "30min", "1hour")

ZONES = (
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Paris",
    "Asia/Kolkata",
    "Asia/Hong_Kong",
    "Asia/Tokyo",
    "Australia/Sydney",
    "UTC",
)
"""The local times that an extract may name; places that share their clocks share a name."""

_INTERVAL = {"values": {name: name for name in INTERVALS}}

_CANONICAL = Shape(
    "canonical",
    where={"source": None, "interval": None, "ts_event_ns": None},
    fields={
        "source": Field("source", "text"),
        "symbol": Field("symbol", "symbol"),
        "interval": Field("interval", "enum", _INTERVAL),
        "ts_event_ns": Field("ts_event_ns", "epoch_ns"),
        "session_date": Field("", "utc_date", {"of": "ts_event_ns"}),
        **read_prices(),
        "known_at_ns": KNOWN_AT,
    },
)


def _fmp(zone: str) -> Shape:
    """FMP's bars of the places that keep this local time."""
    return Shape(
        f"fmp_chart_{zone.rpartition('/')[2].lower()}",
        where={"context.zone": (zone,), "item.date": None},
        fields={
            "source": Field("", "const", {"value": "fmp"}),
            "symbol": Field("context.symbol", "symbol"),
            "interval": Field("context.interval", "enum", _INTERVAL),
            "ts_event_ns": Field("item.date", "date_time_in_zone", {"zone": zone}),
            "session_date": Field("item.date", "local_date"),
            **read_prices("item."),
            "known_at_ns": Field("", "arrival"),
        },
    )


CONTRACT = Contract(
    feed="prices_intraday",
    doc="Price bars within the day: one row per source, symbol, interval, start and version",
    columns=(
        Column("source", pa.string(), "Who said it", encode=True),
        Column("symbol", pa.string(), "Instrument as the source names it, upper case", encode=True),
        Column("interval", pa.string(), f"Length of the bar: {', '.join(INTERVALS)}", encode=True),
        Column("ts_event_ns", pa.int64(), "When the bar begins, ns since 1970 UTC"),
        Column(
            "session_date", pa.date32(), "The exchange's day; the UTC day of canonical messages"
        ),
        *describe_prices("FMP adjusts for splits known at known_at_ns, not for dividends"),
        KNOWN_AT_COLUMN,
    ),
    key=("source", "symbol", "interval", "ts_event_ns", "known_at_ns"),
    order=("symbol", "interval", "ts_event_ns", "source", "known_at_ns"),
    event_time="ts_event_ns",
    freshness_seconds=4 * 86_400,
    volume=VolumeBounds(
        min_per_minute=0,
        max_per_minute=450_000,
        reason="nothing between extracts; in one, 300 calls a minute of at most a day of minutes",
    ),
    rejects=REJECT_LIMIT,
    shapes=(_CANONICAL, *(_fmp(zone) for zone in ZONES)),
    rules=BAR_RULES,
    dedup_minutes=HISTORY_MINUTES,
    future_tolerance_ms=FUTURE_MS,
    has_stream=False,
    calendar="XNYS",
)
