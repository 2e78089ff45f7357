"""What a table of the lake promises, on Iceberg and on the simulation's table in memory."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.errors import CommitConflictError, ConfigError
from stream.feeds import load_feed
from stream.lake.catalog import StagedFile
from stream.lake.connect import connect_lake
from stream.settings import Settings

DAY_US = 86_400_000_000
T0_US = 1_764_000_000_000_000
MEMORY = Path(__file__).parents[1] / "simulation" / "memory_tables.py"

Open = Callable[[], Any]


def memory_tables() -> Any:
    """The simulation's module; its folder is no package."""
    if "memory_tables" not in sys.modules:
        spec = importlib.util.spec_from_file_location("memory_tables", MEMORY)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["memory_tables"] = module
        spec.loader.exec_module(module)
    return sys.modules["memory_tables"]


@pytest.fixture(params=["iceberg", "memory"])
def open_table(request: pytest.FixtureRequest, settings: Settings) -> Open:
    """Each call is another handle on one new table."""
    contract = load_feed("trades")
    if request.param == "iceberg":
        lake = connect_lake(settings)
        return lambda: lake.table(contract)
    module = memory_tables()
    held = module.HeldTable("trades", contract.silver_schema)
    return lambda: module.MemoryTable(held)


def staged(table: Any, name: str, at_us: int = T0_US, rows: int = 3) -> StagedFile:
    """A data file as the road stages it; only its footer is ever looked at."""
    columns = [pa.array([_value(field, at_us)] * rows, field.type) for field in table.arrow_schema]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=table.arrow_schema), out)
    data = out.getvalue()
    footer = pq.read_metadata(io.BytesIO(data))
    return StagedFile(f"file:///lake/{name}.parquet", len(data), rows, "0" * 64, footer)


def _value(field: pa.Field, at_us: int) -> Any:
    """Any value of the column's type."""
    if pa.types.is_timestamp(field.type):
        return at_us
    if pa.types.is_boolean(field.type):
        return False
    if pa.types.is_string(field.type):
        return "x"
    return Decimal(1) if pa.types.is_decimal(field.type) else 1


def test_append_shows_files_and_properties_to_other_handles_once_they_refresh(
    open_table: Open,
) -> None:
    writer, reader = open_table(), open_table()
    writer.append([staged(writer, "a"), staged(writer, "b", rows=5)], {"p": "1"}, {"s": "x"})

    assert reader.files() == []
    reader.refresh()
    assert sorted(f.rows for f in reader.files()) == [3, 5]
    assert {name for name, _ in reader.data_files()} == {f.address for f in writer.files()}
    assert reader.properties["p"] == "1"
    assert reader.snapshot_id == reader.find_snapshot("s", "x")
    assert reader.find_snapshot("s", "y") is None


def test_append_from_an_old_state_is_refused_and_nothing_happens(open_table: Open) -> None:
    first, second = open_table(), open_table()
    first.append([staged(first, "a")], {"p": "1"}, {})

    with pytest.raises(CommitConflictError):
        second.append([staged(second, "b")], {"p": "2"}, {})
    second.refresh()
    assert second.properties["p"] == "1"
    assert len(second.files()) == 1
    second.append([staged(second, "b")], {"p": "2"}, {})
    assert len(second.files()) == 2


def test_append_of_no_file_is_a_commit_all_the_same(open_table: Open) -> None:
    first, second = open_table(), open_table()
    first.append([], {"p": "1"}, {"s": "1"})
    assert first.snapshot_count == 1
    with pytest.raises(CommitConflictError):
        second.append([], {"p": "2"}, {})


def test_replace_takes_out_and_puts_in_and_refuses_what_is_gone(open_table: Open) -> None:
    table = open_table()
    table.append([staged(table, "a"), staged(table, "b")], {}, {})
    gone = next(f.address for f in table.files() if f.address.endswith("a.parquet"))

    table.replace([gone], [staged(table, "c")], {}, {})

    assert {f.address[-9:] for f in table.files()} == {"b.parquet", "c.parquet"}
    with pytest.raises(CommitConflictError, match="another rewrite"):
        table.replace([gone], [], {}, {})


def test_files_between_leave_out_only_what_cannot_match(open_table: Open) -> None:
    table = open_table()
    files = [staged(table, f"day{n}", T0_US + n * DAY_US) for n in range(3)]
    table.append(files, {}, {})

    assert len(table.data_files_between(T0_US, T0_US + 2 * DAY_US)) == 3
    [only] = table.data_files_between(T0_US + DAY_US, T0_US + DAY_US)
    assert only.endswith("day1.parquet")
    assert table.data_files_between(T0_US - DAY_US, T0_US - 1) == []


def test_pinned_property_that_another_writer_changed_stops_this_handle(open_table: Open) -> None:
    one, two = open_table(), open_table()
    one.pin("key", "a", replaces=[None], explain=lambda found: f"found {found}")
    two.refresh()
    with pytest.raises(ConfigError, match="found a"):
        two.pin("key", "b", replaces=[None], explain=lambda found: f"found {found}")
    two.pin("key", "b", replaces=["a"], explain=lambda found: f"found {found}")

    with pytest.raises(CommitConflictError):
        one.append([], {"p": "1"}, {})
    with pytest.raises(ConfigError, match="found b"):
        one.refresh()
