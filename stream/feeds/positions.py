"""What portfolios hold at the end of a day: one row per portfolio, instrument, day and version.

Accepts documents of the MongoDB collection `positions` (canonical Extended JSON) and our
canonical JSON. Filled by extracts alone. Assumptions:
- `as_of` is a day: midnight UTC of the books' own date. `session_date` is its UTC day, and one
  position a day is kept: later ones of that day are versions.
- Every write sets `updated_at`; a restated position is a new version with a later `known_at_ns`.
- A position without a symbol is cash: its symbol is its currency, its quantity the amount.
- `quantity` below zero is a short position, zero a closed one; `average_cost` is per unit and in
  the row's currency, null where the books have none, zero for what came free.
"""

from __future__ import annotations

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
    RejectLimit,
    Rule,
    Same,
    Shape,
    VolumeBounds,
)
from stream.feeds.ohlc import HISTORY_MINUTES

_TEXTS = {
    "portfolio": Field("portfolio", "text"),
    "currency": Field("currency", "symbol"),
    "symbol": Field("symbol", "symbol", default=Same("currency")),
    "account_holder": Field("account_holder", "text", optional=True),
}

_MONGO = Shape(
    "mongo_document",
    where={"_id": None},
    fields={
        **_TEXTS,
        "quantity": read_amount("quantity"),
        "average_cost": read_amount("average_cost", optional=True),
        "ts_event_ns": read_date("as_of"),
        "known_at_ns": read_date("updated_at"),
        "session_date": utc_day(),
    },
)

_CANONICAL = Shape(
    "canonical",
    where={"portfolio": None, "as_of": None},
    fields={
        **_TEXTS,
        "quantity": Field("quantity", "decimal"),
        "average_cost": Field("average_cost", "decimal", optional=True),
        "ts_event_ns": Field("as_of", "date_assumed_utc"),
        "known_at_ns": Field("known_at_ns", "epoch_ns", default=Same("ts_event_ns")),
        "session_date": utc_day(),
    },
)

CONTRACT = Contract(
    feed="positions",
    doc="Positions: one row per portfolio, instrument, day and version, as the books said it",
    columns=(
        PORTFOLIO,
        Column("symbol", pa.string(), "Instrument, upper case; the currency for cash", encode=True),
        SESSION_DATE,
        Column("quantity", PRICE, "Units held; negative: short"),
        Column("average_cost", PRICE, "Cost per unit, if the books have one", nullable=True),
        CURRENCY,
        ACCOUNT_HOLDER,
        Column("ts_event_ns", pa.int64(), "as_of, ns since 1970 UTC"),
        KNOWN_AT,
    ),
    key=("portfolio", "symbol", "session_date", "known_at_ns"),
    order=("portfolio", "ts_event_ns", "symbol", "known_at_ns"),
    event_time="ts_event_ns",
    freshness_seconds=4 * 86_400,
    volume=VolumeBounds(
        min_per_minute=0,
        max_per_minute=600_000,
        reason="nothing between extracts; one reads at most 10,000 documents a second",
    ),
    rejects=RejectLimit(share=0.2, over_rows=1_000, run=200),
    shapes=(_MONGO, _CANONICAL),
    rules=(
        Rule(
            "bad_value",
            "average_cost >= 0",
            lambda rows: pc.less(rows["average_cost"], 0),
        ),
    ),
    dedup_minutes=HISTORY_MINUTES,
    future_tolerance_ms=FUTURE_MS,
    max_line_bytes=262_144,
    has_stream=False,
)
