"""headrace and its peers at one job, in one run: speed, CPU, memory, what each leaves out.

    python tests/benchmarks/peers/install.py           once: the peers, in environments of their own
    python tests/benchmarks/peers/compare.py           all that are installed, 2M messages
    python tests/benchmarks/peers/compare.py --only duckdb --runs 3
    python tests/benchmarks/peers/compare.py --plot peers.png --json > peers.json

The job is in `peers/job.py`; each contender is a module `peers/run_NAME.py` and runs in a process
of its own, in turn, so that all meet the same machine. Before a time counts, its output is compared
with a plain program's: counts, and sums of hashes over keys, rows and raw lines. Time and CPU begin
after imports and the start of a JVM; CPU and memory are those of the whole process tree. Before
each contender headrace runs on the same input, and a ratio is to that run: on a shared machine the
next minute is another one. Figures are medians over the rounds of `--runs`.
Exit code 1: an output was wrong, or a contender failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe_machine
from peers.check import ORACLE, read_figures
from peers.contenders import Contender, find_contenders
from peers.measure import Outcome, run_contender
from peers.oracle import write_expected
from peers.report import Pair, build_rows, print_rows, write_plot
from trade_files import RATE, write_trade_files

MIDNIGHT_NS = 1_764_028_800_000_000_000
"""The input crosses it in its middle: Silver has two days."""


def main() -> None:
    """Generate, run all in turn, print the table."""
    options = _read_options()
    contenders = find_contenders(["headrace", *options.only] if options.only else [])
    present = {c.name: c for c in contenders if c.absence() is None}
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory(prefix="headrace-peers-", dir=options.folder) as folder:
        for messages in dict.fromkeys((options.messages, options.slow_messages)):
            running = [c for c in present.values() if _size(c, options) == messages]
            if running:
                place = Path(folder) / str(messages)
                pairs += _run(running, present["headrace"], place, messages, options)
    rows = build_rows(contenders, pairs)
    machine = describe_machine()
    if options.plot:
        write_plot(rows, machine, options.plot)
    if options.json:
        print(json.dumps({"machine": machine, "contenders": [row.as_json() for row in rows]}))
    else:
        print(machine)
        print_rows(rows)
    if any(row.problem for row in rows):
        sys.exit(1)


def prepare_input(folder: Path, messages: int, slice_messages: int = 50_000) -> dict[str, Any]:
    """Write `folder/input` and return the figures that every output must show.

    `messages`: what the simulator hands out; the figures count what the files hold.
    """
    folder.mkdir(parents=True)
    start_ns = MIDNIGHT_NS - messages * 10**9 // RATE // 2
    write_trade_files(folder / "input", messages, slice_messages, start_ns=start_ns)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        expected = Path(scratch) / "expected"
        write_expected(sorted((folder / "input").iterdir()), expected)
        return read_figures(ORACLE, expected)


def _run(
    contenders: list[Contender],
    ours: Contender,
    folder: Path,
    messages: int,
    options: argparse.Namespace,
) -> list[Pair]:
    """Each contender after headrace, all in turn, `--runs` times."""
    _say(f"generating {messages:,} messages and the expected answer")
    expected = prepare_input(folder, messages)

    def measure(one: Contender) -> Outcome:
        outcome = run_contender(
            one, folder / "input", folder / "output", expected, threads=options.threads
        )
        _say(f"{one.title}: {outcome.problem or _in_words(outcome)}")
        return outcome

    rivals = [one for one in contenders if one is not ours]
    pairs = []
    for _ in range(options.runs):
        for one in rivals:
            base = measure(ours)
            pairs.append(Pair(measure(one), base))
    return pairs or [Pair(base, base) for base in [measure(ours) for _ in range(options.runs)]]


def _in_words(outcome: Outcome) -> str:
    return (
        f"{outcome.cpu_seconds_per_million:.2f} CPU-s per million, "
        f"{outcome.records_per_second:,.0f} records/s"
    )


def _size(contender: Contender, options: argparse.Namespace) -> int:
    return options.slow_messages if contender.is_slow else options.messages


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog=f"Contenders: {', '.join(one.name for one in find_contenders([]))}.",
    )
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument(
        "--slow-messages", type=int, default=2_000_000, help="at most so many for the slow ones"
    )
    parser.add_argument("--runs", type=int, default=1, help="rounds; figures are their medians")
    parser.add_argument("--threads", type=int, default=2, help="for each that can be told")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--folder", type=Path, help="where inputs and outputs lie meanwhile")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG")
    options = parser.parse_args()
    if min(options.messages, options.slow_messages, options.runs, options.threads) < 1:
        parser.error("--messages, --slow-messages, --runs and --threads are at least 1")
    try:
        find_contenders(options.only)
    except ValueError as error:
        parser.error(str(error))
    options.slow_messages = min(options.slow_messages, options.messages)
    return options


if __name__ == "__main__":
    main()
