"""Top of book: best bid and ask of all venues in one row shape.

Accepts our canonical JSON and the messages of Coinbase Exchange (`ticker`), Binance
(`bookTicker`, raw or in a combined stream) and Kraken (v1 array `ticker`, v2 `ticker`), and the
items of FMP's `aftermarket-quote`, whose `timestamp` is in milliseconds (that of FMP's plain
`quote` is in seconds; it holds no bid or ask and is none of this feed's messages). Where a venue
sends no event time (Binance spot, Kraken v1), the record's arrival stands in. A crossed or
locked book is data, not an error: venues print them for moments. `session_date` is the UTC day,
also for FMP: in winter a quote of New York's last hour after market bears the next day.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from stream.feeds.contract import (
    PRICE,
    Column,
    Contract,
    Field,
    RejectLimit,
    Rule,
    Same,
    Shape,
    VolumeBounds,
)
from stream.feeds.venues import VENUES, control_messages, is_unknown_venue

_SESSION = {"session_date": Field("", "utc_date", {"of": "ts_event_ns"})}
_CONTENT = ("ts_event_ns", "bid_price", "bid_size", "ask_price", "ask_size")
"""Stands in for the id that Kraken does not give: same content at the same time is one quote."""


def _venue(name: str) -> Mapping[str, Field]:
    return {"venue": Field("", "const", {"value": name})}


_CANONICAL = Shape(
    "canonical",
    where={"venue": None},
    fields={
        "venue": Field("venue", "text"),
        "symbol": Field("symbol", "symbol"),
        "quote_id": Field("quote_id", "text"),
        "bid_price": Field("bid_price", "decimal"),
        "bid_size": Field("bid_size", "decimal"),
        "ask_price": Field("ask_price", "decimal"),
        "ask_size": Field("ask_size", "decimal"),
        "ts_event_ns": Field("ts_event_ns", "epoch_ns"),
        **_SESSION,
    },
)

_COINBASE = Shape(
    "coinbase_ticker",
    where={"type": ("ticker",)},
    fields={
        **_venue("coinbase"),
        "symbol": Field("product_id", "symbol"),
        "quote_id": Field("sequence", "integer_as_text"),
        "bid_price": Field("best_bid", "decimal_text"),
        "bid_size": Field("best_bid_size", "decimal_text"),
        "ask_price": Field("best_ask", "decimal_text"),
        "ask_size": Field("best_ask_size", "decimal_text"),
        "ts_event_ns": Field("time", "iso_time"),
        **_SESSION,
    },
)

_KRAKEN_V2 = Shape(
    "kraken_v2_ticker",
    where={"channel": ("ticker",), "type": ("update",)},
    rows="data",
    fields={
        **_venue("kraken"),
        "symbol": Field("symbol", "symbol"),
        "bid_price": Field("bid", "decimal"),
        "bid_size": Field("bid_qty", "decimal"),
        "ask_price": Field("ask", "decimal"),
        "ask_size": Field("ask_qty", "decimal"),
        "ts_event_ns": Field("timestamp", "iso_time", default=Same("ts_arrival_ns")),
        **_SESSION,
        "quote_id": Field("", "row_key", {"of": _CONTENT}),
    },
)

# [channel id, {"a": [price, whole lots, lots], "b": [...], ...}, "ticker", "XBT/USD"]
_KRAKEN_V1 = Shape(
    "kraken_v1_ticker",
    where={"2": ("ticker",), "3": None},
    fields={
        **_venue("kraken"),
        "symbol": Field("3", "symbol"),
        "bid_price": Field("1.b.0", "decimal_text"),
        "bid_size": Field("1.b.2", "decimal_text"),
        "ask_price": Field("1.a.0", "decimal_text"),
        "ask_size": Field("1.a.2", "decimal_text"),
        "ts_event_ns": Field("", "arrival"),
        **_SESSION,
        "quote_id": Field("", "row_key", {"of": _CONTENT}),
    },
)


def _binance(prefix: str) -> Shape:
    """A book ticker, raw (`prefix` "") or inside a combined stream ("data.")."""
    return Shape(
        f"binance_book_ticker{'_wrapped' if prefix else ''}",
        where={f"{prefix}{key}": None for key in ("u", "s", "b", "B", "a", "A")},
        fields={
            **_venue("binance"),
            "symbol": Field(f"{prefix}s", "symbol"),
            "quote_id": Field(f"{prefix}u", "integer_as_text"),
            "bid_price": Field(f"{prefix}b", "decimal_text"),
            "bid_size": Field(f"{prefix}B", "decimal_text"),
            "ask_price": Field(f"{prefix}a", "decimal_text"),
            "ask_size": Field(f"{prefix}A", "decimal_text"),
            "ts_event_ns": Field(f"{prefix}T", "epoch_ms", default=Same("ts_arrival_ns")),
            **_SESSION,
        },
    )


_FMP = Shape(
    "fmp_aftermarket_quote",
    where=dict.fromkeys(("symbol", "bidPrice", "askPrice", "timestamp")),
    fields={
        **_venue("fmp"),
        "symbol": Field("symbol", "symbol"),
        "bid_price": Field("bidPrice", "decimal"),
        "bid_size": Field("bidSize", "decimal"),
        "ask_price": Field("askPrice", "decimal"),
        "ask_size": Field("askSize", "decimal"),
        "ts_event_ns": Field("timestamp", "epoch_ms"),
        **_SESSION,
        "quote_id": Field("", "row_key", {"of": _CONTENT}),
    },
)


def _non_positive(reason: str, *columns: str) -> Rule:
    def is_bad(rows: Mapping[str, pa.Array]) -> pa.Array:
        first, second = (pc.less_equal(rows[column], 0) for column in columns)
        return pc.or_(first, second)

    return Rule(reason, f"{' and '.join(columns)} > 0", is_bad)


CONTRACT = Contract(
    feed="quotes",
    doc="Top of book: one row per change of best bid or ask, as the venue said it",
    columns=(
        Column("venue", pa.string(), "Where the quote stands; fmp: FMP did not say", encode=True),
        Column("symbol", pa.string(), "Instrument as the venue names it, upper case", encode=True),
        Column(
            "quote_id", pa.string(), "The venue's id; time, prices and sizes where it gives none"
        ),
        Column("bid_price", PRICE, "Best bid per unit, exact"),
        Column("bid_size", PRICE, "Quantity at the best bid"),
        Column("ask_price", PRICE, "Best ask per unit, exact"),
        Column("ask_size", PRICE, "Quantity at the best ask"),
        Column("ts_event_ns", pa.int64(), "The venue's time, else the arrival, ns since 1970 UTC"),
        Column("session_date", pa.date32(), "The venue's session; the UTC day on crypto venues"),
    ),
    key=("venue", "symbol", "quote_id"),
    order=("venue", "symbol", "ts_event_ns", "quote_id"),
    event_time="ts_event_ns",
    freshness_seconds=15,
    volume=VolumeBounds(
        min_per_minute=1,
        max_per_minute=12_000_000,
        reason="books move several times per trade: four times the bound of trades",
    ),
    rejects=RejectLimit(share=0.2, over_rows=5_000, run=1_000),
    shapes=(_CANONICAL, _COINBASE, _KRAKEN_V1, _KRAKEN_V2, _binance(""), _binance("data."), _FMP),
    ignored=control_messages("ticker"),
    rules=(
        Rule("unknown_venue", f"venue is one of {', '.join(VENUES)}", is_unknown_venue),
        _non_positive("non_positive_price", "bid_price", "ask_price"),
        _non_positive("non_positive_size", "bid_size", "ask_size"),
    ),
)
