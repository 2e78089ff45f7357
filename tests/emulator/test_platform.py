"""The local platform with real processes: up, down, status, deaths, ports, metrics."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.errors import ConfigError
from stream.local.external import External
from stream.local.process import identify, wait_until_gone
from stream.local.roto import Roto, answers
from stream.local.state import PlatformState, hold_lock, read_state
from stream.telemetry import Instruments, serve_metrics


@pytest.fixture
def headrace(home: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run a verb in a process of its own; whatever it started is ended after the test."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**keep, "HEADRACE_HOME": str(home), "HEADRACE_SHARDS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stream.cli", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=90
        )

    yield run
    run("down")


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def processes(state: PlatformState) -> list[Any]:
    found = [p.process for p in state.processes if p.process]
    return [*found, state.supervisor] if state.supervisor else found


def test_up_status_down_leave_no_process_and_keep_the_data(headrace, home):
    assert headrace("up", "--no-ui", "trades").returncode == 0
    state = read_state(home)
    assert [p.name for p in state.processes] == ["aws", "trades"]
    assert headrace("status", "--json").returncode == 0
    again = headrace("up", "--no-ui", "trades")
    assert (again.returncode, "already running" in again.stdout) == (0, True)
    assert headrace("down").returncode == 0
    assert all(wait_until_gone(process, 5) for process in processes(state))
    assert (home / "aws" / "kinesis.db").is_file()
    assert headrace("up", "--no-ui", "trades").returncode == 0
    assert read_state(home).endpoint == state.endpoint


@pytest.mark.slow
def test_dead_dataflow_and_dead_emulator_are_started_again(headrace, home):
    headrace("up", "--no-ui", "trades")
    before = read_state(home)
    for process in before.processes:
        os.kill(process.process.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = read_state(home)
        return all(p.state == "running" and p.restarts for p in now.processes)

    wait_for(is_back)
    assert read_state(home).endpoint == before.endpoint


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="elsewhere no kernel ends the children of a killed parent (PR_SET_PDEATHSIG)",
)
@pytest.mark.slow
def test_killed_supervisor_takes_everything_along_and_up_starts_again(headrace, home):
    headrace("up", "--no-ui", "trades")
    state = read_state(home)
    os.kill(state.supervisor.pid, signal.SIGKILL)
    assert all(wait_until_gone(process, 5) for process in processes(state))
    assert headrace("status").returncode == 1
    assert headrace("up", "--no-ui", "trades").returncode == 0


def test_up_in_an_unusable_home_is_one_clear_line(headrace, home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file")
    answer = headrace("up")
    assert answer.returncode == 2
    assert "HEADRACE_HOME" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_remembered_port_that_is_taken_is_replaced(home):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        (home / "aws").mkdir(parents=True)
        (home / "aws" / "port").write_text(str(taken))
        emulator = Roto(home)
        try:
            endpoint = emulator.start()
            assert not endpoint.endswith(f":{taken}")
            assert emulator.start() == endpoint
        finally:
            emulator.stop()
    assert not emulator.is_alive()


def test_emulator_gets_the_index_that_it_lacks(home):
    emulator = Roto(home)
    try:
        emulator.start()
        with sqlite3.connect(home / "aws" / "kinesis.db") as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
            assert ("ix",) in rows.fetchall()
        connection.close()
    finally:
        emulator.stop()


def test_emulator_that_ends_at_its_start_says_why(home, monkeypatch):
    monkeypatch.setattr("stream.local.roto.find_binary", lambda: Path("/bin/false"))
    with pytest.raises(ConfigError, match="ended at its start"):
        Roto(home).start()


def test_external_emulator_is_found_or_named(roto_url):
    assert External(roto_url).start() == roto_url
    with pytest.raises(ConfigError, match="HEADRACE_EMULATOR"):
        External("http://127.0.0.1:1").start()


def test_answers_of_a_server_that_is_no_emulator_is_no():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not answers("127.0.0.1", silent.getsockname()[1], seconds=0.2)


def test_platform_whose_home_is_locked_by_a_demo_is_refused(headrace, home):
    with hold_lock(home):
        answer = headrace("up", "--foreground", "trades")
    assert answer.returncode == 2
    assert "already running" in answer.stderr


def test_metrics_server_answers_metrics_and_health():
    live = Instruments()
    live.counter("headrace_commits_total", feed="trades").inc()
    health = [True]
    server = serve_metrics(live, "127.0.0.1", 0, lambda: health[0])
    try:
        url = f"http://127.0.0.1:{server.port}"
        assert b'headrace_commits_total{feed="trades"} 1.0' in _get(f"{url}/metrics")
        assert _get(f"{url}/healthz") == b"ok\n"
        health[0] = False
        for path, code in (("/healthz", 503), ("/nothing", 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                _get(url + path)
            assert error.value.code == code
            error.value.close()
        with pytest.raises(ConfigError, match="HEADRACE_METRICS_PORT"):
            serve_metrics(live, "127.0.0.1", server.port, lambda: True)
    finally:
        server.close()


def test_status_json_is_one_document(headrace):
    headrace("up", "--no-ui", "news")
    report = json.loads(headrace("status", "--json").stdout)
    assert {p["name"]: p["state"] for p in report["processes"]} == {
        "aws": "running",
        "news": "running",
    }


def test_identify_of_nobody_is_none():
    assert identify(2**22 + 1) is None


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()
