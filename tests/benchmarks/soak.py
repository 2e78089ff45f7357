"""Does anything grow? The real platform at a steady rate for a long time, maintenance running.

    python tests/benchmarks/soak.py                            30 minutes at 3,000 messages/s
    python tests/benchmarks/soak.py --minutes 1 --plot soak.png
    python tests/benchmarks/soak.py --minutes 30 --rate 5000 --json > soak.json

Starts `headrace up trades` in a temporary home with default settings, `headrace produce trades`,
and, on a schedule that is faster than any real one, `compact`, `expire-snapshots` and
`remove-orphans`. Every few seconds it looks at each process (memory, open handles, threads) and
at the dataflow (duration of a commit, retained snapshots, lag). At the end it waits until all
that was acknowledged is committed, fits a line over the second half of each series, and runs
`headrace prove --deep`. Exit code 1 if anything grows, or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from soak_samples import ProcessSample, RoadSample, draw, judge_all, look_at, to_json

from stream.heartbeat import read_pulse
from stream.local.roto import free_port
from stream.local.state import read_state

FEED = "trades"
CATCH_UP_SECONDS = 180.0
CLI = (sys.executable, "-m", "batch.cli")
MAINTENANCE = (
    ("compact", FEED, "--to", "2100-01-01", "--apply"),
    ("expire-snapshots", "--keep-hours", "0.03", "--apply"),
    ("remove-orphans", "--grace-hours", "1", "--apply"),
)
"""A snapshot stays two minutes, an orphan an hour: the least that is allowed."""


@dataclass
class Soak:
    """One run: its home, its clock, what was seen."""

    home: Path
    interval_seconds: float
    maintenance_seconds: float
    port: int = field(default_factory=free_port)
    began: float = field(default_factory=time.monotonic)
    processes: list[ProcessSample] = field(default_factory=list)
    road: list[RoadSample] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    restarts: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HEADRACE_HOME": str(self.home),
            "HEADRACE_METRICS_PORT": str(self.port),
        }

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A verb of the command line. Its words are part of the error, if it ends with one."""
        done = subprocess.run(
            [*CLI, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            sys.exit(f"headrace {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done

    def look(self, producer: subprocess.Popen[str]) -> None:
        """Sample everything once."""
        state = read_state(self.home)
        found = [(p.name, p.process.pid) for p in state.processes if p.process is not None]
        if state.supervisor is not None:
            found.append(("supervisor", state.supervisor.pid))
        found.append(("producer", producer.pid))
        samples = (look_at(name, pid, self.now) for name, pid in found)
        self.processes += [sample for sample in samples if sample is not None]
        self.restarts = sum(p.restarts for p in state.processes)
        if (sample := self._look_at_road()) is not None:
            self.road.append(sample)

    def _look_at_road(self) -> RoadSample | None:
        pulse = read_pulse(self.home, FEED)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return None
        values = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(("headrace_commit_seconds_", "headrace_snapshots"))
        }
        if pulse is None or not pulse.tally["commits"]:
            return None
        return RoadSample(
            round(self.now, 2),
            int(values["headrace_commit_seconds_count"]),
            values["headrace_commit_seconds_sum"],
            int(values.get("headrace_snapshots", 0)),
            max((s["behind_ms"] or 0) / 1000 for s in pulse.shards) if pulse.shards else 0.0,
            pulse.tally["messages"],
        )

    def maintain(self) -> None:
        """Maintenance on its schedule, until the end."""
        while not self.ended.wait(self.maintenance_seconds):
            for arguments in MAINTENANCE:
                done = self.run(*arguments, check=False)
                self.marks.append((round(self.now, 1), f"{arguments[0]}: exit {done.returncode}"))
                if done.returncode:
                    sys.stderr.write(f"{arguments[0]}: exit {done.returncode}\n{done.stderr}")


def main() -> None:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=3_000.0, help="messages a second")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between looks")
    parser.add_argument("--maintenance", type=float, default=60.0, help="seconds between runs")
    parser.add_argument("--home", type=Path, help="keep everything there (default: a temporary)")
    parser.add_argument("--plot", type=Path, help="draw a PNG")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        soak = Soak(
            (options.home or Path(folder)).absolute(), options.interval, options.maintenance
        )
        report = measure(soak, options.minutes * 60, options.rate)
    if options.plot:
        title = f"{options.minutes:g} min at {report['messages_per_second']:,} messages/s"
        draw(soak.processes, soak.road, soak.marks, title, options.plot)
    verdicts = judge_all(soak.processes, soak.road)
    report["is_flat"] = all(verdict.is_flat for verdict in verdicts)
    if options.json:
        judged = [
            {**v, "is_flat": w.is_flat} for v, w in zip(to_json(verdicts), verdicts, strict=True)
        ]
        samples = {"processes": to_json(soak.processes), "road": to_json(soak.road)}
        print(json.dumps({**report, "verdicts": judged, "maintenance": soak.marks, **samples}))
    else:
        print("\n".join(map(str, verdicts)))
        print("\n".join(f"{name:28}{value!s:>14}" for name, value in report.items()))
    sys.exit(0 if report["is_flat"] and report["is_equal"] else 1)


def measure(soak: Soak, seconds: float, rate: float) -> dict[str, Any]:
    """One run, from `up` to `prove`."""
    soak.run("up", FEED, "--no-ui")
    keeper = threading.Thread(target=soak.maintain, daemon=True)
    try:
        keeper.start()
        receipt = produce(soak, seconds, rate)
        soak.ended.set()
        keeper.join()
        committed = catch_up(soak, receipt["messages"])
        soak.run("down")
        proof = prove(soak)
    finally:
        soak.ended.set()
        soak.run("down", check=False)
    dataflow = [s for s in soak.processes if s.name == FEED]
    cpu = dataflow[-1].cpu_seconds if dataflow else 0.0
    return {
        "minutes": round(seconds / 60, 2),
        "messages": receipt["messages"],
        "messages_per_second": round(receipt["messages"] / seconds),
        "committed_messages": committed,
        "commits": soak.road[-1].commits,
        "peak_mb": round(max(s.peak_mb for s in dataflow)),
        "last_mb": round(dataflow[-1].rss_mb),
        "cpu_seconds": cpu,
        "restarts": soak.restarts,
        "maintenance_runs": len(soak.marks),
        "failed_maintenance": sum(not mark.endswith("exit 0") for _, mark in soak.marks),
        "is_equal": proof["is_equal"],
        "load_average": round(os.getloadavg()[0], 1),
    }


def produce(soak: Soak, seconds: float, rate: float) -> dict[str, Any]:
    """Publish at the rate, look at everything meanwhile; the producer's receipt."""
    command = [*CLI, "produce", FEED, "--json", "--rate", str(rate), "--seconds", str(seconds)]
    with subprocess.Popen(
        command, env=soak.environment, stdout=subprocess.PIPE, text=True
    ) as producer:
        while producer.poll() is None:
            soak.look(producer)
            time.sleep(soak.interval_seconds)
        report = json.loads(producer.stdout.read()) if producer.stdout else {}
    if producer.returncode:
        sys.exit(f"the producer ended with {producer.returncode}")
    receipt: dict[str, Any] = report["figures"]["receipt"]
    return receipt


def catch_up(soak: Soak, messages: int) -> int:
    """Wait until everything that was acknowledged is committed; the count in the ledger."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        asked = soak.run("query", "--json", "SELECT sum(messages)::BIGINT AS n FROM ledger_slices")
        committed = int(json.loads(asked.stdout)[0]["n"] or 0)
        if committed >= messages or time.monotonic() > deadline:
            break
        time.sleep(2.0)
    if committed != messages:
        sys.exit(f"{committed:,} of {messages:,} messages committed after {CATCH_UP_SECONDS:.0f} s")
    return committed


def prove(soak: Soak) -> dict[str, Any]:
    """`headrace prove --deep` once the platform is up again."""
    soak.run("up", FEED, "--no-ui")
    done = soak.run("prove", FEED, "--deep", "--json", check=False)
    try:
        return {"is_equal": done.returncode == 0, "report": json.loads(done.stdout)}
    except json.JSONDecodeError:
        sys.exit(f"headrace prove: exit {done.returncode}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
