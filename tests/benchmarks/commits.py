"""Measure whether commits stay cheap: 10,000 of them on one table, with maintenance and without.

    python tests/benchmarks/commits.py [--commits 10000] [--without 2000] [--files 1] [--json]
                                       [--plot FILE.png]

Each commit is the real one: `Ledger.commit_slices` of slices that the real road made durable
(Bronze, decoded, de-duplicated, Silver), a SQLite catalog, a lake in a folder. Only the commit is
timed, the making of its slices is not. A commit stands for 10 s, so that 10,000 are 28 hours from
12:00 UTC on, and maintenance runs as it is deployed: expiry every quarter of an hour with what its
default keeps, compaction of the day before at 02:10. Without maintenance nothing but the table's
own settings holds its growth (`--without`, fewer commits; 0 leaves it out).

Prints CPU and wall time of windows of 100 commits, and the ratio of the last 1,000 commits to the
first hundred. CPU is what to look at on a machine that does other things. Exit code 1 if the ratio
with maintenance is 1.5 or more, or if the table does not hold exactly the rows committed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from batch.maintain.compact import compact_table
from batch.maintain.expire import KEEP_HOURS, expire_snapshots
from stream.clock import ManualClock, to_utc
from stream.dedup import Dedup
from stream.feeds import load_feed
from stream.flow import Road, SliceResult
from stream.lake.catalog_maintenance import metadata_address
from stream.lake.connect import connect_lake
from stream.lake.ledger import Ledger
from stream.settings import load_settings
from stream.silver import SilverKeys
from stream.slices import RECORD_SCHEMA, ShardPosition, ShardRef, Slice, Start

FEED = "trades"
LIMIT = 1.5
WINDOW = 100
ROWS = 5
"""Of a slice: tiny, because only their commit is measured."""
EPOCH_SECONDS = 10
KEEP_SNAPSHOTS = int(KEEP_HOURS * 3600) // EPOCH_SECONDS
BEGIN_NS = 1_764_072_000 * 10**9
"""A noon, UTC."""
EXPIRE_MINUTES = 15
COMPACT_AT = (2, 10)
BATCH = 50
"""Commits whose slices are made in one go, before they are timed."""


@dataclass
class Run:
    """Figures of one table: CPU and wall seconds of each commit, and what was there at its end."""

    has_maintenance: bool
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)
    metadata_bytes: list[int] = field(default_factory=list)
    expiry_seconds: list[float] = field(default_factory=list)
    compaction_seconds: list[float] = field(default_factory=list)
    rows: int = 0
    committed_rows: int = 0
    files: int = 0
    files_per_commit: int = 1

    def windows(self) -> list[dict[str, float]]:
        """Means over 100 commits each, ms; snapshots and metadata as of the window's end."""
        return [
            {
                "commits": at + WINDOW,
                "cpu_ms": round(sum(self.cpu[at : at + WINDOW]) / WINDOW * 1e3, 2),
                "wall_ms": round(sum(self.wall[at : at + WINDOW]) / WINDOW * 1e3, 2),
                "median_cpu_ms": round(sorted(self.cpu[at : at + WINDOW])[WINDOW // 2] * 1e3, 2),
                "worst_cpu_ms": round(max(self.cpu[at : at + WINDOW]) * 1e3, 2),
                "snapshots": self.snapshots[at + WINDOW - 1],
                "metadata_kb": round(self.metadata_bytes[at // WINDOW] / 1e3, 1),
            }
            for at in range(0, len(self.cpu) - WINDOW + 1, WINDOW)
        ]

    def ratio(self, name: str = "cpu_ms") -> float:
        """The mean of the last ten windows over the first one's."""
        windows = self.windows()
        last = windows[-10:]
        return round(sum(w[name] for w in last) / len(last) / windows[0][name], 2)


class Filler:
    """Makes slices of trades durable and commits them, one commit every 10 s of its own clock."""

    def __init__(self, home: Path, files: int) -> None:
        settings = load_settings(home=home, lake=f"file://{home}/lake")
        self.contract, self.lake = load_feed(FEED), connect_lake(settings)
        self.region = settings.region
        self.clock = ManualClock(BEGIN_NS)
        self.table = self.lake.table(self.contract)
        self.ledger = Ledger(FEED, self.table, self.lake.store, self.clock)
        keys = SilverKeys(
            self.contract, self.lake.table(self.contract), self.lake.store, lambda _: frozenset()
        )
        self.road = Road(
            self.contract,
            self.lake.store,
            self.table.arrow_schema,
            Dedup(self.contract, keys),
            upload_threads=2,
            for_bars=False,
        )
        self._shards = [ShardRef(FEED, "bench.00000000", f"shardId-{n:012d}") for n in range(files)]
        self._last: dict[ShardRef, str | None] = dict.fromkeys(self._shards)
        start = ShardPosition(None, start=Start("TRIM_HORIZON"))
        self.ledger.start({str(shard): start for shard in self._shards})

    def make(self, first: int, count: int) -> Iterator[list[SliceResult]]:
        """The slices of commits `first`.., all durable before the first one is given."""
        wanted = [
            self._slice(shard, number)
            for number in range(first, first + count)
            for shard in self._shards
        ]
        made = iter(self.road.process(wanted))
        yield from [[next(made) for _ in self._shards] for _ in range(count)]

    def _slice(self, shard: ShardRef, number: int) -> Slice:
        at_ns = BEGIN_NS + number * EPOCH_SECONDS * 10**9
        lines = [_trade(number * ROWS + n, at_ns + n, shard.shard) for n in range(ROWS)]
        records = pa.record_batch(
            [
                pa.array([b"\n".join(lines)], pa.binary()),
                pa.array([str(10**55 + number)]),
                pa.array([0], pa.int32()),
                pa.array(["sim:0"]),
                pa.array([at_ns + 10**9], pa.int64()),
            ],
            schema=RECORD_SCHEMA,
        )
        item = Slice(shard, self._last[shard], records)
        self._last[shard] = item.last
        return item


def _trade(number: int, at_ns: int, shard: str) -> bytes:
    return orjson.dumps({
        "venue": "sim", "symbol": f"S{number % 200:03d}", "trade_id": f"{shard[-3:]}{number}",
        "kind": "new", "ts_event_ns": at_ns, "price": orjson.Fragment("100.25"),
        "size": orjson.Fragment("2"), "side": "buy",
    })  # fmt: skip


def measure(commits: int, files: int, home: Path, *, has_maintenance: bool) -> Run:
    """Commit, look after the table as deployed, then count what it holds."""
    run, filler = Run(has_maintenance, files_per_commit=files), Filler(home, files)
    for first in range(0, commits, BATCH):
        for work in filler.make(first, min(BATCH, commits - first)):
            _commit(filler, work, run)
            if has_maintenance:
                _maintain(filler, run)
            if len(run.cpu) % WINDOW == 0:
                _progress(run, commits)
    filler.road.close()
    filler.table.refresh()
    found = filler.table.files()
    run.rows, run.files = sum(file.rows for file in found), len(found)
    return run


def _commit(filler: Filler, work: Sequence[SliceResult], run: Run) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    entry = filler.ledger.commit_slices([(result.record, result.files) for result in work])
    run.cpu.append(time.process_time() - cpu)
    run.wall.append(time.perf_counter() - wall)
    if entry is None:
        sys.exit("a commit was dropped as a replay: the benchmark is wrong")
    run.committed_rows += sum(record.silver_rows for record in entry.slices)
    run.snapshots.append(filler.table.snapshot_count)
    if len(run.cpu) % WINDOW == 0:
        run.metadata_bytes.append(_metadata_bytes(filler))
    filler.clock.sleep(EPOCH_SECONDS)


def _maintain(filler: Filler, run: Run) -> None:
    """What is due at this time of the benchmark's day."""
    now = to_utc(filler.clock.now_ns())
    if (now.minute % EXPIRE_MINUTES, now.second) == (5, 0):
        began = time.process_time()
        # The library stamps snapshots with the machine's time, so they are kept by their number.
        expire_snapshots(filler.lake, FEED, keep_hours=0, keep_last=KEEP_SNAPSHOTS, apply=True)
        run.expiry_seconds.append(round(time.process_time() - began, 3))
    if (now.hour, now.minute, now.second) == (*COMPACT_AT, 0):
        began = time.process_time()
        compact_table(filler.lake, FEED, region=filler.region, apply=True, clock=filler.clock)
        run.compaction_seconds.append(round(time.process_time() - began, 3))


def _metadata_bytes(filler: Filler) -> int:
    return Path(metadata_address(filler.table).removeprefix("file://")).stat().st_size


def _progress(run: Run, commits: int) -> None:
    window = run.windows()[-1]
    name = "with" if run.has_maintenance else "without"
    print(
        f"\r{name} maintenance: {len(run.cpu):,} of {commits:,} commits, "
        f"{window['cpu_ms']:.1f} ms CPU, {window['snapshots']:,} snapshots   ",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip


def figures(run: Run) -> dict[str, Any]:
    """Everything measured, for `--json`."""
    return {
        "has_maintenance": run.has_maintenance,
        "commits": len(run.cpu),
        "cpu_ratio": run.ratio(),
        "wall_ratio": run.ratio("wall_ms"),
        "worst_window_ratio": round(
            max(w["cpu_ms"] for w in run.windows()) / run.windows()[0]["cpu_ms"], 2
        ),
        "rows": run.rows,
        "committed_rows": run.committed_rows,
        "files": run.files,
        "expiry_cpu_seconds": run.expiry_seconds,
        "compaction_cpu_seconds": run.compaction_seconds,
        "windows": run.windows(),
    }


def draw(runs: Sequence[Run], path: Path) -> None:
    """CPU of a commit over the number of commits, and what is retained."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    for run in runs:
        windows = run.windows()
        at = [w["commits"] for w in windows]
        name = "with maintenance" if run.has_maintenance else "without"
        top.plot(at, [w["cpu_ms"] for w in windows], label=name)
        bottom.plot(at, [w["snapshots"] for w in windows], label=name)
    first = runs[0].windows()[0]["cpu_ms"]
    top.axhline(first * LIMIT, color="grey", linestyle=":", label=f"{LIMIT} x the first hundred")
    top.set_ylabel("CPU ms per commit")
    top.set_ylim(bottom=0)
    top.legend()
    top.set_title(f"One table, {len(runs[0].cpu):,} commits of {runs[0].files_per_commit} file(s)")
    bottom.set_ylabel("retained snapshots")
    bottom.set_xlabel("commits")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--without", type=int, default=2_000, help="commits without maintenance")
    parser.add_argument("--files", type=int, default=1, help="slices, and files, of a commit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="draw a PNG")
    options = parser.parse_args()
    if options.commits < WINDOW or 0 < options.without < WINDOW:
        parser.error(f"a window is {WINDOW} commits: at least so many")
    runs = []
    for commits, has_maintenance in ((options.commits, True), (options.without, False)):
        if commits:
            with tempfile.TemporaryDirectory(prefix="headrace-commits-") as home:
                runs.append(
                    measure(commits, options.files, Path(home), has_maintenance=has_maintenance)
                )
            print(file=sys.stderr)
    found = [figures(run) for run in runs]
    if options.plot:
        draw(runs, options.plot)
    if options.json:
        print(json.dumps({"runs": found, "load_average": round(os.getloadavg()[0], 1)}))
    else:
        for one in found:
            _print(one)
    is_good = found[0]["cpu_ratio"] < LIMIT
    is_whole = all(one["rows"] == one["committed_rows"] for one in found)
    sys.exit(0 if is_good and is_whole else 1)


def _print(found: dict[str, Any]) -> None:
    windows = found.pop("windows")
    step = max(len(windows) // 10, 1)
    print(f"{'commits':>9}{'CPU ms':>9}{'wall ms':>9}{'worst CPU':>11}{'snapshots':>11}{'KB':>7}")
    for w in [windows[0], *windows[step - 1 :: step]]:
        print(
            f"{w['commits']:>9,}{w['cpu_ms']:>9.1f}{w['wall_ms']:>9.1f}{w['worst_cpu_ms']:>11.1f}"
            f"{w['snapshots']:>11,}{w['metadata_kb']:>7.0f}"
        )
    for name, value in found.items():
        shown = (
            f"{len(value)}, mean {sum(value) / max(len(value), 1):.2f}"
            if isinstance(value, list)
            else value
        )
        print(f"{name:28}{shown!s:>18}")


if __name__ == "__main__":
    main()
