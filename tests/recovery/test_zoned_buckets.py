"""Four buckets against one, on an emulated S3: road, replay, compaction, Gold, what is read.

The same in folders, faster and with every maintenance verb: tests/e2e/test_zoned_lake.py.
"""

from __future__ import annotations

import signal
import time
from datetime import date
from typing import Any

import boto3
import duckdb
import pytest

from batch import actions
from batch.extracts import ExtractRequest
from stream.cli.feeds import check_services
from stream.clock import ManualClock
from stream.lake.connect import connect_lake
from stream.lake.gold import read_published, slot_file
from stream.lake.sql import connect_sql
from stream.local.platform import create_lake_and_streams
from stream.producers.simulate import Simulator
from stream.prove import prove
from stream.query import run_query
from stream.settings import Settings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ALWAYS = (0, 10**13)
DAY = date(2026, 11, 19)
NOW_NS = 1_795_651_200_000_000_000  # 2026-11-26
PLACES = {
    "HEADRACE_LAKE": "s3://zoned-silver/lake",
    "HEADRACE_BRONZE_LAKE": "s3://zoned-bronze",
    "HEADRACE_GOLD_LAKE": "s3://zoned-gold/a/b",
    "HEADRACE_ARTIFACTS_LAKE": "s3://zoned-artifacts",
}
IN_THE_LAKE = {"silver", "ledger", "quarantine", "closed"}
MESSAGES = 400


@pytest.fixture
def zoned(platform: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a lake in four buckets that the platform created."""
    for name, value in PLACES.items():
        monkeypatch.setenv(name, value)
    platform.environment |= PLACES
    settings = load_settings()
    create_lake_and_streams(settings, ["trades"])
    return settings


def folders(root: str) -> set[str]:
    """Top folders of a root, with `?` for what lies in its bucket beside it."""
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    inside = [key.removeprefix(f"{prefix}/") if prefix else key for key in keys]
    return {
        key.split("/")[0] if not prefix or key != whole else "?"
        for key, whole in zip(inside, keys, strict=True)
    }


def land(settings: Settings) -> None:
    """A small lake, the same each time."""
    for feed, rows in (("trades", 400), ("quotes", 400), ("news", 40)):
        request = ExtractRequest(feed, DAY, DAY, (), {"rows_per_day": str(rows)})
        clock = ManualClock(NOW_NS)
        actions.extract(settings, "simulated", request, f"{feed}-1", clock=clock)
        actions.replay(
            settings, feed, source="extract", run_id=f"{feed}-1", apply=True, clock=clock
        )
    actions.compact(settings, apply=True, clock=ManualClock(NOW_NS))


def gold_tables(settings: Settings) -> dict[str, list[Any]]:
    """Every table that a build of Gold published, without what tells when it was made."""
    report = actions.build_gold(settings)
    assert report.verdict == "published", report.errors
    build = read_published(connect_lake(settings).store, "local")
    assert build is not None
    with duckdb.connect(str(slot_file(settings.home, build.slot)), read_only=True) as sql:
        return {
            name: sql.execute(f'FROM "{schema}"."{name}" ORDER BY ALL').fetchall()
            for name, schema in (build.relations or {}).items()
        }


def test_gold_of_a_lake_in_four_buckets_is_that_of_a_lake_in_one(
    platform: Any, zoned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "one key for both lakes, so that masked names are the same"
    monkeypatch.setenv("HEADRACE_PII_KEY", key)
    zoned = load_settings()
    land(zoned)
    split = gold_tables(zoned)
    for name in PLACES:
        monkeypatch.delenv(name)
    whole = load_settings(home=platform.home / "whole")
    land(whole)
    single = gold_tables(whole)

    assert len(split) >= 38
    assert sum(bool(rows) for rows in split.values()) > 20
    assert {name for name, rows in single.items() if rows != split[name]} == set()
    assert actions.build_gold(whole).verdict == "unchanged"
    held = {name: folders(root) for name, root in PLACES.items()}
    assert held["HEADRACE_BRONZE_LAKE"] == {"bronze"}
    assert held["HEADRACE_GOLD_LAKE"] == {"gold"}
    assert held["HEADRACE_ARTIFACTS_LAKE"] == {"dbt-artifacts"}
    assert {"silver", "ledger"} <= held["HEADRACE_LAKE"] <= IN_THE_LAKE
    assert folders(whole.lake) >= {"bronze", "gold", "dbt-artifacts", "silver", "ledger"}


def test_live_feed_fills_four_buckets_and_every_reader_finds_it(
    platform: Any, zoned: Settings
) -> None:
    lines = Simulator("trades", seed=5, start_ns=time.time_ns(), rate=5_000).take(MESSAGES)
    records = [{"Data": line, "PartitionKey": key} for key, line in lines]
    kinesis = boto3.client("kinesis")
    kinesis.put_records(StreamName=zoned.stream_name("trades"), Records=records)
    process = platform.run_feed("trades")
    deadline = time.monotonic() + 60
    while committed(zoned) < MESSAGES:
        assert process.poll() is None, platform.log_tail()
        assert time.monotonic() < deadline, platform.log_tail()
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, platform.log_tail()

    proof = prove(zoned, "trades", deep=True)
    assert proof.is_equal, proof.differences
    assert actions.replay(zoned, "trades", *ALWAYS).changed_slices == 0
    raw = "SELECT count(*) AS n FROM read_parquet('s3://zoned-bronze/bronze/**/*.parquet')"
    with connect_sql(zoned.lake, zoned.region, zones=tuple(zoned.zones.values())) as sql:
        assert sql.execute(raw).fetchall() == [(MESSAGES,)]
    reached = {s["service"]: s["is_reachable"] for s in check_services(zoned)}
    assert all(reached[f"{zone} lake"] for zone in ("bronze", "gold", "artifacts"))
    assert folders(PLACES["HEADRACE_BRONZE_LAKE"]) == {"bronze"}
    assert folders(PLACES["HEADRACE_LAKE"]) <= IN_THE_LAKE


def committed(settings: Settings) -> int:
    """Messages that the ledger counts; 0 before the first start."""
    if "trades" not in connect_lake(settings).catalog.names():
        return 0
    (row,) = run_query(
        settings, "SELECT coalesce(sum(records), 0)::INT AS n FROM ledger_slices"
    ).to_pylist()
    return int(row["n"])
