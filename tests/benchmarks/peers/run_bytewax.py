"""The job on Bytewax, record by record, as its guide shows it: one Python object a message.

One worker: two in a process share the interpreter's lock, two processes pickle each record to the
owner of its key (4 times the CPU). De-duplication is a `stateful_map` by symbol whose state is the
set of keys seen; Bytewax copies it at each epoch, of 10 s by the clock, so a busy machine, on which
the job takes longer, makes it spend more CPU as well. Sinks gather 50,000 rows to a file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from peers.job import COLUMNS, DAY_NS, Job, run

ROWS_A_FILE = 50_000
LINES_A_BATCH = 1_000


def prepare(options: argparse.Namespace) -> Job:
    """Import, build the dataflow."""
    import bytewax.operators as op
    from bytewax.connectors.files import DirSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    flow = Dataflow("peers")
    lines = op.input("read", flow, DirSource(options.input, "*.jsonl", LINES_A_BATCH))
    op.output("bronze", lines, build_sink(options.output / "bronze"))
    found = op.map("decode", lines, decode)
    judged = op.branch("judge", found, lambda item: isinstance(item, dict))
    op.output("quarantine", judged.falses, build_sink(options.output / "quarantine"))
    by_symbol = op.key_on("symbol", judged.trues, lambda trade: trade["symbol"])
    first = op.stateful_map("dedup", by_symbol, keep_first)
    trades = op.filter_map("unique", first, lambda pair: pair[1])
    op.output("silver", trades, build_sink(options.output / "silver", by_day=True))

    def job() -> None:
        run_main(flow)

    return job


def decode(line: str) -> dict[str, object] | str:
    """A valid trade, or the line as it came."""
    import orjson

    try:
        found = orjson.loads(line)
        is_valid = (
            found["venue"] == "sim"
            and type(found["symbol"]) is str
            and type(found["trade_id"]) is str
            and type(found["ts_event_ns"]) is int
            and type(found["price"]) in (int, float)
            and type(found["size"]) in (int, float)
            and found["price"] > 0
            and found["size"] > 0
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return line
    absent = {"kind": "new", "side": "unknown", "known_at_ns": found["ts_event_ns"]}
    return absent | found if is_valid else line


def keep_first(
    seen: set[str] | None, trade: dict[str, object]
) -> tuple[set[str], dict[str, object] | None]:
    """The trade, or None if its key has been seen; the symbol is the state's key."""
    seen = set() if seen is None else seen
    key = f"{trade['trade_id']} {trade['kind']} {trade['known_at_ns']}"
    if key in seen:
        return seen, None
    seen.add(key)
    return seen, trade


def build_sink(folder: Path, *, by_day: bool = False) -> object:
    """A sink of Parquet files of `ROWS_A_FILE` rows, in a folder per day if asked."""
    from bytewax.outputs import DynamicSink, StatelessSinkPartition

    class Part(StatelessSinkPartition):
        def __init__(self) -> None:
            self._rows: dict[int, list[object]] = defaultdict(list)
            self._files = 0

        def write_batch(self, items: list[object]) -> None:
            for item in items:
                self._rows[item["ts_event_ns"] // DAY_NS if by_day else 0].append(item)
            self._write(ROWS_A_FILE)

        def _write(self, at_least: int) -> None:
            for day, rows in self._rows.items():
                if len(rows) >= at_least:
                    path = folder / f"day={day}" if by_day else folder
                    _write_file(path / f"{self._files}.parquet", rows, is_trades=by_day)
                    self._files += 1
                    rows.clear()

        def close(self) -> None:
            self._write(1)

    class Sink(DynamicSink):
        def build(self, _step: str, _worker: int, _workers: int) -> Part:
            return Part()

    return Sink()


def _write_file(path: Path, rows: list[object], *, is_trades: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = _build_trades(rows) if is_trades else pa.table({"line": rows})
    pq.write_table(table, path, compression="zstd", compression_level=1)


def _build_trades(rows: list[dict[str, object]]) -> object:
    import pyarrow as pa

    price = pa.decimal128(18, 8)
    columns = {name: pa.array([row[name] for row in rows]) for name in COLUMNS}
    for name in ("price", "size"):
        columns[name] = columns[name].cast(pa.float64()).cast(price)
    microseconds = pa.array([row["ts_event_ns"] // 1000 for row in rows])
    columns["ts_event"] = microseconds.cast(pa.timestamp("us"))
    return pa.table(columns).sort_by([("symbol", "ascending"), ("ts_event_ns", "ascending")])


if __name__ == "__main__":
    run(prepare)
