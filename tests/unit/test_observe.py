"""A dataflow's metrics follow its commits and its pulse."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from stream.clock import ManualClock
from stream.feeds import load_feed
from stream.feeds.contract import REASONS
from stream.flow import Tally
from stream.heartbeat import Heartbeat, pulse_path
from stream.lake.entries import GapRecord
from stream.observe import observe
from stream.observe.cost import Prices
from stream.observe.metrics import FeedMetrics
from stream.slices import ShardRef
from stream.sources.fetcher import ShardStatus
from stream.telemetry.catalogue import GAP_REASONS


@pytest.fixture
def clock():
    return ManualClock(start_ns=1_764_000_000_000_000_000)


@pytest.fixture
def metrics(home, clock):
    (home / "run").mkdir(parents=True)
    prices = Prices(task_hour=10, shard_hour=5, write=0.001, read=0)
    return FeedMetrics("trades", home, 60.0, clock, prices)


def write_pulse(home, clock, epoch_age_seconds=1.0, state="reading", **more):
    status = ShardStatus(ShardRef("trades", "s", "shard-0"), 0, state, behind_ms=42)
    beat = {
        "epoch_age_seconds": epoch_age_seconds,
        "tally": asdict(Tally()),
        "shards": [asdict(status)],
        **more,
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


def test_gaps_and_bytes_are_counted_by_what_they_are(metrics):
    metrics.on_commit(Tally(gaps={"retention": 1}, bytes_written={"silver": 10}, conflicts=2))
    metrics.on_commit(Tally(gaps={"retention": 3}, bytes_written={"silver": 15}, conflicts=2))
    text = metrics.instruments.render().decode()
    assert 'headrace_gaps_total{feed="trades",reason="retention"} 3.0' in text
    assert 'headrace_gaps_total{feed="trades",reason="shard_removed"} 0.0' in text
    assert 'headrace_bytes_written_total{feed="trades",stage="silver"} 15.0' in text
    assert 'headrace_commit_conflicts_total{feed="trades"} 2.0' in text


@pytest.mark.parametrize(
    ("first_kept", "kind"), [("77", "retention"), (None, "shard_removed")], ids=str
)
def test_gap_is_of_a_kind_that_the_catalogue_names(first_kept, kind):
    gap = GapRecord(ShardRef("trades", "s", "shard-0"), "12", first_kept, "any words")
    assert gap.kind == kind
    assert kind in GAP_REASONS


def test_reject_reason_is_zero_before_the_first_reject(metrics):
    text = metrics.instruments.render().decode()
    for reason in REASONS:
        assert f'headrace_rejected_total{{feed="trades",reason="{reason}"}} 0.0' in text


def test_retries_and_cost_only_grow_whatever_a_pulse_says(metrics, home, clock):
    write_pulse(home, clock, retries=5, requests={"put": 2_000})
    metrics.refresh()
    clock.sleep(3_600)
    write_pulse(home, clock, retries=7, requests={"put": 1_000, "get": 1_000})
    metrics.refresh()
    write_pulse(home, clock, retries=6)  # as of another process, that began anew
    metrics.refresh()
    text = metrics.instruments.render().decode()
    assert 'headrace_store_retries_total{feed="trades"} 7.0' in text
    assert 'headrace_cost_usd_total{feed="trades",part="requests"} 2.0' in text
    assert 'headrace_cost_usd_total{feed="trades",part="compute"} 10.0' in text
    assert 'headrace_cost_usd_total{feed="trades",part="stream"} 5.0' in text


def test_shard_shows_its_share_of_the_retention_and_goes_when_it_ends(metrics, home, clock):
    write_pulse(home, clock, retention_ms=84)
    metrics.refresh()
    ratio = 'headrace_retention_used_ratio{feed="trades",shard="shard-0"} 0.5'
    assert ratio in metrics.instruments.render().decode()
    write_pulse(home, clock, state="ended")
    metrics.refresh()
    assert 'shard="shard-0"' not in metrics.instruments.render().decode()


@pytest.mark.slow  # exchange-calendars takes a second to import
def test_market_of_the_contract_decides_what_is_open(home, clock, monkeypatch):
    monkeypatch.setattr(
        "stream.observe.metrics.load_feed",
        lambda feed: replace(load_feed(feed), calendar="XNYS"),
    )
    sunday, monday = 1_764_518_400, 1_764_604_800  # 2025-11-30 and 12-01, 16:00 UTC
    found = []
    for seconds in (sunday, monday):
        watched = FeedMetrics("trades", home, 60.0, ManualClock(seconds * 10**9))
        watched.refresh()
        gauge = watched.instruments.gauge("headrace_market_open", feed="trades")
        found.append(gauge._value.get())
    assert found == [0, 1]


def test_observe_without_an_exporter_is_nobody(settings):
    assert observe(settings, "trades") is None
