"""Put together what is known of one feed, from its lake, its stream and its process. Pure.

Lag is only shown as measured: when the stream cannot be asked, shards show their committed
positions and no distance. Not here: reading any of it (`feed_lake`, `processes`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stream.clock import to_utc
from stream.feeds.contract import Contract
from stream.lag import LagReport
from stream.sessions import market_state, open_ms_between
from stream.settings import Settings
from stream.slices import ShardPosition
from stream.sources.extract_lanes import STREAM_PREFIX
from stream.watch.condition import Signs, judge
from stream.watch.cost import estimate_cost
from stream.watch.days import GoldDays, judge_days
from stream.watch.feed_lake import FeedFacts
from stream.watch.processes import Life
from stream.watch.state import Commands, Feed, Freshness, Market, Shard, Throughput

STALE_MS = 60_000
"""A rate that was read so long ago says nothing about now."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was read of a feed. `facts`, `lag`: None if never read. `away`: why stream or lake
    cannot be asked now; "" if they can.
    """

    facts: FeedFacts | None
    facts_ms: int | None
    lag: LagReport | None
    lag_ms: int | None
    away: str
    life: Life
    gold: GoldDays = field(default_factory=GoldDays)


def view_feed(settings: Settings, contract: Contract, sight: Sight, now_ms: int) -> Feed:
    """The feed as a person sees it."""
    facts = sight.facts or FeedFacts()
    market = market_state(contract.calendar, now_ms)
    is_current = sight.facts_ms is not None and now_ms - sight.facts_ms < STALE_MS
    throughput = facts.throughput if is_current else Throughput()
    shards = _shards(sight, facts, dict(facts.shard_rates) if is_current else {})
    behind = max((s.behind_ms for s in shards if s.behind_ms is not None), default=None)
    freshness = _freshness(contract, sight, facts, behind, now_ms)
    signs = _signs(settings, contract, sight, now_ms)
    condition, why = judge(replace(signs, behind_ms=behind, records_per_s=throughput.records_per_s))
    return Feed(
        feed=contract.feed,
        doc=contract.doc,
        condition_now=condition,
        why=why,
        pulse_age_ms=sight.life.pulse_age_ms,
        pid=sight.life.pid,
        market=Market(market.calendar, market.is_open, market.next_change_ms),
        throughput=throughput,
        shards=shards,
        freshness=freshness,
        commits=facts.commits,
        rejects=facts.rejects,
        gaps=facts.gaps,
        days=judge_days(contract, facts.table.rows, facts.days, sight.gold, now_ms),
        cost=estimate_cost(settings, sight.life.pulse),
        tables=facts.table.tables,
        commands=_commands(contract, facts),
    )


def _shards(sight: Sight, facts: FeedFacts, rates: dict[str, float]) -> tuple[Shard, ...]:
    if sight.lag is not None and not sight.away:
        return tuple(
            Shard(
                lag.shard,
                lag.state,
                lag.behind_ms,
                lag.tip_ms,
                lag.backlog,
                lag.is_capped,
                lag.is_ended,
                lag.committed,
                rates.get(lag.shard),
            )
            for lag in sight.lag.shards
        )
    positions = facts.head.positions if facts.head else {}
    streamed = {s: p for s, p in positions.items() if not s.startswith(STREAM_PREFIX)}
    why = "stream away" if sight.away else "not read yet"
    return tuple(
        _unmeasured(shard.rpartition("/")[2], position, rates, why)
        for shard, position in sorted(streamed.items())
    )


def _unmeasured(shard: str, position: ShardPosition, rates: dict[str, float], why: str) -> Shard:
    return Shard(
        shard,
        "ended" if position.is_ended else why,
        None,
        None,
        None,
        is_capped=False,
        is_ended=position.is_ended,
        committed=position.sequence_number,
        records_per_s=rates.get(shard),
    )


def _freshness(
    contract: Contract, sight: Sight, facts: FeedFacts, behind: int | None, now_ms: int
) -> Freshness:
    newest = None if facts.newest_ms is None else max(0, now_ms - facts.newest_ms)
    silver = newest if behind is None else behind
    bars = silver
    if facts.bars_number is None:
        bars = None
    elif facts.head and facts.bars_number < facts.head.number and facts.bars_ms is not None:
        bars = max(silver or 0, now_ms - facts.bars_ms)
    bronze = silver
    pulse = sight.life.pulse
    if pulse is not None and sight.life.is_alive and (at := pulse.frontiers_ms.get("bronze")):
        bronze = min(max(0, now_ms - at), now_ms - at if silver is None else silver)
    target = contract.freshness_seconds * 1000
    return Freshness(
        bronze_ms=bronze,
        silver_ms=silver,
        bars_ms=bars,
        newest_ms=newest,
        target_ms=target,
        is_fresh=silver is not None and silver <= target,
    )


def _signs(settings: Settings, contract: Contract, sight: Sight, now_ms: int) -> Signs:
    life, facts = sight.life, sight.facts
    newest = facts.newest_ms if facts else None
    last = facts.commits[0].committed_ms if facts and facts.commits else None
    return Signs(
        feed=contract.feed,
        has_stream=contract.has_stream,
        is_started=facts.is_started if facts else None,
        process=life.process,
        last_line=life.last_line[:200],
        is_alive=life.is_alive,
        pulse_age_ms=life.pulse_age_ms,
        epoch_age_ms=life.epoch_age_ms,
        epoch_limit_ms=int(max(15.0, 3 * settings.epoch_seconds) * 1000),
        commit_age_ms=None if last is None else now_ms - last,
        is_remote=settings.aws == "account" and life.pulse is None,
        away=sight.away,
        target_ms=contract.freshness_seconds * 1000,
        min_per_minute=contract.volume.min_per_minute,
        is_open=market_state(contract.calendar, now_ms).is_open,
        quiet_open_ms=None
        if newest is None
        else open_ms_between(contract.calendar, newest, now_ms),
    )


def _commands(contract: Contract, facts: FeedFacts) -> Commands:
    """Ready to copy; the replay is of the last ten minutes that hold records, as a dry run."""
    feed = contract.feed
    redrive = f"headrace redrive {feed}"
    if not contract.has_stream:
        replay = f"headrace replay {feed} --source extract --run-id RUN_ID"
        return Commands(replay, redrive, f"headrace prove {feed}")
    end = "TIME" if facts.newest_ms is None else _iso(facts.newest_ms + 1_000)
    begin = "TIME" if facts.newest_ms is None else _iso(facts.newest_ms - 599_000)
    return Commands(
        f"headrace replay {feed} --from {begin} --to {end}", redrive, f"headrace prove {feed}"
    )


def _iso(at_ms: int) -> str:
    """A time as the command line reads it, whole seconds.

    >>> _iso(1_764_000_000_999)
    '2025-11-24T16:00:00'
    """
    return to_utc(at_ms // 1000 * 1_000_000_000).replace(tzinfo=None).isoformat()
