"""What does telemetry cost the road? CPU with it over CPU without, from one run.

    python tests/benchmarks/telemetry.py                  8 pairs of 400k ticks
    python tests/benchmarks/telemetry.py --traces         with spans to a collector as well
    python tests/benchmarks/telemetry.py --pairs 4 --ticks 100000   a quick look

The same slices run through the real road (Bytewax, Bronze, Silver, commits, local files) again and
again in one process, bare and watched in turn: bare-watched, watched-bare, so that what drifts
drifts for both. Watched means everything at once, more often than anybody asks for it: metrics of
each slice and commit, the pulse every second, EMF lines and a scrape of /metrics over HTTP (by
another process) every `--every` seconds. Exporters work by the clock, so on a machine that is busy
with other things they take a larger share of a road that gets little CPU.

Two figures, both of the whole process's CPU (user and system):

    accounted   what telemetry's threads and the observer's calls took, read from the kernel's
                account of each thread, over the rest: exact, whatever else the machine does
    compared    the watched runs' CPU over the bare runs', lowest and middle: includes what
                telemetry costs the road indirectly, and the machine's noise, several percent

The exit code is 1 if the accounted ratio is above 2 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import road

SCRAPER = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(sys.argv[1]).read()
    time.sleep(float(sys.argv[2]))
"""
THREADS = ("metrics", "emf", "heartbeat", "table-watch", "Otel")
LIMIT_PERCENT = 2.0


