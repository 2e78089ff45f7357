"""`stream-watch`: look at every stream once; say whether it keeps up and which hours are closed.

Streams never run inside Prefect; this only looks at committed positions from outside, as
`headrace lag` does. Healthy: no unread record is older than the feed's freshness target and no
record was lost; a market that is closed or slow is healthy, one that is open and silent is not.
One event per feed and look: an automation pages when the healthy ones stop, which also notices a
dead watcher. When Silver holds a whole hour of a feed, that is announced once (`hours`): Gold is
built from that event.
Not here: lag itself (`stream.lag`), alarms that must work without Prefect (CloudWatch).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from prefect import flow

from batch.flows.hours import announce_hours, closed_until_ms
from batch.flows.report import STREAM_HEALTHY, STREAM_LAGGING, announce, write_table_async
from batch.flows.run import open_run
from stream.clock import SYSTEM_CLOCK, Clock, now_ms, parse_time_ms, to_utc
from stream.errors import ConfigError, PipelineError
from stream.feeds import load_feeds
from stream.lag import LagReport, read_lag
from stream.lake.connect import connect_lake
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Health:
    """One feed's dataflow as seen from outside. `detail` says why it is not healthy.

    `closed_until`: what arrived before this is in Silver; none if that cannot be said.
    """

    feed: str
    state: str
    behind_ms: int | None = None
    target_ms: int | None = None
    freshness_ms: int | None = None
    backlog: int | None = None
    commit: int = 0
    closed_until: str | None = None
    detail: str = ""


@flow(name="stream-watch")
async def stream_watch(feeds: list[str] | None = None) -> dict[str, str]:
    """Look at the named feeds, or at all that were started; their states by feed."""
    names = _check_feeds(feeds or [])
    settings = await asyncio.to_thread(open_run)
    found = await asyncio.gather(*(asyncio.to_thread(look, settings, feed) for feed in names))
    bad = sum(health.state == "lagging" for health in found)
    rows = [asdict(health) for health in found]
    await write_table_async("streams", rows, f"{bad} of {len(rows)} streams lag")
    for health in found:
        if health.state != "not started":
            event = STREAM_HEALTHY if health.state == "healthy" else STREAM_LAGGING
            announce(event, f"stream.{health.feed}", asdict(health))
    for health in found:
        if health.closed_until is not None:
            until_ms = parse_time_ms(health.closed_until)
            await announce_hours(health.feed, until_ms, health.commit)
    return {health.feed: health.state for health in found}


def look(settings: Settings, feed: str, clock: Clock = SYSTEM_CLOCK) -> Health:
    """One feed; what keeps us from looking is a reason to worry, and never hides other feeds."""
    try:
        if feed not in connect_lake(settings).catalog.names():
            return Health(feed, "not started")
        began_ms = now_ms(clock)
        lag = read_lag(settings, [feed], clock=clock)
        return judge(feed, lag, closed_until_ms(lag.shards, began_ms))
    except PipelineError as error:
        return Health(feed, "lagging", detail=str(error))


def judge(feed: str, lag: LagReport, until_ms: int | None = None) -> Health:
    """The verdict on one feed's lag. `until_ms`: see `closed_until_ms`.

    >>> judge("trades", LagReport((), ())).state
    'healthy'
    """
    target_ms = max((table.target_ms for table in lag.tables), default=0)
    late = [shard for shard in lag.shards if shard.behind_ms > target_ms]
    gaps = [gap for table in lag.tables for gap in table.gaps]
    silent = [
        f"nothing arrived for {(table.trading_ms or 0) // 60_000} minutes of trading"
        for table in lag.tables
        if table.is_silent
    ]
    reasons = [f"{shard.shard}: {shard.backlog_text} unread" for shard in late] + gaps + silent
    return Health(
        feed=feed,
        state="lagging" if reasons else "healthy",
        behind_ms=max((shard.behind_ms for shard in lag.shards), default=0),
        target_ms=target_ms,
        freshness_ms=next((table.freshness_ms for table in lag.tables), None),
        backlog=sum(shard.backlog for shard in lag.shards),
        commit=max((table.commit for table in lag.tables), default=0),
        closed_until=None if until_ms is None else to_utc(until_ms * 1_000_000).isoformat(),
        detail="; ".join(reasons)[:1_000],
    )


def _check_feeds(feeds: list[str]) -> list[str]:
    known = {feed for feed, contract in load_feeds().items() if contract.has_stream}
    if unknown := sorted(set(feeds) - known):
        raise ConfigError(f"no stream {', '.join(unknown)}; feeds with one: {sorted(known)}")
    return sorted(feeds or known)
