"""What flows check and tell, called as plain functions without any server."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from batch.flows.backfill import backfill_ingestion
from batch.flows.compaction import small_file_compaction
from batch.flows.expiry import expire_snapshots
from batch.flows.logs import RunFormatter
from batch.flows.orphans import remove_orphans
from batch.flows.replay import replay
from batch.flows.retention import retention
from batch.flows.run import list_previous_days
from batch.flows.watch import judge, stream_watch
from stream.clock import ManualClock
from stream.errors import ConfigError, RetryableError
from stream.lag import LagReport, ShardLag, TableLag

ONE, TWO, FOUR = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 4)
MAINTENANCE = {
    "expire_snapshots": (expire_snapshots, "snapshot-expiry"),
    "remove_orphans": (remove_orphans, "orphan-removal"),
    "apply_retention": (retention, "retention"),
}


def backfill_report(**values: Any) -> SimpleNamespace:
    report = {
        "planned": 2,
        "done_now": 2,
        "rows": 10,
        "is_complete": True,
        "days_touched": (TWO, ONE),
        "to_rows": lambda: [{"chunk": "a"}, {"chunk": "b"}],
    }
    return SimpleNamespace(**{**report, **values})


def compacted(table: str, commits: tuple[int, ...] = ()) -> SimpleNamespace:
    row = {"table": table, "files before": 9, "files after": 1}
    return SimpleNamespace(table=table, commits=commits, to_row=lambda: row)


def row(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(to_row=lambda: values)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"start_date": TWO, "end_date": ONE}, "2026-01-02 lies after end_date 2026-01-01"),
        ({"parallel_days": 0}, "parallel_days is 0; give 1 to 64"),
        ({"parallel_days": 65}, "parallel_days is 65; give 1 to 64"),
    ],
)
def test_backfill_with_wrong_parameters_is_refused_before_anything_else(heard, parameters, message):
    given = {"source": "fmp", "dataset": "quotes", "start_date": ONE, "end_date": TWO}
    with pytest.raises(ConfigError, match=message):
        backfill_ingestion.fn(**{**given, **parameters})
    assert not heard.tables


def test_backfill_that_is_complete_announces_exactly_the_days_touched(heard, answers):
    answers(backfill=backfill_report())

    backfill_ingestion.fn("files", ONE, FOUR, 3, dataset="quotes", symbols=["ACME"])

    ((name, asked),) = heard.calls
    assert (name, asked["first_day"], asked["last_day"]) == ("backfill", ONE, FOUR)
    assert (asked["parallel_days"], asked["symbols"]) == (3, ("ACME",))
    ((event, subject, payload),) = heard.events
    assert (event, subject) == ("headrace.backfill.completed", "backfill.files.quotes")
    assert payload["days"] == [ONE, TWO]
    assert (payload["first_day"], payload["last_day"]) == (ONE, TWO)
    assert len(heard.tables["backfill-files"]) == 2


def test_backfill_that_is_not_complete_fails_after_its_table_and_announces_nothing(heard, answers):
    answers(backfill=backfill_report(is_complete=False))
    with pytest.raises(RetryableError, match="days that are done stay done"):
        backfill_ingestion.fn("files", ONE, TWO, dataset="quotes")
    assert heard.tables["backfill-files"]
    assert not heard.events


def test_backfill_that_touched_no_day_announces_nothing(heard, answers):
    answers(backfill=backfill_report(days_touched=()))
    backfill_ingestion.fn("files", ONE, TWO, dataset="quotes")
    assert not heard.events


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"start": "2026-01-01T10:00", "end": "2026-01-01T10:00"}, "is not before end"),
        ({"start": "2026-01-01T10:00", "end": "2026-01-01T09:00"}, "is not before end"),
        ({"start": "last tuesday", "end": "2026-01-01T09:00"}, "must be ISO times"),
        ({"start": "2026-01-01T10:00"}, "'bronze' takes start and end"),
        ({"start": "2026-01-01", "end": "2026-01-02", "run_id": "r1"}, "and no run_id"),
        ({"source": "extract"}, "'extract' takes a run_id"),
        ({"source": "extract", "run_id": "r1", "end": "2026-01-02"}, "neither start nor end"),
    ],
)
def test_replay_with_parameters_that_do_not_fit_is_refused(heard, parameters, message):
    with pytest.raises(ConfigError, match=message):
        replay.fn("trades", **parameters)
    assert not heard.tables


@pytest.mark.parametrize(
    ("parameters", "span"),
    [
        ({"start": "1970-01-01T00:00:01", "end": "1970-01-01T00:00:02"}, (1_000, 2_000)),
        ({"source": "extract", "run_id": "r1"}, (None, None)),
    ],
)
def test_replay_is_dry_unless_told_otherwise(heard, answers, parameters, span):
    report = SimpleNamespace(
        table="trades", slices=2, changed_slices=1, rows_added=3, rows_removed=0,
        to_rows=lambda: [{"day": "1970-01-01", "before": 0, "after": 3}],
    )  # fmt: skip
    answers(replay=report)
    assert replay.fn("trades", **parameters)["rows_added"] == 3
    ((_, asked),) = heard.calls
    assert (asked["arguments"], asked["apply"]) == (("trades", *span), False)
    assert heard.tables == {"replay-trades": report.to_rows()}


@pytest.mark.parametrize("days", [{}, {"last_days": 1, "days": [ONE]}, {"days": []}])
def test_compaction_without_one_clear_choice_of_days_is_refused(heard, days):
    with pytest.raises(ConfigError, match="days"):
        small_file_compaction.fn(**days)


def test_compaction_of_chosen_days_asks_for_no_other_day_and_tells(heard, answers):
    answers(compact=[compacted("quotes"), compacted("trades", commits=(7,))])

    small_file_compaction.fn(days=[FOUR, ONE, ONE], apply=True)

    ((_, asked),) = heard.calls
    assert (asked["days"], asked["apply"]) == ([ONE, FOUR], True)
    ((event, _, payload),) = heard.events
    assert (event, payload["tables"]) == ("headrace.silver.compacted", ["trades"])
    assert payload["days"] == [ONE, FOUR]


def test_compaction_is_dry_unless_told_otherwise_and_a_dry_run_announces_nothing(heard, answers):
    answers(compact=[compacted("trades")])
    small_file_compaction.fn(last_days=2)
    ((_, asked),) = heard.calls
    assert asked["apply"] is False
    assert asked["days"][1] - asked["days"][0] == timedelta(days=1)
    assert not heard.events


@pytest.mark.parametrize("action", MAINTENANCE)
@pytest.mark.parametrize("apply", [False, True])
def test_maintenance_flow_hands_its_parameters_on_and_keeps_a_table(heard, answers, action, apply):
    flow, key = MAINTENANCE[action]
    answers(**{action: [row(table="trades", files_before=3, files_after=2)]})

    flow.fn(["trades"], **({"apply": True} if apply else {}))

    assert heard.calls == [(action, {"arguments": (("trades",),), "apply": apply})]
    assert heard.tables == {
        key: [{"table": "trades", "files_before": 3, "files_after": 2}],
    }


def test_watch_of_an_unknown_stream_names_those_that_exist(heard):
    with pytest.raises(ConfigError, match=r"no stream nope; feeds with one: \['news'"):
        asyncio.run(stream_watch.fn(["nope"]))


def test_watch_of_a_lake_without_tables_says_not_started_and_emits_nothing(heard):
    states = asyncio.run(stream_watch.fn(["trades"]))
    assert states == {"trades": "not started"}
    assert [line["state"] for line in heard.tables["streams"]] == ["not started"]
    assert not heard.events


@pytest.mark.parametrize(
    ("behind_ms", "gaps", "state"),
    [
        (0, (), "healthy"),
        (15_000, (), "healthy"),
        (15_001, (), "lagging"),
        (0, ("s: lost",), "lagging"),
    ],
)
def test_stream_is_healthy_while_no_unread_record_is_older_than_its_target(behind_ms, gaps, state):
    shard = ShardLag("trades", "shard-0", "1", behind_ms, 0, None, 7, False, False, "behind")
    table = TableLag("trades", 900_000, 900_000, 15_000, 0, 0, 1, 1, gaps=gaps)
    health = judge("trades", LagReport((shard,), (table,)))
    assert (health.state, bool(health.detail)) == (state, state == "lagging")


def test_open_market_that_says_nothing_is_not_healthy():
    table = TableLag("trades", 700_000, 660_000, 15_000, 0, 0, 1, 1, is_silent=True)
    health = judge("trades", LagReport((), (table,)))
    assert (health.state, health.detail) == (
        "lagging",
        "nothing arrived for 11 minutes of trading",
    )


def test_previous_days_end_yesterday_in_utc():
    clock = ManualClock(1_767_225_600_000_000_000)  # 2026-01-01T00:00:00Z
    assert list_previous_days(1, clock) == [date(2025, 12, 31)]
    assert list_previous_days(3, clock)[0] == date(2025, 12, 29)
    with pytest.raises(ConfigError, match="last_days is 0"):
        list_previous_days(0, clock)


def test_json_log_line_names_the_flow_run_while_there_is_one(monkeypatch):
    record = logging.LogRecord("batch", logging.INFO, "", 1, "done %d", (3,), None)
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID", raising=False)
    assert "flow_run_id" not in json.loads(RunFormatter().format(record))
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "run-1")
    assert json.loads(RunFormatter().format(record))["flow_run_id"] == "run-1"
    monkeypatch.setenv("LOG_CORRELATION_ID", "run-2")
    line = json.loads(RunFormatter().format(record))
    assert (line["flow_run_id"], line["message"]) == ("run-2", "done 3")
