"""Read (venue, symbol) from a message, whatever its shape: only to choose a partition key.

Nothing is validated here and no shape is required: a message that says neither is spread by its
checksum. Not here: decoding (`decode`, `feeds`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import orjson

from stream.producers.pack import DEFAULT_BUCKETS, partition_key


def read_route(message: bytes) -> tuple[str, str] | None:
    """Venue and symbol of a message, or None.

    >>> read_route(b'{"type":"match","product_id":"BTC-USD"}')
    ('coinbase', 'BTC-USD')
    >>> read_route(b'[340,[],"trade","XBT/USD"]')
    ('kraken', 'XBT/USD')
    """
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, list):
        return _text("kraken", value[-1]) if len(value) >= 4 else None
    return _read_object(value) if isinstance(value, dict) else None


def route_key(message: bytes, buckets: int = DEFAULT_BUCKETS) -> str:
    """The partition key of any message."""
    route = read_route(message)
    if route is None:
        return f"unrouted:{crc32(message) % buckets}"
    return partition_key(*route, buckets)


def _read_object(value: dict[str, Any]) -> tuple[str, str] | None:
    for marker, read in _READERS:
        if marker in value:
            return _text(*read(value))
    return None


def _kraken(value: dict[str, Any]) -> tuple[object, object]:
    data = value.get("data")
    item = data[0] if isinstance(data, list) and data else None
    return "kraken", item.get("symbol") if isinstance(item, dict) else None


_READERS: tuple[tuple[str, Callable[[dict[str, Any]], tuple[object, object]]], ...] = (
    ("venue", lambda value: (value["venue"], value.get("symbol"))),
    ("stream", lambda value: ("binance", value["data"].get("s") if _is_dict(value) else None)),
    ("product_id", lambda value: ("coinbase", value["product_id"])),
    ("channel", _kraken),
    ("s", lambda value: ("binance", value["s"])),
    (
        "story_id",
        lambda value: (value.get("source"), str(value.get("symbols", "")).partition(",")[0]),
    ),
    ("publishedDate", lambda value: ("fmp", value.get("symbol") or "-")),
    ("guid", lambda value: ("rss", value["guid"] or value.get("link"))),
)
"""The first field that is there says whose message it is."""


def _is_dict(value: dict[str, Any]) -> bool:
    return isinstance(value.get("data"), dict)


def _text(venue: object, symbol: object) -> tuple[str, str] | None:
    # 64: a key may have 256 characters, and garbage must not become one
    if isinstance(venue, str) and isinstance(symbol, str) and 0 < len(venue) <= 64:
        return venue, symbol
    return None
