"""A dataflow's metrics follow its commits and its pulse."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from stream.clock import ManualClock
from stream.flow import Tally
from stream.heartbeat import Heartbeat, pulse_path
from stream.observe import FeedMetrics, observe
from stream.slices import ShardRef
from stream.sources.fetcher import ShardStatus


@pytest.fixture
def clock():
    return ManualClock(start_ns=1_764_000_000_000_000_000)


@pytest.fixture
def metrics(home, clock):
    (home / "run").mkdir(parents=True)
    return FeedMetrics("trades", home, 10.0, clock)


def write_pulse(home, clock, epoch_age_seconds=1.0):
    status = ShardStatus(ShardRef("trades", "s", "shard-0"), 0, "reading", behind_ms=42)
    beat = {
        "epoch_age_seconds": epoch_age_seconds,
        "tally": asdict(Tally()),
        "shards": [asdict(status)],
    }
    Heartbeat(pulse_path(home, "trades"), "trades", lambda: beat, clock).write()


def test_counters_advance_by_what_each_commit_added(metrics):
    metrics.on_commit(Tally(records=5, commits=1, rejected={"bad_json": 1}))
    metrics.on_commit(Tally(records=8, commits=2, rejected={"bad_json": 3, "nan": 1}))
    text = metrics.instruments.render().decode()
    assert 'headrace_records_total{feed="trades"} 8.0' in text
    assert 'headrace_rejected_total{feed="trades",reason="bad_json"} 3.0' in text
    assert 'headrace_rejected_total{feed="trades",reason="nan"} 1.0' in text


def test_health_follows_the_pulse(metrics, home, clock):
    assert not metrics.is_healthy()
    write_pulse(home, clock)
    assert metrics.is_healthy()
    assert 'headrace_shard_behind_seconds{feed="trades",shard="shard-0"} 0.042' in (
        metrics.instruments.render().decode()
    )
    clock.sleep(16)
    assert not metrics.is_healthy()


def test_stalled_epoch_is_unhealthy(metrics, home, clock):
    write_pulse(home, clock, epoch_age_seconds=61.0)
    assert not metrics.is_healthy()


def test_observe_without_an_exporter_is_nobody(settings):
    assert observe(settings, "trades") is None
