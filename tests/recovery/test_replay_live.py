"""Replay and compaction beside a running stream: proof before, during, after; kill -9 between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch import actions
from stream.bars import FROM_TRADES
from stream.lake.connect import connect_lake
from stream.producers.simulate import Simulator
from stream.prove import prove
from stream.query import run_query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RATE = 2_000
SECONDS = 60
REFUSED = 100.0
CHILD = Path(__file__).with_name("replay_child.py")


def test_replay_beside_a_running_stream_is_all_or_nothing(platform: Any, start_load: Any) -> None:
    seed = int(os.environ.get("RECOVERY_SEED") or time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with RECOVERY_SEED={seed}")
    rng = random.Random(seed)
    began_ns = time.time_ns()
    lines = Simulator("trades", seed=seed, start_ns=began_ns, rate=RATE).take(RATE * SECONDS)
    load = start_load("trades", lines, seconds=SECONDS)
    feed = platform.run_feed("trades")
    _wait(lambda: _committed(platform) > RATE * 15, "15 s of trades")
    from_ms, to_ms = began_ns // 1_000_000, time.time_ns() // 1_000_000
    _check_proof(platform, "before")
    bronze = platform.bronze_hashes({})
    held = _rows(platform, to_ms)

    same = actions.replay(platform.settings, "trades", from_ms, to_ms, apply=True)
    print(f"unchanged: {same.slices} slices, {same.messages:,} messages in {same.seconds} s")
    assert (same.changed_slices, same.commit) == (0, None)
    assert _rows(platform, to_ms) == held
    _check_proof(platform, "after a replay that changes nothing")

    refused = _refused(platform, to_ms)
    assert refused > 0
    for _ in range(2):
        child = _replay(platform, from_ms, to_ms)
        time.sleep(rng.uniform(0.6, 1.6))
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
        assert _refused(platform, to_ms) in (refused, 0), "a replay must be all or nothing"
        _check_proof(platform, "after kill -9 of a replay")
    child = _replay(platform, from_ms, to_ms)
    answer = child.communicate(timeout=120)[0]
    assert child.returncode == 0, answer
    print(f"decoder fix: {json.loads(answer)}")
    assert _refused(platform, to_ms) == 0
    _check_proof(platform, "after a replay that replaced rows")

    # The dataflow remembers keys of rows that are gone: it ends, a supervisor starts it again.
    _wait(lambda: feed.poll() is not None, "the dataflow's restart", platform)
    assert b"a restart decides them anew" in (platform.home / "trades-0.log").read_bytes()
    feed = platform.run_feed("trades")
    compacted = actions.compact(platform.settings, last_day=date(2100, 1, 1), apply=True)
    print([(r.table, r.files_before, r.files_after, r.lost_races) for r in compacted])
    _check_proof(platform, "after compaction")
    assert load.is_running, "the stream must have been running all the while"
    load.join()
    _wait(lambda: _messages(platform) >= len(lines), "the rest of the stream", platform)
    assert feed.poll() is None, platform.log_tail()
    feed.send_signal(signal.SIGTERM)
    assert feed.wait(10) == 0
    assert _refused(platform, to_ms) == 0
    _check_proof(platform, "at the end")
    _check_bars(platform)
    now = platform.bronze_hashes(bronze)
    assert {path: now[path] for path in bronze} == bronze, "a Bronze object changed"


def _replay(platform: Any, from_ms: int, to_ms: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(REFUSED), str(from_ms), str(to_ms)]
    return subprocess.Popen(command, env=platform.environment, stdout=subprocess.PIPE, text=True)


def _check_proof(platform: Any, when: str) -> None:
    proof = prove(platform.settings, "trades")
    assert proof.is_equal, f"{when}:\n{proof}"
    print(f"{when}: equal, {proof.totals.records:,} records, {proof.totals.silver_rows:,} rows")


def _rows(platform: Any, to_ms: int) -> list[Any]:
    """Every row that arrived before a time, as a digest: equal means equal row for row."""
    sql = f"""
        SELECT count(*) AS n, bit_xor(hash(t)) AS digest, sum(hash(t)::HUGEINT) AS total
        FROM trades t WHERE ts_arrival_ns < {to_ms * 1_000_000}
    """
    return run_query(platform.settings, sql).to_pylist()


def _refused(platform: Any, to_ms: int) -> int:
    sql = f"""
        SELECT count(*) AS n FROM trades
        WHERE size = {REFUSED} AND ts_arrival_ns < {to_ms * 1_000_000}
    """
    return int(run_query(platform.settings, sql)["n"][0].as_py())


def _committed(platform: Any) -> int:
    catalog = connect_lake(platform.settings).catalog
    if "trades" not in catalog.names():
        return 0
    return sum(rows for _, rows in catalog.open("trades").data_files())


def _messages(platform: Any) -> int:
    sql = "SELECT sum(messages)::BIGINT AS n FROM ledger_slices"
    return int(run_query(platform.settings, sql)["n"][0].as_py())


def _wait(is_there: Any, what: str, platform: Any = None) -> None:
    deadline = time.monotonic() + 120
    while not is_there():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} took too long\n{platform.log_tail() if platform else ''}")
        time.sleep(0.5)


def _check_bars(platform: Any) -> None:
    """The current bars equal those computed in one go from the trades in Silver."""
    values = "venue, symbol, open, high, low, close, volume, notional, trades"
    found = run_query(
        platform.settings,
        f"SELECT ts_event_ns AS minute_ns, {values} FROM bars_1m_current WHERE trades > 0",
    )
    trades = run_query(platform.settings, "SELECT * FROM trades")
    with duckdb.connect() as sql:
        sql.register("trades", trades)
        batch = sql.execute(
            f"SELECT minute_ns, {values} FROM ({FROM_TRADES}) WHERE trades > 0"
        ).to_arrow_table()
        sql.register("found", found)
        sql.register("batch", batch)
        wrong = sql.execute(
            "SELECT count(*) FROM ((FROM batch EXCEPT ALL FROM found) UNION ALL"
            " (FROM found EXCEPT ALL FROM batch))"
        ).fetchall()
    assert batch.num_rows > 100
    assert wrong == [(0,)], f"{wrong} of {batch.num_rows} bars differ"
