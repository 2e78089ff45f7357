"""SQL over the lake: DuckDB views of one Iceberg snapshot per table, fresh at every call.

A view reads exactly the data files of the snapshot that was current when it was made, so a
compaction or a commit meanwhile is never half-seen. `trades_current`, `trades_asof(t)` and
`bars_1m_current` resolve corrections and revisions; `quarantine`, `ledger_slices`,
`ledger_commits` and `gaps` show what the ledger knows. The tables of the published build of Gold
are there too, as `gold.<table>` and, where the name is free, `<table>`.

Guarantees: `run_query` only reads, and nothing but the files of those views: once they are made
the connection is locked, so SQL reaches no other file, address or setting. Rows that were committed
before the call are in its answer.
Not here: proof that the rows are right (`prove`), printing (`cli`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import duckdb
import pyarrow as pa

from stream.errors import ConfigError, PipelineError, StoreUnavailableError
from stream.gold_views import add_gold, find_gold
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import HEAD, Entry
from stream.lake.gold import GoldBuild
from stream.lake.history import current_slices
from stream.lake.ledger import open_ledger
from stream.lake.sql import connect_sql, file_path, lock_sql, parquet_source, quote_name, quote_text
from stream.ledger_tables import commit_rows, gap_rows, slice_rows
from stream.quarantine import QUARANTINE_SCHEMA
from stream.settings import Settings

LEDGER_VIEWS = ("ledger_slices", "ledger_commits", "gaps", "quarantine")

LATEST_TRADE = """
  QUALIFY row_number() OVER (
    PARTITION BY venue, symbol, trade_id
    ORDER BY known_at_ns DESC, CASE kind WHEN 'cancel' THEN 2 WHEN 'correct' THEN 1 ELSE 0 END DESC,
             ts_event_ns DESC, price DESC, size DESC) = 1
"""
"""One version per trade, the latest known: the same rule as `bars.FROM_TRADES`."""

DERIVED = {
    "trades": (
        f"""
        CREATE VIEW silver.trades_current AS
        SELECT * FROM (SELECT * FROM silver.trades {LATEST_TRADE}) WHERE kind <> 'cancel'
        """,  # noqa: S608  # nosec B608: constants of this module
        f"""
        CREATE MACRO trades_asof(t) AS TABLE
        SELECT * FROM (SELECT * FROM silver.trades WHERE known_at_ns <= t {LATEST_TRADE})
        WHERE kind <> 'cancel'
        """,  # noqa: S608  # nosec B608: constants of this module
        "CREATE VIEW trades_current AS FROM silver.trades_current",
    ),
    "bars_1m": (
        """
        CREATE VIEW silver.bars_1m_current AS SELECT * FROM silver.bars_1m
        QUALIFY row_number() OVER (
          PARTITION BY venue, symbol, ts_event_ns ORDER BY revision DESC) = 1
        """,
        "CREATE VIEW bars_1m_current AS FROM silver.bars_1m_current",
    ),
}


def connect(settings: Settings, feeds: Sequence[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with every view, over the snapshots of now.

    Args: feeds: only their tables (`bars_1m` belongs to `trades`); None for all that exist.
    The caller closes it; a new call sees newer rows.

    Raises: ConfigError (no lake yet, no credentials), StoreUnavailableError.
    """
    wanted = None if feeds is None else {*feeds, *(["bars_1m"] if "trades" in feeds else [])}
    lake, names, gold = _open_lake(settings)
    with _explained(_view_names(names, gold)):
        return _connect(
            settings,
            lake,
            names,
            gold,
            lambda name: wanted is None or name in {*wanted, *LEDGER_VIEWS},
        )


def run_query(settings: Settings, sql: str) -> pa.Table:
    """The answer to one SELECT-like statement.

    Raises: ConfigError for SQL that is wrong, writes, or names a table that does not exist;
    StoreUnavailableError when files cannot be read.
    """
    check_reads_only(sql)
    lake, names, gold = _open_lake(settings)
    with (
        _explained(_view_names(names, gold)),
        closing(_connect(settings, lake, names, gold, _mentioned_in(sql))) as connection,
    ):
        return connection.execute(sql).to_arrow_table()


