"""A year of days, two runs at once, kill -9 on the way: every day done, finished days left alone.

A day may be landed twice only when a kill hit between landing and completing it: the tests count
those and bound them by what one run has in its hands.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batch.aws.claim_table import DynamoClaims
from batch.backfill.claims import ClaimRow, Claims, SqliteClaims

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHILD = Path(__file__).with_name("backfill_child.py")
_spec = importlib.util.spec_from_file_location(
    "emulator_fixtures", Path(__file__).parents[1] / "emulator" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
roto_url, roto = _fixtures.roto_url, _fixtures.roto
_NAMES = itertools.count()

DAYS = 365
PARALLEL = 4
LEASE_SECONDS = 2.0


@dataclass
class Backfill:
    """A ledger, the file where chunks land, and processes that work on both."""

    folder: Path
    ledger: str
    claims: Claims
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, owner: str) -> subprocess.Popen[bytes]:
        arguments = [self.ledger, str(self.folder / "landed"), owner, str(DAYS), str(LEASE_SECONDS)]
        with (self.folder / "log").open("ab") as log:
            self.running[owner] = subprocess.Popen(
                [sys.executable, str(CHILD), *arguments], stdout=subprocess.PIPE, stderr=log
            )
        return self.running[owner]

    def lines(self) -> list[tuple[str, int]]:
        """Every landing so far: chunk and process."""
        path = self.folder / "landed"
        text = path.read_text() if path.exists() else ""
        return [(line.split()[0], int(line.split()[1])) for line in text.splitlines()]

    def wait_for_lines(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.lines()) < count:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.005)

    def rows(self) -> list[ClaimRow]:
        return self.claims.read("fmp/prices_daily/v1/")

    def done(self) -> set[str]:
        return {row.key for row in self.rows() if row.state == "done"}

    def finish(self, owner: str) -> dict[str, Any]:
        output, _ = self.running[owner].communicate(timeout=120)
        assert self.running[owner].returncode == 0, (self.folder / "log").read_text()
        return dict(json.loads(output))


@pytest.fixture(params=["sqlite", "dynamodb"])
def backfill(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backfill]:
    if request.param == "sqlite":
        ledger = SqliteClaims(tmp_path / "claims.db")
        found = Backfill(tmp_path, f"sqlite:{tmp_path / 'claims.db'}", ledger)
    else:
        request.getfixturevalue("roto")
        name = f"kill-{os.getpid()}-{next(_NAMES)}"
        table = DynamoClaims(name)
        table.create_table()
        found = Backfill(tmp_path, f"dynamodb:{name}", table)
    try:
        yield found
    finally:
        for process in found.running.values():
            process.kill()
            process.communicate(timeout=10)
        if isinstance(found.claims, SqliteClaims):
            found.claims.close()


@pytest.fixture
def luck() -> random.Random:
    seed = int(os.environ.get("RECOVERY_SEED") or time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with RECOVERY_SEED={seed}")
    return random.Random(seed)


def test_backfill_of_a_year_killed_twice_does_every_day_and_repeats_no_finished_one(
    backfill: Backfill, luck: random.Random
) -> None:
    killed: list[int] = []
    snapshots: list[tuple[set[str], int]] = []
    for owner in ("run-a", "run-b"):
        backfill.start(owner)
    # The first comes back under its own name, the second under another: its leases must end.
    for owner, successor in (("run-a", "run-a"), ("run-b", "run-c")):
        backfill.wait_for_lines(len(backfill.lines()) + luck.randint(20, 110))
        time.sleep(luck.uniform(0, 0.06))
        victim = backfill.running.pop(owner)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(10) == -signal.SIGKILL
        victim.communicate()
        killed.append(victim.pid)
        done = backfill.done()
        assert len(done) < DAYS, "it was over before the kill"
        snapshots.append((done, len(backfill.lines())))
        backfill.start(successor)
    reports = {owner: backfill.finish(owner) for owner in list(backfill.running)}
    _check(backfill, killed, snapshots, lambda: print(json.dumps(reports, indent=1)))
    assert all(report["is_complete"] and not report["lost"] for report in reports.values())
    assert all(report["done"] > 0 for report in reports.values()), "they shared the rest"
    again = backfill.start("run-d")
    assert backfill.finish("run-d")["done"] == 0
    assert again.pid not in {pid for _, pid in backfill.lines()}


# Not SQLite: a process that is paused while it writes would keep the file locked.
@pytest.mark.parametrize("backfill", ["dynamodb"], indirect=True)
def test_backfill_paused_past_its_leases_lands_nothing_when_it_wakes(
    backfill: Backfill, luck: random.Random
) -> None:
    """The zombie of every story about leases: it sleeps, others do its work, it goes on."""
    paused = backfill.start("run-a")
    backfill.wait_for_lines(luck.randint(20, 110))
    time.sleep(luck.uniform(0, 0.06))
    paused.send_signal(signal.SIGSTOP)
    in_hand = [row.key for row in backfill.rows() if row.state == "claimed"]
    backfill.start("run-b")
    assert backfill.finish("run-b")["is_complete"]
    asleep = len(backfill.lines())
    paused.send_signal(signal.SIGCONT)
    report = backfill.finish("run-a")
    late = [key for key, _ in backfill.lines()[asleep:]]
    print(f"{len(in_hand)} in hand when paused, {report['lost']} given up, {len(late)} landed late")
    assert report["is_complete"]
    assert report["lost"] > 0
    assert len(late) <= PARALLEL, "only a landing that had begun may go on"
    assert {row.attempts for row in backfill.rows()} <= {1, 2}


def _check(
    backfill: Backfill,
    killed: list[int],
    snapshots: list[tuple[set[str], int]],
    explain: Callable[[], None],
) -> None:
    rows, lines = backfill.rows(), backfill.lines()
    landed = Counter(key for key, _ in lines)
    twice = {key for key, count in landed.items() if count > 1}
    attempts = {row.key: row.attempts for row in rows}
    explain()
    print(
        f"{len(rows)} days done, {len(lines)} landings, {len(twice)} days landed twice, "
        f"{sum(attempts.values()) - len(rows)} claimed again, killed with "
        f"{', '.join(str(len(done)) for done, _ in snapshots)} days done"
    )
    assert len(rows) == DAYS
    assert {row.state for row in rows} == {"done"}
    assert set(landed) == set(attempts), "every day was landed"
    for done, offset in snapshots:
        assert not done & {key for key, _ in lines[offset:]}, "a finished day was done again"
    first = dict(reversed(lines))
    assert {first[key] for key in twice} <= set(killed), "only a kill may double a landing"
    assert len(twice) <= len(killed) * PARALLEL
    assert all(landed[key] <= attempts[key] for key in landed)
    assert sum(attempts.values()) - DAYS <= len(killed) * 2 * PARALLEL
