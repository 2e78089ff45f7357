"""Closed hours: only what is wholly committed, announced once per feed and hour."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.flows.hours import (
    GRACE_MS,
    HOUR_MS,
    MAX_HOURS,
    announce_hours,
    closed_until_ms,
    hours_since,
)
from batch.flows.report import announce
from batch.flows.watch import look, stream_watch
from stream.clock import parse_time_ms
from stream.lag import ShardLag
from stream.settings import load_settings

NOW = 100 * HOUR_MS
HOUR = "2026-11-24T10:00:00+00:00"
END = parse_time_ms(HOUR) + HOUR_MS
EVENT = "headrace.silver.hour-closed"


def shard(
    unread_since_ms: int | None = None, *, is_capped: bool = False, is_ended: bool = False
) -> ShardLag:
    return ShardLag(
        "trades", "shard-0", "1", 0, 0, unread_since_ms, int(unread_since_ms is not None),
        is_capped, is_ended, "",
    )  # fmt: skip


def announced(heard: Any) -> list[tuple[str, str]]:
    return [(p["feed"], p["hour"]) for event, _, p in heard.events if event == EVENT]


@pytest.mark.parametrize(
    ("shards", "until_ms"),
    [
        ([shard()], NOW - GRACE_MS),
        ([shard(), shard(NOW - HOUR_MS)], NOW - HOUR_MS - GRACE_MS),
        ([shard(NOW - 5), shard(NOW - 9)], NOW - 9 - GRACE_MS),
        ([shard(is_ended=True, is_capped=True), shard()], NOW - GRACE_MS),
        ([shard(NOW + 7)], NOW - GRACE_MS),
        ([shard(is_capped=True), shard()], None),
        ([], None),
        ([shard(5)], 0),
    ],
    ids=["at the tip", "one is behind", "the oldest counts", "an ended one is read",
         "its clock is ahead", "one could not be read", "no shard", "before 1970"],
)  # fmt: skip
def test_closed_until_is_the_oldest_unread_arrival_of_all_shards(shards, until_ms):
    assert closed_until_ms(shards, NOW) == until_ms


@given(st.lists(st.one_of(st.none(), st.integers(0, NOW)), min_size=1, max_size=6))
def test_no_unread_record_arrived_before_what_is_called_closed(since):
    until_ms = closed_until_ms([shard(ms) for ms in since], NOW)
    assert until_ms is not None
    assert all(ms is None or ms >= until_ms for ms in since)
    assert all(parse_time_ms(hour) + HOUR_MS <= until_ms for hour in hours_since(None, until_ms))


@given(st.lists(st.integers(0, 40 * HOUR_MS), max_size=20).map(sorted))
def test_looks_in_order_announce_each_closed_hour_from_the_first_on_once(looks):
    memory, found = None, []
    for until_ms in looks:
        hours = hours_since(memory, until_ms)
        memory = hours[-1] if hours else memory
        found += hours
    starts = [parse_time_ms(hour) for hour in found]
    assert starts == sorted(set(starts))
    if starts:
        assert starts == list(range(starts[0], starts[-1] + HOUR_MS, HOUR_MS)), "an hour is missing"


def test_after_a_long_silence_only_the_last_hours_are_announced():
    hours = hours_since(HOUR, END + 1_000 * HOUR_MS)
    assert len(hours) == MAX_HOURS
    assert parse_time_ms(hours[-1]) == END + 999 * HOUR_MS


def test_hour_is_announced_once_over_repeated_looks_and_restarts(heard):
    for until_ms in (END - 1, END, END + 1, END + HOUR_MS - 1):
        asyncio.run(announce_hours("trades", until_ms, 7))
    assert announced(heard) == [("trades", "2026-11-24T09:00:00+00:00"), ("trades", HOUR)]
    assert heard.memory == {"headrace_hour_closed_trades": HOUR}

    heard.events.clear()  # a new process has the server's memory and nothing else
    asyncio.run(announce_hours("trades", END + HOUR_MS, 8))
    assert announced(heard) == [("trades", "2026-11-24T11:00:00+00:00")]
    assert heard.events[0][1:] == ("silver.trades", {**heard.events[0][2], "commit": 8})


def test_two_watchers_at_once_announce_one_event_by_its_identity(heard):
    asyncio.run(announce_hours("trades", END, 1))
    heard.memory.clear()  # as the second one saw it
    asyncio.run(announce_hours("trades", END, 1))
    assert heard.identities == [HOUR, HOUR]


def test_identity_of_an_event_follows_from_its_name_subject_and_identity(monkeypatch):
    ids = []
    monkeypatch.setattr("batch.flows.report.emit_event", lambda *_, **said: ids.append(said["id"]))
    for subject, identity in (("silver.a", HOUR), ("silver.a", HOUR), ("silver.b", HOUR)):
        announce(EVENT, subject, {}, identity)
    announce(EVENT, "silver.a", {})
    assert ids[0] == ids[1] != ids[2]
    assert ids[3] is None, "the server's client draws one"


def test_watch_announces_hours_after_health_and_only_what_it_could_see(heard, monkeypatch):
    """Every feed for itself: one that cannot be looked at keeps no other back."""
    clock = SimpleNamespace(now_ns=lambda: (END + GRACE_MS) * 1_000_000)
    lag = SimpleNamespace(shards=(shard(),), tables=(SimpleNamespace(
        target_ms=1, gaps=(), freshness_ms=5, commit=3, is_silent=False),))  # fmt: skip

    def look_at(settings: Any, feed: str) -> Any:
        monkeypatch.setattr("batch.flows.watch.connect_lake", _lake_with("trades"))
        monkeypatch.setattr("batch.flows.watch.read_lag", lambda *_, **__: lag)
        return look(settings, feed, clock)

    monkeypatch.setattr("batch.flows.watch.look", look_at)
    asyncio.run(stream_watch.fn(["trades", "quotes"]))
    asyncio.run(stream_watch.fn(["trades", "quotes"]))

    assert announced(heard) == [("trades", HOUR)]
    assert [event for event, _, _ in heard.events][:2] == ["headrace.stream.healthy", EVENT]
    row = next(row for row in heard.tables["streams"] if row["feed"] == "trades")
    assert row["closed_until"] == "2026-11-24T11:00:00+00:00"
    assert look(load_settings(), "quotes").closed_until is None


def _lake_with(*names: str) -> Any:
    return lambda _: SimpleNamespace(catalog=SimpleNamespace(names=lambda: list(names)))