def check_reads_only(sql: str) -> None:
    """Refuse what is not one reading statement. Raises: ConfigError."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise ConfigError(_one_line(error)) from None
    if len(statements) != 1:
        raise ConfigError(f"expected one SQL statement, found {len(statements)}")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        check_reads_only(_EXPLAIN.sub("", sql, count=1))
    elif kind != duckdb.StatementType.SELECT:
        raise ConfigError(
            f"{kind.name} is refused: `headrace query` only reads (SELECT, WITH, FROM, DESCRIBE, "
            "SHOW, SUMMARIZE, EXPLAIN). Rows enter Silver through `headrace run` alone."
        )


_EXPLAIN = re.compile(
    r"^(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.I | re.S
)


def _mentioned_in(sql: str) -> Callable[[str], bool]:
    """Which views a statement needs: planning a table or reading a ledger that nobody asks for
    would cost more than most queries.
    """
    text = sql.lower()
    if re.search(r"\b(show|information_schema|duckdb_\w+|pg_\w+)\b", text):
        return lambda _: True
    return lambda name: name in text


def _open_lake(settings: Settings) -> tuple[Lake, list[str], GoldBuild | None]:
    """The lake, the names of its tables, and what is published of Gold.

    Raises: ConfigError if it has no tables.
    """
    lake = connect_lake(settings)
    names = lake.catalog.names()
    if not names:
        raise ConfigError(
            f"the lake {settings.lake} has no tables yet: start a feed with `headrace run FEED`, "
            "or see it all with `headrace demo`."
        )
    return lake, names, find_gold(lake.store, settings.home)


def _view_names(names: Sequence[str], gold: GoldBuild | None) -> list[str]:
    derived = {"trades": ["trades_current", "trades_asof(ns)"], "bars_1m": ["bars_1m_current"]}
    tables = (gold.relations or {}) if gold else {}
    found = [*names, *(d for name in names for d in derived.get(name, [])), *LEDGER_VIEWS, *tables]
    return sorted(found)


def _connect(
    settings: Settings,
    lake: Lake,
    names: Sequence[str],
    gold: GoldBuild | None,
    is_wanted: Callable[[str], bool],
) -> duckdb.DuckDBPyConnection:
    """A connection with the wanted views."""
    connection = connect_sql(settings.lake, settings.region, zones=tuple(settings.zones.values()))
    readable: list[str] = []
    try:
        connection.execute("CREATE SCHEMA silver")
        for name in names:
            if is_wanted(name):
                readable += _add_table(connection, lake.catalog.open(name))
        if any(is_wanted(name) for name in LEDGER_VIEWS):
            readable += _add_ledger(connection, lake, names)
        if gold is not None:
            add_gold(connection, settings.home, gold, is_wanted)
        lock_sql(connection, readable)
    except BaseException:
        connection.close()
        raise
    return connection


def _add_table(connection: duckdb.DuckDBPyConnection, table: LakeTable) -> list[str]:
    """A table's view, and the views that resolve its corrections; the files that they read."""
    addresses = [address for address, _ in table.data_files()]
    name, source = quote_name(table.name), parquet_source(addresses, table.arrow_schema)
    view = f"CREATE VIEW silver.{name} AS SELECT * FROM {source}"  # noqa: S608  # nosec B608: quoted
    connection.execute(view)
    connection.execute(f"CREATE VIEW {name} AS FROM silver.{name}")
    for statement in DERIVED.get(table.name, ()):
        connection.execute(statement)
    return addresses


def _add_ledger(
    connection: duckdb.DuckDBPyConnection, lake: Lake, names: Sequence[str]
) -> list[str]:
    """The views of what the ledger knows; the files that they read."""
    entries = [entry for name in names for entry in _entries(lake, name)]
    connection.register("ledger_slices", slice_rows(entries))
    connection.register("ledger_commits", commit_rows(entries))
    connection.register("gaps", gap_rows(entries))
    return _add_quarantine(connection, lake, entries)


def _entries(lake: Lake, name: str) -> list[Entry]:
    table = lake.catalog.open(name)
    if HEAD not in table.properties:
        return []
    return open_ledger(name, table, lake.store).entries()


def _add_quarantine(
    connection: duckdb.DuckDBPyConnection, lake: Lake, entries: Sequence[Entry]
) -> list[str]:
    """Rejected messages that no redrive has landed; the files that hold them."""
    slices = current_slices(entries).values()
    objects = [(s.feed, s.record.quarantine.path) for s in slices if s.record.quarantine]
    landed = [message for state in slices for message in sorted(state.landed)]
    if not objects:
        fields = [
            pa.field("feed", pa.string()),
            *QUARANTINE_SCHEMA,
            pa.field("object", pa.string()),
        ]
        connection.register("quarantine", pa.schema(fields).empty_table())
        return []
    paths = [file_path(lake.store.uri(path)) for _, path in objects]
    connection.register(
        "quarantine_objects",
        pa.table(
            {
                "feed": [feed for feed, _ in objects],
                "object": [path for _, path in objects],
                "filename": paths,
            }
        ),
    )
    connection.register(
        "redriven_messages",
        pa.table(
            {
                "object": pa.array([path for path, _, _ in landed], pa.string()),
                "record_no": pa.array([record for _, record, _ in landed], pa.int32()),
                "line_no": pa.array([line for _, _, line in landed], pa.int32()),
            }
        ),
    )
    files = ", ".join(map(quote_text, paths))
    connection.execute(
        f"""
        CREATE VIEW quarantine AS
        SELECT o.feed, q.* EXCLUDE (filename), o.object
        FROM read_parquet([{files}], filename = true) q
        JOIN quarantine_objects o USING (filename)
        ANTI JOIN redriven_messages USING (object, record_no, line_no)
        """  # noqa: S608  # nosec B608: quoted paths that the ledger names
    )
    return paths


@contextmanager
def _explained(names: Sequence[str]) -> Iterator[None]:
    """Turn DuckDB's errors into one line that says what to do."""
    try:
        yield
    except duckdb.CatalogException as error:
        raise ConfigError(f"{_one_line(error)} What exists: {', '.join(names)}.") from None
    except duckdb.PermissionException as error:
        raise ConfigError(
            f"{_one_line(error)} `headrace query` reads the tables and views of the lake, no other "
            f"file or address. What exists: {', '.join(names)}."
        ) from None
    except (duckdb.IOException, duckdb.HTTPException) as error:
        raise StoreUnavailableError(
            f"cannot read the lake: {_one_line(error)} Ask again; if it stays, `headrace prove` "
            "names a file that is gone."
        ) from None
    except PipelineError:
        raise
    except duckdb.Error as error:
        raise ConfigError(_one_line(error)) from None


def _one_line(error: Exception) -> str:
    """The first lines of a DuckDB message as a sentence, without the picture of the query."""
    lines = str(error).split("\n\nLINE")[0].splitlines()
    text = " ".join(line.strip() for line in lines if line.strip())
    return text if text.endswith((".", "!", "?")) else f"{text}."
