"""Silver in a DuckDB connection as a build sees it: database `lake`, one view per pinned table.

`lake.silver` holds every feed's table and `bars_1m`, `lake.ledger` what the ledger says of the
commits that the slot does not include yet. A table that does not exist reads as empty, so every
model always builds. Not here: which state is pinned (`pins`), how dbt gets it (`silver_plugin`).
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from batch.gold.pins import Pins, read_new_entries, silver_schemas
from stream.lake.connect import Lake
from stream.lake.sql import parquet_source
from stream.ledger_tables import LEDGER_TABLES


def attach_silver(connection: duckdb.DuckDBPyConnection, lake: Lake, pins: Pins) -> None:
    """Give a connection the database `lake`, as the pins say."""
    attach_tables(connection, lake, pins, list(silver_schemas()))
    connection.execute("CREATE SCHEMA lake.ledger")
    entries = [e for name, pin in pins.tables.items() for e in read_new_entries(lake, name, pin)]
    for name, (_, build) in LEDGER_TABLES.items():
        connection.register("new_rows", build(entries))
        connection.execute(f"CREATE TABLE lake.ledger.{name} AS FROM new_rows")
        connection.unregister("new_rows")


def attach_tables(
    connection: duckdb.DuckDBPyConnection, lake: Lake, pins: Pins, names: Sequence[str]
) -> None:
    """The views `lake.silver.<name>` alone."""
    connection.execute("ATTACH ':memory:' AS lake")
    connection.execute("CREATE SCHEMA lake.silver")
    for name in names:
        addresses, schema = list[str](), silver_schemas()[name]
        if (pin := pins.tables.get(name)) is not None:
            table = lake.catalog.open(name)
            schema = table.arrow_schema  # with the ids of this table's columns
            if pin.snapshot_id is not None:
                addresses = [address for address, _ in table.data_files(pin.snapshot_id)]
        source = parquet_source(addresses, schema)
        view = f"CREATE VIEW lake.silver.{name} AS SELECT * FROM {source}"  # noqa: S608  # nosec B608: names of feeds, quoted files
        connection.execute(view)
