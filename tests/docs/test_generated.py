"""Generated files agree with what they are generated from."""

from __future__ import annotations

from pathlib import Path

from stream.cli.feeds import GENERATED, render_feeds
from stream.feeds import load_feeds

ROOT = Path(__file__).parents[2]


def test_feeds_page_equals_the_contracts():
    page = (ROOT / GENERATED).read_text()
    assert page == render_feeds(list(load_feeds().values())), "run `headrace feeds --write`"


def test_feeds_page_names_every_column():
    page = (ROOT / GENERATED).read_text()
    for contract in load_feeds().values():
        assert all(f"`{column.name}`" in page for column in contract.columns)


def test_feeds_page_says_how_personal_data_is_masked_and_why():
    page = (ROOT / GENERATED).read_text()
    for contract in load_feeds().values():
        for column in contract.pii_columns:
            assert f"| {column.pii.mask}: {column.pii.why} |" in page
