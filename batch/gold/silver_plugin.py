"""dbt-duckdb's way to Silver: an in-memory database `lake` with one view per pinned table.

Named in `dbt/profiles.yml`; dbt calls `Plugin.configure_connection` once per process. `lake.silver`
holds every feed's table and `bars_1m`, `lake.ledger` what the ledger says of the commits that the
slot does not include yet. A table that does not exist reads as empty, so every model always
builds. Nothing of this is stored in the Gold file.
Not here: which state is pinned (`pins`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin

from batch.gold.pins import Pins, read_new_entries, silver_schemas, take_pins
from stream.lake.connect import Lake, connect_lake
from stream.lake.sql import parquet_source, reach_lake
from stream.ledger_tables import LEDGER_TABLES
from stream.settings import load_settings


class Plugin(BasePlugin):
    """What dbt-duckdb looks for in a plugin's module. Config: `pins`, a file; empty: pin now."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Keep the configuration; nothing is opened before the connection exists."""
        self._pins = plugin_config.get("pins") or None

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Attach `lake`."""
        settings = load_settings()
        lake = connect_lake(settings)
        pins = Pins.read(Path(self._pins)) if self._pins else take_pins(lake, {})
        reach_lake(conn, settings.lake, settings.region)
        attach_silver(conn, lake, pins)


def attach_silver(connection: duckdb.DuckDBPyConnection, lake: Lake, pins: Pins) -> None:
    """Give a connection the database `lake`, as the pins say."""
    attach_tables(connection, lake, pins, list(silver_schemas()))
    _attach_ledger(connection, lake, pins)


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
        connection.execute(f"CREATE VIEW lake.silver.{name} AS SELECT * FROM {source}")  # noqa: S608


def _attach_ledger(connection: duckdb.DuckDBPyConnection, lake: Lake, pins: Pins) -> None:
    connection.execute("CREATE SCHEMA lake.ledger")
    entries = [e for name, pin in pins.tables.items() for e in read_new_entries(lake, name, pin)]
    for name, (_, build) in LEDGER_TABLES.items():
        connection.register("new_rows", build(entries))
        connection.execute(f"CREATE TABLE lake.ledger.{name} AS FROM new_rows")
        connection.unregister("new_rows")

