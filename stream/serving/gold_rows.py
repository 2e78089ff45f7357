"""Builds of Gold on this machine: which is published, and a read-only connection to each in use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import duckdb

from stream.clock import SYSTEM_CLOCK, Clock
from stream.gold_views import find_gold
from stream.lake.connect import Lake
from stream.lake.gold import GoldBuild, read_build, slot_file
from stream.lake.sql import lock_sql, quote_name
from stream.serving.problem import ProblemError, SnapshotGoneError
from stream.serving.resource import Resource
from stream.serving.rows import State

REFRESH_SECONDS = 1.0
KEPT_BUILDS = 3


class LocalGold:
    """The builds of one home. Threads may share it."""

    def __init__(
        self, home: Path, lake: Callable[[], Lake], *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._home, self._lake, self._clock = home, lake, clock
        self._lock = threading.Lock()
        self._published: GoldBuild | None = None
        self._read_at: float | None = None
        self._open: OrderedDict[int, tuple[GoldBuild, duckdb.DuckDBPyConnection]] = OrderedDict()

    def current(self, resource: Resource) -> State:
        """The published build. Raises: ProblemError: none yet, or it lacks the table (409)."""
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at > REFRESH_SECONDS:
            self._published = find_gold(self._lake().store, self._home)
            self._read_at = now
        return gold_state(resource, self._published)

    def pinned(self, resource: Resource, number: int) -> State:
        """A build of before. Raises: SnapshotGoneError."""
        return gold_state(resource, self._connect(number)[0])

    def open(self, resource: Resource, number: int) -> tuple[duckdb.DuckDBPyConnection, str]:
        """A connection to a build, and a table's name in it. Raises: SnapshotGoneError."""
        build, connection = self._connect(number)
        schema = (build.relations or {})[resource.table]
        return connection, f"{quote_name(schema)}.{quote_name(resource.table)}"

    def _connect(self, number: int) -> tuple[GoldBuild, duckdb.DuckDBPyConnection]:
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        build = read_build(self._lake().store, "local", number)
        file = slot_file(self._home, build.slot) if build else None
        if build is None or file is None or not file.is_file():
            raise SnapshotGoneError(f"build {number} of Gold is gone")
        connection = duckdb.connect(str(file), read_only=True)
        lock_sql(connection, [])
        with self._lock:
            self._open[number] = (build, connection)
            while len(self._open) > KEPT_BUILDS:
                self._open.popitem(last=False)  # closed when the last query of it has ended
        return build, connection


def gold_state(resource: Resource, build: GoldBuild | None) -> State:
    """A build as what rows are read from. Raises: ProblemError: none, or it lacks the table."""
    if build is None:
        raise ProblemError(
            409,
            "no-gold",
            "No build of Gold is published yet: `headrace gold` makes one. Bars of one minute come "
            "from Silver and need none.",
        )
    if resource.table not in (build.relations or {}):
        raise ProblemError(
            409, "no-gold", f"Build {build.number} of Gold lacks {resource.table}: `headrace gold`."
        )
    return State(f"gold.{resource.table}", build.number, build.published_ms)
