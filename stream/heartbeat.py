"""A running dataflow's pulse: a small JSON file that `status`, the demo and health checks read.

Written about once a second by a thread of the dataflow, replaced atomically. Nothing depends on
it for correctness: positions live in the ledger.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a dataflow said last.

    `frontiers_ms`: per stage, the time up to which everything that arrived is durable there.
    `requests`: calls to the object store, by kind. `table`: its snapshots and small files.
    """

    feed: str
    pid: int
    updated_ms: int
    epoch_age_seconds: float
    tally: dict[str, Any]
    shards: list[dict[str, Any]]
    started_ms: int | None = None
    frontiers_ms: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    retention_ms: int | None = None
    table: dict[str, int] = field(default_factory=dict)

    def age_seconds(self, clock: Clock = SYSTEM_CLOCK) -> float:
        """Time since it was written."""
        return (now_ms(clock) - self.updated_ms) / 1000


class Heartbeat:
    """Writes pulses until it is stopped."""

    def __init__(
        self, path: Path, feed: str, beat: Callable[[], dict[str, Any]], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._path, self._feed, self._beat, self._clock = path, feed, beat, clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin. Raises: ConfigError if the folder cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.write()
        except OSError as error:
            raise ConfigError(
                f"cannot write {self._path}: {error.strerror}. Choose another HEADRACE_HOME."
            ) from error
        self._thread.start()

    def write(self) -> None:
        """One pulse, now."""
        pulse = Pulse(
            feed=self._feed, pid=os.getpid(), updated_ms=now_ms(self._clock), **self._beat()
        )
        fresh = self._path.with_suffix(".tmp")
        fresh.write_bytes(orjson.dumps(pulse))  # dataclasses within it as objects
        fresh.replace(self._path)

    def stop(self) -> None:
        """End; without a dataflow there is no pulse."""
        self._stopped.set()
        self._thread.join(2)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            try:
                self.write()
            except (OSError, RuntimeError):
                # A full disk stops the road itself, with a clear error; a count that got a new
                # key while it was read ("changed size during iteration") is read again.
                continue


def pulse_path(home: Path, feed: str) -> Path:
    """Where a feed's dataflow writes its pulse."""
    return home / "run" / f"feed-{feed}.json"


def read_pulse(home: Path, feed: str) -> Pulse | None:
    """The last pulse; None if the dataflow is not running or never ran."""
    try:
        return Pulse(**orjson.loads(pulse_path(home, feed).read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None
