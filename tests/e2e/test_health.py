"""/metrics and /healthz of a running dataflow, over HTTP."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError
from stream.heartbeat import Heartbeat, pulse_path
from stream.observe import observe
from stream.observe.metrics import STALE_PULSE_SECONDS, FeedMetrics
from stream.producers.simulate import Simulator
from stream.settings import load_settings
from stream.sources.memory import MemoryStream
from stream.telemetry import serve_metrics


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_healthz_turns_unhealthy_when_epochs_stall_or_the_pulse_stops(tmp_path: Path) -> None:
    clock = ManualClock(1_764_000_000_000_000_000)
    metrics = FeedMetrics("trades", tmp_path, 100.0, clock)
    path = pulse_path(tmp_path, "trades")
    path.parent.mkdir(parents=True)

    def pulse(age_seconds: float) -> None:
        beat = {"epoch_age_seconds": age_seconds, "tally": {}, "shards": []}
        Heartbeat(path, "trades", lambda: beat, clock).write()

    server = serve_metrics(metrics.instruments, "127.0.0.1", 0, metrics.is_healthy)
    try:
        assert ask(server.port, "/healthz")[0] == 503, "no pulse yet"
        seen = {}
        for age in (0.0, 60.0, 99.9, 100.0, 5_000.0, 1.0):
            pulse(age)
            seen[age] = ask(server.port, "/healthz")[0]
        assert seen == {0.0: 200, 60.0: 200, 99.9: 200, 100.0: 503, 5_000.0: 503, 1.0: 200}
        clock.sleep(STALE_PULSE_SECONDS + 1)
        assert ask(server.port, "/healthz") == (503, "service unavailable\n")
        assert ask(server.port, "/other")[0] == 404
    finally:
        server.close()


def test_running_dataflow_is_healthy_and_counts_what_it_committed(bed: Any) -> None:
    settings = bed.settings(metrics_port=0)
    seen = observe(settings, "trades")
    assert seen is not None
    assert seen.server is not None
    server = seen.server
    try:
        assert ask(server.port, "/healthz")[0] == 503
        stream = MemoryStream("headrace-trades", 2)
        for key, line in Simulator("trades", seed=1, start_ns=time.time_ns()).take(1_000):
            stream.put(line, key)
        running = bed.run(stream, observer=seen)
        running.wait_for(1_000)
        assert ask(server.port, "/healthz") == (200, "ok\n")
        status, text = ask(server.port, "/metrics")
        assert status == 200
        assert 'headrace_messages_total{feed="trades"} 1000.0' in text
        lag = 'headrace_shard_behind_seconds{feed="trades",shard="shardId-000000000001"}'
        deadline = time.monotonic() + 10
        while lag not in ask(server.port, "/metrics")[1]:  # with the next pulse
            assert time.monotonic() < deadline
            time.sleep(0.2)
        running.end()
        assert ask(server.port, "/healthz")[0] == 503, "it has ended"
    finally:
        seen.close()


def test_metrics_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}", metrics_port=port)
        with pytest.raises(ConfigError, match=rf"METRICS_PORT.*{port}.*another port"):
            observe(settings, "trades")
