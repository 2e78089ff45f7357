"""The parts of the local platform that need no network: processes, state, lock, restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError
from stream.local import roto, sdk_environment
from stream.local.process import (
    ProcessId,
    end,
    identify,
    is_running,
    last_line,
    reap,
    spawn,
    wait_until_gone,
)
from stream.local.state import (
    PlatformState,
    ProcessState,
    hold_lock,
    is_locked,
    read_state,
    state_path,
    write_state,
)
from stream.local.supervisor import HEALTHY_SECONDS, Child, Supervisor

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
IGNORE_TERM = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True);"
    " time.sleep(60)",
]


def exit_with(code: int, words: str = "") -> list[str]:
    return [sys.executable, "-S", "-c", f"print({words!r}); raise SystemExit({code})"]


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_identify_running_process_is_stable_and_gone_after_its_end(tmp_path):
    child = spawn(SLEEP, tmp_path / "log")
    process = identify(child.pid)
    assert process is not None
    assert identify(child.pid) == process
    assert is_running(process)
    reap(child)
    assert not is_running(process)


def test_is_running_reused_pid_is_another_process():
    own = identify(os.getpid())
    assert own is not None
    assert not is_running(ProcessId(own.pid, own.started + "0"))


def test_end_reused_pid_touches_nobody(tmp_path):
    child = spawn(SLEEP, tmp_path / "log")
    assert end(ProcessId(child.pid, "another life"))
    assert child.poll() is None
    reap(child)


def test_reap_deaf_child_is_killed(tmp_path):
    child = spawn(IGNORE_TERM, tmp_path / "log")
    wait_for(lambda: last_line(tmp_path / "log") == "deaf")
    assert reap(child, patience_seconds=0.1) == -signal.SIGKILL


def test_spawn_by_a_parent_that_blocks_signals_hears_them(tmp_path):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = spawn(SLEEP, tmp_path / "log")
        wait_for(lambda: b"tether" not in Path(f"/proc/{child.pid}/cmdline").read_bytes())
        assert reap(child, patience_seconds=5) == -signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_spawn_missing_folder_permission_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot start"):
        spawn(SLEEP, tmp_path / "file" / "log")


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="elsewhere no kernel ends the children of a killed parent (PR_SET_PDEATHSIG)",
)
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_spawn_parent_killed_takes_the_child_along(tmp_path, death):
    code = (
        "import time; from pathlib import Path; from stream.local.process import spawn\n"
        f"child = spawn({SLEEP!r}, Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    process = identify(int(parent.stdout.readline()))
    assert process is not None
    wait_for(lambda: "sleep" in Path(f"/proc/{process.pid}/cmdline").read_text())
    wait_for(lambda: b"tether" not in Path(f"/proc/{process.pid}/cmdline").read_bytes())
    parent.send_signal(death)
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(process, 5)


def test_last_line_strips_colours_and_blank_lines(tmp_path):
    (tmp_path / "log").write_bytes(b"first\n\x1b[31mred\x1b[0m \xff\n\n")
    assert last_line(tmp_path / "log") == "red \ufffd"


def test_state_round_trip_keeps_everything(home):
    (home / "run").mkdir(parents=True)
    state = PlatformState(
        "running",
        ProcessId(1, "2"),
        "roto",
        "http://127.0.0.1:1",
        5,
        (ProcessState("trades", "waiting", None, 7, 3, 1, "boom"),),
    )
    with hold_lock(home):
        write_state(home, state)
        assert read_state(home) == state


def test_state_of_a_killed_supervisor_reads_as_stopped(home):
    (home / "run").mkdir(parents=True)
    write_state(home, PlatformState("running", ProcessId(1, "2")))
    assert read_state(home).phase == "stopped"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"phase": "running"}', '{"processes": 3}'])
def test_state_damaged_file_reads_as_stopped(home, content):
    (home / "run").mkdir(parents=True)
    state_path(home).write_text(content)
    assert read_state(home).phase == "stopped"


def test_lock_second_supervisor_is_refused_and_first_keeps_it(home):
    with hold_lock(home):
        with pytest.raises(ConfigError, match="already running"), hold_lock(home):
            pass
        assert is_locked(home)
    assert not is_locked(home)


def test_lock_in_a_home_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="HEADRACE_HOME"), hold_lock(tmp_path / "home"):
        pass


def test_prepare_folder_below_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory"):
        roto.prepare_folder(tmp_path / "file" / "aws")


def test_prepare_folder_full_disk_is_a_clear_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        roto.prepare_folder(tmp_path / "aws")


def test_find_binary_missing_names_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigError, match="make setup"):
        roto.find_binary()


def test_missing_index_of_an_unknown_database_is_skipped(tmp_path):
    (tmp_path / "kinesis.db").write_bytes(b"not a database" * 100)
    roto.add_missing_index(tmp_path / "kinesis.db")
    roto.add_missing_index(tmp_path / "empty.db")


def test_sdk_environment_leaves_no_service_for_a_real_account():
    values = sdk_environment("http://127.0.0.1:1", "eu-west-1")
    assert values["AWS_ENDPOINT_URL"] == values["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:1"
    assert values["AWS_REGION"] == "eu-west-1"


def watched(child: Child) -> None:
    """Wait for the end of a child's process without waiting on its clock."""
    wait_for(child.watch)


