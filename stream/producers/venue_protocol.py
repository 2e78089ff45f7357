"""How each venue is asked for data, and the little a producer must understand of its answers.

Coinbase Exchange, Kraken (v2 and v1) and Binance: subscribe messages for trades and quotes, which
messages carry data, for which product, and the ids that must be consecutive. Pure. Not here: the
connection (`venue`), the meaning of the rows (`feeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Seen:
    """What one message is. `ids`: first and last of a run that continues per product.

    `control` (acknowledgements, heartbeats) is counted, never published; what nobody recognises is
    `data`, so that quarantine shows it.
    """

    kind: Literal["data", "control", "error"]
    product: str = ""
    ids: tuple[int, int] | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Venue:
    """One venue's protocol. `stale_seconds`: silence after which a connection counts as dead."""

    name: str
    url: str
    stale_seconds: float
    subscribe: Callable[[str, Sequence[str]], list[dict[str, Any]]]
    classify: Callable[[Any], Seen]

    def subscriptions(self, feed: str, products: Sequence[str]) -> list[bytes]:
        """The messages to send first. Raises: ConfigError for a feed the venue does not have."""
        if feed not in ("trades", "quotes"):
            raise ConfigError(f"venue {self.name} has trades and quotes, no feed {feed!r}")
        return [orjson.dumps(message) for message in self.subscribe(feed, products)]

    def read(self, message: bytes) -> Seen:
        """Classify a message; anything unreadable is data of no product."""
        try:
            return self.classify(orjson.loads(message))
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
            return Seen("data")


def _coinbase_subscribe(feed: str, products: Sequence[str]) -> list[dict[str, Any]]:
    channel = "matches" if feed == "trades" else "ticker"
    return [
        {"type": "subscribe", "product_ids": list(products), "channels": [channel, "heartbeat"]}
    ]


def _coinbase_classify(value: Any) -> Seen:
    kind = value["type"]
    if kind in ("match", "last_match"):
        return Seen(
            "data", str(value["product_id"]), (int(value["trade_id"]), int(value["trade_id"]))
        )
    if kind in ("subscriptions", "heartbeat"):
        return Seen("control")
    if kind == "error":
        return Seen("error", detail=f"{value.get('message')}: {value.get('reason', '')}")
    # A ticker's sequence counts all order-book events: holes in it say nothing.
    return Seen("data", str(value.get("product_id", "")))


def _kraken_subscribe(feed: str, products: Sequence[str]) -> list[dict[str, Any]]:
    params: dict[str, Any] = {"symbol": list(products), "snapshot": False}
    params["channel"] = "trade" if feed == "trades" else "ticker"
    if feed == "quotes":
        params["event_trigger"] = "bbo"
    return [{"method": "subscribe", "params": params}]


def _kraken_classify(value: Any) -> Seen:
    if value.get("channel") in ("heartbeat", "status") or value.get("method") == "pong":
        return Seen("control")
    if "method" in value:
        if value.get("success"):
            return Seen("control")
        return Seen("error", detail=str(value.get("error")))
    rows = value["data"]
    product = str(rows[0]["symbol"])
    if value["channel"] == "trade":
        ids = [int(row["trade_id"]) for row in rows if row["symbol"] == product]
        return Seen("data", product, (min(ids), max(ids)))
    return Seen("data", product)


def _kraken1_subscribe(feed: str, products: Sequence[str]) -> list[dict[str, Any]]:
    name = "trade" if feed == "trades" else "ticker"
    return [{"event": "subscribe", "pair": list(products), "subscription": {"name": name}}]


def _kraken1_classify(value: Any) -> Seen:
    if isinstance(value, list):
        return Seen("data", str(value[-1]))  # v1 trades carry no ids
    if value.get("status") == "error" or value.get("event") == "error":
        return Seen("error", detail=str(value.get("errorMessage")))
    return Seen("control" if "event" in value else "data")


def _binance_subscribe(feed: str, products: Sequence[str]) -> list[dict[str, Any]]:
    channel = "trade" if feed == "trades" else "bookTicker"
    streams = [f"{product.lower()}@{channel}" for product in products]
    return [{"method": "SUBSCRIBE", "params": streams, "id": 1}]


def _binance_classify(value: Any) -> Seen:
    if "stream" in value:  # the combined endpoint wraps each message
        value = value["data"]
    event = value.get("e")
    if event == "trade":
        return Seen("data", str(value["s"]), (int(value["t"]), int(value["t"])))
    if event == "aggTrade":
        return Seen("data", str(value["s"]), (int(value["a"]), int(value["a"])))
    if "error" in value or "code" in value:
        return Seen("error", detail=str(value.get("error") or value.get("msg")))
    if "result" in value:
        return Seen("control")
    return Seen("data", str(value.get("s", "")))


VENUES = {
    venue.name: venue
    for venue in (
        Venue(
            "coinbase",
            "wss://ws-feed.exchange.coinbase.com",
            10.0,  # a heartbeat per second and product
            _coinbase_subscribe,
            _coinbase_classify,
        ),
        Venue(
            "kraken",
            "wss://ws.kraken.com/v2",
            10.0,  # a heartbeat per second when nothing else is sent
            _kraken_subscribe,
            _kraken_classify,
        ),
        Venue(
            "kraken1",
            "wss://ws.kraken.com",
            10.0,
            _kraken1_subscribe,
            _kraken1_classify,
        ),
        Venue(
            "binance",
            "wss://stream.binance.com:9443/ws",
            120.0,  # no heartbeat: a quiet product is quiet
            _binance_subscribe,
            _binance_classify,
        ),
    )
}


def find_venue(name: str) -> Venue:
    """The protocol of that name. Raises: ConfigError naming the valid ones."""
    if name not in VENUES:
        raise ConfigError(f"venue {name!r} is not known; choose one of {', '.join(VENUES)}")
    return VENUES[name]
