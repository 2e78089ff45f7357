"""Processes of `headrace` that start in 50 ms: forked from one that has imported everything.

A dataflow's imports take 1.7 CPU-seconds, more than a whole crash window. The nursery imports
them once and forks a child for each start; a child is a process as any other, with its own
environment, log and end, by SIGKILL too. The nursery itself is `crash_nursery_process.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Child:
    """One process of the nursery."""

    nursery: Nursery
    number: int
    pid: int
    log: Path

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self.nursery.ended.get(self.number)

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} lives after {seconds} s\n{self.words()}")
            time.sleep(0.01)
        return code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except FileNotFoundError:
            return False

    def words(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")


class Nursery:
    """The running nursery, as tests see it."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}
        """Exit codes by number: a machine gives a pid to another process later."""
        self._born: list[int] = []
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crash_nursery_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        mutant: str | None = None,
        behind_seconds: int = 0,
    ) -> Child:
        """Start `headrace ARGUMENTS`; its output goes to a file.

        Args: mutant: of `crash_mutants`. behind_seconds: how late it was when the process lived.
        """
        assert self._process.stdin is not None
        log.touch()
        with self._starting, self._changed:
            count = len(self._born)
            wanted: dict[str, object] = {
                "arguments": list(arguments),
                "env": dict(environment),
                "log": str(log),
            }
            wanted |= {"mutant": mutant, "behind_seconds": behind_seconds}
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            if not self._changed.wait_for(lambda: len(self._born) > count, 60):
                raise TimeoutError("the nursery does not answer")
            return Child(self, count, self._born[count], log)

    def close(self) -> None:
        """Kill every child that lives, then end."""
        for number, pid in enumerate(self._born):
            if number not in self.ended:
                with suppress(ProcessLookupError):  # it ended just now
                    os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                if "born" in told:
                    self._born.append(told["born"])
                else:
                    self.ended[told["ended"]] = told["code"]
                self._changed.notify_all()
