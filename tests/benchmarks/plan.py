"""Which limits bind first at a size that nobody has run yet? On paper, from stated limits.

    python tests/benchmarks/plan.py                      1,000 shards, 1 GB/s, 10 tables, 3 regions
    python tests/benchmarks/plan.py --regions 1 --window 10 --consumers 2
    python tests/benchmarks/plan.py --json

For each limit: what the load needs of it, in the busiest place (a shard, a table, a region), what
there is, and at how many shards it is used up, all else equal. Limits and our own measured costs
are in `limits.toml`, with sources and date; the size of a shard's committed position is taken from
the code itself. Load is even: a hot shard or table is not in it. An estimate, to be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from stream.lake.entries import POSITIONS, Head
from stream.settings import Settings
from stream.slices import ShardPosition, ShardRef, Start

DAY_SECONDS = 86_400
POLLS_A_SECOND = 1_000 / Settings.model_fields["poll_ms"].default
"""GetRecords of one consumer at a shard's tip, at most: as the dataflow does by default."""

Limits = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives and how it is cut. Shards and tables are spread evenly over the regions.

    `window_seconds`: arrival window of a slice, so of its two objects. `kept_snapshots`: what
    expiry leaves. `utilisation`: the share of bought CPU that this rate uses.
    """

    shards: int = 1_000
    bytes_per_second: float = 1e9
    message_bytes: int = 200
    tables: int = 10
    regions: int = 3
    consumers: int = 1
    window_seconds: float = 2.0
    epoch_seconds: float = 10.0
    kept_snapshots: int = 540
    utilisation: float = 0.5

    def __post_init__(self) -> None:
        bad = [name for name, value in asdict(self).items() if value <= 0]
        if bad:
            raise ValueError(f"{', '.join(bad)}: must be above 0")

    @property
    def messages_per_second(self) -> float:
        return self.bytes_per_second / self.message_bytes

    @property
    def shards_of_region(self) -> int:
        return ceil(self.shards / self.regions)

    @property
    def shards_of_table(self) -> int:
        """A table holds its region's part of a feed: regions share nothing."""
        return ceil(self.shards_of_region / self.tables)

    @property
    def files_of_commit(self) -> int:
        """One Silver file per slice."""
        return ceil(self.shards_of_table * max(self.epoch_seconds / self.window_seconds, 1))


@dataclass(frozen=True, slots=True)
class Need:
    """One limit. `share` of it is used; `binds_at`: shards at which all of it is, 0 if never."""

    limit: str
    place: str
    needed: float
    available: float
    unit: str
    binds_at: int

    @property
    def share(self) -> float:
        return self.needed / self.available


def plan_needs(load: Load, limits: Limits) -> list[Need]:
    """Every limit, the one that binds first at the top."""
    kinesis, s3, glue, ours = (limits[name] for name in ("kinesis", "s3", "glue", "measured"))
    shard_bytes = load.bytes_per_second / load.shards
    slices = load.shards_of_region / load.window_seconds
    of_table = slices / load.tables
    rows = [
        ("bytes written to a shard", "shard", shard_bytes, kinesis["shard_write_bytes"], "B/s"),
        ("bytes read from a shard", "shard", shard_bytes * load.consumers,
         kinesis["shard_read_bytes"], "B/s"),
        ("GetRecords", "shard", POLLS_A_SECOND * load.consumers, kinesis["shard_get_records"],
         "calls/s"),
        ("shards of an account", "region", load.shards_of_region, kinesis["shards_of_account"],
         "shards"),
        ("S3 PUT, one prefix per feed and layer", "table", of_table, s3["prefix_puts"], "PUT/s"),
        ("S3 PUT, before S3 splits the bucket", "region", 2 * slices, s3["prefix_puts"], "PUT/s"),
        ("CPU of a commit", "table", commit_seconds(load, ours), load.epoch_seconds, "s"),
        ("positions in a table property", "table", positions_bytes(load.shards_of_table),
         glue["parameter_bytes"], "B"),
        ("Glue UpdateTable", "region", load.tables / load.epoch_seconds, glue["updates"],
         "calls/s"),
    ]  # fmt: skip
    found = [Need(*row, _binds_at(load.shards, *row[:4])) for row in rows]
    return sorted(found, key=lambda need: -need.share)


