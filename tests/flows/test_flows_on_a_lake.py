"""Flows with the real batch actions on a real small lake, called without a server."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from batch.flows.backfill import backfill_ingestion
from batch.flows.compaction import small_file_compaction
from batch.flows.expiry import expire_snapshots
from batch.flows.orphans import remove_orphans
from batch.flows.replay import replay
from batch.flows.retention import retention
from batch.flows.watch import look
from stream.errors import ConfigError
from stream.query import run_query
from stream.settings import load_settings

FIRST, LAST = date(2026, 1, 5), date(2026, 1, 7)
SMALL = {"rows_per_day": "300", "rows_per_part": "100"}


@pytest.fixture
def filled(heard: Any) -> Any:
    """Three days of simulated trades, by a backfill."""
    backfill_ingestion.fn("simulated", FIRST, LAST, 2, dataset="trades", options=SMALL)
    return heard


def rows() -> list[dict[str, Any]]:
    """Every trade."""
    sql = "SELECT venue, symbol, trade_id, ts_event_ns, price, size FROM trades ORDER BY ALL"
    return list(run_query(load_settings(), sql).to_pylist())


def test_backfill_fills_each_day_once_and_announces_all_of_them(filled):
    assert [row["state"] for row in filled.tables["backfill-simulated"]] == ["done"] * 3
    ((event, subject, payload),) = filled.events
    assert (event, subject) == ("headrace.backfill.completed", "backfill.simulated.trades")
    days = {datetime.fromtimestamp(row["ts_event_ns"] / 1e9, UTC).date() for row in rows()}
    assert days <= set(payload["days"])
    before = rows()

    again = backfill_ingestion.fn("simulated", FIRST, LAST, dataset="trades", options=SMALL)

    assert (again["done_now"], rows() == before) == (0, True)


def test_backfill_of_an_unknown_source_or_data_set_says_which_there_are(heard):
    for source, dataset, message in (
        ("yahoo", "trades", "no source 'yahoo'; sources are"),
        ("simulated", "bonds", "no data set 'bonds'; there are"),
    ):
        with pytest.raises(ConfigError, match=message):
            backfill_ingestion.fn(source, FIRST, LAST, dataset=dataset)
    assert not heard.events


def test_compaction_is_dry_first_then_merges_files_and_changes_no_row(filled):
    before = rows()
    days = filled.events[0][2]["days"]

    small_file_compaction.fn(["trades"], days=days)
    (planned,) = filled.tables["compaction"]
    small_file_compaction.fn(["trades"], days=days, apply=True)
    (done,) = filled.tables["compaction"]

    assert (planned["done"], done["done"]) == (False, True)
    assert done["files after"] < done["files before"] == planned["files before"]
    assert [event for event, _, _ in filled.events][1:] == ["headrace.silver.compacted"]
    assert rows() == before
    small_file_compaction.fn(["trades"], days=days, apply=True)
    assert len(filled.events) == 2, "nothing was left to compact: nothing is announced"


@pytest.mark.parametrize("flow", [expire_snapshots, remove_orphans, retention])
@pytest.mark.parametrize("apply", [False, True])
def test_maintenance_leaves_young_rows_as_they_are_and_reports_each_table(filled, flow, apply):
    before = rows()
    assert flow.fn(["trades"], apply=apply) == {"tables": 1}
    assert rows() == before
    (table,) = [value for key, value in filled.tables.items() if not key.startswith("backfill")]
    assert table[0]["table"] == "trades"


def test_replay_of_an_extract_that_is_in_silver_changes_nothing(filled):
    from batch.actions import list_extracts  # noqa: PLC0415 - the ids as the lake has them

    run_id = list_extracts(load_settings())[0].run_id
    before = rows()
    assert replay.fn("trades", source="extract", run_id=run_id)["rows_added"] == 0
    assert replay.fn("trades", source="extract", run_id=run_id, apply=True)["rows_added"] == 0
    assert rows() == before


def test_watch_that_cannot_look_says_why_and_calls_it_lagging(filled):
    health = look(load_settings(), "trades")
    assert health.state == "lagging"
    assert health.detail
    assert look(load_settings(), "quotes").state == "not started"
