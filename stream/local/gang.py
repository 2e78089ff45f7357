"""Run a feed's dataflow as n processes on this machine: `headrace run FEED --processes N`.

They are one Bytewax cluster on loopback, which has no re-join: when one ends, whatever the reason,
the others are ended too and all start again, after a back-off that doubles up to 30 s and is
forgotten after a minute of health. A process that is frozen is noticed by its peers, which leave
(`engine.watch_epochs`). Exit code 2 (wrong configuration) ends the gang: starting again changes
nothing. Killed, it takes its processes with it (`tether`). Correctness never depends on any of
this: the ledger decides.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.local.process import spawn
from stream.local.supervisor import (
    CONFIG_EXIT,
    FIRST_PAUSE_SECONDS,
    HEALTHY_SECONDS,
    MAX_PAUSE_SECONDS,
)

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
STOP_SECONDS = 28.0
"""A process that was asked to end leaves after 25 s at the latest (`engine.stop_on_signals`)."""
HOST = "127.0.0.1"


@dataclass(slots=True)
class Gang:
    """The processes of one dataflow.

    `command`: starts one; it learns its place from HEADRACE_PROCESS_INDEX and HEADRACE_ADDRESSES.
    `env`: of all of them. `log`: where their output is appended; None: where ours goes.
    """

    command: Sequence[str | Path]
    processes: int
    env: Mapping[str, str]
    log: Path | None = None
    clock: Clock = SYSTEM_CLOCK
    restarts: int = 0
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, should_stop: Callable[[], bool]) -> int:
        """Start all, restart all when one ends, stop all when told to. Returns an exit code: 0
        when all ended well after the stop, 2 for a wrong configuration, 1 if one was killed.

        Raises: ConfigError when a process cannot be started; none is left running then.
        """
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                began = self.clock.monotonic()
                self._start()
                if (end := self._wait(should_stop)) is None:
                    return self._stop()
                index, code = end
                self._kill()
                if code == CONFIG_EXIT:
                    return CONFIG_EXIT
                if self.clock.monotonic() - began >= HEALTHY_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                log.warning(
                    "process %d of %d ended with code %d: all of them start again in %.1f s",
                    index,
                    self.processes,
                    code,
                    pause,
                )
                if self._rest(pause, should_stop):
                    return 0
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                self.restarts += 1
        finally:
            self._kill()

    def _start(self) -> None:
        addresses = ",".join(f"{HOST}:{port}" for port in free_ports(self.processes))
        for index in range(self.processes):
            place = {"HEADRACE_PROCESS_INDEX": str(index), "HEADRACE_ADDRESSES": addresses}
            env = {**self.env, **place, "HEADRACE_PROCESSES": str(self.processes)}
            if index:  # process 0 reports for all
                env.pop("HEADRACE_METRICS_PORT", None)
                env["HEADRACE_METRICS_EXPORT"] = "none"
            self._running.append(spawn(self.command, self.log, env))

    def _wait(self, should_stop: Callable[[], bool]) -> tuple[int, int] | None:
        """Until one ends (which one, its exit code), or a stop is wanted (None)."""
        while not should_stop():
            for index, process in enumerate(self._running):
                if (code := process.poll()) is not None:
                    return index, code
            self.clock.sleep(POLL_SECONDS)
        return None

    def _rest(self, seconds: float, should_stop: Callable[[], bool]) -> bool:
        """Wait; returns whether a stop is wanted."""
        until = self.clock.monotonic() + seconds
        while not should_stop() and self.clock.monotonic() < until:
            self.clock.sleep(POLL_SECONDS)
        return should_stop()

    def _stop(self) -> int:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        deadline = self.clock.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in self._running):
            if self.clock.monotonic() >= deadline:
                break
            self.clock.sleep(POLL_SECONDS)
        return 0 if all(process.poll() == 0 for process in self._running) else 1

    def _kill(self) -> None:
        """Each is safe to kill at any moment; a frozen one hears no other signal."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._running.clear()


def gang_command(feed: str) -> list[str]:
    """What starts one process of a feed."""
    return [sys.executable, "-m", "stream.cli", "run", feed]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different. Somebody may be faster: then a
    process cannot listen, and the next start takes others.
    """
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
