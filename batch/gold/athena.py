"""What only the target `athena` needs: the ledger as tables, and views that lead to a build.

dbt reads the ledger through Glue there, so the rows that are new for a slot are written as Iceberg
tables of the namespace `ledger` before it runs. After publication the views of the schema `gold`
are pointed at the slot's tables, by dbt itself (`macros/publish.sql`). The record of the build
comes first: if we die in between, the next build points the views again.

A feed that was never started has no table in Silver, and a table there means that it was: models
read an empty one of the namespace `absent` instead (`macros/absent.sql`).
"""

from __future__ import annotations

import json
from importlib.util import find_spec

from batch.gold.dbt_process import run_dbt
from batch.gold.pins import Pins, read_new_entries, silver_schemas
from batch.gold.project import find_project
from batch.gold.slots import slot_environment
from stream.errors import ConfigError, PipelineError
from stream.lake.connect import Lake, connect_catalog
from stream.lake.gold import GoldBuild
from stream.ledger_tables import LEDGER_TABLES
from stream.settings import Settings, child_environment

LEDGER_NAMESPACE = "ledger"
ABSENT_NAMESPACE = "absent"


def check_installed() -> None:
    """Raises: ConfigError if dbt's adapter is not there: it is an extra."""
    if find_spec("dbt.adapters.athena") is None:
        raise ConfigError(
            "the target athena needs dbt-athena-community: install headrace[athena], or run "
            "`make setup-extras` in a checkout."
        )


def write_ledger(settings: Settings, lake: Lake, pins: Pins) -> None:
    """Replace the tables of the namespace `ledger` with what the slot does not include yet."""
    catalog = connect_catalog(settings, LEDGER_NAMESPACE, lake.store.places)
    entries = [e for name, pin in pins.tables.items() for e in read_new_entries(lake, name, pin)]
    for name, (_, rows_of) in LEDGER_TABLES.items():
        catalog.overwrite(name, rows_of(entries))


def write_absent(settings: Settings, lake: Lake, pins: Pins) -> dict[str, str]:
    """Give models an empty table for every one that Silver lacks; what dbt needs to know of it."""
    catalog = connect_catalog(settings, ABSENT_NAMESPACE, lake.store.places)
    absent = {name: kind for name, kind in silver_schemas().items() if name not in pins.tables}
    for name, schema in absent.items():
        catalog.overwrite(name, schema.empty_table())
    return {"DBT_ABSENT": ",".join(absent)}


def publish_views(settings: Settings, lake: Lake, build: GoldBuild) -> None:
    """Point every view of the schema `gold` at a build's slot. Twice changes nothing.

    Raises: PipelineError if one could not be; the next build points them all again.
    """
    arguments = ["run-operation", "publish", "--args", json.dumps({"relations": build.relations})]
    environment = {
        **child_environment(settings),
        **slot_environment("athena", build.slot, lake.store),
    }
    folder = settings.home / "gold" / "athena-publish"
    run = run_dbt(find_project(), arguments, folder, environment)
    if run.exit_code:
        raise PipelineError(f"the views of {build.slot} are not all published: see {folder}")
