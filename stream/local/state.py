"""What the local platform says about itself: one JSON file, one lock.

The supervisor holds `run/lock` for as long as it lives; the kernel lets go of it when the process
ends, however it ends. So "is it running" is never guessed from a stale file, and two supervisors
of one home cannot exist. The file `run/platform.json` is replaced atomically.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from stream.errors import ConfigError
from stream.local.process import ProcessId

Phase = Literal["starting", "running", "stopping", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process under supervision. `last_line` is what it said before it ended."""

    name: str
    state: Literal["running", "waiting", "failed", "stopped"]
    process: ProcessId | None
    since_ms: int
    restarts: int = 0
    exit_code: int | None = None
    last_line: str = ""


@dataclass(frozen=True, slots=True)
class PlatformState:
    """The supervisor's own account. `error` says why a start failed."""

    phase: Phase
    supervisor: ProcessId | None = None
    emulator: str = ""
    endpoint: str | None = None
    since_ms: int = 0
    processes: tuple[ProcessState, ...] = ()
    error: str = ""


def state_path(home: Path) -> Path:
    """Where the supervisor of a home writes its state."""
    return home / "run" / "platform.json"


def write_state(home: Path, state: PlatformState) -> None:
    """Replace the state file."""
    path = state_path(home)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(asdict(state), indent=1))
    fresh.replace(path)


def read_state(home: Path) -> PlatformState:
    """The last state; "stopped" when there is none, or when its writer is gone."""
    try:
        state = parse_state(json.loads(state_path(home).read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return PlatformState("stopped")
    if state.phase == "failed" or is_locked(home):
        return state
    return PlatformState("stopped", processes=state.processes, endpoint=state.endpoint)


def parse_state(raw: dict[str, Any]) -> PlatformState:
    """Read a state back. Raises: KeyError or TypeError if it is not one."""
    processes = tuple(
        ProcessState(**{**item, "process": _process(item["process"])}) for item in raw["processes"]
    )
    return PlatformState(
        **{**raw, "supervisor": _process(raw["supervisor"]), "processes": processes}
    )


@contextmanager
def hold_lock(home: Path) -> Iterator[None]:
    """Be the one supervisor of a home. Raises: ConfigError if another one runs."""
    with _open_lock(home) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"the platform of {home.absolute()} is already running: see `headrace status`, "
                "or end it with `headrace down`"
            ) from None
        yield


def is_locked(home: Path) -> bool:
    """Whether a supervisor of this home lives."""
    try:
        lock = (home / "run" / "lock").open("rb")
    except OSError:  # no home, or none that a supervisor could use
        return False
    with lock:
        try:
            # Shared, so that two `status` at once do not take each other for a supervisor.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open_lock(home: Path) -> IO[bytes]:
    try:
        (home / "run").mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(home / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o644), "rb")
    except OSError as error:
        raise ConfigError(
            f"cannot write to {(home / 'run').absolute()}: {error.strerror}. "
            "Make room or permissions there, or set HEADRACE_HOME to another folder."
        ) from error


def _process(raw: dict[str, Any] | None) -> ProcessId | None:
    return ProcessId(**raw) if raw else None
