"""How fast is the road? Decode, dedup, Bronze, Silver, quarantine, commits, bars; no emulators.

    python tests/benchmarks/road.py                 2M ticks, headrace and DuckDB in one run
    python tests/benchmarks/road.py --ticks 200000  a quick look

Both read the same generated files and must agree on their counts before a time is shown. Each
runs in a process of its own; CPU and memory are that process's, from after its imports (CPU)
or in whole (peak RSS). DuckDB's job is one SQL script over everything at once: it keeps the raw
lines, types, validates and de-duplicates the trades, and keeps the refused lines. It leaves out
what headrace also does: incremental state, exactly-once commits and lineage. `--bars` adds the
one-minute bars, of which almost every one holds a correction in this input.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self
from zlib import crc32

LINES_PER_RECORD = 25
SHARDS = 4
START_NS = 1_764_000_000_000_000_000
RATE = 20_000


def main() -> None:
    """Generate, run both sides `--runs` times in turn, print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--slice-ticks", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--epoch-seconds", type=float, default=2.0)
    parser.add_argument("--bars", action="store_true", help="keep one-minute bars as well")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--side", choices=("headrace", "duckdb", "generate"), help=argparse.SUPPRESS
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        {"headrace": run_headrace, "duckdb": run_duckdb, "generate": generate}[options.side](
            options
        )
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        _side("generate", folder, options)
        rows = [
            {side: _side(side, folder, options) for side in ("headrace", "duckdb")}
            for _ in range(options.runs)
        ]
    _report(rows, as_json=options.json)


def generate(options: argparse.Namespace) -> None:
    """Write one JSON-lines file per slice, shard by shard in turn."""
    from stream.producers.simulate import SimulationRule, Simulator

    simulator = Simulator(
        "trades", seed=7, start_ns=START_NS, rate=RATE, rule=SimulationRule(venue_shapes=0)
    )
    folder = options.folder / "input"
    folder.mkdir()
    open_lines: list[list[bytes]] = [[] for _ in range(SHARDS)]
    written = [0] * SHARDS

    def write(shard: int) -> None:
        name = f"{shard}-{written[shard]:05d}.jsonl"
        (folder / name).write_bytes(b"\n".join(open_lines[shard]) + b"\n")
        open_lines[shard] = []
        written[shard] += 1

    for _ in range(0, options.ticks, 10_000):
        for key, line in simulator.take(10_000):
            shard = crc32(key.encode()) % SHARDS
            if line and _is_utf8(line):  # DuckDB cannot read the others
                open_lines[shard].append(line)
            if len(open_lines[shard]) == options.slice_ticks:
                write(shard)
    for shard in range(SHARDS):
        if open_lines[shard]:
            write(shard)
    print("{}")


def run_headrace(options: argparse.Namespace) -> None:
    """The real road: Bytewax, Bronze, Silver, quarantine, commits, bars, on local files."""
    from stream.bar_keeper import open_bars
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
        ledger = Ledger("trades", table, lake.store)
        keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
        dedup = Dedup(contract, keys)
        road = Road(contract, lake.store, table.arrow_schema, dedup, for_bars=options.bars)
        bars = open_bars(lake, contract, ledger) if options.bars else None
        committer = RoadCommitter(ledger, bars)
        epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
        flow = build_dataflow(
            "trades",
            FileLanes(sorted((options.folder / "input").iterdir())),
            road.process,
            committer,
            epoch=epoch,
            epoch_seconds=options.epoch_seconds,
        )
        with Meter() as meter:
            run_dataflow(flow, epoch, epoch_seconds=options.epoch_seconds)
            committer.finish()
        tally = committer.tally
        meter.print(
            tally.messages,
            tally.silver_rows,
            sum(tally.rejected.values()),
            commits=tally.commits,
            bytes_written=sum(p.stat().st_size for p in Path(home).rglob("*.parquet")),
        )


def run_duckdb(options: argparse.Namespace) -> None:
    """One SQL script over all files."""
    import duckdb

    out = options.folder / f"duckdb-{time.monotonic_ns()}"
    out.mkdir()
    source = str(options.folder / "input" / "*.jsonl")
    with Meter() as meter:
        sql = duckdb.connect(":memory:")
        sql.execute(DUCKDB_JOB.format(source=source, out=out))
        messages, silver, rejects = sql.execute(
            f"SELECT (SELECT count(*) FROM '{out}/bronze.parquet'),"
            f" (SELECT count(*) FROM '{out}/silver/**/*.parquet'),"
            f" (SELECT count(*) FROM '{out}/quarantine.parquet')"
        ).fetchone()
    size = sum(p.stat().st_size for p in out.rglob("*.parquet"))
    meter.print(messages, silver, rejects, commits=1, bytes_written=size)


