"""What Gold's market models repeat of the platform's own rules stays the same as there."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from stream.feeds.venues import VENUES
from stream.query import LATEST_TRADE

DBT = Path(__file__).parents[2] / "dbt"


def squeeze(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).lower()


def test_venues_of_the_reference_data_are_those_of_the_feeds():
    with (DBT / "seeds/venues.csv").open(encoding="utf-8") as lines:
        assert tuple(row["venue"] for row in csv.DictReader(lines)) == VENUES


def test_trades_asof_ranks_versions_in_gold_as_in_a_query():
    order = re.search(r"partition by (.*?)\) = 1", squeeze(LATEST_TRADE))
    assert order is not None
    assert order[1].strip() in squeeze((DBT / "macros/current_trades.sql").read_text())
