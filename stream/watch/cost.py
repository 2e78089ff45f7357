"""What a feed costs now, at the settings' prices: from its dataflow's own account of itself.

The prices and what is counted are those of the cost metric (`stream.observe.cost`); here they are
turned into dollars per hour and per million records of the running process. Without a running
process nothing is known, and nothing is shown.
"""

from __future__ import annotations

from stream.heartbeat import Pulse
from stream.observe.cost import HOUR_SECONDS, CostMeter, Prices
from stream.settings import Settings
from stream.watch.state import Cost

MIN_SECONDS = 10.0
"""A rate of a process that began just now would jump with each request."""


def estimate_cost(settings: Settings, pulse: Pulse | None) -> Cost:
    """The cost of the process that wrote a pulse; empty if that is not known."""
    if pulse is None or pulse.started_ms is None:
        return Cost()
    seconds = (pulse.updated_ms - pulse.started_ms) / 1000
    if seconds < MIN_SECONDS:
        return Cost()
    open_shards = sum(shard.get("state") != "ended" for shard in pulse.shards)
    meter = CostMeter(Prices.of(settings))
    commits, records = (int(pulse.tally.get(name, 0)) for name in ("commits", "records"))
    for at in (0.0, seconds):
        so_far = meter.read(at, shards=open_shards, calls=pulse.requests, commits=commits)
    parts = {part: usd * HOUR_SECONDS / seconds for part, usd in so_far.items()}
    total = sum(so_far.values())
    return Cost(
        usd_per_million=total / records * 1_000_000 if records else None,
        usd_per_hour=sum(parts.values()),
        parts=parts,
    )
