"""What the feeds of price bars share: columns, fields and rules of open, high, low, close.

A bar is somebody's summary of a stretch of trading, and is restated later: a split rewrites every
older bar, a late print moves a volume. So `known_at_ns` is part of a bar's key: a restated bar is
a new version next to the old one, and the last known version is the current one. Prices are
positive by contract: a futures price below zero (oil, April 2020) goes to quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from stream.feeds.contract import PRICE, Column, Field, RejectLimit, Rule, Same

VOLUME = pa.decimal128(18, 4)
"""Crypto volumes are fractions, and in units of money they pass what a price column holds."""

PRICES = ("open", "high", "low", "close")

HISTORY_MINUTES = 40 * 366 * 1_440
"""An extract brings its whole history at once: bars of forty years ago are not late in it."""

REJECT_LIMIT = RejectLimit(share=0.2, over_rows=1_000, run=200)

FUTURE_MS = 86_400_000
"""A day: the arrival of an extract's rows is when its run began, and a session east of Greenwich
opens before the midnight UTC that its daily bar is dated with."""


def read_prices(prefix: str = "") -> Mapping[str, Field]:
    """The fields of a bar whose numbers are JSON numbers, below `prefix`."""
    given = {name: Field(f"{prefix}{name}", "decimal") for name in PRICES}
    optional = ("volume", "vwap")
    return given | {name: Field(f"{prefix}{name}", "decimal", optional=True) for name in optional}


def describe_prices(adjustment: str) -> tuple[Column, ...]:
    """The columns that `read_prices` fills; `adjustment` says what prices are adjusted for."""
    return (
        Column("open", PRICE, f"First price; {adjustment}"),
        Column("high", PRICE, "Highest price, adjusted like open"),
        Column("low", PRICE, "Lowest price, adjusted like open"),
        Column("close", PRICE, "Last price, adjusted like open"),
        Column("volume", VOLUME, "Quantity traded, as given; null for some indices", nullable=True),
        Column("vwap", PRICE, "Volume-weighted average price, if given", nullable=True),
    )


KNOWN_AT = Field("known_at_ns", "epoch_ns", default=Same("ts_arrival_ns"))
"""When a canonical message says its bar became known; when we got it, if it does not say."""

KNOWN_AT_COLUMN = Column(
    "known_at_ns", pa.int64(), "When this version of the bar became known to us, ns since 1970 UTC"
)


def _is_not_positive(rows: Mapping[str, pa.Array]) -> pa.Array:
    bad = pc.less_equal(rows["open"], 0)
    for name in PRICES[1:]:
        bad = pc.or_(bad, pc.less_equal(rows[name], 0))
    return bad


def _contradicts_itself(rows: Mapping[str, pa.Array]) -> pa.Array:
    is_negative = pc.fill_null(pc.less(rows["volume"], 0), fill_value=False)
    return pc.or_(pc.less(rows["high"], rows["low"]), is_negative)


BAR_RULES = (
    Rule("non_positive_price", f"{', '.join(PRICES)} > 0", _is_not_positive),
    Rule("bad_value", "high >= low, volume >= 0", _contradicts_itself),
)
