"""`Rows` with DuckDB: one database for all requests, locked to the files of Silver.

A statement names exactly the data files of its snapshot that may hold what is asked for. The
database keeps what it read in memory; objects of the lake never change, so it does not ask whether
they did. Gold is the file of the published build, opened read-only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing

import duckdb
import pyarrow as pa

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, StoreUnavailableError
from stream.lake.catalog_files import BoundedFile, files_of
from stream.lake.connect import Lake, connect_lake
from stream.lake.layout import silver_folder
from stream.lake.sql import connect_sql, lock_sql, parquet_source
from stream.serving.deadline import Deadlines
from stream.serving.gold_rows import LocalGold
from stream.serving.problem import QueryTimeoutError
from stream.serving.resource import Resource
from stream.serving.rows import Make, State
from stream.serving.snapshots import Snapshots
from stream.serving.statements import Selection, Statement
from stream.settings import Settings

MEMORY_LIMIT = "1GB"
THREADS = 2
KEPT_PLANS = 32
"""Lists of files that are remembered: of newest snapshots, and of those that cursors read."""
BOUNDED = ("symbol", "venue", "kind", "ts_event_ns", "ts_published_ns")
TABLES = ("trades", "quotes", "news", "bars_1m")


class DuckdbRows:
    """Rows of a lake on this machine, or of one on S3 that this machine may read."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_lake: Callable[[], Lake] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._snapshots = Snapshots(open_lake or (lambda: connect_lake(settings)), clock=clock)
        self._gold = LocalGold(settings.home, self.lake, clock=clock)
        self._deadlines = Deadlines(clock=clock)
        self._lock = threading.Lock()
        self._plans: OrderedDict[tuple[str, int], tuple[BoundedFile, ...]] = OrderedDict()
        self._silver: duckdb.DuckDBPyConnection | None = None

    def lake(self) -> Lake:
        """See `Rows`."""
        return self._snapshots.lake()

    def current(self, resource: Resource) -> State:
        """See `Rows`."""
        if resource.layer == "gold":
            return self._gold.current(resource)
        _, found = self._snapshots.current(resource.table)
        return State(resource.table, found.id, found.committed_ms)

    def pinned(self, resource: Resource, snapshot: int) -> State:
        """See `Rows`."""
        if resource.layer == "gold":
            return self._gold.pinned(resource, snapshot)
        _, found = self._snapshots.pinned(resource.table, snapshot)
        return State(resource.table, found.id, found.committed_ms)

    def select(self, asked: Selection, state: State, make: Make) -> pa.Table:
        """See `Rows`."""
        if asked.resource.layer == "gold":
            connection, source = self._gold.open(asked.resource, state.snapshot)
            found = self._run(connection, make(asked, source))
        else:
            found = self._select_silver(asked, state, make)
        return found.cast(asked.resource.schema)

    def close(self) -> None:
        """See `Rows`."""
        self._deadlines.close()

    def _select_silver(self, asked: Selection, state: State, make: Make) -> pa.Table:
        name = asked.resource.table
        table, _ = self._snapshots.pinned(name, state.snapshot)
        files = self._plan(name, state.snapshot)
        wanted = [file.address for file in files if is_needed(asked, file)]
        statement = make(asked, parquet_source(wanted, table.arrow_schema))
        try:
            return self._run(self._connect(), statement)
        except StoreUnavailableError:
            with self._lock:
                self._silver = None  # with new credentials the next time
            self._snapshots.check(name, state.snapshot)
            raise

    def _plan(self, name: str, snapshot: int) -> tuple[BoundedFile, ...]:
        with self._lock:
            if (name, snapshot) in self._plans:
                self._plans.move_to_end((name, snapshot))
                return self._plans[name, snapshot]
        table, _ = self._snapshots.pinned(name, snapshot)
        files = files_of(table, snapshot, BOUNDED)
        with self._lock:
            self._plans[name, snapshot] = files
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        return files

    def _connect(self) -> duckdb.DuckDBPyConnection:
        lake, settings = self.lake(), self._settings
        with self._lock:
            if self._silver is None:
                made = connect_sql(
                    settings.lake,
                    settings.region,
                    zones=tuple(settings.zones.values()),
                    threads=THREADS,
                    memory_limit=MEMORY_LIMIT,
                )
                made.execute("SET validate_external_file_cache = 'NO_VALIDATION'")
                if settings.lake.startswith("s3://"):
                    made.execute("SET http_timeout = 5")
                    made.execute("SET http_retries = 1")
                lock_sql(made, [], [lake.store.uri(silver_folder(name)) for name in TABLES])
                self._silver = made
            return self._silver

    def _run(self, connection: duckdb.DuckDBPyConnection, statement: Statement) -> pa.Table:
        seconds = self._settings.api_query_seconds
        with (
            closing(connection.cursor()) as cursor,
            self._deadlines.within(seconds, cursor.interrupt) as running,
        ):
            try:
                return cursor.execute(statement.sql, list(statement.values)).to_arrow_table()
            except duckdb.InterruptException as error:
                if running.is_stopped:
                    raise QueryTimeoutError(f"stopped after {seconds} s") from error
                raise
            except (duckdb.IOException, duckdb.HTTPException, duckdb.OutOfMemoryException) as error:
                raise StoreUnavailableError(
                    f"cannot read the lake: {str(error).splitlines()[0]}"
                ) from error
            except duckdb.PermissionException as error:
                raise ConfigError(
                    f"a data file lies outside its table's folder: {str(error).splitlines()[0]}"
                ) from error


def is_needed(asked: Selection, file: BoundedFile) -> bool:
    """Whether a file may hold rows that a selection must look at.

    A row outside the range matters only if it is a later version of one inside.
    """
    resource = asked.resource
    wanted = dict(asked.equal)
    if resource.symbol == "equal" and asked.symbol is not None:
        wanted["symbol"] = asked.symbol
    if any(not file.may_hold(name, value, value) for name, value in wanted.items()):
        return False
    if file.may_hold(resource.time, asked.page_start_ns, asked.end_ns):
        return True
    return bool(resource.reaches_out) and not file.holds_only("kind", "new")
