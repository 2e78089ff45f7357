"""One state of everything: true with real commits, whole whatever part of it is away."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError
from stream.heartbeat import Heartbeat, pulse_path
from stream.lake.entries import GapRecord
from stream.local.state import PlatformState, write_state
from stream.settings import Settings
from stream.slices import ShardRef
from stream.sources.memory import MemoryReader, MemoryStream
from stream.watch.collect import Watcher, collect
from stream.watch.feed_lake import FeedLake
from stream.watch.state import WatchState

STREAM = "headrace-trades.00000000"


def pulse(home: Path, clock: ManualClock, **beat: Any) -> None:
    """What a dataflow of this very process would have written."""
    path = pulse_path(home, "trades")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"epoch_age_seconds": 1.0, "tally": {}, "shards": [], **beat}
    Heartbeat(path, "trades", lambda: found, clock).write()


def look(lake: Any, **options: Any) -> WatchState:
    return Watcher(lake.settings, ["trades"], clock=lake.clock).collect(wait_seconds=20, **options)


def test_state_before_anything_was_started_says_so_and_makes_nothing(settings: Settings) -> None:
    state = collect(settings, ["trades", "prices_daily"])
    assert [feed.condition_now for feed in state.feeds] == ["never started", "never started"]
    assert state.platform.phase == "stopped"
    assert [problem.what for problem in state.problems] == ["the platform is not running"]
    assert state.prefect.state == "off"
    assert not settings.home.exists()


def test_state_of_an_unknown_feed_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no feed 'tirades'"):
        collect(settings, ["tirades"])


def test_state_of_a_lake_at_rest_shows_what_was_committed(small_lake: Any, trade: Any) -> None:
    small_lake.land_trades(100)
    bad = trade(7_000)
    small_lake.land(small_lake.slice([b"not json", bad, bad.replace(b'"sim"', b'"nowhere"')]))
    feed = look(small_lake).feed("trades")
    assert feed.condition_now == "stopped"
    assert [c.number for c in feed.commits] == [3, 2, 1]
    assert feed.commits[0].records == 3
    assert feed.commits[0].entry == small_lake.ledger.head().path
    assert {r.reason: r.count for r in feed.rejects} == {"malformed_json": 1, "unknown_venue": 1}
    assert feed.rejects[0].samples[0].raw == "not json"
    assert feed.tables.rows == 101
    assert [(d.condition, d.rows) for d in feed.days] == [("degraded", 101)], "2 of 103 rejected"
    assert feed.shards[0].state == "stream away"
    assert feed.shards[0].behind_ms is None
    assert feed.freshness.newest_ms == feed.freshness.silver_ms
    assert feed.commands.replay.startswith("headrace replay trades --from 2025-11-24T15:5")


def test_state_is_json_all_through(small_lake: Any) -> None:
    small_lake.land_trades(5)
    found = look(small_lake).to_json()
    assert json.loads(json.dumps(found)) == found
    assert {"at_ms", "platform", "feeds", "prefect", "problems"} == found.keys()


def test_state_again_reads_only_what_was_committed_since(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        small_lake.land_trades(10)
    watcher = Watcher(small_lake.settings, ["trades"], clock=small_lake.clock)
    assert watcher.collect(wait_seconds=20).feed("trades").tables.rows == 30
    asked: list[int] = []
    entries = type(small_lake.ledger).entries
    monkeypatch.setattr(
        type(small_lake.ledger),
        "entries",
        lambda self, after=0: asked.append(after) or entries(self, after),
    )
    small_lake.clock.sleep(20)
    small_lake.land_trades(10)
    small_lake.clock.sleep(20)
    assert watcher.collect(wait_seconds=20).feed("trades").commits[0].number == 5
    assert asked == [4]


def test_state_with_a_pulse_of_a_living_process_is_not_dead(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land_trades(10)
    began = small_lake.clock.now_ns() // 1_000_000 - 60_000  # this process is of another age
    monkeypatch.setattr("stream.watch.processes._began_ms", lambda _: began)
    pulse(small_lake.settings.home, small_lake.clock)
    feed = look(small_lake).feed("trades")
    assert (feed.pid, feed.pulse_age_ms) == (os.getpid(), 0)
    assert feed.condition_now == "stalled", "its stream cannot be asked"


def test_state_with_a_pulse_of_a_dead_process_is_dead(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land_trades(10)
    monkeypatch.setattr(os, "getpid", lambda: 4_194_999)  # no kernel gives it by default
    pulse(small_lake.settings.home, small_lake.clock)
    monkeypatch.undo()
    state = look(small_lake)
    assert state.feed("trades").condition_now == "dead"
    assert state.problems[0].what == "trades is dead"


@pytest.mark.parametrize(("phase", "expected"), [("stopped", "stopped"), ("running", "dead")])
def test_state_with_a_pulse_that_a_stopped_platform_left_behind_is_stopped(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch, phase: str, expected: str
) -> None:
    small_lake.land_trades(10)
    monkeypatch.setattr(os, "getpid", lambda: 4_194_999)
    pulse(small_lake.settings.home, small_lake.clock)
    monkeypatch.undo()
    write_state(small_lake.settings.home, PlatformState(phase))  # type: ignore[arg-type]
    assert look(small_lake).feed("trades").condition_now == expected


def test_state_names_gaps_of_the_last_day_as_a_problem(small_lake: Any) -> None:
    small_lake.land_trades(10)
    gap = GapRecord(ShardRef("trades", STREAM, "shardId-000000000000"), "1", "9", "retention")
    small_lake.ledger.commit_slices([], [gap])
    state = look(small_lake)
    assert state.feed("trades").gaps[0].reason == "retention"
    assert state.problems[0].what == "trades lost records: 1 gap within a day"
    small_lake.clock.sleep(90_000)
    assert not [p for p in look(small_lake).problems if "gap" in p.what]
    assert look(small_lake).feed("trades").gaps


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StoreUnavailableError("cannot read s3://lake: no answer"), "cannot read s3://lake"),
        (KeyError("positions"), "This is a fault of headrace"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_state_with_a_lake_that_fails_names_it_and_keeps_what_was_known(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
) -> None:
    small_lake.land_trades(10)
    read, failing = FeedLake.read, []

    def fail(this: FeedLake) -> Any:
        if failing:
            raise error
        return read(this)

    monkeypatch.setattr(FeedLake, "read", fail)
    watcher = Watcher(small_lake.settings, ["trades"], clock=small_lake.clock)
    watcher.collect(wait_seconds=20)
    failing.append(True)
    small_lake.clock.sleep(60)
    state = watcher.collect(wait_seconds=20)
    assert state.feed("trades").tables.rows == 10
    problem = next(p for p in state.problems if p.what == "the lake of trades cannot be read")
    assert says in problem.advice
    failing.clear()
    small_lake.clock.sleep(60)
    state = watcher.collect(wait_seconds=20)
    assert not [p for p in state.problems if "cannot be read" in p.what]


def test_state_does_not_wait_for_a_part_that_hangs(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land_trades(10)
    release, began = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        began.set()
        release.wait(30)

    monkeypatch.setattr(FeedLake, "read", hang)
    watcher = Watcher(small_lake.settings, ["trades"], clock=small_lake.clock)
    watcher.collect(wait_seconds=0.01)
    assert began.wait(5)
    small_lake.clock.sleep(7)
    state = watcher.collect(wait_seconds=0.01)
    assert "the lake of trades: no answer for 7 s" in [p.what for p in state.problems]
    release.set()


class Road:
    """A stream in memory, asked as if it were in an account, and a ledger that follows it."""

    def __init__(self, lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lake = lake
        self.stream = MemoryStream("headrace-trades", shards=1, clock=lake.clock)
        self.reader = MemoryReader(self.stream)
        monkeypatch.setattr("stream.sources.choose.open_reader", lambda *_: self.reader)
        self.settings = lake.settings.model_copy(update={"aws": "account"})

    def look(self) -> WatchState:
        self.lake.clock.sleep(0.001)
        return Watcher(self.settings, ["trades"], clock=self.lake.clock).collect(wait_seconds=20)


def test_state_shows_the_lag_that_was_measured(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land_trades(10)
    road = Road(small_lake, monkeypatch)
    feed = road.look().feed("trades")
    assert (feed.behind_ms, feed.shards[0].state) == (0, "at the tip")
    assert feed.freshness.is_fresh
    for _ in range(20):
        road.stream.put(b"tick", "key")
        small_lake.clock.sleep(1)
    state = road.look()
    feed = state.feed("trades")
    assert feed.condition_now == "lagging"
    assert feed.behind_ms == 20_001 == feed.freshness.silver_ms
    assert not feed.freshness.is_fresh
    assert feed.shards[0].backlog == 20
    assert state.platform.phase == "account"
    assert state.problems[0].what == "trades is lagging"


def test_state_of_a_closed_market_is_idle_and_of_an_open_one_silent(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land_trades(10)
    small_lake.clock.sleep(11 * 60)
    road = Road(small_lake, monkeypatch)
    assert road.look().feed("trades").condition_now == "silent"
    monkeypatch.setattr("stream.watch.feed_view.open_ms_between", lambda *_: 0)
    assert road.look().feed("trades").condition_now == "idle"


def test_state_leaves_samples_for_graphs(small_lake: Any) -> None:
    small_lake.land_trades(10)
    watcher = Watcher(small_lake.settings, ["trades"], clock=small_lake.clock)
    for _ in range(3):
        small_lake.clock.sleep(1)
        watcher.collect(wait_seconds=20)
    assert len(watcher.history.read("trades")) == 3


def test_state_of_a_home_that_was_deleted_is_that_of_a_new_one(
    small_lake: Any, tmp_path: Path
) -> None:
    small_lake.land_trades(10)
    watcher = Watcher(small_lake.settings, ["trades"], clock=small_lake.clock)
    assert watcher.collect(wait_seconds=20).feed("trades").commits
    (small_lake.settings.home / "catalog.db").unlink()
    small_lake.clock.sleep(60)
    assert watcher.collect(wait_seconds=20).feed("trades").condition_now == "never started"
