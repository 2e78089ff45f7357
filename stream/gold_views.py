"""Views of the published build of Gold in a DuckDB connection: `gold.<table>` and `<table>`.

The build's file is attached read-only and never written again, so a query sees one build whole,
whatever is published meanwhile. Not here: how Gold is made (`batch.gold`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from stream.lake.gold import GoldBuild, read_published, slot_file
from stream.lake.sql import quote_name, quote_text
from stream.lake.store import Store

SCHEMA = "gold"


def add_gold(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    build: GoldBuild,
    is_wanted: Callable[[str], bool],
) -> None:
    """Add the views of the wanted tables.

    A name that is taken (a Silver view) keeps its meaning; `gold.<name>` is always the build's.
    """
    tables = build.relations or {}
    wanted = [name for name in sorted(tables) if is_wanted(name)]
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    if wanted:
        file = quote_text(str(slot_file(home, build.slot).absolute()))
        connection.execute(f"ATTACH {file} AS published (READ_ONLY)")
    for name in wanted:
        view = quote_name(name)
        source = f"published.{quote_name(tables[name])}.{view}"
        connection.execute(f"CREATE VIEW {SCHEMA}.{view} AS FROM {source}")
        if not _exists(connection, name):
            connection.execute(f"CREATE VIEW {view} AS FROM {source}")


def find_gold(store: Store, home: Path) -> GoldBuild | None:
    """The published build; None before the first, or if its file is on another machine."""
    if not (home / "gold").is_dir():  # spares the listing
        return None
    build = read_published(store, "local")
    return build if build and slot_file(home, build.slot).is_file() else None


def _exists(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    query = "SELECT count(*) FROM duckdb_views() WHERE view_name = ? AND schema_name = 'main'"
    found = connection.execute(query, [name]).fetchone()
    return bool(found and found[0])
