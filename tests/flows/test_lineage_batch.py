"""`lineage-batch`: what it refuses, asks for, leaves behind and announces."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from batch.aws.lineage_batch import SLACK_MS
from batch.aws.lineage_event import GRACE_MINUTES, BronzeHour
from batch.aws.prefect_trigger import DEPLOYMENT, FLOW
from batch.flows.backfill import backfill_ingestion
from batch.flows.declared import read_declared
from batch.flows.lineage import MAX_NAMED, lineage_batch
from batch.maintain.unnamed import HourReport, Unnamed
from stream.errors import ConfigError
from stream.lake.connect import open_lake_store
from stream.lake.layout import ExtractPartKey
from stream.settings import load_settings

NINE = {"source": "trades", "hour": "2026-11-23T09:00:00+00:00"}
HOUR = datetime(2026, 11, 23, 9, tzinfo=UTC)


def report(*unnamed: Unnamed, source: str = "trades") -> HourReport:
    return HourReport(source, HOUR, 9, 900, 9 - len(unnamed), 0, unnamed)


def unnamed(number: int, why: str = "stalled") -> Unnamed:
    return Unnamed(why, f"b/{number:03d}", 10, 20 * 60_000 + number)


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ([], "hours is empty"),
        ([{"source": "trades", "hour": "soon"}], "is no hour of Bronze"),
        ([NINE, {"source": "trades"}], "is no hour of Bronze"),
    ],
)
def test_hours_that_are_none_are_refused_before_anything_else(heard, hours, message):
    with pytest.raises(ConfigError, match=message):
        lineage_batch.fn(hours)
    assert not heard.tables


def test_batch_whose_objects_are_all_named_leaves_a_table_and_announces_nothing(heard, answers):
    answers(find_unnamed=[report()])
    assert lineage_batch.fn([NINE]) == {"hours": 1, "objects": 9, "unnamed": 0}
    assert heard.calls == [
        (
            "find_unnamed",
            {"arguments": ([BronzeHour("trades", HOUR)],), "grace_minutes": GRACE_MINUTES},
        )
    ]
    assert list(heard.tables) == ["lineage-hours"]
    assert not heard.events


def test_unnamed_objects_are_named_in_a_table_and_in_one_event_per_source(heard, answers):
    answers(
        find_unnamed=[
            report(*(unnamed(number) for number in range(30))),
            report(unnamed(0, "orphan")),
            report(unnamed(0, "unfinished"), source="fmp"),
            report(source="news"),
        ]
    )
    assert lineage_batch.fn([NINE], grace_minutes=20)["unnamed"] == 32
    assert len(heard.tables["lineage-unnamed"]) == 32
    events = {subject: payload for _, subject, payload in heard.events}
    assert {name for name, _, _ in heard.events} == {"headrace.bronze.unnamed"}
    assert set(events) == {"bronze.trades", "bronze.fmp"}
    trades = events["bronze.trades"]
    assert (trades["stalled"], trades["orphan"], trades["oldest_minutes"]) == (30, 1, 20)
    assert len(trades["objects"]) == MAX_NAMED
    assert events["bronze.fmp"]["objects"] == ["unfinished b/000"]


def test_same_objects_seen_by_the_next_batch_are_the_same_event(heard, answers):
    answers(find_unnamed=[report(unnamed(1), unnamed(2))])
    lineage_batch.fn([NINE])
    answers(find_unnamed=[report(Unnamed("stalled", "b/002", 10, 9_999_999), unnamed(1))])
    lineage_batch.fn([NINE])
    answers(find_unnamed=[report(unnamed(1), unnamed(2), unnamed(3))])
    lineage_batch.fn([NINE])
    first, second, third = heard.identities
    assert first == second != third


def test_the_function_names_the_deployment_that_is_declared_and_its_run_comes_after_the_grace():
    (declared,) = [d for d in read_declared() if d.entrypoint.endswith(":lineage_batch")]
    assert (lineage_batch.name, declared.name) == (FLOW, DEPLOYMENT)
    assert "grace_minutes" not in declared.parameters, "the function counts on the flow's own"
    assert SLACK_MS > 0


def test_extract_on_a_real_lake_is_named_by_its_manifest_and_a_lost_part_by_nothing(heard):
    day = date(2026, 1, 5)
    options = {"rows_per_day": "200", "rows_per_part": "100"}
    backfill_ingestion.fn("simulated", day, day, dataset="trades", options=options)
    store = open_lake_store(load_settings())
    parts = [i.path for i in store.list("bronze/") if "/manifest/" not in i.path]
    at = ExtractPartKey.parse(parts[0]).extracted_ms // 3_600_000 * 3_600
    hour = datetime.fromtimestamp(at, UTC).isoformat()
    told = lineage_batch.fn([{"source": "simulated", "hour": hour}])
    assert told == {"hours": 1, "objects": len(parts), "unnamed": 0}
    (row,) = heard.tables["lineage-hours"]
    assert (row["named"], row["waiting"]) == (len(parts), 0)

    lost = ExtractPartKey("simulated", "died", at * 1000, 0, "json").path
    store.put(lost, b"[]")
    lineage_batch.fn([{"source": "simulated", "hour": hour}])
    (row,) = heard.tables["lineage-hours"]
    assert (row["named"], row["waiting"]) == (len(parts), 1)
