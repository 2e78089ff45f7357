"""Generated files agree with what they are generated from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stream.cli.dbt_sources import SOURCES
from stream.cli.feeds import PAGE
from stream.cli.generated import generated_files
from stream.feeds import load_feeds

ROOT = Path(__file__).parents[2]


GENERATED = {str(path): render for path, render in generated_files()}


@pytest.mark.parametrize("path", GENERATED)
def test_kept_file_equals_what_the_code_gives(path):
    assert (ROOT / path).read_text() == GENERATED[path](), "run `headrace feeds --write`"


def test_feeds_page_names_every_column():
    page = (ROOT / PAGE).read_text()
    for contract in load_feeds().values():
        assert all(f"`{column.name}`" in page for column in contract.columns)


def test_dbt_sources_hold_every_column_of_every_table():
    silver, ledger = yaml.safe_load((ROOT / SOURCES).read_text())["sources"]
    tables = {table["name"]: table for table in silver["tables"]}
    assert tables.keys() == {*load_feeds(), "bars_1m"}
    for name, contract in load_feeds().items():
        columns = {column["name"] for column in tables[name]["columns"]}
        assert columns == set(contract.silver_schema.names)
    assert {table["name"] for table in ledger["tables"]} == {"commits", "events", "gaps", "rejects"}


def test_feeds_page_says_how_personal_data_is_masked_and_why():
    page = (ROOT / PAGE).read_text()
    for contract in load_feeds().values():
        for column in contract.pii_columns:
            assert f"| {column.pii.mask}: {column.pii.why} |" in page
