"""`Rows` with Athena: Silver by time travel to a snapshot, Gold by the published slot's tables."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.lake.athena import Athena, QueryStoppedError, SnapshotMissingError
from stream.lake.connect import Lake, connect_lake
from stream.lake.gold import GoldBuild, read_published
from stream.lake.sql import quote_name
from stream.serving.gold_rows import REFRESH_SECONDS, gold_state
from stream.serving.problem import QueryTimeoutError, SnapshotGoneError
from stream.serving.resource import Resource
from stream.serving.rows import Make, State
from stream.serving.snapshots import Snapshots
from stream.serving.statements import Selection
from stream.settings import Settings


class AthenaRows:
    """Rows of the lake in an AWS account.

    Raises (init): ConfigError without a workgroup: it is what bounds the cost of a query.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        athena: Athena | None = None,
        open_lake: Callable[[], Lake] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if settings.api_workgroup is None:
            raise ConfigError(
                "HEADRACE_API_WORKGROUP is not set: expected the Athena workgroup whose limits "
                "hold for the API"
            )
        self._settings, self._clock = settings, clock
        self._athena = athena or Athena(settings.api_workgroup, settings.region, clock=clock)
        self._snapshots = Snapshots(open_lake or (lambda: connect_lake(settings)), clock=clock)
        self._build: GoldBuild | None = None
        self._built_at: float | None = None

    def lake(self) -> Lake:
        """See `Rows`."""
        return self._snapshots.lake()

    def current(self, resource: Resource) -> State:
        """See `Rows`."""
        if resource.layer == "gold":
            return gold_state(resource, self._published())
        _, found = self._snapshots.current(resource.table)
        return State(resource.table, found.id, found.committed_ms)

    def pinned(self, resource: Resource, snapshot: int) -> State:
        """See `Rows`. Of Gold only the published build stands: the next one takes its place."""
        if resource.layer == "gold":
            build = self._published()
            if build is None or build.number != snapshot:
                raise SnapshotGoneError(f"build {snapshot} of Gold is no longer the published one")
            return gold_state(resource, build)
        _, found = self._snapshots.pinned(resource.table, snapshot)
        return State(resource.table, found.id, found.committed_ms)

    def select(self, asked: Selection, state: State, make: Make) -> pa.Table:
        """See `Rows`."""
        schema = asked.resource.schema
        if state.snapshot == 0:  # nothing was ever committed, and no version has that number
            return schema.empty_table()
        statement = make(asked, self._source(asked.resource, state))
        seconds = self._settings.api_query_seconds
        try:
            return self._athena.run(statement.sql, statement.values, schema, seconds)
        except QueryStoppedError as error:
            raise QueryTimeoutError(str(error)) from error
        except SnapshotMissingError as error:
            raise SnapshotGoneError(str(error)) from error

    def close(self) -> None:
        """See `Rows`."""

    def _source(self, resource: Resource, state: State) -> str:
        if resource.layer == "silver":
            name = f"{quote_name(self._settings.namespace)}.{quote_name(resource.table)}"
            return f"{name} FOR VERSION AS OF {int(state.snapshot)}"
        build = self._published()
        if build is None or build.number != state.snapshot:
            raise SnapshotGoneError(
                f"build {state.snapshot} of Gold is no longer the published one"
            )
        schema = (build.relations or {})[resource.table]
        return f"{quote_name(schema)}.{quote_name(resource.table)}"

    def _published(self) -> GoldBuild | None:
        now = self._clock.monotonic()
        if self._built_at is None or now - self._built_at > REFRESH_SECONDS:
            self._build = read_published(self.lake().store, "athena")
            self._built_at = now
        return self._build
