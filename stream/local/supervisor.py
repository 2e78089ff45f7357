"""Keep the local platform alive: one emulator, one `headrace run` child per feed.

A child that ends is started again after a back-off that doubles up to 30 s and is forgotten after
a minute of health; one that says "wrong configuration" (exit 2) is left down, because starting it
again changes nothing. A stop ends all children at once, within seconds; a supervisor that is
killed takes them with it (`tether`). Correctness never depends on any of this: the ledger decides.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError
from stream.local import Emulator
from stream.local.process import ProcessId, identify, last_line, reap, spawn
from stream.local.state import Phase, PlatformState, ProcessState, write_state

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
POLL_SECONDS = 0.2
CONFIG_EXIT = 2


@dataclass(slots=True)
class Child:
    """One supervised command and its history.

    `ends_first_seconds`: it is ended before the others, with so much patience; 0 = with them.
    """

    name: str
    command: Sequence[str | Path]
    log: Path
    env: Mapping[str, str]
    clock: Clock = SYSTEM_CLOCK
    ends_first_seconds: float = 0.0
    restarts: int = 0
    exit_code: int | None = None
    since_ms: int = 0
    is_given_up: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _id: ProcessId | None = None
    _pause: float = FIRST_PAUSE_SECONDS
    _started_at: float = 0.0
    _again_at: float | None = None

    def start(self) -> None:
        """Start the command. Raises: ConfigError when that is impossible."""
        self._process = spawn(self.command, self.log, self.env)
        self._id = identify(self._process.pid)
        self._started_at, self._again_at = self.clock.monotonic(), None
        self.since_ms = now_ms(self.clock)

    def watch(self) -> bool:
        """Notice an end, start again when it is time. Returns whether anything changed."""
        if self._process is not None:
            return self._notice_end(self._process)
        if self._again_at is None or self.clock.monotonic() < self._again_at:
            return False
        self.restarts += 1
        self.start()
        return True

    def _notice_end(self, process: subprocess.Popen[bytes]) -> bool:
        code = process.poll()
        if code is None:
            return False
        now = self.clock.monotonic()
        if now - self._started_at >= HEALTHY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self.exit_code, self._process, self._id = code, None, None
        self.since_ms = now_ms(self.clock)
        self.is_given_up = code == CONFIG_EXIT
        if not self.is_given_up:
            self._again_at = now + self._pause
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
        log.warning("%s ended with code %d: %s", self.name, code, last_line(self.log))
        return True

    def ask_to_end(self) -> None:
        """Send SIGTERM, do not wait."""
        if self._process is not None:
            self._process.terminate()

    def end(self, patience_seconds: float) -> None:
        """Wait for the end that was asked for, then insist."""
        if self._process is not None:
            self.exit_code = reap(self._process, patience_seconds)
            with suppress(ProcessLookupError):  # whatever it started that outlived it
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process = self._id = None

    def report(self) -> ProcessState:
        """What `status` shows."""
        if self._process is not None:
            return ProcessState(self.name, "running", self._id, self.since_ms, self.restarts)
        state = "failed" if self.is_given_up else "waiting" if self._again_at else "stopped"
        return ProcessState(
            self.name,
            state,  # type: ignore[arg-type]  # mypy widens the conditional to str
            None,
            self.since_ms,
            self.restarts,
            self.exit_code,
            last_line(self.log),
        )


@dataclass(slots=True)
class Supervisor:
    """Runs an emulator and children until told to stop.

    `prepare(endpoint)` runs once when the emulator answers and returns the children: it may
    create streams and buckets first.
    """

    home: Path
    emulator: Emulator
    prepare: Callable[[str], Sequence[Child]]
    clock: Clock = SYSTEM_CLOCK
    _children: list[Child] = field(default_factory=list)
    _endpoint: str | None = None
    _emulator_restarts: int = 0
    _since_ms: int = 0

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Start everything, watch it, and stop it when `should_stop` says so.

        Raises: ConfigError when a start is impossible; nothing is left running then.
        """
        self._since_ms = now_ms(self.clock)
        try:
            self._write("starting")
            self._endpoint = self.emulator.start()
            self._children = list(self.prepare(self._endpoint))
            for child in self._children:
                child.start()
            self._write("running")
            while not should_stop():
                if self._watch():
                    self._write("running")
                self.clock.sleep(POLL_SECONDS)
            self._write("stopping")
        finally:
            self._stop()

    def _watch(self) -> bool:
        changed = [child.watch() for child in self._children]
        if not self.emulator.is_alive():
            log.warning("the emulator ended; starting it again")
            self._emulator_restarts += 1
            with suppress(ConfigError):  # reported by `status` as not running; tried again
                self._endpoint = self.emulator.start()
            changed.append(True)
        return any(changed)

    def _stop(self) -> None:
        for child in self._children:
            if child.ends_first_seconds:
                child.ask_to_end()
                child.end(child.ends_first_seconds)
        for child in self._children:
            child.ask_to_end()
        deadline = self.clock.monotonic() + 5.0
        for child in self._children:
            child.end(max(0.1, deadline - self.clock.monotonic()))
        self.emulator.stop()
        self._write("stopped")

    def _write(self, phase: Phase) -> None:
        pid = self.emulator.pid
        emulator = ProcessState(
            "aws",
            "running" if self._endpoint and self.emulator.is_alive() else "stopped",
            identify(pid) if pid else None,
            self._since_ms,
            self._emulator_restarts,
        )
        state = PlatformState(
            phase,
            identify(os.getpid()),
            self.emulator.name,
            self._endpoint,
            self._since_ms,
            (emulator, *(child.report() for child in self._children)),
        )
        try:
            write_state(self.home, state)
        except OSError as error:  # a full disk must not end what still works
            log.warning("cannot write the platform's state: %s", error.strerror)
