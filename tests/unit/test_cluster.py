"""A process's place in a cluster, what it passes on, and the pulse of all of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream.clock import ManualClock
from stream.cluster import ALONE, Cluster, cluster_of
from stream.errors import ConfigError
from stream.flow import SliceResult
from stream.heartbeat import Heartbeat, Pulse, join_pulses, pulse_path, read_parts, read_pulse
from stream.lake.entries import GapRecord, SliceRecord
from stream.member import CommittedWatch, pass_on
from stream.observe.metrics import FeedMetrics
from stream.settings import Settings, load_settings
from stream.slices import ShardPosition, ShardRef
from stream.telemetry.frontier import Reached
from stream.watch.processes import read_life, read_platform

SHARD = ShardRef("trades", "s.1", "shard-1")
TWO = "127.0.0.1:2101,127.0.0.1:2102"


def record(first: str, prev: str | None) -> SliceRecord:
    return SliceRecord(SHARD, prev, first, first, 1, 10, (0, 0))


def test_settings_without_addresses_are_a_process_alone(settings: Settings) -> None:
    assert cluster_of(settings) == ALONE
    assert ALONE.own_lanes(64) == range(64)


def test_settings_name_the_place_of_a_process_and_its_lanes() -> None:
    place = cluster_of(load_settings(process_index=1, addresses=TWO))
    assert (place.index, place.processes, place.is_committer) == (1, 2, False)
    assert place.own_lanes(64) == range(32, 64)


@pytest.mark.parametrize(
    ("addresses", "is_here"),
    [
        (("127.0.0.1:1", "127.0.0.1:2"), True),
        (("[::1]:1", "localhost:2"), True),
        (("127.0.0.1:1", "p1.headrace:2"), False),
        (("10.0.0.1:1", "10.0.0.2:1"), False),
    ],
)
def test_processes_are_on_one_machine_if_they_meet_on_loopback(
    addresses: tuple[str, ...], is_here: bool
) -> None:
    assert Cluster(0, addresses).is_on_one_machine is is_here


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"process_index": 0}, "go together"),
        ({"addresses": TWO}, "go together"),
        ({"process_index": 2, "addresses": TWO}, "expected 0 to 1"),
        ({"process_index": 0, "addresses": "a:1,a:1"}, "twice"),
        ({"process_index": 0, "addresses": "a:1,b"}, "expected host:port"),
        ({"process_index": 0, "addresses": "a:1,b:99999"}, "expected host:port"),
        ({"process_index": 0, "addresses": TWO, "processes": 3}, "has 2"),
        ({"processes": 9, "lanes": 8}, "one without a lane would read nothing"),
        ({"processes": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_of_an_impossible_cluster_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(**given)


def test_stall_limit_is_five_epochs_at_least() -> None:
    assert load_settings(stall_seconds=20, epoch_seconds=10).stall_limit_seconds == 50
    assert load_settings().stall_limit_seconds == 60


def test_results_bring_gaps_with_the_first_and_parents_with_each_shards_first() -> None:
    found = [GapRecord(SHARD, "1", "5", "retention")]
    gaps = [found, []]
    process = pass_on(
        lambda numbers: [
            SliceResult(record(str(n), None if n == 1 else str(n - 1))) for n in numbers
        ],
        lambda: gaps.pop(0),
        lambda _: ("mother",),
    )

    one, two = process([1, 2])  # type: ignore[list-item]

    assert (one.gaps, one.parents) == (tuple(found), ("mother",))
    assert (two.gaps, two.parents) == ((), None)
    assert process([]) == []
    assert gaps == [[]], "without a result nothing is taken that could be lost"


def test_committed_watch_learns_what_process_0_committed() -> None:
    reached: dict[str, Reached] = {}
    positions = {str(SHARD): ShardPosition("7", arrival_ms=70)}
    watch = CommittedWatch(lambda: positions, reached, 1.0)
    watch.look()
    assert reached == {str(SHARD): Reached("7", 70)}
    watch.stop()  # never started


def pulse(pid: int, at_ms: int, **more: Any) -> Pulse:
    facts: dict[str, Any] = {"epoch_age_seconds": 1.0, "tally": {}, "shards": [], **more}
    return Pulse("trades", pid, at_ms, parts=2, **facts)


def test_joined_pulse_is_as_bad_as_its_worst_process() -> None:
    one = pulse(
        1,
        9_000,
        tally={"commits": 3},
        shards=[{"lane": 0}],
        started_ms=100,
        frontiers_ms={"bronze": 50, "silver": 40, "bars": 40},
        requests={"put": 1},
        table={"snapshots": 4},
    )
    two = pulse(
        2,
        8_000,
        epoch_age_seconds=5.0,
        shards=[{"lane": 9}],
        frontiers_ms={"bronze": 30, "silver": 45},
        requests={"put": 2, "get": 5},
        retries=3,
    )
    found = join_pulses([one, two])
    assert found == replace(
        one,
        updated_ms=8_000,
        epoch_age_seconds=5.0,
        shards=[{"lane": 0}, {"lane": 9}],
        frontiers_ms={"bronze": 30, "silver": 40, "bars": 40},
        requests={"put": 3, "get": 5},
        retries=3,
    )
    missing = join_pulses([one])
    assert missing is not None
    assert missing.updated_ms == 100, "silent since process 0 began"
    assert join_pulses([]) is None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_764_000_000_000_000_000)


def beat(home: Path, clock: ManualClock, index: int, **more: Any) -> None:
    path = pulse_path(home, "trades", index)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"epoch_age_seconds": 1.0, "tally": {}, "shards": [], "parts": 2, **more}
    Heartbeat(path, "trades", lambda: facts, clock).write()


def test_dataflow_of_two_is_alive_while_both_are(
    home: Path, settings: Settings, clock: ManualClock
) -> None:
    _, state = read_platform(settings)
    began = clock.now_ns() // 1_000_000
    beat(home, clock, 0, started_ms=began)
    clock.sleep(3)
    beat(home, clock, 1)
    beat(home, clock, 0, started_ms=began)
    assert read_life(settings, state, "trades", clock).pulse_age_ms == 0

    gone = pulse_path(home, "trades", 1)
    gone.write_bytes(gone.read_bytes().replace(f'"pid":{os.getpid()}'.encode(), b'"pid":999999999'))
    life = read_life(settings, state, "trades", clock)
    assert life.is_alive is False

    gone.unlink()
    assert read_life(settings, state, "trades", clock).pulse_age_ms == 3_000


def test_pulses_of_a_larger_cluster_before_are_not_read(home: Path, clock: ManualClock) -> None:
    beat(home, clock, 1)
    beat(home, clock, 0, parts=1)
    assert len(read_parts(home, "trades")) == 1
    found = read_pulse(home, "trades")
    assert found is not None
    assert found.parts == 1


def test_metrics_of_process_0_are_unhealthy_when_its_peer_is_silent(
    home: Path, clock: ManualClock
) -> None:
    metrics = FeedMetrics("trades", home, 60.0, clock, cluster=Cluster(0, tuple(TWO.split(","))))
    for index in (0, 1):
        beat(home, clock, index)
    assert metrics.is_healthy()
    clock.sleep(16)
    beat(home, clock, 0)
    assert not metrics.is_healthy()


def test_metrics_of_another_process_speak_for_itself_and_of_no_commit(
    home: Path, clock: ManualClock
) -> None:
    metrics = FeedMetrics("trades", home, 60.0, clock, cluster=Cluster(1, ("a:1", "b:1")))
    beat(home, clock, 1, frontiers_ms={"silver": 5_000})
    assert metrics.is_healthy()
    text = metrics.instruments.render().decode()
    assert 'headrace_committed_arrival_timestamp_seconds{feed="trades",stage="silver"} 5.0' in text
    assert 'headrace_last_commit_timestamp_seconds{feed="trades"}' not in text
