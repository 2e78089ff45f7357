"""What the feeds of trading venues share: the venues, and their messages that are no data."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from stream.feeds.contract import Ignored

VENUES = ("sim", "coinbase", "kraken", "binance", "fmp")
"""`fmp` is no venue: a best bid and ask whose venue the vendor FMP does not name."""


def control_messages(channel: str) -> tuple[Ignored, ...]:
    """Acknowledgements, heartbeats and errors; and Kraken's snapshot of a channel, which repeats
    what was sent before.
    """
    kraken_events = ("heartbeat", "systemStatus", "subscriptionStatus", "pong")
    return (
        Ignored("coinbase_subscriptions", {"type": ("subscriptions",)}),
        Ignored("coinbase_heartbeat", {"type": ("heartbeat",), "product_id": None}),
        Ignored("coinbase_error", {"type": ("error",), "message": None}),
        Ignored("kraken_event", {"event": kraken_events}),
        Ignored("kraken_heartbeat", {"channel": ("heartbeat",)}),
        Ignored("kraken_status", {"channel": ("status",)}),
        Ignored("kraken_snapshot", {"channel": (channel,), "type": ("snapshot",)}),
        Ignored("kraken_answer", {"method": ("subscribe", "unsubscribe", "ping", "pong")}),
        Ignored("binance_answer", {"result": (None,), "id": None}),
    )


def is_unknown_venue(rows: Mapping[str, pa.Array]) -> pa.Array:
    """A rule: the venue is none of `VENUES`."""
    return pc.invert(pc.is_in(rows["venue"], pa.array(VENUES)))
