"""`headrace gold --target athena` against the stand-in: what is sent gives the local rows.

The statements are those of dbt-athena, in their order; DuckDB runs them after sqlglot translated
them. So this proves what is sent and what its text means, not that Trino takes or computes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import rules
import stand_in

from batch import actions
from batch.extracts import ExtractRequest
from batch.gold.report import GoldReport
from stream.lake.connect import connect_catalog, connect_lake, open_lake_store
from stream.lake.gold import publish, read_published, slot_file
from stream.producers.simulate_books import BOOKS
from stream.settings import Settings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAY, NEXT_DAY = date(2026, 11, 19), date(2026, 11, 20)
LAKE = f"s3://{stand_in.BUCKET}"
ZONES = {"bronze": "headrace-bronze", "gold": "headrace-gold", "artifacts": "headrace-artifacts"}
"""Each zone in a bucket of its own, as the AWS stacks have it."""


@dataclass
class Built:
    """One lake, Gold of it on both targets. `begins`: where the second build's statements do."""

    settings: Settings
    account: stand_in.StandIn
    first: GoldReport
    second: GoldReport
    begins: int
    local: dict[str, pa.Table]

    def of_second(self) -> list[str]:
        return [statement.text for statement in self.account.statements[self.begins :]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A full build, one day more, and an incremental build into the same schemas."""
    zones = {f"{zone}_lake": f"s3://{bucket}" for zone, bucket in ZONES.items()}
    settings = load_settings(home=tmp_path_factory.mktemp("home"), lake=LAKE, **zones)

    read: dict[str, pa.Table] = {}

    def sources(schema: str, name: str) -> pa.Table | None:
        catalog = connect_catalog(settings, schema, open_lake_store(settings).places)
        if name not in catalog.names():
            return None
        table = catalog.open(name).iceberg
        if table.metadata_location not in read:
            read[table.metadata_location] = table.scan().to_arrow()
        return read[table.metadata_location]

    patch = pytest.MonkeyPatch()
    with stand_in.open_stand_in(sources, *ZONES.values()) as account:
        for name, value in account.environment.items():
            patch.setenv(name, value)
        patch.setenv("DBT_ATHENA_POLL_SECONDS", "0.02")
        land_everything(settings)
        first = actions.build_gold(settings, target="athena")
        begins = len(account.statements)
        land(settings, "trades", NEXT_DAY, rows_per_day="200")
        store = connect_lake(settings).store
        before = read_published(store, "athena")
        if before is not None:  # as if the other colour had been published: this one is next
            publish(store, "athena", replace(before, number=before.number + 1, slot="green"))
        second = actions.build_gold(settings, target="athena")
        yield Built(settings, account, first, second, begins, build_locally(settings))
    patch.undo()


def build_locally(settings: Settings) -> dict[str, pa.Table]:
    report = actions.build_gold(settings)
    assert report.verdict == "published", report.errors
    build = read_published(connect_lake(settings).store, "local")
    file = slot_file(settings.home, build.slot)
    with duckdb.connect(str(file), read_only=True) as connection:
        return {
            name: connection.execute(f'FROM "{schema}"."{name}"').to_arrow_table()
            for name, schema in build.relations.items()
        }


def land_everything(settings: Settings) -> None:
    symbols = tuple(sorted({symbol for book in BOOKS for symbol in book.weights}))
    land(settings, "prices_daily", date(2026, 9, 20), symbols)
    for feed, rows in (("trades", 400), ("quotes", 400), ("news", 40)):
        land(settings, feed, DAY, last=DAY, rows_per_day=str(rows))
    for feed in ("positions", "transactions"):
        land(settings, feed, date(2026, 11, 17))


def land(
    settings: Settings,
    feed: str,
    first: date,
    symbols: tuple[str, ...] = (),
    *,
    last: date = NEXT_DAY,
    **options: str,
) -> None:
    run_id = f"{feed}-{first}"
    request = ExtractRequest(feed, first, last, symbols, options)
    actions.extract(settings, "simulated", request, run_id)
    actions.replay(settings, feed, source="extract", run_id=run_id, apply=True)


def test_both_builds_are_published_and_every_statement_took_effect(built: Built) -> None:
    assert (built.first.verdict, built.first.errors) == ("published", [])
    assert (built.second.verdict, built.second.errors) == ("published", [])
    assert built.second.days == (NEXT_DAY.isoformat(),)
    failed = [(s.text[:300], s.error) for s in built.account.statements if s.error]
    assert not failed


def test_tables_and_results_lie_in_the_buckets_of_their_zones(built: Built) -> None:
    account = built.account
    assert len(account.locations) > 38
    assert all(place.startswith("s3://headrace-gold/gold/") for place in account.locations)
    assert account.results
    assert all(p.startswith("s3://headrace-artifacts/athena-results/") for p in account.results)
    assert account.folders("headrace-bronze") == {"bronze"}
    assert account.folders("headrace-gold") == {"gold"}
    assert account.folders(stand_in.BUCKET) <= {"silver", "ledger", "quarantine", "closed"}
    assert "dbt-artifacts" in account.folders("headrace-artifacts")


def test_athena_gives_the_rows_of_the_target_local(built: Built) -> None:
    tables = built.local
    assert len(tables) >= 38
    different = {n: d for n, t in tables.items() if (d := difference(n, t, built.account))}
    assert not different


def difference(name: str, local: pa.Table, account: stand_in.StandIn) -> Any:
    """What one side has and the other lacks, through the views that people ask."""
    there = account.rows("gold", name)
    if local.column_names != there.column_names:
        return local.column_names, there.column_names
    ours, theirs = (sorted(map(str, t.to_pylist())) for t in (local, there))
    return [(a, b) for a, b in zip(ours, theirs, strict=False) if a != b][:2] or (
        None if len(ours) == len(theirs) else (len(ours), len(theirs))
    )


def test_a_day_is_deleted_before_it_is_inserted_and_no_other(built: Built) -> None:
    deleted: set[str] = set()
    for text in built.of_second():
        found = re.match(r"(?is)(delete\s+from|insert\s+into)\s+(\S+)", text)
        if found is None or "int_ledger" in found[2] or "news" in found[2] or "stories" in found[2]:
            continue
        table = found[2].replace('"', "").replace("`", "")
        if found[1].lower().startswith("delete"):
            assert set(re.findall(r"date '([\d-]+)'", text)) == {NEXT_DAY.isoformat()}, text
            deleted.add(table)
        elif "__dbt_tmp" not in table:
            assert table in deleted, f"inserted without a delete: {text[:200]}"
    assert len(deleted) >= 8


def test_every_statement_is_what_athena_understands(built: Built) -> None:
    """Judged without types: the models' own are judged where they are compiled."""
    kinds = {"create", "insert", "delete", "select", "alter", "drop", "with"}
    assert {text.split(maxsplit=1)[0].lower() for text in built.of_second()} <= kinds
    for statement in built.account.statements:
        faults = rules.judge_statement(statement.text, {})[0]
        bad = [f for f in faults if f.split(":")[0] in {"syntax", "reserved", "hive-table"}]
        assert not bad, (statement.text[:400], bad)


def test_published_views_lead_to_the_slot_that_was_audited(built: Built) -> None:
    views = [
        t for t in built.of_second() if re.match(r"(?i)create\s+or\s+replace\s+view gold\.", t)
    ]
    assert len(views) >= 38
    assert all("gold_blue" in view for view in views)
    assert any(view.split(maxsplit=4)[4].startswith("gold.trades_current") for view in views)
