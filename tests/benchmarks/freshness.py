"""Measure freshness: from PutRecords to visible in `headrace query`, on the embedded default.

    python tests/benchmarks/freshness.py [--seconds 60] [--rate 5000] [--epoch 10] [--json]
    python tests/benchmarks/freshness.py --curve --seconds 30 --plot freshness.png

Starts an embedded AWS and `headrace run trades` in a temporary home with default settings, lets
`headrace produce` publish, and asks Silver every half second which rows it has not seen before.
A row's freshness is the moment at which such an answer held it less its arrival in the stream,
which is a little before PutRecords was acknowledged: the figures are never too good. `--curve`:
1,000 and 5,000 messages/s and as many as the emulator takes, for 1, 5 and 10 s between commits.
Exit code 1 if a row is missing at the end, or if p99 at up to 5,000/s is above the epoch and 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from machine import describe_machine

from stream.heartbeat import Pulse, read_pulse
from stream.local.platform import create_lake_and_streams, embedded
from stream.local.process import last_line, reap, spawn
from stream.query import run_query
from stream.settings import Settings, child_environment, load_settings

FEED = "trades"
LIMIT_SECONDS = 5.0
"""Above the epoch: a slice's window and grace, its decoding, the upload, the commit."""
PROMISED_RATE = 5_000.0
MAX_RATE = 1e6
CURVE_RATES = [1_000.0, PROMISED_RATE, MAX_RATE]
CURVE_EPOCHS = [1.0, 5.0, 10.0]
POLL_SECONDS = 0.5
LOOK_BACK_NS = 60_000_000_000
"""How far behind the newest row seen a row that was not may still lie: shards commit apart."""
CATCH_UP_SECONDS = 180.0


@dataclass
class Watcher:
    """Asks Silver for what it has not seen, and notes how old each row was by then."""

    settings: Settings
    seen: set[str] = field(default_factory=set)
    ages_ns: list[np.ndarray] = field(default_factory=list)
    newest_ns: int = 0
    polls_seconds: list[float] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(ages) for ages in self.ages_ns)

    def poll(self) -> None:
        """One query; the answer's moment is when we hold it."""
        began = time.perf_counter()
        found = run_query(
            self.settings,
            f"SELECT slice_id, ts_arrival_ns, count(*) AS n FROM {FEED} "
            f"WHERE ts_arrival_ns > {self.newest_ns - LOOK_BACK_NS} GROUP BY ALL",
        )
        now_ns = time.time_ns()
        self.polls_seconds.append(time.perf_counter() - began)
        slices = np.array(found["slice_id"].to_pylist(), dtype=object)
        is_new = np.array([name not in self.seen for name in slices], bool)
        if not is_new.any():
            return
        arrival = found["ts_arrival_ns"].to_numpy()[is_new]
        self.ages_ns.append(np.repeat(now_ns - arrival, found["n"].to_numpy()[is_new]))
        self.newest_ns = max(self.newest_ns, int(arrival.max()))
        self.seen.update(slices[is_new])


