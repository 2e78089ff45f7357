"""Play every crash window many times, each run with another seed, and print what was found.

    python tests/crash/many.py                        20 runs of each window, half of them on S3
    python tests/crash/many.py --runs 100 --window 7  more of those whose name begins so
    python tests/crash/many.py --json

A seed decides the messages, which call of the failpoint fires, the backend, and the window that
the runs of 12 meet with a split and a merge on the way. Exit 1 if anything was not right. A run
in which the window did not come about counts as `missed`, never as right.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from crash_checks import Verdict
from crash_play import play_window
from crash_stage import Stage
from crash_windows import WINDOWS, Window

PLACES = ("files", "s3")
RESHARDS = "12 split and merge during any of them"


@dataclass(frozen=True)
class Run:
    """One play: what a seed decided."""

    name: str
    window: Window
    place: str
    seed: int
    hit: int

    @classmethod
    def draw(cls, name: str, window: Window | None, place: str, seed: int) -> Run:
        rng = random.Random(f"{name} {seed}")
        chosen = window or rng.choice([w for w in WINDOWS if w.forget is None])
        return cls(name, chosen, place, seed, rng.choice(chosen.hits))

    def play(self, stage: Stage) -> Verdict | str:
        """The verdict, or why the window did not come about."""
        try:
            return play_window(
                stage,
                self.window,
                self.place,
                hit=self.hit,
                seed=self.seed,
                reshards=self.name == RESHARDS,
            )
        except (AssertionError, TimeoutError) as error:
            return str(error)


@dataclass
class Row:
    """What the runs of one window on one backend found, added up."""

    window: str
    backend: str
    runs: int = 0
    missing: int = 0
    doubled: int = 0
    bars_wrong: int = 0
    bronze_changed: int = 0
    positions_back: int = 0
    proven: int = 0
    gaps: int = 0
    missed: int = 0

    def count(self, found: Verdict | str) -> bool:
        """Add a run; returns whether it was right."""
        self.runs += 1
        if isinstance(found, str):
            self.missed += 1
            return False
        for name in ("missing", "doubled", "bars_wrong", "bronze_changed", "positions_back"):
            setattr(self, name, getattr(self, name) + getattr(found, name))
        self.proven += found.is_proven
        self.gaps += bool(found.gaps)
        return found.is_right


def plan_runs(runs: int, first_seed: int, chosen: str) -> Iterator[Run]:
    """Every window in turn, so that a run that is cut short has seen all of them."""
    windows = {window.name: window for window in WINDOWS} | {RESHARDS: None}
    for number in range(runs):
        for name, window in windows.items():
            if name.startswith(chosen):
                yield Run.draw(name, window, PLACES[number % 2], first_seed + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="of each window (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the first run (default 1)")
    parser.add_argument("--window", default="", help="only those whose name begins so")
    parser.add_argument("--jobs", type=int, default=2, help="plays at a time (default 2)")
    parser.add_argument("--minutes", type=float, help="begin no run after so many minutes")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    rows: dict[tuple[str, str], Row] = {}
    is_right = True

    def play(run: Run) -> tuple[Run, Verdict | str | None]:
        is_late = chosen.minutes is not None and time.monotonic() - began > chosen.minutes * 60
        return run, None if is_late else run.play(stage)

    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        os.environ.update(stage.variables)
        pool = ThreadPoolExecutor(chosen.jobs)
        try:
            runs = plan_runs(chosen.runs, chosen.seed, chosen.window)
            for run, found in pool.map(play, runs):
                if found is None:
                    continue
                row = rows.setdefault((run.name, run.place), Row(run.name, run.place))
                if not row.count(found):
                    is_right = False
                    _complain(run, found)
        except KeyboardInterrupt:
            print("ended early: what was played until then", file=sys.stderr)
            is_right = False
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stage.close()
    found = sorted(rows.values(), key=lambda row: (int(row.window.split()[0]), row.window))
    print(_to_json(found, time.monotonic() - began) if chosen.json else _to_table(found))
    return 0 if is_right and rows else 1


def _complain(run: Run, found: Verdict | str) -> None:
    words = found if isinstance(found, str) else f"{found}\n{found.words}"
    print(f"NOT RIGHT: {run.name} ({run.window.name}) on {run.place}", file=sys.stderr)
    print(f"seed {run.seed}, hit {run.hit}\n{words}\n", file=sys.stderr, flush=True)


def _to_json(rows: Sequence[Row], seconds: float) -> str:
    totals: collections.Counter[str] = collections.Counter()
    for row in rows:
        totals.update({k: v for k, v in asdict(row).items() if isinstance(v, int)})
    found = {"seconds": round(seconds, 1), "total": totals, "windows": [asdict(r) for r in rows]}
    return json.dumps(found, indent=2)


def _to_table(rows: Sequence[Row]) -> str:
    lines = [
        "| window | backend | runs | missing | doubled | bars wrong | Bronze changed"
        " | positions back | prove equal | gap named | missed |",
        "|---|---|" + "--:|" * 9,
    ]
    for r in rows:
        counts = (r.runs, r.missing, r.doubled, r.bars_wrong, r.bronze_changed, r.positions_back)
        played = r.runs - r.missed
        cells = [r.window, r.backend, *counts, f"{r.proven}/{played}", r.gaps, r.missed]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
