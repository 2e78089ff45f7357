"""A year of generated extracts: kill -9 twice, two runs at once, every day exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from batch.backfill.claims import SqliteClaims
from stream.prove import prove
from stream.query import run_query
from stream.settings import Settings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIRST, LAST = date(2025, 11, 1), date(2026, 10, 31)
HEADRACE = Path(sys.executable).parent / "headrace"


@pytest.fixture
def year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_LAKE", f"file://{tmp_path}/lake")
    return load_settings()


def test_year_in_daily_chunks_killed_twice_and_run_twice_lands_every_day_once(
    year: Settings,
) -> None:
    seed = int(os.environ.get("RECOVERY_SEED") or time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with RECOVERY_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(2):
        process = _start(year)
        done = _done(year)
        wanted = done + rng.randint(20, 100)
        while _done(year) < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        print(f"killed with {_done(year)} of 365 days done")
    two = [_start(year), _start(year)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in two]
    assert [process.returncode for process in two] == [0, 0]
    assert all(answer["is_complete"] for answer in answers)

    rows = _rows(year)
    assert len(rows) == 365
    assert {row["day"] for row in rows} == {FIRST + timedelta(days=n) for n in range(365)}
    assert {row["n"] for row in rows} == {100}
    doubled = "SELECT 1 FROM prices_daily GROUP BY symbol, session_date HAVING count(*) > 1"
    assert run_query(year, doubled).num_rows == 0
    proof = prove(year, "prices_daily")
    assert proof.is_equal, str(proof)
    print(proof)
    attempts = [chunk["attempts"] for chunk in answers[0]["chunks"]]
    print("attempts of the days:", {n: attempts.count(n) for n in sorted(set(attempts))})
    again = json.loads(_start(year).communicate(timeout=120)[0])
    assert [c["attempts"] for c in again["chunks"]] == attempts, "a finished day ran again"


def _start(year: Settings) -> subprocess.Popen[str]:
    command = [
        *(str(HEADRACE), "backfill", "--feed", "prices_daily", "--source", "simulated"),
        *("--from", FIRST.isoformat(), "--to", LAST.isoformat(), "--parallel-days", "4", "--json"),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _done(year: Settings) -> int:
    path = year.home / "claims.db"
    if not path.exists():
        return 0
    with SqliteClaims(path) as claims:
        return sum(row.state == "done" for row in claims.read("simulated/"))


def _rows(year: Settings) -> list[dict[str, object]]:
    sql = "SELECT session_date AS day, count(*) AS n FROM prices_daily GROUP BY ALL"
    return run_query(year, sql).to_pylist()
