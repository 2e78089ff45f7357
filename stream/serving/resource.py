"""What can be asked for: tables, their columns as the API shows them, and the order of pages.

Each resource is read from one table at one snapshot. Rows are told apart by `identity`: of several
versions the first by `newest` stands, and `stands` drops what was taken back. Versions may lie
outside the range that is asked for: those that `reaches_out` are always looked at. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from stream.bars import BARS
from stream.feeds import load_feed

VERSION_ORDER = (
    "known_at_ns DESC, CASE kind WHEN 'cancel' THEN 2 WHEN 'correct' THEN 1 ELSE 0 END DESC, "
    "ts_event_ns DESC, price DESC, size DESC"
)
"""Of a trade's versions the latest known: the rule of `query.LATEST_TRADE`."""
FIRST_ARRIVAL = "ts_arrival_ns, length(sequence_number), sequence_number, line_no, shard"


@dataclass(frozen=True, slots=True)
class Resource:
    """One table as the API serves it.

    `schema`: columns of answers. `time`: the ns column that ranges and pages go by; `key`: what
    orders rows and names one, `time` first. `known`: the ns column that says when a row was known.
    """

    name: str
    table: str
    schema: pa.Schema
    time: str
    key: tuple[str, ...]
    identity: tuple[str, ...]
    newest: str
    known: str | None = None
    stands: str = ""
    reaches_out: str = ""
    symbol: Literal["equal", "listed"] = "equal"
    layer: Literal["silver", "gold"] = "silver"


def _columns(feed: str) -> pa.Schema:
    contract = load_feed(feed)
    shown = [pa.field(c.name, c.type, c.nullable) for c in contract.columns]
    return pa.schema([*shown, pa.field("ts_arrival_ns", pa.int64(), nullable=False)])


def trades() -> Resource:
    """Trades that stand: corrected ones as corrected, cancelled ones not at all."""
    return Resource(
        name="trades",
        table="trades",
        schema=_columns("trades"),
        time="ts_event_ns",
        key=("ts_event_ns", "venue", "symbol", "trade_id"),
        identity=("venue", "symbol", "trade_id"),
        newest=VERSION_ORDER,
        known="known_at_ns",
        stands="kind <> 'cancel'",
        reaches_out="kind <> 'new'",
    )


def quotes() -> Resource:
    """Changes of best bid or ask."""
    return Resource(
        name="quotes",
        table="quotes",
        schema=_columns("quotes"),
        time="ts_event_ns",
        key=("ts_event_ns", "venue", "symbol", "quote_id"),
        identity=("ts_event_ns", "venue", "symbol", "quote_id"),
        newest=FIRST_ARRIVAL,
        known="ts_arrival_ns",
    )


def news() -> Resource:
    """Stories; `symbols` may name several instruments."""
    return Resource(
        name="news",
        table="news",
        schema=_columns("news"),
        time="ts_published_ns",
        key=("ts_published_ns", "source", "story_id", "symbols"),
        identity=("ts_published_ns", "source", "story_id", "symbols"),
        newest=FIRST_ARRIVAL,
        known="ts_arrival_ns",
        symbol="listed",
    )


BAR_COLUMNS = pa.schema(
    [BARS.field(name) for name in BARS.names if name not in {"revision", "ts_event"}]
)
INTERVALS = {
    "1m": 60_000_000_000,
    "5m": 300_000_000_000,
    "15m": 900_000_000_000,
    "1h": 3_600_000_000_000,
    "1d": 86_400_000_000_000,
}
"""Lengths of bars, in nanoseconds. One minute comes from Silver, the others from Gold."""


def bars(interval: str) -> Resource:
    """Bars of one length; those of 15 minutes are rolled up from 5 while they are read."""
    key = ("ts_event_ns", "venue", "symbol")
    if interval == "1m":
        return Resource(
            name="bars-1m",
            table="bars_1m",
            schema=BAR_COLUMNS,
            time="ts_event_ns",
            key=key,
            identity=key,
            newest="revision DESC",
            stands="trades > 0",
        )
    return Resource(
        name=f"bars-{interval}",
        table="fct_bars_5m" if interval == "15m" else f"fct_bars_{interval}",
        schema=BAR_COLUMNS,
        time="ts_event_ns",
        key=key,
        identity=(),
        newest="",
        layer="gold",
    )