def main() -> None:
    """Generate once, run the pairs, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=400_000)
    parser.add_argument("--slice-ticks", type=int, default=5_000)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--epoch-seconds", type=float, default=1.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--traces", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        options.folder = Path(folder)
        generate(options)
        run(options, is_watched=False)  # imports and caches
        run(options, is_watched=True)
        pairs = [pair(options, number) for number in range(options.pairs)]
    report(pairs, as_json=options.json)


def generate(options: argparse.Namespace) -> None:
    """The input of `road.py`, in a process of its own."""
    command = [sys.executable, road.__file__, "--side", "generate", "--folder"]
    command += [str(options.folder), "--ticks", str(options.ticks)]
    subprocess.run(
        [*command, "--slice-ticks", str(options.slice_ticks)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def pair(options: argparse.Namespace, number: int) -> dict[str, float]:
    """One bare and one watched run; which comes first changes each time."""
    order = (False, True) if number % 2 == 0 else (True, False)
    found = {is_watched: run(options, is_watched=is_watched) for is_watched in order}
    bare, watched = found[False], found[True]
    if bare["rows"] != watched["rows"]:
        sys.exit(f"{bare['rows']} rows bare, {watched['rows']} watched: no comparison")
    return {
        "bare_cpu_seconds": bare["cpu"],
        "watched_cpu_seconds": watched["cpu"],
        "compared_percent": (watched["cpu"] / bare["cpu"] - 1) * 100,
        "accounted_percent": watched["spent"] / (watched["cpu"] - watched["spent"]) * 100,
        "observer_percent": watched["observer"] / watched["cpu"] * 100,
        "threads_ms_a_second": (watched["spent"] - watched["observer"]) / watched["wall"] * 1e3,
        "slices": watched["slices"],
        "commits": watched["commits"],
    }


def run(options: argparse.Namespace, *, is_watched: bool) -> dict[str, float]:
    """All slices through a road of its own."""
    from stream.clock import SYSTEM_CLOCK
    from stream.dedup import Dedup
    from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
    from stream.feeds import load_feed
    from stream.flow import Road, RoadCommitter
    from stream.lake.connect import connect_lake
    from stream.lake.ledger import Ledger
    from stream.settings import load_settings
    from stream.silver import SilverKeys

    with tempfile.TemporaryDirectory(dir=options.folder) as home:
        settings = load_settings(home=Path(home), lake=f"file://{home}/lake")
        contract, lake = load_feed("trades"), connect_lake(settings)
        table = lake.table(contract)
        keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
        epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
        lanes = StatusLanes(sorted((options.folder / "input").iterdir()))
        watch = Watched(options, home) if is_watched else None
        observer = watch.observer if watch else None
        store, schema = lake.store, table.arrow_schema
        flow_road = Road(contract, store, schema, Dedup(contract, keys), observer=observer)
        committer = RoadCommitter(Ledger("trades", table, lake.store), observer=observer)
        flow = build_dataflow(
            "trades",
            lanes,
            flow_road.process,
            committer,
            epoch=epoch,
            epoch_seconds=options.epoch_seconds,
        )
        before, began = cpu_seconds(), time.monotonic()
        if watch:
            watch.start(flow_road, committer, lanes, epoch, store)
        run_dataflow(flow, epoch, epoch_seconds=options.epoch_seconds)
        cpu, wall = cpu_seconds() - before, time.monotonic() - began
        if watch:
            watch.stop()
        flow_road.close()
        tally = committer.tally
    observed = watch.observer.spent if watch else 0.0
    return {
        "cpu": cpu,
        "wall": wall,
        "observer": observed,
        "spent": observed + (watch.in_threads if watch else 0.0),
        "rows": tally.silver_rows,
        "slices": tally.slices,
        "commits": tally.commits,
    }


class StatusLanes(road.FileLanes):
    """The lanes of the road's benchmark, with the status that a live flow's have."""

    retries = 0

    def status(self) -> list[Any]:
        from stream.slices import ShardRef
        from stream.sources.fetcher import ShardStatus

        now_ms = time.time_ns() // 1_000_000
        return [
            ShardStatus(
                ShardRef("trades", "bench.00000000", f"shardId-{lane:012d}"),
                lane,
                "reading",
                behind_ms=5_000,
                last_sequence_number=self._last[lane],
                read_ms=now_ms,
                tip_ms=now_ms,
            )
            for lane in range(road.SHARDS)
        ]


class Timed:
    """The observer, and the CPU that its own calls took in the dataflow's thread."""

    def __init__(self, inner: Any) -> None:
        self.spent = 0.0
        for name in ("begin_slice", "end_slice", "begin_commit", "end_commit"):
            setattr(self, name, self._timed(getattr(inner, name)))

    def _timed(self, call: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.spent += time.thread_time() - began

        return timed


class Watched:
    """Everything that a live flow runs to be seen."""

    def __init__(self, options: argparse.Namespace, home: str) -> None:
        from stream.observe import observe
        from stream.settings import load_settings

        self._every, self.in_threads = options.every, 0.0
        self._collector = Collector() if options.traces else None
        self._settings = load_settings(
            home=Path(home),
            lake=f"file://{home}/lake",
            metrics_port=0,
            metrics_export="emf",
            metrics_export_seconds=options.every,
            otlp_endpoint=self._collector.endpoint if self._collector else None,
        )
        self._lines = Path(home, "emf.jsonl").open("a")  # noqa: SIM115 - closed by `stop`
        self._observation = observe(self._settings, "trades", write=self._lines.write)
        self.observer = Timed(self._observation)

    def start(self, flow_road: Any, committer: Any, lanes: Any, epoch: Any, store: Any) -> None:
        from stream.heartbeat import Heartbeat, pulse_path
        from stream.live import _Body
        from stream.observe.table_watch import TableWatch

        reader = argparse.Namespace(retention_ms=86_400_000)
        watch = TableWatch(committer._ledger._table, reader, 60.0, epoch.clock)
        started_ms = time.time_ns() // 1_000_000
        body = _Body(epoch, flow_road, committer, lanes, store, watch, started_ms)
        self._watch = watch
        self._pulse = Heartbeat(pulse_path(self._settings.home, "trades"), "trades", body.beat)
        self._pulse.start()
        watch.start()
        address = f"http://127.0.0.1:{self._observation.server.port}/metrics"
        command = [sys.executable, "-S", "-c", SCRAPER, address, str(self._every)]
        self._scraper = subprocess.Popen(command)

    def stop(self) -> None:
        self.in_threads = sum(map(thread_seconds, threading.enumerate()))
        self._scraper.kill()
        self._scraper.wait()
        self._observation.close()
        self._watch.stop()
        self._pulse.stop()
        self._lines.close()
        if self._collector:
            self._collector.close()


class Collector:
    """Takes spans in a process of its own, as a collector does."""

    def __init__(self) -> None:
        server = "import http.server as h\n" + COLLECTOR
        self._process = subprocess.Popen(
            [sys.executable, "-c", server], stdout=subprocess.PIPE, text=True
        )
        self.endpoint = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


COLLECTOR = """
class Taker(h.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = h.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
print(server.server_port, flush=True)
server.serve_forever()
"""


def cpu_seconds() -> float:
    """User and system time of all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def thread_seconds(thread: threading.Thread) -> float:
    """CPU of one of telemetry's threads so far; 0 for another one."""
    if not thread.name.startswith(THREADS):
        return 0.0
    account = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
    return int(account.split()[0]) / 1e9


def report(pairs: list[dict[str, float]], *, as_json: bool) -> None:
    """Print both figures; exit with 1 above the limit."""
    ratios = sorted(pair["compared_percent"] for pair in pairs)
    bare, watched = (
        [pair[f"{side}_cpu_seconds"] for pair in pairs] for side in ("bare", "watched")
    )
    accounted = statistics.median(pair["accounted_percent"] for pair in pairs)
    found = {
        "pairs": len(pairs),
        "slices a run": pairs[0]["slices"],
        "commits a run": statistics.median(pair["commits"] for pair in pairs),
        "CPU seconds a run": round(statistics.median(bare), 2),
        "accounted %": round(accounted, 2),
        "of it observer's calls %": round(
            statistics.median(pair["observer_percent"] for pair in pairs), 2
        ),
        "telemetry's threads, ms a s": round(
            statistics.median(pair["threads_ms_a_second"] for pair in pairs), 2
        ),
        "compared, lowest runs %": round((min(watched) / min(bare) - 1) * 100, 2),
        "compared, middle pair %": round(statistics.median(ratios), 2),
        "compared, all pairs %": f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
    }
    if as_json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28}{value:>16}")
        print(f"CPU with telemetry / without: {1 + accounted / 100:.4f}")
    sys.exit(accounted > LIMIT_PERCENT)


if __name__ == "__main__":
    main()
