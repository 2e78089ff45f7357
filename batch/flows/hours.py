"""Closed hours: up to when a feed's Silver holds everything that its stream was given.

An hour (UTC, of arrivals) is closed when every shard's first unread record arrived after its end,
or the shard is read to its tip. Each is announced once, as `headrace.silver.hour-closed`; what
computes from whole hours starts from that. What was announced is remembered in a Prefect variable
per feed: it lives where the events live, so both survive a restart and are lost together.

    lag ─▶ closed_until_ms ─▶ hours since the remembered one ─▶ events ─▶ remembered

Guarantees: no hour is forgotten while the memory holds (a watcher that dies in between announces
the hour again), and a duplicate is harmless: the id of an event follows from its feed and hour, so
the server keeps one. After a long silence only the last `MAX_HOURS` are announced.
Not here: lag itself (`stream.lag`). Rows that come late for a closed hour belong to a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from batch.flows.report import HOUR_CLOSED, announce, recall, remember
from stream.clock import to_utc
from stream.lag import ShardLag

HOUR_MS = 3_600_000
GRACE_MS = 60_000
"""Arrival times are approximate, and this machine's clock is not the stream's."""
MAX_HOURS = 48


def closed_until_ms(shards: Sequence[ShardLag], now_ms: int) -> int | None:
    """Everything that arrived before this is committed; None if that cannot be said.

    Args: now_ms: taken before the shards were looked at.

    >>> closed_until_ms([], 7_200_000) is None
    True
    """
    bounds = [_read_until_ms(shard, now_ms) for shard in shards]
    known = [bound for bound in bounds if bound is not None]
    if not bounds or len(known) < len(bounds):
        return None
    return max(0, min(*known, now_ms) - GRACE_MS)


def hours_since(announced: str | None, until_ms: int) -> list[str]:
    """The hours that are closed and not announced yet, oldest first, as ISO times of their start.

    The first time only the newest one: what lies before was nobody's news.

    >>> hours_since("1970-01-01T00:00:00+00:00", 3 * HOUR_MS + 5)
    ['1970-01-01T01:00:00+00:00', '1970-01-01T02:00:00+00:00']
    >>> hours_since(None, 3 * HOUR_MS)
    ['1970-01-01T02:00:00+00:00']
    >>> hours_since("1970-01-01T02:00:00+00:00", 3 * HOUR_MS)
    []
    """
    end = until_ms // HOUR_MS
    first = end - 1
    if announced is not None:
        since = int(datetime.fromisoformat(announced).timestamp() * 1000) // HOUR_MS
        first = max(since + 1, end - MAX_HOURS)
    return [to_utc(hour * HOUR_MS * 1_000_000).isoformat() for hour in range(max(0, first), end)]


async def announce_hours(feed: str, until_ms: int, commit: int) -> list[str]:
    """Announce a feed's closed hours that were not announced before; returns them."""
    memory = f"headrace_hour_closed_{feed}"
    hours = hours_since(await recall(memory), until_ms)
    for hour in hours:
        payload = {"feed": feed, "hour": hour, "commit": commit}
        announce(HOUR_CLOSED, f"silver.{feed}", payload, identity=hour)
    if hours:
        await remember(memory, hours[-1])
    return hours


def _read_until_ms(shard: ShardLag, now_ms: int) -> int | None:
    if shard.unread_since_ms is not None:
        return shard.unread_since_ms
    is_at_tip = shard.is_ended or not shard.is_capped
    return now_ms if is_at_tip else None  # nothing found before the look was given up
