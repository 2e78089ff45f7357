"""The port to an engine of SQL: DuckDB here, Athena in AWS, the same statements for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from stream.lake.connect import Lake
from stream.serving.resource import Resource
from stream.serving.statements import Selection, Statement

Make = Callable[[Selection, str], Statement]
"""A statement out of a selection and what the engine reads FROM."""


@dataclass(frozen=True, slots=True)
class State:
    """What a page is read from: a snapshot of Silver, or a build of Gold, and its time."""

    table: str
    snapshot: int
    committed_ms: int


class Rows(Protocol):
    """Reads rows of the lake at a state. Threads may share it.

    Every method raises StoreUnavailableError, ConfigError, and ProblemError (404) for what does
    not exist yet.
    """

    def lake(self) -> Lake:
        """The lake that rows are read from."""
        ...

    def current(self, resource: Resource) -> State:
        """The newest state of a resource's table, as of a second ago at most."""
        ...

    def pinned(self, resource: Resource, snapshot: int) -> State:
        """A state of before. Raises: SnapshotGoneError."""
        ...

    def select(self, asked: Selection, state: State, make: Make) -> pa.Table:
        """Rows in exactly the resource's schema.

        Raises: QueryTimeoutError, SnapshotGoneError (expired since `pinned`).
        """
        ...

    def close(self) -> None:
        """End what runs beside."""
        ...