def main() -> None:
    """Measure each point, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each point")
    parser.add_argument("--rate", type=read_rate, action="append", help="messages/s, or max")
    parser.add_argument("--epoch", type=float, action="append", help="seconds between commits")
    parser.add_argument("--curve", action="store_true", help="three rates by three epochs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="draw a PNG")
    options = parser.parse_args()
    rates = options.rate or (CURVE_RATES if options.curve else [5_000.0])
    epochs = options.epoch or (CURVE_EPOCHS if options.curve else [10.0])
    wanted = [(rate, epoch) for rate in rates for epoch in epochs]
    run = measure if len(wanted) == 1 else measure_apart
    points = []
    for rate, epoch in wanted:
        points.append(run(options.seconds, rate, epoch))
        if not options.json:
            _print(points[-1])
    if options.plot:
        draw(points, options.plot)
    if options.json:
        print(json.dumps(points[0] if len(points) == 1 else points))
    sys.exit(0 if all(map(is_good, points)) else 1)


def read_rate(text: str) -> float:
    """A number, or `max`: more than any emulator takes.

    >>> read_rate("5000"), read_rate("max") == MAX_RATE
    (5000.0, True)
    """
    rate = MAX_RATE if text == "max" else float(text)
    if rate < 1:
        raise argparse.ArgumentTypeError("at least 1 message/s")
    return rate


def is_good(point: dict[str, float]) -> bool:
    """Nothing is missing, and p99 is within the limit, unless more was sent than is promised."""
    is_fresh = point["p99_seconds"] <= point["epoch_seconds"] + LIMIT_SECONDS
    return point["missing_rows"] == 0 and (is_fresh or point["rate"] > PROMISED_RATE)


def _print(point: dict[str, float]) -> None:
    for name, value in point.items():
        print(f"{name:30}{value:>14,}")
    print()


def draw(points: list[dict[str, float]], path: Path) -> None:
    """p50 and p99 over the epoch, one line per rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for number, rate in enumerate(dict.fromkeys(point["rate"] for point in points)):
        line = sorted((p for p in points if p["rate"] == rate), key=lambda p: p["epoch_seconds"])
        reached = round(sum(p["messages_per_second"] for p in line) / len(line))
        epochs = [p["epoch_seconds"] for p in line]
        name = f"{reached:,} messages/s" + (" (all it takes)" if rate == MAX_RATE else "")
        for percentile, style in (("p50", "-"), ("p99", "--")):
            values = [p[f"{percentile}_seconds"] for p in line]
            label = f"{name}, {percentile}"
            axes.plot(epochs, values, style, marker="o", color=f"C{number}", label=label)
    axes.set_xlabel("seconds between commits")
    axes.set_ylabel("seconds from PutRecords to visible in SQL")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(f"Freshness, {describe_machine()}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def measure_apart(seconds: float, rate: float, epoch_seconds: float) -> dict[str, float]:
    """The same in a process of its own: an embedded AWS is told to a whole process."""
    command = [sys.executable, __file__, "--json", "--seconds", str(seconds)]
    command += ["--rate", str(rate), "--epoch", str(epoch_seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        sys.exit(f"{rate:,.0f} messages/s, {epoch_seconds:g} s: exit code {done.returncode}")
    point: dict[str, float] = json.loads(done.stdout)
    return point


def measure(seconds: float, rate: float, epoch_seconds: float = 10.0) -> dict[str, float]:
    """One point of the curve: a platform of its own, at one rate and one epoch."""
    with tempfile.TemporaryDirectory(prefix="headrace-freshness-") as home:
        settings = load_settings(home=Path(home), epoch_seconds=epoch_seconds)
        with embedded(settings):
            create_lake_and_streams(settings, [FEED])
            with _dataflow(settings) as process:
                watcher, report = _watch(settings, process, seconds, rate)
                tally = _pulse(settings).tally
                before = _children_cpu_seconds()
                reap(process)
                cpu = _children_cpu_seconds() - before
    receipt = report["figures"]["receipt"]
    ages = np.concatenate([np.zeros(0, np.int64), *watcher.ages_ns]) / 1e9
    p50, p99 = np.percentile(ages, [50, 99])
    return {
        "rate": rate,
        "epoch_seconds": epoch_seconds,
        "p50_seconds": round(float(p50), 2),
        "p99_seconds": round(float(p99), 2),
        "max_seconds": round(float(ages.max()), 2),
        "messages": receipt["messages"],
        "messages_per_second": round(receipt["messages"] / report["figures"]["seconds"]),
        "silver_rows": watcher.rows,
        "missing_rows": tally["silver_rows"] - watcher.rows,
        "commits": tally["commits"],
        "dataflow_cpu_seconds": round(cpu, 2),
        "polls": len(watcher.polls_seconds),
        "median_poll_seconds": round(float(np.median(watcher.polls_seconds)), 3),
        "load_average": round(os.getloadavg()[0], 1),
    }


@contextmanager
def _dataflow(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`headrace run`, ready to read: its start is not what we measure."""
    log = settings.home / "log" / f"{FEED}.log"
    command = [sys.executable, "-m", "stream.cli", "run", FEED]
    process = spawn(command, log, child_environment(settings))
    try:
        while read_pulse(settings.home, FEED) is None:
            if process.poll() is not None:
                sys.exit(f"the dataflow ended: {last_line(log)}")
            time.sleep(0.1)
        yield process
    finally:
        reap(process)


def _watch(
    settings: Settings, process: subprocess.Popen[bytes], seconds: float, rate: float
) -> tuple[Watcher, dict]:
    """Publish, and poll until everything that was acknowledged is committed."""
    watcher = Watcher(settings)
    command = [sys.executable, "-m", "stream.cli", "produce", FEED, "--json"]
    command += ["--seconds", str(seconds), "--rate", str(rate)]
    with subprocess.Popen(
        command, env=child_environment(settings), stdout=subprocess.PIPE, text=True
    ) as producer:
        while producer.poll() is None:
            _poll_in_step(watcher)
        report = json.loads(producer.stdout.read()) if producer.stdout else {}
    if producer.returncode:
        sys.exit(f"the producer ended with {producer.returncode}")
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while _pulse(settings).tally["messages"] < report["figures"]["receipt"]["messages"]:
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit(f"not everything was committed within {CATCH_UP_SECONDS:.0f} s")
        _poll_in_step(watcher)
    watcher.poll()
    return watcher, report


def _poll_in_step(watcher: Watcher) -> None:
    began = time.monotonic()
    watcher.poll()
    time.sleep(max(0.0, began + POLL_SECONDS - time.monotonic()))


def _pulse(settings: Settings) -> Pulse:
    pulse = read_pulse(settings.home, FEED)
    if pulse is None:
        sys.exit("the dataflow has no pulse")
    return pulse


def _children_cpu_seconds() -> float:
    """CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
