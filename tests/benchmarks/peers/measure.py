"""Run one contender in a process of its own, watch its memory, judge its output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meter import tree_rss_bytes
from peers.check import differences, read_figures
from peers.contenders import Contender

BENCHMARKS = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.1
LIMIT_SECONDS = 1_800


@dataclass(slots=True)
class Outcome:
    """One run. `problem`: why its figures do not count; empty if they do."""

    contender: str
    messages: int
    problem: str = ""
    startup_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    bytes_written: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def records_per_second(self) -> float:
        return self.messages / self.wall_seconds

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu_seconds / self.messages * 1e6


def run_contender(
    contender: Contender,
    source: Path,
    output: Path,
    expected: dict[str, Any],
    *,
    threads: int = 2,
    options: tuple[str, ...] = (),
) -> Outcome:
    """Run, measure, judge; the output is removed afterwards."""
    outcome = Outcome(contender.name, expected["messages"])
    output.mkdir(parents=True)
    command = [str(contender.python), "-m", f"peers.{contender.module}"]
    command += ["--input", str(source), "--output", str(output), "--threads", str(threads)]
    for option in (*contender.options, *options):
        command += ["--option", option]
    # Engines that ask for the number of threads when they are imported, not when they are called.
    limits = dict.fromkeys(("POLARS_MAX_THREADS", "PATHWAY_THREADS"), str(threads))
    try:
        code, out, err, peak = _watch(command, limits)
        if code:
            outcome.problem = f"failed with exit code {code}: {_last_line(err)}"
            return outcome
        figures = json.loads(out.splitlines()[-1])
        outcome.startup_seconds = figures.pop("startup_seconds")
        outcome.wall_seconds = figures.pop("wall_seconds")
        outcome.cpu_seconds = figures.pop("cpu_seconds")
        outcome.peak_rss_bytes = max(peak, figures.pop("peak_rss_bytes"))
        outcome.more = figures
        outcome.bytes_written = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
        outcome.problem = _judge(contender, output, expected)
        return outcome
    finally:
        shutil.rmtree(output)


def _judge(contender: Contender, output: Path, expected: dict[str, Any]) -> str:
    import duckdb

    try:
        wrong = differences(read_figures(contender, output), expected)
    except duckdb.Error as error:
        return f"WRONG: its output cannot be read: {str(error).splitlines()[0]}"
    return f"WRONG: {'; '.join(wrong)}" if wrong else ""


def _watch(command: list[str], variables: dict[str, str]) -> tuple[int, str, str, int]:
    """Exit code, output, errors and the peak of the process tree's resident memory."""
    environment = os.environ | variables | {"PYTHONPATH": str(BENCHMARKS)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, tree_rss_bytes(process.pid))

    sampler = threading.Thread(target=sample, daemon=True)
    if sys.platform == "linux":
        sampler.start()
    try:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nstopped after {LIMIT_SECONDS} s"
    finally:
        done.set()
        if sampler.is_alive():
            sampler.join()
    return process.returncode, out, err, peak


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
