"""The one job that every runner does, as the check reads it; standard library only.

Input: JSON lines of trades in files, one message a line. Output, below the runner's folder:

    bronze      every line, losslessly
    silver      valid trades, typed, without duplicates, a folder per UTC day of the event
    quarantine  every line that is no valid trade

A trade is valid if it is a JSON object whose venue is `sim`, whose symbol and trade_id are text,
whose ts_event_ns is a whole number and whose price and size are numbers above 0. Absent: kind is
`new`, side `unknown`, known_at_ns the event's time. Prices and sizes are DECIMAL(18, 8). Two trades
with one `KEY` are duplicates: one of them stays.

A runner is a module `run_NAME` whose `prepare(options)` imports and starts what it needs and
returns the job; `run` measures the job alone and prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from meter import TreeMeter, peak_rss_bytes

KEY = ("venue", "symbol", "trade_id", "kind", "known_at_ns")
COLUMNS: Mapping[str, str] = {
    "venue": "VARCHAR",
    "symbol": "VARCHAR",
    "trade_id": "VARCHAR",
    "kind": "VARCHAR",
    "side": "VARCHAR",
    "price": "DECIMAL(18, 8)",
    "size": "DECIMAL(18, 8)",
    "ts_event_ns": "BIGINT",
    "known_at_ns": "BIGINT",
}
"""What the check reads of a row of Silver; a runner may keep more."""
HORIZON_MINUTES = 20
"""How far back a stream looks for duplicates: resends follow within a minute, late trades in 10."""
DAY_NS = 86_400_000_000_000

Job = Callable[[], Mapping[str, object] | None]


def run(prepare: Callable[[argparse.Namespace], Job]) -> None:
    """Prepare, run and measure; what the job returns is printed as well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True, help="folder of JSON-lines files")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--option", action="append", default=[], help="a runner's own: NAME=VALUE")
    options = parser.parse_args()
    options.option = dict(pair.split("=", 1) for pair in options.option)
    began = time.perf_counter()
    job = prepare(options)
    startup_seconds = time.perf_counter() - began
    with TreeMeter() as meter:
        more = job()
    figures = {
        "startup_seconds": round(startup_seconds, 2),
        "wall_seconds": meter.wall_seconds,
        "cpu_seconds": meter.cpu_seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        **(more or {}),
    }
    print("\n" + json.dumps(figures), flush=True)