DUCKDB_JOB = """
CREATE TEMP TABLE raw AS
  SELECT line, row_number() OVER () AS n
  FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, delim='\\x01', quote='', escape='',
                header=false, auto_detect=false, max_line_size=1000000);
COPY (SELECT line FROM raw) TO '{out}/bronze.parquet' (COMPRESSION zstd, COMPRESSION_LEVEL 1);
CREATE TEMP TABLE typed AS
  SELECT n, line, r.* FROM (SELECT n, line, from_json(try_cast(line AS JSON), '{{
    "venue": "VARCHAR", "symbol": "VARCHAR", "trade_id": "VARCHAR", "kind": "VARCHAR",
    "ts_event_ns": "BIGINT", "price": "JSON", "size": "JSON", "side": "VARCHAR",
    "known_at_ns": "BIGINT"}}') AS r FROM raw);
CREATE TEMP TABLE checked AS
  SELECT * REPLACE (try_cast(price::VARCHAR AS DECIMAL(18,8)) AS price,
                    try_cast(size::VARCHAR AS DECIMAL(18,8)) AS size,
                    coalesce(known_at_ns, ts_event_ns) AS known_at_ns)
  FROM typed;
COPY (
  SELECT * EXCLUDE (n, line), make_timestamp(ts_event_ns // 1000) AS ts_event,
         make_timestamp(ts_event_ns // 1000)::DATE AS day
  FROM checked
  WHERE venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL AND price > 0 AND size > 0
    AND ts_event_ns IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY venue, symbol, trade_id, kind, known_at_ns ORDER BY n) = 1
  ORDER BY symbol, ts_event_ns
) TO '{out}/silver' (FORMAT parquet, PARTITION_BY (day), COMPRESSION zstd, COMPRESSION_LEVEL 1);
COPY (
  SELECT line FROM checked
  WHERE NOT coalesce(venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL AND price > 0
                     AND size > 0 AND ts_event_ns IS NOT NULL, false)
) TO '{out}/quarantine.parquet' (COMPRESSION zstd);
"""


class FileLanes:
    """Slices from files, one lane a shard: the lanes of `sources` without a stream."""

    def __init__(self, files: list[Path]) -> None:
        self.names = [f"lane-{n:02d}" for n in range(SHARDS)]
        self._files = [[f for f in files if f.name.startswith(f"{n}-")] for n in range(SHARDS)]
        self._done = [0] * SHARDS
        self._last: list[str | None] = [None] * SHARDS

    def has_shards(self, lane: int) -> bool:
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:
        return self._done[lane] >= len(self._files[lane])

    def poll(self, lane: int):
        from stream.slices import ShardRef, Slice

        if self.is_finished(lane):
            return None
        number = self._done[lane]
        records = read_records(self._files[lane][number], number)
        shard = ShardRef("trades", "bench.00000000", f"shardId-{lane:012d}")
        item = Slice(shard, self._last[lane], records)
        self._done[lane], self._last[lane] = number + 1, item.last
        return item


def read_records(path: Path, number: int):
    """A file's lines as records of 25 lines each, as the packing producer sends them."""
    import numpy as np
    import pyarrow as pa

    from stream.slices import RECORD_SCHEMA

    data = path.read_bytes()
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    cuts = np.unique(np.append(ends[LINES_PER_RECORD - 1 :: LINES_PER_RECORD], ends[-1]))
    count = len(cuts)
    offsets = np.concatenate([[0], cuts]).astype(np.int32)
    payload = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    base = 10**55 + number * 10**9
    events = [
        json.loads(line)["ts_event_ns"] for line in data[-8_000:].splitlines()[1:] if b"}" in line
    ]
    arrival = max(e for e in events if isinstance(e, int)) + 1_000_000_000
    return pa.record_batch(
        [
            payload,
            pa.array([str(base + n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array(["sim:1"] * count),
            pa.array(np.full(count, arrival)),
        ],
        schema=RECORD_SCHEMA,
    )


class Meter:
    """CPU, wall and peak memory of this process."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu

    def print(self, messages: int, silver: int, rejects: int, **more: int) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({
            "messages": messages, "silver_rows": silver, "rejected": rejects,
            "records_per_second": round(messages / self.wall),
            "cpu_seconds_per_million": round(self.cpu / messages * 1e6, 3),
            "peak_rss_mb": round(peak), **more,
        }))  # fmt: skip


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _side(side: str, folder: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--side", side, "--folder", folder]
    for name in ("ticks", "slice_ticks", "epoch_seconds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--bars"] * options.bars
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _report(rows: list[dict], *, as_json: bool) -> None:
    middle = sorted(
        rows,
        key=lambda r: (
            r["duckdb"]["cpu_seconds_per_million"] / r["headrace"]["cpu_seconds_per_million"]
        ),
    )[len(rows) // 2]
    ours, theirs = middle["headrace"], middle["duckdb"]
    same = all(ours[name] == theirs[name] for name in ("messages", "silver_rows", "rejected"))
    ratio = theirs["cpu_seconds_per_million"] / ours["cpu_seconds_per_million"]
    if as_json:
        print(json.dumps({"headrace": ours, "duckdb": theirs, "ratio": ratio, "same": same}))
        return
    names = list(ours)
    print(f"{'':26}{'headrace':>14}{'DuckDB one-shot':>18}")
    for name in names:
        print(f"{name:26}{ours[name]:>14,}{theirs[name]:>18,}")
    print(f"records per CPU-second, headrace / DuckDB: {ratio:.2f}")
    print(f"counts agree: {same}")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
