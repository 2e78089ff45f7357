"""How fast is a replay? The live road's figure, then replays of what it wrote, in one run.

    python tests/benchmarks/replay.py                 2M ticks
    python tests/benchmarks/replay.py --ticks 200000  a quick look

Rows of the table: the live road without emulators (as `road.py`: Bronze, Silver, quarantine,
commits; no bars on either side), a replay of all its slices from Bronze that finds nothing
changed, one with another decoder that replaces every slice, the same records landed as an extract
(JSON lines, gzip) into a fresh lake, and compaction of the live road's files. Each runs in a
process of its own; CPU is that process's from after its imports. Counts must agree before a time
is shown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from road import FileLanes, Meter, generate

SIDES = ("live", "replay", "replay_all_changed", "extract", "compact")
CREATED = "live"


def main() -> None:
    """Generate once, run every side in turn, print figures and ratios to the live road."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--slice-ticks", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=(*SIDES, "generate"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "generate":
        generate(options)
    elif options.side:
        globals()[f"run_{options.side}"](options)
    else:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            _side("generate", folder, options)
            _report({side: _side(side, folder, options) for side in SIDES}, as_json=options.json)


def run_live(options: argparse.Namespace) -> None:
    """The live road on local files; its lake stays for the other sides."""
    from stream.clock import SYSTEM_CLOCK
    from stream.dedup import Dedup
    from stream.engine import Epoch, Stop, build_dataflow, run_dataflow
    from stream.flow import Road, RoadCommitter
    from stream.lake.ledger import Ledger
    from stream.silver import SilverKeys

    settings, lake, contract = _open(options.folder / CREATED)
    table = lake.table(contract)
    keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
    dedup = Dedup(contract, keys)
    road = Road(contract, lake.store, table.arrow_schema, dedup, for_bars=False)
    committer = RoadCommitter(Ledger("trades", table, lake.store))
    epoch = Epoch(Stop(), settings.epoch_max_bytes, SYSTEM_CLOCK)
    lanes = FileLanes(sorted((options.folder / "input").iterdir()))
    flow = build_dataflow("trades", lanes, road.process, committer, epoch=epoch, epoch_seconds=2.0)
    with Meter() as meter:
        run_dataflow(flow, epoch, epoch_seconds=2.0)
    tally = committer.tally
    meter.print(tally.messages, tally.silver_rows, sum(tally.rejected.values()))


def run_replay(options: argparse.Namespace) -> None:
    """Every slice from Bronze again: nothing differs, nothing is written."""
    _replay(options, is_changed=False)


def run_replay_all_changed(options: argparse.Namespace) -> None:
    """A decoder that turns every side round: every slice is replaced, in one commit."""
    _replay(options, is_changed=True)


def _replay(options: argparse.Namespace, *, is_changed: bool) -> None:
    from batch.replay.recorded import replay_recorded
    from batch.replay.reprocess import BronzeSource
    from stream.feeds.trades import CONTRACT

    settings, lake, contract = _open(options.folder / CREATED)
    contract = replace(contract, has_bars=False)
    if is_changed:
        import pyarrow.compute as pc

        from stream.feeds.contract import Rule

        tiny = Rule("bad_value", "one in a thousand", lambda r: pc.equal(pc.subtract(
            r["ts_event_ns"], pc.multiply(pc.divide(r["ts_event_ns"], 997), 997)), 0))  # fmt: skip
        contract = replace(contract, rules=(*CONTRACT.rules, tiny))
    with Meter() as meter:
        report = replay_recorded(
            settings, lake, contract, (0, 10**15), BronzeSource(lake.store), apply=True
        )
    assert (report.changed_slices == report.slices) == is_changed, report
    meter.print(report.messages, report.rows_after, sum(report.rejected.values()))


def run_extract(options: argparse.Namespace) -> None:
    """The same lines as the parts of an extract, landed into a fresh lake."""
    from batch.extracts import ExtractRequest, Part
    from batch.extracts.landing import land_extract
    from batch.replay.from_extract import replay_extracts

    class Files:
        source = "bench"

        def feed_of(self, _: str) -> str:
            return "trades"

        def mapping_of(self, _: str) -> dict[str, object]:
            return {}

        def extract(self, _: ExtractRequest):
            for path in sorted((options.folder / "input").iterdir()):
                data = path.read_bytes()
                rows = sum(1 for line in data.splitlines() if line.strip())
                yield Part(gzip.compress(data, 1, mtime=0), "jsonl.gz", rows)

    settings, lake, contract = _open(options.folder / "extract")
    contract = replace(contract, has_bars=False)
    manifest = land_extract(lake.store, Files(), ExtractRequest("trades"), "bench")
    with Meter() as meter:
        report = replay_extracts(settings, lake, contract, [manifest], apply=True)
    meter.print(report.messages, report.rows_after, sum(report.rejected.values()))


def run_compact(options: argparse.Namespace) -> None:
    """All of the live road's files, sorted into few; digests of inputs and outputs included."""
    from batch.maintain.compact import compact_table

    _, lake, _ = _open(options.folder / CREATED)
    with Meter() as meter:
        report = compact_table(
            lake, "trades", region="us-east-1", last_day=date(2100, 1, 1), apply=True
        )
    meter.print(report.rows, report.rows, 0, files=report.files_before, into=report.files_after)


def _open(home: Path):
    from stream.feeds import load_feed
    from stream.lake.connect import connect_lake
    from stream.settings import load_settings

    settings = load_settings(home=home, lake=f"file://{home}/lake")
    return settings, connect_lake(settings), load_feed("trades")


def _side(side: str, folder: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--side", side, "--folder", folder]
    command += ["--ticks", str(options.ticks), "--slice-ticks", str(options.slice_ticks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _report(sides: dict[str, dict], *, as_json: bool) -> None:
    live = sides["live"]
    for found in sides.values():
        found["cpu_ratio_to_live"] = round(
            found["cpu_seconds_per_million"] / live["cpu_seconds_per_million"], 2
        )
    same = sides["replay"]["silver_rows"] == live["silver_rows"]
    same &= sides["extract"]["messages"] == live["messages"]
    if as_json:
        print(json.dumps({**sides, "same": same}))
        return
    names = ("messages", "silver_rows", "records_per_second", "cpu_seconds_per_million",
             "cpu_ratio_to_live", "peak_rss_mb")  # fmt: skip
    print(f"{'':24}" + "".join(f"{side:>20}" for side in sides))
    for name in names:
        print(f"{name:24}" + "".join(f"{found[name]:>20,}" for found in sides.values()))
    print(f"counts agree: {same}")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
