"""A live dataflow in a thread of this process, over an in-memory stream and a lake in a folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stream.engine import Stop
from stream.flow import Observer, RoadCommitter, Tally
from stream.live import run_feed
from stream.prove import prove, render_proof
from stream.query import run_query
from stream.settings import Settings, load_settings
from stream.sources.memory import MemoryReader, MemoryStream

QUICK = {
    "window_ms": 300,
    "grace_ms": 100,
    "epoch_seconds": 0.3,
    "poll_ms": 20,
    "list_shards_seconds": 0.2,
    "lanes": 8,
}
PATIENCE_SECONDS = 30.0


class CrashError(Exception):
    """What a planted crash raises."""


@dataclass
class Running:
    """A dataflow in a thread. `tally` is that of its last commit."""

    stop: Stop
    thread: threading.Thread
    tally: Tally = field(default_factory=Tally)
    error: BaseException | None = None

    def wait_for(self, messages: int) -> None:
        """Until so many messages were committed by this run."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.tally.messages < messages:
            assert self.thread.is_alive(), f"the dataflow ended: {self.error!r}"
            assert time.monotonic() < deadline, f"{self.tally.messages} of {messages} committed"
            time.sleep(0.02)

    def end(self) -> Tally:
        """Stop, and raise what the run raised."""
        self.stop.request()
        self.join()
        if self.error is not None:
            raise self.error
        return self.tally

    def join(self) -> None:
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


@dataclass
class Bed:
    """A lake and what runs on it."""

    home: Path
    runs: list[Running] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def settings(self, **options: Any) -> Settings:
        lake = {"home": self.home, "lake": f"file://{self.home}/lake", **self.places}
        return load_settings(**{**lake, **QUICK, **options})

    def run(
        self,
        stream: MemoryStream,
        feed: str = "trades",
        *,
        observer: Observer | None = None,
        **options: Any,
    ) -> Running:
        """Start a dataflow; returns when it runs."""
        running = Running(Stop(), threading.Thread())
        settings = self.settings(**options)

        def note(tally: Tally) -> None:
            running.tally = tally

        def work() -> None:
            try:
                running.tally = run_feed(
                    settings,
                    feed,
                    stop=running.stop,
                    reader=MemoryReader(stream),
                    on_commit=note,
                    observer=observer,
                )
            except BaseException as error:  # noqa: BLE001 - raised by `end`
                running.error = error

        running.thread = threading.Thread(target=work, name="dataflow", daemon=True)
        running.thread.start()
        self.runs.append(running)
        return running

    def query(self, sql: str) -> list[dict[str, Any]]:
        return run_query(self.settings(), sql).to_pylist()

    def count(self, table: str = "trades") -> int:
        return int(self.query(f"SELECT count(*) AS n FROM {table}")[0]["n"])

    def check_equal(self, feed: str = "trades") -> Any:
        """The proof says equal; it is returned for more questions."""
        proof = prove(self.settings(), feed, deep=True)
        assert proof.is_equal, render_proof(proof)
        return proof

    def bronze(self) -> dict[str, bytes]:
        """Every Bronze object."""
        root = self.home / "lake" / "bronze"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def make_bed() -> Iterator[Callable[..., Bed]]:
    """Make lakes; every dataflow on one is ended. Arguments: its home, and where zones lie."""
    made: list[Bed] = []

    def make(home: Path, **places: str) -> Bed:
        made.append(Bed(home, places=places))
        return made[-1]

    yield make
    runs = [running for bed in made for running in bed.runs]
    for running in runs:
        running.stop.request()
    for running in runs:
        running.thread.join(PATIENCE_SECONDS)


@pytest.fixture
def bed(tmp_path: Path, make_bed: Callable[..., Bed]) -> Bed:
    """A lake in a folder."""
    return make_bed(tmp_path)


@pytest.fixture
def crash_at_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[], None]]:
    """The n-th commit from now on fails: everything of it is durable, nothing is visible."""

    def plant(number: int) -> Callable[[], None]:
        commits = 0
        commit = RoadCommitter.commit

        def failing(self: RoadCommitter) -> None:
            nonlocal commits
            commits += bool(self._pending)
            if commits == number:
                raise CrashError(f"commit {number}")
            commit(self)

        monkeypatch.setattr(RoadCommitter, "commit", failing)
        return lambda: monkeypatch.setattr(RoadCommitter, "commit", commit)

    return plant
