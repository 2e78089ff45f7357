"""kill -9 at random moments, with a split and a merge on the way: exactly once, or it is a bug."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stream.bars import FROM_TRADES
from stream.decode import decode_records
from stream.feeds import load_feed
from stream.lake.connect import connect_lake
from stream.producers.simulate import Simulator
from stream.prove import prove, render_proof
from stream.query import run_query
from stream.slices import RECORD_SCHEMA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MESSAGES = 200_000


@pytest.mark.parametrize(("kills", "instances"), [(20, 1), (12, 2)])
def test_road_killed_many_times_loses_and_doubles_nothing(
    platform: Any, start_load: Any, kills: int, instances: int
) -> None:
    seed = int(os.environ.get("RECOVERY_SEED") or time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with RECOVERY_SEED={seed}")
    rng = random.Random(seed)
    lines = Simulator("trades", seed=seed, start_ns=time.time_ns() - 120 * 10**9, rate=4_000).take(
        MESSAGES
    )
    load = start_load("trades", lines, seconds=3.75 * kills)
    running: list[subprocess.Popen[bytes]] = []
    bronze: dict[str, str] = {}
    for _ in range(kills):
        running = [p for p in running if p.poll() is None]
        while len(running) < instances:
            running.append(platform.run_feed("trades"))
        victim = rng.choice(running)
        kill_at_random(platform, rng, victim)
        now = platform.bronze_hashes(bronze)
        assert {path: now[path] for path in bronze} == bronze, "a Bronze object changed"
        bronze = now
    load.join()
    expected = _expected(lines)
    survivor = _finish(platform, running, expected.num_rows)
    _check_stop(survivor)
    _check_rows(platform, expected)
    _check_bars(platform, expected)
    proof = prove(platform.settings, "trades")
    print(f"{len(bronze)} Bronze objects, {kills} kills, {instances} instances at a time")
    print(render_proof(proof))
    assert proof.is_equal, proof.differences
    assert _ended_shards(platform) == 3  # a split closes one shard, a merge two


def kill_at_random(platform: Any, rng: random.Random, process: subprocess.Popen[bytes]) -> None:
    """kill -9: one in five while it starts, the others up to 3 s after it began to read.

    A process that ended by itself before is fine: it lost a race to the other instance.
    """
    while_starting = rng.random() < 0.2
    deadline = time.monotonic() + rng.uniform(0.2, 2.0 if while_starting else 3.0)
    while time.monotonic() < deadline and process.poll() is None:
        if not while_starting and not platform.has_started(process):
            deadline = time.monotonic() + rng.uniform(0.05, 3.0)
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def _finish(
    platform: Any, running: list[subprocess.Popen[bytes]], rows: int
) -> subprocess.Popen[bytes]:
    """Let one instance apply all that is left."""
    for process in running:
        process.kill()
        process.wait(10)
    process = platform.run_feed("trades")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            process = platform.run_feed("trades")
        if _count(platform) >= rows and platform.has_started(process):
            time.sleep(2)  # anything doubled would come now
            return process
        time.sleep(1)
    raise AssertionError(f"{_count(platform)} of {rows} rows after 120 s\n{platform.log_tail()}")


def _ended_shards(platform: Any) -> int:
    _, ledger = connect_lake(platform.settings).ledger("trades")
    return sum(position.is_ended for position in ledger.head().positions.values())


def _check_stop(process: subprocess.Popen[bytes]) -> None:
    """The promise is two seconds; twice that here, for a machine that has other work to do."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 4.0
    print(f"SIGTERM: exit 0 after {time.monotonic() - began:.2f} s")


def _count(platform: Any) -> int:
    table = connect_lake(platform.settings).catalog.open("trades")
    return sum(rows for _, rows in table.data_files())


def _check_rows(platform: Any, expected: pa.Table) -> None:
    contract = load_feed("trades")
    columns = ", ".join(contract.key)
    found = run_query(platform.settings, f"SELECT {columns} FROM trades")
    with duckdb.connect() as sql:
        sql.register("found", found)
        sql.register("expected", expected.select(list(contract.key)))
        missing = sql.execute(
            "SELECT count(*) FROM (FROM expected EXCEPT ALL FROM found)"
        ).fetchall()
        extra = sql.execute("SELECT count(*) FROM (FROM found EXCEPT ALL FROM expected)").fetchall()
    assert (missing, extra) == ([(0,)], [(0,)]), "missing and doubled rows"


def _check_bars(platform: Any, expected: pa.Table) -> None:
    """The table's current bars equal bars computed in one go from what was published."""
    values = "venue, symbol, open, high, low, close, volume, notional, trades"
    found = run_query(
        platform.settings, f"SELECT ts_event_ns AS minute_ns, {values} FROM bars_1m_current"
    )
    with duckdb.connect() as sql:
        sql.register("trades", expected)
        batch = sql.execute(f"SELECT minute_ns, {values} FROM ({FROM_TRADES})").to_arrow_table()
        sql.register("found", found)
        sql.register("batch", batch)
        wrong = sql.execute(
            "SELECT count(*) FROM ((FROM batch EXCEPT ALL FROM found) UNION ALL"
            " (FROM found EXCEPT ALL FROM batch))"
        ).fetchall()
    assert batch.num_rows > 100
    assert wrong == [(0,)], f"{wrong} of {batch.num_rows} bars differ"


def _expected(lines: list[tuple[str, bytes]]) -> pa.Table:
    """Distinct valid rows of everything that was published, by the per-record decoder."""
    count = len(lines)
    records = pa.record_batch(
        [
            pa.array([line for _, line in lines], pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array([key for key, _ in lines]),
            pa.array(np.full(count, time.time_ns())),
        ],
        schema=RECORD_SCHEMA,
    )
    contract = load_feed("trades")
    rows = decode_records(contract, records, strict_only=True).rows
    with duckdb.connect() as sql:
        sql.register("rows", rows)
        key = ", ".join(contract.key)
        return sql.execute(
            "SELECT * FROM rows QUALIFY"
            f" row_number() OVER (PARTITION BY {key} ORDER BY record_no) = 1"
        ).to_arrow_table()
