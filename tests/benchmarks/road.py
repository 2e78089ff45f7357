"""How fast is the road? Decode, dedup, Bronze, Silver, quarantine, commits, bars; no emulators.

    python tests/benchmarks/road.py                 2M ticks, headrace and DuckDB in one run
    python tests/benchmarks/road.py --ticks 200000  a quick look
    python tests/benchmarks/road.py --profile       headrace alone, and where its time goes

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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from meter import Meter
from steps import Stopwatch, print_steps
from trade_files import SHARDS, FileLanes, write_trade_files

__all__ = ["SHARDS", "FileLanes", "Meter", "generate"]
"""Other benchmarks import these from here."""


def main() -> None:
    """Generate, run both sides `--runs` times in turn, print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--slice-ticks", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--epoch-seconds", type=float, default=2.0)
    parser.add_argument("--bars", action="store_true", help="keep one-minute bars as well")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="CPU time by step, headrace alone")
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
        if options.profile:
            _print_profile(_side("headrace", folder, options), as_json=options.json)
            return
        rows = [
            {side: _side(side, folder, options) for side in ("headrace", "duckdb")}
            for _ in range(options.runs)
        ]
    _report(rows, as_json=options.json)


def generate(options: argparse.Namespace) -> None:
    """Write one JSON-lines file per slice, shard by shard in turn."""
    write_trade_files(options.folder / "input", options.ticks, options.slice_ticks)
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
        stopwatch = Stopwatch()
        if options.profile:
            stopwatch.watch()
        with Meter() as meter:
            run_dataflow(flow, epoch, epoch_seconds=options.epoch_seconds)
            committer.finish()
        tally = committer.tally
        steps = stopwatch.per_million(tally.messages, meter.cpu) if options.profile else {}
        meter.print(
            tally.messages,
            tally.silver_rows,
            sum(tally.rejected.values()),
            commits=tally.commits,
            bytes_written=sum(p.stat().st_size for p in Path(home).rglob("*.parquet")),
            **({"steps": steps} if steps else {}),
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


def _side(side: str, folder: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--side", side, "--folder", folder]
    for name in ("ticks", "slice_ticks", "epoch_seconds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--bars"] * options.bars + ["--profile"] * options.profile
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _print_profile(found: dict, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if name != "steps":
            print(f"{name:26}{value:>14,}")
    print_steps(found["steps"])


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
