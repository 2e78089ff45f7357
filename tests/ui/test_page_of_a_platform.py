"""The page of a real platform: a dataflow is killed, the page says so; it comes back, lag is 0."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from stream.local.state import read_state
from stream.ui.address import read_page

pytestmark = pytest.mark.slow

SAID_SECONDS = 10.0
BACK_SECONDS = 60.0


@pytest.fixture
def headrace(home):
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(home),
        "HEADRACE_SHARDS": "1",
        "HEADRACE_EPOCH_SECONDS": "2",
        "HEADRACE_UI_PORT": "0",
    }

    def run(*arguments, check=True, **more):
        command = [sys.executable, "-m", "stream.cli", *arguments]
        answer = subprocess.run(
            command,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert not check or answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    yield run
    run("down", check=False)


def dataflow(home):
    return next(p for p in read_state(home).processes if p.name == "trades")


def test_killed_dataflow_is_told_within_ten_seconds_and_its_lag_returns_to_zero(
    headrace, home, open_tab, keep_picture
):
    said = headrace("up", "trades")
    url = read_page(home).url
    assert f"Page: {url}" in said
    headrace("produce", "trades", "--seconds", "3", "--rate", "300")
    tab = open_tab(url)
    tab.wait_for_selector("[data-feed=trades][data-condition=live]", timeout=60_000)
    keep_picture(tab, "platform-live")
    killed = dataflow(home).process.pid
    # Stopped in its tracks, so that it stays dead for long enough to be looked at: the supervisor
    # cannot start it again while it sleeps itself.
    os.kill(read_state(home).supervisor.pid, signal.SIGSTOP)
    try:
        os.kill(killed, signal.SIGKILL)
        started = time.monotonic()
        tab.wait_for_selector("[data-feed=trades][data-condition=dead]", timeout=20_000)
        assert time.monotonic() - started < SAID_SECONDS
        assert "trades: dead" in tab.inner_text("#verdict")
        assert "trades" in tab.title()
        keep_picture(tab, "platform-dead-overview")
        tab.click("[data-feed=trades] h3 a")
        tab.wait_for_selector("header.title .tone-bad")
        keep_picture(tab, "platform-dead-feed")
        # What was read before stays to be looked at, with the processor dead.
        assert tab.locator("[data-panel=commits] tbody tr").count() >= 1
        headrace("produce", "trades", "--seconds", "2", "--rate", "300")
        tab.wait_for_function(
            "() => !document.querySelector('[data-panel=lag] strong')"
            ".innerText.match(/^(0|\\u2013)/)"
        )
    finally:
        os.kill(read_state(home).supervisor.pid, signal.SIGCONT)
    tab.wait_for_selector("header.title .chip:has-text('live')", timeout=BACK_SECONDS * 1000)
    assert dataflow(home).process.pid != killed
    tab.wait_for_function(
        "() => document.querySelector('[data-panel=lag] strong').innerText === '0 s'",
        timeout=BACK_SECONDS * 1000,
    )
    tab.click("text=All feeds")
    tab.wait_for_selector("#verdict:has-text('trades is live')")
    keep_picture(tab, "platform-recovered")
    status = json.loads(headrace("status", "--json"))
    assert status["page"] == url
    assert {p["name"] for p in status["processes"]} == {"aws", "trades", "ui"}
    headrace("down")
    assert read_page(home) is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    tab.wait_for_selector(".banner:has-text('Connection to headrace lost')")


def test_page_before_anything_is_started_says_so_and_makes_nothing(home, open_tab):
    environment = {**os.environ, "HEADRACE_HOME": str(home)}
    command = [sys.executable, "-m", "stream.cli", "ui", "--port", "0", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as page:
        try:
            url = json.loads(page.stdout.readline())["url"]
            tab = open_tab(url)
            tab.wait_for_selector("text=Nothing runs here yet", timeout=60_000)
            assert "headrace is not running" in tab.inner_text("#verdict")
            assert not (home / "aws").exists()
            assert not (home / "lake").exists()
        finally:
            page.terminate()
        assert page.wait(10) == 0


def test_up_takes_a_free_port_if_its_own_is_busy_and_serves_none_if_told_so(headrace, home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = headrace("up", "news", HEADRACE_UI_PORT=str(port))
        page = read_page(home)
        assert page.port != port
        assert f"{page.url} (port {port} is in use, so it took a free one)" in said
        assert httpx.get(f"{page.url}healthz").status_code in {200, 503}
    headrace("down")
    said = headrace("up", "news", "--no-ui")
    assert "Page" not in said
    assert {p.name for p in read_state(home).processes} == {"aws", "news"}
