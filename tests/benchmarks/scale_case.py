"""One measured road of `scale.py`, in a process of its own: prints its figures as JSON.

Not a command for people: `scale.py` starts it with a case. The road is the product's own, on local
files: Bronze, Silver, quarantine and one commit per epoch. `exactly_once` off leaves out what only
that needs: no key is looked up, and a commit is a plain append of files to the Iceberg table,
without ledger entry, positions or checks. `engine` "loop" runs it without Bytewax.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from meter import peak_rss_bytes
from scale_input import Lanes

EPOCH_SECONDS = 2.0


@dataclass(frozen=True)
class Case:
    """What to run. `part` of `parts`: which of the shards, if several processes share them."""

    input: str
    output: str
    engine: str = "bytewax"
    exactly_once: bool = True
    copies: int = 1
    part: int = 0
    parts: int = 1


def run_case(case: Case) -> dict[str, Any]:
    """Build the road, wait for the others, run it, and read back what it left."""
    from stream.clock import SYSTEM_CLOCK
    from stream.dedup import Dedup
    from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
    from stream.feeds import load_feed
    from stream.flow import Road, RoadCommitter
    from stream.lake.connect import connect_lake
    from stream.lake.ledger import Ledger
    from stream.loop import run_loop
    from stream.settings import load_settings
    from stream.silver import SilverKeys

    home = Path(case.output) / f"home-{case.part}"
    settings = load_settings(home=home, lake=f"file://{home}/lake")
    contract, lake = load_feed("trades"), connect_lake(settings)
    table = lake.table(contract)
    keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
    dedup = Dedup(contract, keys) if case.exactly_once else KeepAll()
    road = Road(contract, lake.store, table.arrow_schema, dedup, for_bars=False)
    committer: Any = (
        RoadCommitter(Ledger("trades", table, lake.store)) if case.exactly_once else Append(table)
    )
    epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
    lanes = Lanes(Path(case.input), case.copies, case.part, case.parts)
    _meet(case)
    began, cpu = time.monotonic(), _cpu_seconds()
    if case.engine == "loop":
        run_loop(lanes, road.process, committer, epoch=epoch, epoch_seconds=EPOCH_SECONDS)
    else:
        flow = build_dataflow(
            "trades", lanes, road.process, committer, epoch=epoch, epoch_seconds=EPOCH_SECONDS
        )
        run_dataflow(flow, epoch, epoch_seconds=EPOCH_SECONDS)
    cpu, ended = _cpu_seconds() - cpu, time.monotonic()
    road.close()
    return {
        **(committer.figures if isinstance(committer, Append) else _tally(committer)),
        "cpu_seconds": cpu,
        "reading_seconds": lanes.reading_seconds,
        "began": began,
        "ended": ended,
        "peak_rss_bytes": peak_rss_bytes(),
        "silver": _read_silver(home / "lake"),
    }


class KeepAll:
    """No dedup: every row is taken for new."""

    def drop_duplicates(self, shard: Any, first: Any, newest_arrival_ns: int, rows: Any) -> Any:
        import numpy as np

        from stream.dedup import Distinct

        return Distinct(rows, np.zeros(rows.num_rows, bool), 0)

    def forget(self, shard: Any) -> None: ...


class Append:
    """A committer that only makes files visible: one Iceberg append per epoch."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._pending: list[Any] = []
        self.figures = {"messages": 0, "rejected": 0, "commits": 0}

    def add(self, results: Sequence[Any]) -> None:
        self._pending.extend(results)

    def commit(self) -> None:
        results, self._pending = self._pending, []
        if not results:
            return
        self._table.append([file for result in results for file in result.files], {}, {})
        self.figures["commits"] += 1
        for result in results:
            self.figures["messages"] += result.record.messages
            self.figures["rejected"] += sum(result.record.rejected.values())


def _tally(committer: Any) -> dict[str, int]:
    tally = committer.tally
    return {
        "messages": tally.messages,
        "rejected": sum(tally.rejected.values()),
        "commits": tally.commits,
    }


def _meet(case: Case) -> None:
    """Begin with the other processes: `scale.py` says when all are ready."""
    if case.parts > 1:
        (Path(case.output) / f"ready-{case.part}").touch()
        while not (Path(case.output) / "go").exists():
            time.sleep(0.01)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _read_silver(lake: Path) -> list[Any]:
    """Rows, sum of prices, sum of sizes, as they lie in the files."""
    import duckdb

    files = f"read_parquet('{lake}/silver/entity=trades/**/*.parquet', hive_partitioning=false)"
    found = f"SELECT count(*), sum(price)::VARCHAR, sum(size)::VARCHAR FROM {files}"
    row = duckdb.connect(":memory:").execute(found).fetchone()
    assert row is not None
    return list(row)


if __name__ == "__main__":
    print(json.dumps(run_case(Case(**json.loads(sys.argv[1])))))
