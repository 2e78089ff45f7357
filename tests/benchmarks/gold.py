"""How fast is Gold? A day of trades and quotes from Silver to published, then a day more.

    python tests/benchmarks/gold.py                  1M trades and 1M quotes
    python tests/benchmarks/gold.py --rows 100000    a quick look

Builds: "full", everything from empty; "one day more", after a small extract of the next day;
"nothing new". CPU and peak memory are those of dbt's process and what it starts. Rows of Gold's
one-day bars must hold every trade before a figure is shown.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from batch import actions
from batch.extracts import ExtractRequest
from stream.query import run_query
from stream.settings import Settings, load_settings

DAY = date(2026, 11, 20)
MORE_ROWS = 2_000
SHOWN_SECONDS = 0.5


def main() -> None:
    """Fill a lake, build three times, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="trades, and as many quotes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        home = Path(folder)
        settings = load_settings(home=home, lake=f"file://{home}/lake")
        land(settings, DAY, options.rows)
        found = {"full": build(settings)}
        land(settings, DAY + timedelta(days=1), MORE_ROWS)
        found["one day more"] = build(settings)
        found["nothing new"] = build(settings)
        check(settings, options.rows + MORE_ROWS)
    if options.json:
        print(json.dumps(found))
    else:
        report(found, options.rows)


def land(settings: Settings, day: date, rows: int) -> None:
    """One simulated day of trades and quotes."""
    for feed in ("trades", "quotes"):
        request = ExtractRequest(feed, day, day, (), {"rows_per_day": str(rows)})
        actions.extract(settings, "simulated", request, f"{feed}-{day}")
        actions.replay(settings, feed, source="extract", run_id=f"{feed}-{day}", apply=True)


def build(settings: Settings) -> dict[str, Any]:
    """`headrace gold`, measured."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    made = actions.build_gold(settings)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert made.is_ok, made.errors
    return {
        "verdict": made.verdict,
        "days": None if made.days is None else len(made.days),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "peak_mb": after.ru_maxrss // 1024,
        "file_mb": Path(made.file).stat().st_size >> 20 if made.file else None,
        "tests": made.tests_passed,
        "models": {m.name: m.seconds for m in made.models if m.seconds >= SHOWN_SECONDS},
    }


def cpu_of(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def check(settings: Settings, rows: int) -> None:
    """Every trade is in a bar."""
    (answer,) = run_query(settings, "SELECT sum(trades) AS n FROM gold.fct_bars_1d").to_pylist()
    assert answer["n"] == rows, f"bars hold {answer['n']} trades of {rows}"


def report(found: dict[str, dict[str, Any]], rows: int) -> None:
    """A line per build, and what took long in the full one."""
    print(f"{rows:,} trades and {rows:,} quotes of one day\n")
    print(f"{'build':14}{'seconds':>9}{'CPU-s':>8}{'peak MB':>9}{'file MB':>9}{'tests':>7}")
    for name, one in found.items():
        print(
            f"{name:14}{one['seconds']:9.1f}{one['cpu_seconds']:8.1f}"
            f"{one['peak_mb']:9}{one['file_mb'] or '':>9}{one['tests']:7}"
        )
    beyond = found["full"]["cpu_seconds"] - found["one day more"]["cpu_seconds"]
    share = beyond / rows * 1e6
    print(f"\nCPU-s per million trades beyond what a small build costs: {share:.1f}")
    for model, seconds in sorted(found["full"]["models"].items(), key=lambda item: -item[1]):
        print(f"  {model:28}{seconds:7.2f} s")


if __name__ == "__main__":
    main()
