"""What exactly-once and Bytewax cost, and how cost grows with records, shards and processes.

    python tests/benchmarks/scale.py                1M messages, up to 10M; minutes
    python tests/benchmarks/scale.py --large        up to 50M
    python tests/benchmarks/scale.py --quick        whether it works; no figures to quote
    python tests/benchmarks/scale.py --json --plot scale.png

Every case is the product's road on local files in a process of its own (`scale_case.py`). Cases
that are compared run in turn, `--runs` times, and the middle ratio counts: the machine may be
busy. Before a time counts, what lies in the Silver files (rows, sums of prices and sizes), the
messages and the rejects must be what DuckDB makes of the same input. CPU is that of the whole
process after its start; what making slices out of files costs is left out of the ratios, as all
cases share it. Two processes take half of the shards each and have lakes of their own.

Ends with each goal, the figure and whether it is reached. Exit code 1 if an output was wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from scale_case import Case
from scale_input import expected_figures, write_input

SHARDS = 4
SLICE_MESSAGES = 50_000
SHARD_COUNTS = (1, 4, 16, 64)
CASE_SECONDS = 1_800
Figures = dict[str, float]


@dataclass(frozen=True)
class Goal:
    """What is asked, what was found: `is_reached` compares the two."""

    what: str
    limit: float
    found: float
    at_most: bool = True

    @property
    def is_reached(self) -> bool:
        return self.found <= self.limit if self.at_most else self.found >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "reached" if self.is_reached else "NOT reached"
        return f"{self.what:52}{sign} {self.limit:<9,g}{self.found:>11,.3f}  {verdict}"


class Bench:
    """Runs cases on one generated input and checks what each leaves."""

    def __init__(self, folder: Path, messages: int, shard_counts: Sequence[int]) -> None:
        self._folder = folder
        most = max(shard_counts)
        by_shards = {count: max(messages // most, 1_000) for count in shard_counts}
        write_input(folder / "shards", messages, list(by_shards.items()))
        write_input(folder / "plain", messages, [(SHARDS, SLICE_MESSAGES)])
        self._expected = expected_figures(folder / "plain" / str(SHARDS))
        self._number = 0

    def plain(self, **more: Any) -> Case:
        """The input in four shards and slices of 50,000 messages."""
        return Case(str(self._folder / "plain" / str(SHARDS)), "", **more)

    def of_shards(self, count: int) -> Case:
        """The same messages in so many shards, slices of the same size for each."""
        return Case(str(self._folder / "shards" / str(count)), "")

    def run(self, case: Case, processes: int = 1) -> Figures:
        """One case, in one or more processes. Raises: SystemExit when its output is wrong."""
        self._number += 1
        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            parts = [
                replace(case, output=output, part=n, parts=processes) for n in range(processes)
            ]
            found = _run_processes(parts, Path(output))
        _check(case, found, self._expected)
        return _figures(found)


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """All cases. Ratios are the middle one of `runs` rounds, in which all cases take turns."""
    rounds = []
    for _ in range(options.runs):
        rounds.append({
            "bytewax": bench.run(bench.plain()),
            "loop": bench.run(bench.plain(engine="loop")),
            "without exactly-once": bench.run(bench.plain(exactly_once=False)),
            "two processes": bench.run(bench.plain(), processes=2),
        })  # fmt: skip
    by_copies = {n: bench.run(bench.plain(copies=n)) for n in options.copies}
    by_shards = {n: bench.run(bench.of_shards(n)) for n in options.shards}
    return {
        "machine": describe_machine(),
        "cases": {name: _middle(rounds, name) for name in rounds[0]},
        "exactly_once_ratio": _ratio(rounds, "bytewax", "without exactly-once"),
        "bytewax_ratio": _ratio(rounds, "bytewax", "loop"),
        "two_processes_ratio": _ratio(rounds, "two processes", "bytewax", "records_per_second"),
        "by_copies": by_copies,
        "by_shards": by_shards,
        "records_ratio": _growth(by_copies),
        "shards_ratio": _growth(by_shards),
    }


def find_goals(found: Mapping[str, Any]) -> list[Goal]:
    """What issue and design ask for, beside what was measured."""
    base, two = found["cases"]["bytewax"], found["cases"]["two processes"]
    figures = [base, *found["by_copies"].values(), *found["by_shards"].values()]
    peak = max(one["peak_rss_mb"] for one in figures)
    return [
        Goal("CPU-s per million, with commits and reading", 1.8, base["cpu_with_reading"]),
        Goal("exactly-once (dedup, ledger) / without, CPU", 1.1, found["exactly_once_ratio"]),
        Goal("Bytewax / plain loop, CPU", 1.1, found["bytewax_ratio"]),
        Goal(_ends(found["by_copies"], "x the messages"), 1.1, found["records_ratio"]),
        Goal(_ends(found["by_shards"], "shards"), 1.1, found["shards_ratio"]),
        Goal("peak RSS of a process, MB", 512, peak),
        Goal("two processes / one, messages/s", 1.6, found["two_processes_ratio"], at_most=False),
        Goal("messages/s, two processes", 900_000, two["records_per_second"], at_most=False),
    ]


def _ends(series: Mapping[int, Figures], unit: str) -> str:
    numbers = list(series)
    return f"CPU a message, {numbers[-1]} / {numbers[0]} {unit}"


def main() -> None:
    """Generate, run all cases, print them and the goals."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="headrace-scale-") as folder:
        bench = Bench(Path(folder), options.messages, options.shards)
        found = measure(bench, options)
    goals = find_goals(found)
    if options.plot:
        from scale_plot import write_plot

        write_plot(found, options.messages, options.plot)
    if options.json:
        found["goals"] = [asdict(goal) | {"is_reached": goal.is_reached} for goal in goals]
        print(json.dumps(found))
        return
    print(found["machine"])
    heads = ("CPU-s/M", "+ reading", "messages/s", "RSS MB", "commits")
    print(f"\n{'case':28}" + "".join(f"{head:>12}" for head in heads))
    copies = {f"{n} x {options.messages:,} messages": f for n, f in found["by_copies"].items()}
    shards = {f"{n} shards": f for n, f in found["by_shards"].items()}
    for name, one in (found["cases"] | copies | shards).items():
        print(f"{name:28}{one['cpu']:>12.3f}{one['cpu_with_reading']:>12.3f}"
              f"{one['records_per_second']:>12,.0f}{one['peak_rss_mb']:>12.0f}"
              f"{one['commits']:>12.0f}")  # fmt: skip
    print(f"\n{'goal':52}{'limit':12}{'found':>11}")
    print("\n".join(map(str, goals)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--shards", type=int, nargs="+", default=SHARD_COUNTS)
    parser.add_argument("--large", action="store_true", help="up to 50 x the messages")
    parser.add_argument("--quick", action="store_true", help="10,000 messages, once")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a PNG")
    options = parser.parse_args()
    if options.large:
        options.copies = [*options.copies, 50]
    if options.quick:
        options.messages, options.runs = 10_000, 1
        options.copies, options.shards = [2], [3]
    return options


def _run_processes(parts: Sequence[Case], output: Path) -> list[dict[str, Any]]:
    script = str(Path(__file__).with_name("scale_case.py"))
    running = [
        subprocess.Popen(
            [sys.executable, script, json.dumps(asdict(part))], stdout=subprocess.PIPE, text=True
        )
        for part in parts
    ]
    try:
        if len(parts) > 1:
            while len(list(output.glob("ready-*"))) < len(parts):
                if any(one.poll() not in (None, 0) for one in running):
                    raise SystemExit("a process of a case failed; see its message above")
                time.sleep(0.01)
            (output / "go").touch()
        printed = [one.communicate(timeout=CASE_SECONDS)[0] for one in running]
    finally:
        for one in running:
            one.kill()
    if any(one.returncode for one in running):
        raise SystemExit(f"a case failed: {parts[0]}; see its message above")
    return [json.loads(text.splitlines()[-1]) for text in printed]


def _check(case: Case, found: Sequence[Mapping[str, Any]], expected: Mapping[str, Any]) -> None:
    """Raises: SystemExit when an output is not what DuckDB makes of the input."""
    from decimal import Decimal

    rows, price, size = expected["distinct" if case.exactly_once else "all"]
    wanted = [expected["messages"], expected["rejected"], rows, Decimal(price), Decimal(size)]
    seen = [
        sum(one["messages"] for one in found),
        sum(one["rejected"] for one in found),
        *(sum(Decimal(one["silver"][n]) for one in found) for n in range(3)),
    ]
    if seen != [value * case.copies for value in wanted]:
        raise SystemExit(
            f"{case}: wrong output. Messages, rejects, rows, sum of prices, sum of sizes: found "
            f"{[str(v) for v in seen]}, expected {case.copies} x {[str(v) for v in wanted]}"
        )


def _figures(found: Sequence[Mapping[str, Any]]) -> Figures:
    messages = sum(one["messages"] for one in found)
    cpu = sum(one["cpu_seconds"] for one in found)
    reading = sum(one["reading_seconds"] for one in found)
    wall = max(one["ended"] for one in found) - min(one["began"] for one in found)
    return {
        "messages": messages,
        "cpu": (cpu - reading) / messages * 1e6,
        "cpu_with_reading": cpu / messages * 1e6,
        "records_per_second": messages / wall,
        "peak_rss_mb": max(one["peak_rss_bytes"] for one in found) / 2**20,
        "commits": sum(one["commits"] for one in found),
    }


def _middle(rounds: Sequence[Mapping[str, Figures]], name: str) -> Figures:
    keys = rounds[0][name]
    return {key: statistics.median(one[name][key] for one in rounds) for key in keys}


def _ratio(
    rounds: Sequence[Mapping[str, Figures]], over: str, under: str, figure: str = "cpu"
) -> float:
    return statistics.median(one[over][figure] / one[under][figure] for one in rounds)


def _growth(series: Mapping[int, Figures]) -> float:
    """The last of a series over its first."""
    cpu = [one["cpu"] for one in series.values()]
    return cpu[-1] / cpu[0]


if __name__ == "__main__":
    main()