def commit_seconds(load: Load, ours: Mapping[str, float]) -> float:
    """CPU of one table's commit."""
    return (
        ours["commit_seconds"]
        + ours["commit_seconds_per_snapshot"] * load.kept_snapshots
        + ours["commit_seconds_per_file"] * load.files_of_commit
    )


def positions_bytes(shards: int) -> int:
    """Of the table property that holds so many shards' positions, as the ledger writes it."""
    one = ShardPosition("4" * 56, False, Start("TRIM_HORIZON"), 1_764_000_000_000)
    names = (ShardRef("trades", "ticks.0a1b2c3d", f"shardId-{n:012d}") for n in range(shards))
    return len(Head(1, "", {str(name): one for name in names}).properties()[POSITIONS])


def _binds_at(shards: int, limit: str, place: str, needed: float, available: float) -> int:
    """At how many shards; 0 where more of them do not need more, as in one shard."""
    if place == "shard" or limit == "Glue UpdateTable":
        return 0
    return int(shards * available / needed)


def plan_sizes(load: Load, limits: Limits) -> dict[str, float]:
    """What the load takes, all regions together unless named."""
    ours = limits["measured"]
    million = load.messages_per_second / 1e6
    cores = ours["cpu_seconds_per_million"] * million / load.utilisation
    commits = DAY_SECONDS / load.epoch_seconds
    files = load.files_of_commit * commits
    metadata = ours["metadata_bytes_per_snapshot"] * load.kept_snapshots + 2 * positions_bytes(
        load.shards_of_table
    )
    return {
        "messages_per_second": load.messages_per_second,
        "dataflow_vcpus": round(cores, 1),
        "tasks_of_16_vcpus": load.regions
        * ceil(cores / load.regions / limits["fargate"]["task_vcpus"]),
        "compaction_vcpus": round(
            ours["compaction_seconds_per_million"] * million / load.utilisation, 1
        ),
        "objects_per_second": round(2 * load.shards / load.window_seconds, 1),
        "mean_object_bytes_before_compression": round(
            load.bytes_per_second / load.shards * load.window_seconds
        ),
        "files_of_a_commit": load.files_of_commit,
        "files_of_a_table_and_day": round(files),
        "manifest_bytes_of_a_table_and_day": round(files * ours["manifest_bytes_per_file"]),
        "metadata_bytes_per_commit": round(metadata),
        "commit_cpu_seconds": round(commit_seconds(load, ours), 3),
        "cores_of_commits_in_a_region": round(
            load.tables * commit_seconds(load, ours) / load.epoch_seconds, 2
        ),
        "catch_up_factor": round(
            limits["kinesis"]["shard_read_bytes"]
            / load.consumers
            / (load.bytes_per_second / load.shards),
            2,
        ),
    }  # fmt: skip


def read_limits() -> Limits:
    """`limits.toml`."""
    return tomllib.loads(Path(__file__).with_name("limits.toml").read_text())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Load()
    for name, kind in (
        ("shards", int), ("bytes-per-second", float), ("message-bytes", int), ("tables", int),
        ("regions", int), ("consumers", int), ("window-seconds", float), ("epoch-seconds", float),
        ("kept-snapshots", int), ("utilisation", float),
    ):  # fmt: skip
        parser.add_argument(
            f"--{name}", type=kind, default=getattr(default, name.replace("-", "_"))
        )
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    try:
        load = Load(**options)
    except ValueError as error:
        sys.exit(str(error))
    limits = read_limits()
    needs, sizes = plan_needs(load, limits), plan_sizes(load, limits)
    if as_json:
        rows = [{**asdict(need), "share": round(need.share, 4)} for need in needs]
        print(json.dumps({"load": asdict(load), "needs": rows, "sizes": sizes}))
        return
    print(f"{'limit':40}{'per':>8}{'needed':>14}{'there is':>14}{'used':>8}{'full at':>14}")
    for need in needs:
        at = f"{need.binds_at:,} shards" if need.binds_at else "-"
        print(
            f"{need.limit:40}{need.place:>8}{need.needed:>14,.2f}{need.available:>14,}"
            f"{need.share:>8.1%}{at:>16}"
        )
    print()
    for name, value in sizes.items():
        print(f"{name:40}{value:>18,}")


if __name__ == "__main__":
    main()
