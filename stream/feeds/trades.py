"""Trade prints of all venues in one row shape.

Accepts our canonical JSON and the messages of Coinbase Exchange (`match`, `last_match`), Kraken
(v1 array `trade`, v2 `trade`) and Binance (`trade`, `aggTrade`, raw or in a combined stream).
`side` is the aggressor's: Coinbase says the maker's side, Binance whether the buyer was the
maker; both are turned round here. Symbols stay as the venue writes them, in upper case; only a
separator inside the venue's own text is unified ("XBT/USD" -> "XBT-USD").
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

_KINDS = {"new": "new", "correct": "correct", "cancel": "cancel"}
_SIDES = {"buy": "buy", "sell": "sell", "unknown": "unknown"}
_MAKER_SIDE = {"buy": "sell", "sell": "buy"}
_BUYER_IS_MAKER = {True: "sell", False: "buy"}


def _at(path: str, kind: str) -> Mapping[str, Field]:
    """The three clock columns of a message whose trade is new."""
    return {
        "ts_event_ns": Field(path, kind),
        "known_at_ns": Field("", "same", {"as": "ts_event_ns"}),
        "session_date": Field("", "utc_date", {"of": "ts_event_ns"}),
    }


def _new(venue: str) -> Mapping[str, Field]:
    return {
        "venue": Field("", "const", {"value": venue}),
        "kind": Field("", "const", {"value": "new"}),
    }


_CANONICAL = Shape(
    "canonical",
    where={"venue": None},
    fields={
        "venue": Field("venue", "text"),
        "symbol": Field("symbol", "symbol"),
        "trade_id": Field("trade_id", "text"),
        "kind": Field("kind", "enum", {"values": _KINDS}, default="new"),
        "side": Field("side", "enum", {"values": _SIDES}, default="unknown"),
        "price": Field("price", "decimal"),
        "size": Field("size", "decimal"),
        "ts_event_ns": Field("ts_event_ns", "epoch_ns"),
        "known_at_ns": Field("known_at_ns", "epoch_ns", default=Same("ts_event_ns")),
        "session_date": Field("", "utc_date", {"of": "ts_event_ns"}),
    },
)

_COINBASE = Shape(
    "coinbase_match",
    where={"type": ("match", "last_match")},
    fields={
        **_new("coinbase"),
        **_at("time", "iso_time"),
        "symbol": Field("product_id", "symbol"),
        "trade_id": Field("trade_id", "integer_as_text"),
        "side": Field("side", "enum", {"values": _MAKER_SIDE}),
        "price": Field("price", "decimal_text"),
        "size": Field("size", "decimal_text"),
    },
)

# [channel id, [[price, volume, time, side, order type, misc], ...], "trade", "XBT/USD"]
_KRAKEN_V1 = Shape(
    "kraken_v1_trade",
    where={"2": ("trade",), "3": None},
    rows="1",
    fields={
        **_new("kraken"),
        **_at("2", "epoch_s_text"),
        "symbol": Field("$.3", "symbol"),
        "trade_id": Field("", "content_key", {"of": ("2", "0", "1", "3")}),
        "side": Field("3", "enum", {"values": {"b": "buy", "s": "sell"}}),
        "price": Field("0", "decimal_text"),
        "size": Field("1", "decimal_text"),
    },
)

_KRAKEN_V2 = Shape(
    "kraken_v2_trade",
    where={"channel": ("trade",), "type": ("update",)},
    rows="data",
    fields={
        **_new("kraken"),
        **_at("timestamp", "iso_time"),
        "symbol": Field("symbol", "symbol"),
        "trade_id": Field("trade_id", "integer_as_text"),
        "side": Field("side", "enum", {"values": {"buy": "buy", "sell": "sell"}}),
        "price": Field("price", "decimal"),
        "size": Field("qty", "decimal"),
    },
)


def _binance(event: str, trade_id: str, prefix: str) -> Shape:
    """One Binance event, raw (`prefix` "") or inside a combined stream ("data.")."""
    return Shape(
        f"binance_{event}{'_wrapped' if prefix else ''}",
        where={f"{prefix}e": (event,)},
        fields={
            **_new("binance"),
            **_at(f"{prefix}T", "epoch_ms"),
            "symbol": Field(f"{prefix}s", "symbol"),
            "trade_id": Field(f"{prefix}{trade_id}", "integer_as_text", {"prefix": _ids(event)}),
            "side": Field(f"{prefix}m", "bool_enum", {"values": _BUYER_IS_MAKER}),
            "price": Field(f"{prefix}p", "decimal_text"),
            "size": Field(f"{prefix}q", "decimal_text"),
        },
    )


def _ids(event: str) -> str:
    """Aggregate trades count their own ids: the prefix keeps them apart from trades' ids."""
    return "a" if event == "aggTrade" else ""


CONTRACT = Contract(
    feed="trades",
    doc="Trade prints: one row per trade, correction or cancellation, as the venue said it",
    columns=(
        Column("venue", pa.string(), "Where the trade took place", encode=True),
        Column("symbol", pa.string(), "Instrument as the venue names it, upper case", encode=True),
        Column(
            "trade_id", pa.string(), "The venue's id; built from the content where it gives none"
        ),
        Column("kind", pa.string(), "new, correct or cancel", encode=True),
        Column("side", pa.string(), "Aggressor: buy, sell or unknown", encode=True),
        Column("price", PRICE, "Price per unit, exact"),
        Column("size", PRICE, "Quantity, exact"),
        Column("ts_event_ns", pa.int64(), "When the venue says it happened, ns since 1970 UTC"),
        Column("known_at_ns", pa.int64(), "When this version became known; ts_event_ns if new"),
        Column("session_date", pa.date32(), "The venue's session; the UTC day on crypto venues"),
    ),
    key=("venue", "symbol", "trade_id", "kind", "known_at_ns"),
    order=("venue", "symbol", "ts_event_ns", "trade_id"),
    event_time="ts_event_ns",
    freshness_seconds=15,
    volume=VolumeBounds(
        min_per_minute=1,
        max_per_minute=3_000_000,
        reason="crypto venues never close; 50,000/s is ten times the busiest minute we replayed",
    ),
    rejects=RejectLimit(share=0.2, over_rows=5_000, run=1_000),
    shapes=(
        _CANONICAL,
        _COINBASE,
        _KRAKEN_V1,
        _KRAKEN_V2,
        *(
            _binance(event, trade_id, prefix)
            for event, trade_id in (("trade", "t"), ("aggTrade", "a"))
            for prefix in ("", "data.")
        ),
    ),
    ignored=control_messages("trade"),
    rules=(
        Rule("unknown_venue", f"venue is one of {', '.join(VENUES)}", is_unknown_venue),
        Rule("non_positive_price", "price > 0", lambda rows: pc.less_equal(rows["price"], 0)),
        Rule("non_positive_size", "size > 0", lambda rows: pc.less_equal(rows["size"], 0)),
    ),
    has_bars=True,
)
