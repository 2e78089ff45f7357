"""The tables that a build for Athena writes first: the ledger's, and those of absent feeds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from batch.gold.athena import write_absent, write_ledger
from batch.gold.pins import Pin, Pins, silver_schemas, take_pins
from stream.lake.connect import connect_catalog, connect_lake, open_lake_store
from stream.ledger_tables import LEDGER_TABLES
from stream.settings import Settings

ROWS = pa.schema([("feed", pa.string()), ("commit", pa.int64()), ("at", pa.timestamp("us"))])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", lake=f"file://{tmp_path}/lake")


def rows(*commits: int) -> pa.Table:
    return pa.Table.from_pylist([{"feed": "trades", "commit": n, "at": n} for n in commits], ROWS)


def read(settings: Settings, namespace: str, name: str) -> pa.Table:
    catalog = connect_catalog(settings, namespace, open_lake_store(settings).places)
    return catalog.open(name).iceberg.scan().to_arrow()


@pytest.mark.parametrize(
    ("first", "second"), [((1, 2), (3,)), ((), (1,)), ((1,), ()), ((), ()), ((1,), (1,))]
)
def test_overwritten_table_holds_the_new_rows_alone(
    settings: Settings, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    catalog = connect_catalog(settings, "ledger", open_lake_store(settings).places)
    catalog.overwrite("commits", rows(*first))
    catalog.overwrite("commits", rows(*second))
    assert sorted(read(settings, "ledger", "commits")["commit"].to_pylist()) == list(second)


def test_overwritten_table_gains_the_columns_that_it_lacks(settings: Settings) -> None:
    catalog = connect_catalog(settings, "ledger", open_lake_store(settings).places)
    catalog.overwrite("commits", rows(1).drop_columns(["at"]))
    catalog.overwrite("commits", rows(2))
    assert read(settings, "ledger", "commits").column_names == ROWS.names


def test_ledger_of_an_empty_lake_is_tables_without_rows(settings: Settings) -> None:
    lake = connect_lake(settings)
    for _ in range(2):
        write_ledger(settings, lake, Pins({}))
    for name, (schema, _) in LEDGER_TABLES.items():
        table = read(settings, "ledger", name)
        assert (table.num_rows, table.column_names) == (0, schema.names)


def test_ledgers_types_are_those_that_athena_stores(settings: Settings) -> None:
    write_ledger(settings, connect_lake(settings), Pins({}))
    for name in LEDGER_TABLES:
        table = (
            connect_catalog(settings, "ledger", open_lake_store(settings).places).open(name).iceberg
        )
        kinds = {str(field.field_type) for field in table.schema().fields}
        assert kinds <= {"string", "long", "timestamp", "boolean", "date", "double"}


def test_absent_feeds_have_an_empty_table_of_their_columns(settings: Settings) -> None:
    lake = connect_lake(settings)
    pins = Pins({name: Pin(None) for name in silver_schemas() if name != "quotes"})
    for _ in range(2):
        assert write_absent(settings, lake, pins) == {"DBT_ABSENT": "quotes"}
    assert read(settings, "absent", "quotes").column_names == silver_schemas()["quotes"].names
    assert take_pins(lake, {}).tables == {}  # in Silver there is still no such feed
