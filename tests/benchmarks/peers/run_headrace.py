"""The job on headrace: the real road with Bytewax, ledger and Iceberg commits, on local files.

Slices of 50,000 messages, an epoch of 2 s. `--option lines=N`: messages packed into a record.
"""

from __future__ import annotations

import argparse

from peers.job import Job, run


def prepare(options: argparse.Namespace) -> Job:
    """Import, open the lake, build the dataflow."""
    from trade_files import FileLanes

    from stream.clock import SYSTEM_CLOCK
    from stream.dedup import Dedup
    from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
    from stream.feeds import load_feed
    from stream.flow import Road, RoadCommitter
    from stream.lake.connect import connect_lake
    from stream.lake.ledger import Ledger
    from stream.settings import load_settings
    from stream.silver import SilverKeys

    home = options.output
    settings = load_settings(home=home, lake=f"file://{home}/lake")
    contract, lake = load_feed("trades"), connect_lake(settings)
    table = lake.table(contract)
    ledger = Ledger("trades", table, lake.store)
    dedup = Dedup(contract, SilverKeys(contract, table, lake.store, lambda _: frozenset()))
    road = Road(contract, lake.store, table.arrow_schema, dedup, for_bars=False)
    committer = RoadCommitter(ledger)
    epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
    lanes = FileLanes(sorted(options.input.iterdir()), int(options.option.get("lines", 25)))
    flow = build_dataflow("trades", lanes, road.process, committer, epoch=epoch, epoch_seconds=2.0)

    def job() -> dict[str, object]:
        run_dataflow(flow, epoch, epoch_seconds=2.0)
        committer.finish()
        return {"commits": committer.tally.commits}

    return job


if __name__ == "__main__":
    run(prepare)