def test_child_that_dies_is_restarted_with_growing_pauses(tmp_path):
    clock = ManualClock()
    child = Child("trades", exit_with(1, "boom"), tmp_path / "log", dict(os.environ), clock)
    child.start()
    watched(child)
    for pause in (0.5, 1.0, 2.0):
        assert child.report().state == "waiting"
        clock.sleep(pause - 0.01)
        assert not child.watch()
        clock.sleep(0.02)
        assert child.watch()
        watched(child)
    report = child.report()
    assert (report.restarts, report.exit_code, report.last_line) == (3, 1, "boom")


def test_child_pause_is_forgotten_after_health(tmp_path):
    clock = ManualClock()
    child = Child("trades", exit_with(1), tmp_path / "log", dict(os.environ), clock)
    child.start()
    watched(child)
    clock.sleep(0.5)
    child.watch()
    clock.sleep(HEALTHY_SECONDS)
    watched(child)
    clock.sleep(0.51)
    assert child.watch()
    child.end(1)


def test_child_with_wrong_configuration_is_not_restarted(tmp_path):
    clock = ManualClock()
    child = Child("trades", exit_with(2, "no stream"), tmp_path / "log", dict(os.environ), clock)
    child.start()
    watched(child)
    clock.sleep(1_000)
    assert not child.watch()
    assert (child.report().state, child.report().last_line) == ("failed", "no stream")


class FakeEmulator:
    """An emulator without a process: alive until told otherwise."""

    name = "fake"
    pid = None

    def __init__(self) -> None:
        self.starts = 0
        self.alive = False

    def start(self) -> str:
        self.starts += 1
        self.alive = True
        return "http://127.0.0.1:1"

    def is_alive(self) -> bool:
        return self.alive

    def stop(self) -> None:
        self.alive = False


def test_supervisor_stop_ends_all_children_and_the_emulator(home, tmp_path):
    (home / "run").mkdir(parents=True)
    emulator = FakeEmulator()
    children = [Child(n, SLEEP, tmp_path / n, dict(os.environ)) for n in ("trades", "news")]
    rounds = iter([False, True])
    Supervisor(home, emulator, lambda _: children, ManualClock()).run(lambda: next(rounds))
    assert not emulator.alive
    assert [child.report().state for child in children] == ["stopped", "stopped"]
    assert read_state(home).phase == "stopped"


def test_supervisor_dead_emulator_is_started_again(home):
    (home / "run").mkdir(parents=True)
    emulator = FakeEmulator()

    def die_twice() -> bool:
        emulator.alive = False
        return emulator.starts == 3

    Supervisor(home, emulator, lambda _: [], ManualClock()).run(die_twice)
    assert emulator.starts == 3


def test_supervisor_failed_preparation_leaves_nothing_running(home):
    (home / "run").mkdir(parents=True)
    emulator = FakeEmulator()

    def refuse(_):
        raise ConfigError("no bucket")

    with pytest.raises(ConfigError, match="no bucket"):
        Supervisor(home, emulator, refuse, ManualClock()).run(lambda: False)
    assert not emulator.alive
