"""The soak, short: it runs, maintenance beside it, nothing is lost, and what it says is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"
PEAK_MB = 700
"""Far above what 100,000 messages need: the long form judges the slopes."""


def test_soak_of_a_quarter_minute_ends_equal_and_leaves_handles_flat(tmp_path: Path) -> None:
    command = [sys.executable, str(SOAK), "--json", "--home", str(tmp_path)]
    short = ["--minutes", "0.25", "--rate", "3000", "--interval", "1", "--maintenance", "5"]
    done = subprocess.run([*command, *short], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)

    assert report["is_equal"]
    assert report["committed_messages"] == report["messages"] > 30_000
    assert report["maintenance_runs"] >= 1
    assert report["failed_maintenance"] == 0, done.stderr
    assert report["peak_mb"] < PEAK_MB
    handles = [s["handles"] for s in report["processes"] if s["name"] == "trades"]
    assert max(handles) < 100, handles
