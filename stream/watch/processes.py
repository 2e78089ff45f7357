"""What this machine knows: the platform's processes, and whether a feed's dataflow lives.

From files and the process table alone, so it works whatever is dead. The supervisor's state and a
pulse are written by processes that may have been killed since: whether they are still there is
asked of the kernel, never of the file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.heartbeat import Pulse, join_pulses, read_parts
from stream.local.process import identify, is_running, last_line
from stream.local.state import PlatformState, ProcessState, read_state, state_path
from stream.settings import Settings
from stream.watch.state import Platform, Process


@dataclass(frozen=True, slots=True)
class Life:
    """A feed's dataflow here. `process`: the supervisor's word, None if it does not run it.

    `is_alive`: whether every writer of the last pulse exists; None without a pulse.
    """

    process: str | None = None
    pid: int | None = None
    last_line: str = ""
    is_alive: bool | None = None
    pulse_age_ms: int | None = None
    epoch_age_ms: int | None = None
    pulse: Pulse | None = None


def read_platform(settings: Settings) -> tuple[Platform, PlatformState]:
    """The platform of this home, for people and as its supervisor wrote it."""
    state = read_state(settings.home.absolute())
    phase = "account" if settings.aws == "account" else state.phase
    processes = tuple(_process(process) for process in state.processes)
    return Platform(phase, state.emulator, state.endpoint, state.error, processes), state


def read_life(
    settings: Settings, state: PlatformState, feed: str, clock: Clock = SYSTEM_CLOCK
) -> Life:
    """Whether a feed's dataflow runs here, and what it said last."""
    home = settings.home.absolute()
    parts = read_parts(home, feed)
    pulse = join_pulses(parts)
    found = next((p for p in state.processes if p.name == feed), None)
    if state.phase in {"stopped", "failed"}:
        found = None
    process = _word(found) if found else None
    said = found.last_line if found else ""
    if found and not said and process != "running":
        said = last_line(home / "log" / f"{feed}.log")
    if found and (found.exit_code or 0) < 0:  # killed: whatever it said last is not why
        said = ""
    pid = found.process.pid if found and found.process and process == "running" else None
    if pulse is None:
        return Life(process, pid, said)
    is_alive = all(map(is_writer_alive, parts))
    if not is_alive and found is None and _was_stopped_after(home, pulse):
        return Life()
    age_ms = max(0, now_ms(clock) - pulse.updated_ms)
    return Life(
        process,
        pulse.pid if is_alive else pid,
        said,
        is_alive,
        age_ms,
        int(pulse.epoch_age_seconds * 1000) + age_ms,
        pulse,
    )


def is_writer_alive(pulse: Pulse) -> bool:
    """Whether the process that wrote a pulse still runs; a stranger under its number is not it.

    A stranger began after the pulse was written.
    """
    found = identify(pulse.pid)
    if found is None:
        return False
    began_ms = _began_ms(found.started)
    return began_ms is None or began_ms <= pulse.updated_ms + 1_000


def _was_stopped_after(home: Path, pulse: Pulse) -> bool:
    """Whether the platform was ended on purpose after a pulse. The dataflow takes its pulse with
    it, unless it was too slow and was ended by force.
    """
    path = state_path(home)
    try:
        phase = json.loads(path.read_text())["phase"]
        return phase == "stopped" and path.stat().st_mtime * 1000 >= pulse.updated_ms
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _began_ms(started: str) -> int | None:
    """When a process began, from the kernel's ticks since the boot; None where they are unknown."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return (boot + int(started) // os.sysconf("SC_CLK_TCK")) * 1000
    except (OSError, ValueError, StopIteration):
        return None


def _word(found: ProcessState) -> str:
    """The supervisor's word for a process; one that was killed since is not running."""
    if found.state == "running" and found.process and not is_running(found.process):
        return "waiting"
    return found.state


def _process(found: ProcessState) -> Process:
    return Process(
        found.name,
        _word(found),
        found.process.pid if found.process else None,
        found.since_ms,
        found.restarts,
        found.exit_code,
        found.last_line,
    )
