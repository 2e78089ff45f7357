"""What dbt-duckdb loads by its name in `dbt/profiles.yml`: it attaches the pinned Silver.

The only module that imports dbt in Python: it costs two seconds, which no other verb should pay.
Nothing of what it attaches is stored in the Gold file. Not here: what is attached (`attach`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from batch.gold.attach import attach_silver
from batch.gold.pins import Pins, take_pins
from stream.lake.connect import connect_lake
from stream.lake.sql import reach_lake
from stream.settings import load_settings


class Plugin(BasePlugin):
    """What dbt-duckdb looks for in a plugin's module. Config: `pins`, a file; empty: pin now."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Keep the configuration; nothing is opened before the connection exists."""
        self._pins = plugin_config.get("pins") or None

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Attach `lake`; dbt calls this once per process."""
        settings = load_settings()
        lake = connect_lake(settings)
        pins = Pins.read(Path(self._pins)) if self._pins else take_pins(lake, {})
        reach_lake(conn, settings.lake, settings.region)
        attach_silver(conn, lake, pins)
