"""Child processes: start one tethered to us, recognise it later, end it for sure.

A process is remembered as pid *and* start time, because pids are reused: `is_running` and `end`
never touch a stranger's process. Not here: what to run and when to restart it (`supervisor`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError

TETHER = Path(__file__).with_name("tether.py")
COLOUR = re.compile("\x1b\\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for all time: its pid, and when it started, as the kernel tells it."""

    pid: int
    started: str


def spawn(
    command: Sequence[str | Path], log: Path | None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, killed if we die.

    Its output is appended to `log`; None: it goes where ours goes.

    The kernel watches the *thread* that calls this: call it from one that lives as long as the
    child should. Raises: ConfigError when it cannot be started or its log cannot be written.
    """
    tethered = [sys.executable, "-I", "-S", TETHER, str(os.getpid()), *command]
    return spawn_daemon(tethered, log, env)


def spawn_daemon(
    command: Sequence[str | Path], log: Path | None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own that outlives us, output as for `spawn`.

    Raises: ConfigError as for `spawn`.
    """
    try:
        if log is None:
            return _popen(command, env, None, None)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return _popen(command, env, output, subprocess.STDOUT)
    except OSError as error:
        raise ConfigError(f"cannot start {command[0]} (log {log}): {error.strerror}") from error


def _popen(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None,
    stdout: IO[bytes] | None,
    stderr: int | None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # nosec B603: our own commands, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        env=env,
    )


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process, or None if there is none (a zombie is none)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _identify_by_ps(pid) if sys.platform != "linux" else None
    # The command name (field 2) may hold spaces and brackets; what follows the last ")" does not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else ProcessId(pid, fields[19])


def is_running(process: ProcessId) -> bool:
    """Whether this very process still runs, and not another one under its number."""
    return identify(process.pid) == process


def end(process: ProcessId, patience_seconds: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> bool:
    """SIGTERM, wait, SIGKILL. Returns whether it ended by itself; True if it was gone before."""
    for signal_number, seconds in ((signal.SIGTERM, patience_seconds), (signal.SIGKILL, 5.0)):
        if not is_running(process):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal_number)
        if wait_until_gone(process, seconds, clock):
            return signal_number == signal.SIGTERM
    return False


def wait_until_gone(process: ProcessId, seconds: float, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Wait until a process that need not be our child has ended."""
    deadline = clock.monotonic() + seconds
    while is_running(process):
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(0.02)
    return True


def reap(child: subprocess.Popen[bytes], patience_seconds: float = 5.0) -> int:
    """End our own child: SIGTERM, wait, SIGKILL. Returns its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def last_line(log: Path, limit: int = 4_096) -> str:
    """The last line that is not empty of a log file: what a dead child had to say.

    >>> last_line(Path("/nonexistent"))
    ''
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit))
            text = COLOUR.sub("", file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")


def _identify_by_ps(pid: int) -> ProcessId | None:
    command = ["/bin/ps", "-o", "lstart=,stat=", "-p", str(pid)]
    answer = subprocess.run(  # noqa: S603  # nosec B603: fixed, but for a number
        command, capture_output=True, text=True, check=False
    )
    started, _, state = answer.stdout.strip().rpartition(" ")
    return ProcessId(pid, started.strip()) if started and not state.startswith("Z") else None
