"""A live platform is watched while its dataflow, then its AWS, is killed and comes back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.settings import Settings, load_settings
from stream.watch.collect import Watcher
from stream.watch.state import WatchState

pytestmark = pytest.mark.slow

HEADRACE = (sys.executable, "-m", "stream.cli")


def run(settings: Settings, *arguments: str) -> str:
    return subprocess.run(
        [*HEADRACE, *arguments], env=environment(settings), check=True, capture_output=True,
        text=True, timeout=60,
    ).stdout  # fmt: skip


def environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "HEADRACE_HOME": str(settings.home), "HEADRACE_EPOCH_SECONDS": "1"}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Settings]:
    """A platform with one feed that commits every second, and some trades in it."""
    settings = load_settings(home=tmp_path / "home", epoch_seconds=1.0)
    before = dict(os.environ)
    run(settings, "up", "trades", "--no-ui")
    run(settings, "produce", "trades", "--rate", "2000", "--count", "2000")
    try:
        yield settings
    finally:
        run(settings, "down")
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def wait_for(
    watcher: Watcher, seconds: float, is_it: Callable[[WatchState], object]
) -> tuple[WatchState, float]:
    """Collect until a state is as wished; how long that took."""
    began = time.monotonic()
    while True:
        state = watcher.collect()
        took = time.monotonic() - began
        if is_it(state):
            return state, took
        feed = state.feed("trades")
        assert took < seconds, (feed.condition_now, feed.why, feed.behind_ms, state.problems)
        time.sleep(0.1)


def is_caught_up(state: WatchState) -> bool:
    feed = state.feed("trades")
    is_well = feed.condition_now in {"live", "idle"} and bool(feed.pid)
    return feed.behind_ms == 0 and is_well and bool(feed.tables.rows)


def test_killed_dataflow_is_dead_within_seconds_and_its_lag_returns_to_zero(
    platform: Settings,
) -> None:
    watcher = Watcher(platform, ["trades"])
    state, _ = wait_for(watcher, 30, is_caught_up)
    feed = state.feed("trades")
    assert feed.cost.usd_per_hour is None or feed.cost.usd_per_hour > 0

    assert feed.pid is not None
    os.kill(feed.pid, signal.SIGKILL)
    state, took = wait_for(watcher, 10, lambda s: s.feed("trades").condition_now == "dead")
    assert state.problems[0].what == "trades is dead"
    print(f"dead after {took:.2f} s")

    run(platform, "produce", "trades", "--rate", "2000", "--count", "2000")
    state, took = wait_for(watcher, 30, is_caught_up)
    print(f"lag 0 again {took:.2f} s later")
    assert state.feed("trades").pid != feed.pid
    assert sum(c.records for c in state.feed("trades").commits) > 0
    assert watcher.history.read("trades")

    # The platform is stopped: what was read last stays, and the page says why nothing is new.
    run(platform, "down")
    state, _ = wait_for(watcher, 10, lambda s: s.platform.phase == "stopped")
    feed = state.feed("trades")
    assert feed.condition_now == "stopped"
    assert feed.commits
    assert feed.behind_ms is None
    assert state.problems[0].what == "the platform is not running"


def test_suspended_aws_is_named_and_nothing_hangs(platform: Settings) -> None:
    watcher = Watcher(platform, ["trades"])
    state, _ = wait_for(watcher, 30, is_caught_up)
    pid = next(p.pid for p in state.platform.processes if p.name == "aws")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        longest = 0.0
        deadline = time.monotonic() + 15
        while state.feed("trades").condition_now != "stalled":
            assert time.monotonic() < deadline
            began = time.monotonic()
            state = watcher.collect()
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.2)
        assert longest < 4, "a part that hangs is waited for two seconds at most"
        assert any("no answer" in p.what for p in state.problems)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(watcher, 30, is_caught_up)


@pytest.mark.parametrize(("key", "code"), [(b"q", 0), (b"\x03", 130)])
def test_top_fills_the_terminal_and_leaves_it_as_it_was(
    tmp_path: Path, key: bytes, code: int
) -> None:
    (tmp_path / "home").mkdir()
    leader, follower = pty.openpty()
    modes = _modes(follower)
    top = subprocess.Popen(
        [*HEADRACE, "top", "trades", "--every", "0.2"],
        env={**os.environ, "HEADRACE_HOME": str(tmp_path / "home"), "TERM": "xterm-256color"},
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        preexec_fn=_own_terminal,  # noqa: PLW1509 - it makes one call to the kernel
    )  # fmt: skip
    try:
        shown = _read_until(leader, b"never started", 30)
        os.write(leader, key)
        assert top.wait(10) == code
        shown += _read_until(leader, b"\x1b[?1049l", 5)
    finally:
        top.kill()
        top.wait()
    assert b"\x1b[?1049h" in shown, "a screen of its own"
    assert shown.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h")), "the old screen, a cursor"
    assert _modes(follower) == modes
    assert not re.search(rb"Traceback|Error", shown)
    os.close(leader)
    os.close(follower)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal


def _modes(terminal: int) -> list[object]:
    return list(termios.tcgetattr(terminal))


def _read_until(terminal: int, wanted: bytes, seconds: float) -> bytes:
    found, deadline = b"", time.monotonic() + seconds
    while wanted not in found:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([terminal], [], [], max(0.0, left))
        assert ready, found[-2_000:]
        found += os.read(terminal, 65_536)
    return found
