"""A running dataflow's pulse: a small JSON file that `status`, the demo and health checks read.

Written about once a second by a thread of the dataflow, replaced atomically. Nothing depends on
it for correctness: positions live in the ledger.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
    `parts`: processes of the dataflow whose pulses lie in this folder, one file each.
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
    parts: int = 1

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


def pulse_path(home: Path, feed: str, index: int = 0) -> Path:
    """Where a process of a feed's dataflow writes its pulse.

    >>> pulse_path(Path("home"), "trades", 1).name
    'feed-trades.1.json'
    """
    name = f"feed-{feed}.{index}.json" if index else f"feed-{feed}.json"
    return home / "run" / name


def read_part(home: Path, feed: str, index: int = 0) -> Pulse | None:
    """The last pulse of one process; None if it is not running or never ran."""
    try:
        return Pulse(**orjson.loads(pulse_path(home, feed, index).read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None


def read_parts(home: Path, feed: str) -> list[Pulse]:
    """The last pulse of every process that has one, process 0 first; empty without process 0."""
    first = read_part(home, feed)
    if first is None:
        return []
    others = (read_part(home, feed, index) for index in range(1, first.parts))
    return [first, *(pulse for pulse in others if pulse is not None)]


def read_pulse(home: Path, feed: str) -> Pulse | None:
    """The last pulse of a whole dataflow; None if it is not running or never ran."""
    return join_pulses(read_parts(home, feed))


def join_pulses(parts: Sequence[Pulse]) -> Pulse | None:
    """One pulse of many processes: as old, as stalled and as far behind as the worst of them.

    Commits and the table are process 0's to tell. One without a pulse counts as silent since
    process 0 began.
    """
    if len(parts) < 2 and (not parts or parts[0].parts == 1):
        return parts[0] if parts else None
    first = parts[0]
    updated = [pulse.updated_ms for pulse in parts]
    if len(parts) < first.parts:
        updated.append(first.started_ms or 0)
    stages = {stage for pulse in parts for stage in pulse.frontiers_ms}
    kinds = {kind for pulse in parts for kind in pulse.requests}
    return replace(
        first,
        updated_ms=min(updated),
        epoch_age_seconds=max(pulse.epoch_age_seconds for pulse in parts),
        shards=[shard for pulse in parts for shard in pulse.shards],
        frontiers_ms={
            stage: min(p.frontiers_ms[stage] for p in parts if stage in p.frontiers_ms)
            for stage in sorted(stages)
        },
        requests={kind: sum(p.requests.get(kind, 0) for p in parts) for kind in sorted(kinds)},
        retries=sum(pulse.retries for pulse in parts),
    )
