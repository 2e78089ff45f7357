"""What happened in portfolios: trades, cash in and out, dividends, fees; one row per version.

Accepts documents of the MongoDB collection `transactions` (canonical Extended JSON) and our
canonical JSON. Filled by extracts alone. Assumptions:
- `_id` identifies a transaction for ever; every write sets `updated_at`. A correction is then a
  new version with a later `known_at_ns`; the last known version is the current one. A document
  that is deleted leaves no trace: books are corrected by a new version or a counter-entry.
- `quantity` is positive, its direction is the kind's. It counts units of the symbol or, where no
  symbol is given, of the currency: cash rows have neither symbol nor price. A dividend names the
  symbol that paid it, and its quantity is cash.
- `fee` is in the row's currency; absent means none, negative is a rebate.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from stream.feeds.books import (
    ACCOUNT_HOLDER,
    CURRENCY,
    FUTURE_MS,
    KNOWN_AT,
    PORTFOLIO,
    SESSION_DATE,
    read_amount,
    read_date,
    utc_day,
)
from stream.feeds.contract import (
    PRICE,
    Column,
    Contract,
    Field,
    Pii,
    RejectLimit,
    Rule,
    Same,
    Shape,
    VolumeBounds,
)
from stream.feeds.ohlc import HISTORY_MINUTES

TRADES = ("buy", "sell")
KINDS = (*TRADES, "deposit", "withdraw", "dividend", "fee")

_TEXTS = {
    "portfolio": Field("portfolio", "text"),
    "kind": Field("kind", "enum", {"values": {kind: kind for kind in KINDS}}),
    "symbol": Field("symbol", "symbol", optional=True),
    "currency": Field("currency", "symbol"),
    "account_holder": Field("account_holder", "text", optional=True),
    "note": Field("note", "text", {"empty": True}, optional=True),
}

_MONGO = Shape(
    "mongo_document",
    where={"_id": None},
    fields={
        "transaction_id": Field("_id.*", "text"),
        **_TEXTS,
        "quantity": read_amount("quantity"),
        "price": read_amount("price", optional=True),
        "fee": read_amount("fee", default=0),
        "ts_event_ns": read_date("executed_at"),
        "known_at_ns": read_date("updated_at"),
        "session_date": utc_day(),
    },
)

_CANONICAL = Shape(
    "canonical",
    where={"transaction_id": None},
    fields={
        "transaction_id": Field("transaction_id", "text"),
        **_TEXTS,
        "quantity": Field("quantity", "decimal"),
        "price": Field("price", "decimal", optional=True),
        "fee": Field("fee", "decimal", default=0),
        "ts_event_ns": Field("ts_event_ns", "epoch_ns"),
        "known_at_ns": Field("known_at_ns", "epoch_ns", default=Same("ts_event_ns")),
        "session_date": utc_day(),
    },
)


def _lacks_instrument(rows: Mapping[str, pa.Array]) -> pa.Array:
    is_trade = pc.is_in(rows["kind"], pa.array(TRADES))
    return pc.and_(is_trade, pc.or_(pc.is_null(rows["symbol"]), pc.is_null(rows["price"])))


CONTRACT = Contract(
    feed="transactions",
    doc="Portfolio transactions: one row per transaction and version, as the books said it",
    columns=(
        Column("transaction_id", pa.string(), "The database's id of the transaction"),
        PORTFOLIO,
        Column("kind", pa.string(), f"One of {', '.join(KINDS)}", encode=True),
        Column(
            "symbol",
            pa.string(),
            "Instrument, upper case; null for cash",
            nullable=True,
            encode=True,
        ),
        Column("quantity", PRICE, "Units of the symbol, or of the currency for cash; positive"),
        Column("price", PRICE, "Price per unit; null for cash", nullable=True),
        Column("fee", PRICE, "Fee in the currency; 0 if none is said, negative: a rebate"),
        CURRENCY,
        ACCOUNT_HOLDER,
        Column(
            "note",
            pa.string(),
            "Free text, if any",
            nullable=True,
            pii=Pii("redact", "free text may name people"),
        ),
        Column("ts_event_ns", pa.int64(), "When it was executed, ns since 1970 UTC"),
        KNOWN_AT,
        SESSION_DATE,
    ),
    key=("portfolio", "transaction_id", "known_at_ns"),
    order=("portfolio", "ts_event_ns", "transaction_id", "known_at_ns"),
    event_time="ts_event_ns",
    freshness_seconds=86_400,
    volume=VolumeBounds(
        min_per_minute=0,
        max_per_minute=600_000,
        reason="nothing between extracts; one reads at most 10,000 documents a second",
    ),
    rejects=RejectLimit(share=0.2, over_rows=1_000, run=200),
    shapes=(_MONGO, _CANONICAL),
    rules=(
        Rule("missing_field", "a buy or a sell has symbol and price", _lacks_instrument),
        Rule("non_positive_price", "price > 0", lambda rows: pc.less_equal(rows["price"], 0)),
        Rule("non_positive_size", "quantity > 0", lambda rows: pc.less_equal(rows["quantity"], 0)),
    ),
    dedup_minutes=HISTORY_MINUTES,
    future_tolerance_ms=FUTURE_MS,
    max_line_bytes=262_144,
    has_stream=False,
)
