"""What the feeds of a portfolio's books share: how MongoDB's Extended JSON says times and amounts.

Documents arrive as canonical Extended JSON, exactly as the database holds them. An amount may be
a decimal, an integer or a double; all are read by their digits. A double like 0.30000000000000004
has more decimals than a column keeps and is rejected, never rounded: money belongs in Decimal128.
So is an amount of ten billion and more (`out_of_range`).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from stream.feeds.contract import Column, Field, Pii

FUTURE_MS = 86_400_000
"""A day: an extract's rows arrive when its run began, and books east of Greenwich are dated with
a day that has not begun in UTC."""

ACCOUNT_HOLDER = Column(
    "account_holder",
    pa.string(),
    "Who owns the portfolio, if the document says so",
    nullable=True,
    pii=Pii("hash", "the name of a person; one owner's portfolios still join"),
)
CURRENCY = Column("currency", pa.string(), "Of price, fee and cash, upper case", encode=True)
PORTFOLIO = Column("portfolio", pa.string(), "Whose books: the portfolio's id", encode=True)
SESSION_DATE = Column("session_date", pa.date32(), "UTC day of ts_event_ns")
KNOWN_AT = Column(
    "known_at_ns",
    pa.int64(),
    "When this version became known: updated_at, ns since 1970 UTC. Part of the key: an update is "
    "a new version next to the old one",
)


def read_date(path: str, **kwargs: Any) -> Field:
    """A BSON date: {"$date": {"$numberLong": "<ms>"}}."""
    return Field(f"{path}.$date.$numberLong", "epoch_ms_text", **kwargs)


def read_amount(path: str, **kwargs: Any) -> Field:
    """A BSON number of any type: {"$numberDecimal": "1.50"}, {"$numberInt": "2"}, …"""
    return Field(f"{path}.*", "decimal_text", **kwargs)


def utc_day() -> Field:
    """The UTC day of ts_event_ns."""
    return Field("", "utc_date", {"of": "ts_event_ns"})
