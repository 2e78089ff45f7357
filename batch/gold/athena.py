"""What only the target `athena` needs: the ledger as tables, and views that lead to a build.

dbt reads the ledger through Glue there, so the rows that are new for a slot are written as Iceberg
tables of the namespace `ledger` before it runs. After publication the views of the schema `gold`
are pointed at the slot's tables, by dbt itself (`macros/publish.sql`). The record of the build
comes first: if we die in between, the next build points the views again.
"""

from __future__ import annotations

import json

from batch.gold.dbt_process import run_dbt
from batch.gold.pins import Pins, read_new_entries
from batch.gold.project import find_project
from batch.gold.slots import slot_environment
from stream.lake.connect import Lake, connect_catalog
from stream.lake.gold import GoldBuild
from stream.ledger_tables import LEDGER_TABLES
from stream.settings import Settings, child_environment

LEDGER_NAMESPACE = "ledger"


def write_ledger(settings: Settings, lake: Lake, pins: Pins) -> None:
    """Replace the tables of the namespace `ledger` with what the slot does not include yet."""
    catalog = connect_catalog(settings, LEDGER_NAMESPACE, lake.store.root)
    entries = [e for name, pin in pins.tables.items() for e in read_new_entries(lake, name, pin)]
    for name, (_, rows_of) in LEDGER_TABLES.items():
        catalog.overwrite(name, rows_of(entries))


def publish_views(settings: Settings, lake: Lake, build: GoldBuild) -> None:
    """Point every view of the schema `gold` at a build's slot. Twice changes nothing."""
    arguments = ["run-operation", "publish", "--args", json.dumps({"relations": build.relations})]
    environment = {
        **child_environment(settings),
        **slot_environment("athena", build.slot, lake.store.root),
    }
    folder = settings.home / "gold" / "athena-publish"
    run_dbt(find_project(), arguments, folder, environment)
