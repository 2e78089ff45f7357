"""What Gold's rows are made of, as `grains` says, fits the dbt project and the contracts."""

from __future__ import annotations

from pathlib import Path

import duckdb
import yaml

from stream.feeds import load_feeds
from stream.lineage.grains import FROM_LEDGER, GRAINS, STANDING, grain_of

MODELS = Path(__file__).parents[3] / "dbt" / "models"


def described() -> dict[str, set[str]]:
    """Columns of every model that a yml file describes."""
    return {
        model["name"]: {column["name"] for column in model.get("columns", ())}
        for file in MODELS.rglob("*.yml")
        for model in yaml.safe_load(file.read_text()).get("models", ())
    }


def test_every_mart_says_which_rows_of_silver_or_the_ledger_it_is_made_of() -> None:
    marts = {file.stem for file in (MODELS / "marts").rglob("*.sql")}
    assert marts == (marts & GRAINS.keys()) | (marts & FROM_LEDGER.keys())
    known = {file.stem for file in MODELS.rglob("*.sql")}
    assert (GRAINS.keys() | FROM_LEDGER.keys()) <= known


def test_grain_names_columns_that_exist_on_both_sides() -> None:
    gold, feeds = described(), load_feeds()
    for model, grains in GRAINS.items():
        for feed, grain in grains.items():
            silver = set(feeds[feed].silver_schema.names)
            assert set(grain.equal) | set(grain.member) <= silver
            assert not gold[model] or grain.gold_columns <= gold[model], (model, feed)


def test_checks_and_standing_rules_are_sql_over_their_feed() -> None:
    with duckdb.connect() as sql:
        for feed, contract in load_feeds().items():
            sql.register(feed, contract.silver_schema.empty_table())
        for grains in GRAINS.values():
            for feed, grain in grains.items():
                for expression in grain.checks.values():
                    sql.execute(f"SELECT {expression} FROM {feed}")
        for feed, rule in STANDING.items():
            place = f"row_number() OVER (PARTITION BY {', '.join(rule.key)} ORDER BY {rule.order})"
            sql.execute(f"SELECT {place} FROM {feed} WHERE {rule.keep} OR {rule.reach}")


def test_unknown_model_is_exact_to_its_day_at_most() -> None:
    assert grain_of("new", "trades", {"event_day": ""}).level == "day"
    assert grain_of("new", "trades", {"x": ""}).level == "snapshot"
    assert grain_of("fct_bars_1h", "positions", {}).level == "none"
