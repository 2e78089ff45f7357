"""Compaction twice at once beside an appender: every reader sees every committed row, once."""

from __future__ import annotations

import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.maintain.compact import compact_table
from batch.maintain.expire import expire_snapshots
from stream.dedup import Dedup
from stream.feeds import load_feed
from stream.flow import Road, RoadCommitter
from stream.lake.connect import connect_lake
from stream.lake.ledger import Ledger
from stream.producers.simulate import Simulator
from stream.prove import prove
from stream.query import run_query
from stream.settings import Settings, load_settings
from stream.silver import SilverKeys
from stream.slices import RECORD_SCHEMA, ShardPosition, ShardRef, Slice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMITS = 120
COMPACTIONS = 8
READ = """
SELECT count(*) AS n, count(*) FILTER (NOT is_late) AS timely,
       count(DISTINCT (venue, symbol, trade_id, kind, known_at_ns)) FILTER (NOT is_late) AS keys
FROM trades
"""
SHARD = ShardRef("trades", "headrace-trades.00000000", "shardId-000000000000")


class Appender:
    """Commits a slice of trades again and again, as a dataflow does."""

    def __init__(self, settings: Settings) -> None:
        lake, contract = connect_lake(settings), load_feed("trades")
        table = lake.table(contract)
        self.ledger = Ledger("trades", table, lake.store)
        self.ledger.start({str(SHARD): ShardPosition(None)})
        keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
        self.road = Road(
            contract, lake.store, table.arrow_schema, Dedup(contract, keys), for_bars=False
        )
        self.committer = RoadCommitter(self.ledger)
        self.simulator = Simulator("trades", seed=5, start_ns=time.time_ns() - 10**12, rate=1_000)
        self.prev: str | None = None
        self.rows = [0]
        """Committed rows after each commit, the newest last."""

    def append(self, number: int) -> None:
        lines = [line for _, line in self.simulator.take(500)]
        count, base = len(lines), (number + 1) * 1_000
        records = pa.record_batch(
            [
                pa.array(lines, pa.binary()),
                pa.array([str(base + n) for n in range(count)]),
                pa.array([0] * count, pa.int32()),
                pa.array(["k"] * count),
                pa.array([time.time_ns()] * count, pa.int64()),
            ],
            schema=RECORD_SCHEMA,
        )
        item = Slice(SHARD, self.prev, records)
        self.committer.add(self.road.process([item]))
        self.committer.commit()
        self.prev = item.last
        self.rows.append(self.committer.tally.silver_rows)


def test_readers_see_every_committed_row_once_at_every_moment(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    appender, done = Appender(settings), threading.Event()
    errors: list[BaseException] = []
    reports: list[Any] = []
    checks: list[int] = []

    def work(job: Any) -> threading.Thread:
        def run() -> None:
            try:
                while not done.is_set():
                    job()
            except BaseException as error:
                errors.append(error)
                raise

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def compact() -> None:
        reports.append(
            compact_table(
                connect_lake(settings),
                "trades",
                region="us-east-1",
                last_day=date(2100, 1, 1),
                apply=True,
            )
        )

    def read() -> None:
        before = appender.rows[-1]
        answer = run_query(settings, READ).to_pylist()[0]
        assert answer["n"] >= before, "committed rows were not seen"
        assert answer["timely"] == answer["keys"], "a row was seen twice"
        checks.append(answer["n"])

    appender.append(0)
    threads = [work(job) for job in (compact, compact, read, lambda: expire(settings))]
    number, deadline = 0, time.monotonic() + 180
    try:
        while number < COMMITS or sum(r.files_after for r in reports) < COMPACTIONS:
            assert time.monotonic() < deadline, f"{number} commits, {len(reports)} compactions"
            assert not errors, errors
            number += 1
            appender.append(number)
            time.sleep(0.15)  # far more often than epochs end, yet others have their turn
    finally:
        done.set()
    for thread in threads:
        thread.join(120)
    assert not errors, errors
    rewritten = sum(r.files_after for r in reports)
    lost = sum(r.lost_races for r in reports)
    print(
        f"\n{number} commits ({appender.ledger.conflicts} retried), {rewritten} compactions "
        f"published, {lost} lost to the other, {len(checks)} reads, {appender.rows[-1]:,} rows"
    )
    assert set(checks) <= set(appender.rows), "a reader saw a number of rows that never was"
    assert len(checks) > 10
    assert run_query(settings, "SELECT count(*) AS n FROM trades").to_pylist() == [
        {"n": appender.rows[-1]}
    ]
    proof = prove(settings, "trades")
    assert proof.is_equal, str(proof)


def expire(settings: Settings) -> None:
    """Old snapshots go, as the hourly job would have it, only more often."""
    time.sleep(0.5)
    expire_snapshots(connect_lake(settings), "trades", keep_hours=0.005, keep_last=5, apply=True)
