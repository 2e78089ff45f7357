"""What a million messages cost on AWS: headrace on ECS, Firehose, managed Flink, Spark.

    python tests/benchmarks/cost.py                          the table and the break-even rates
    python tests/benchmarks/cost.py --rate 20000 --message-bytes 200
    python tests/benchmarks/cost.py --peers peers.json       with CPU figures of a comparison here
    python tests/benchmarks/cost.py --plot cost.png --json

Prices, with date and source, and the measured CPU are in `prices.toml`. The job is the one of
`peers/job.py`, from Kinesis to Iceberg on S3, around the clock at one rate. Every option pays for
the stream itself, for its compute in the steps in which it is sold and at the same utilisation, for
its requests, and for compaction. Not the same: Firehose neither validates nor de-duplicates;
headrace's tasks are ARM, as deployed. A vCPU of any kind is taken to be a core of the machine that
was measured; Flink's and Spark's writers commit as often as headrace. An estimate, not an offer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

HOURS_A_MONTH = 730
RATES = (100, 1_000, 10_000, 50_000, 200_000, 1_000_000)
FARGATE_STEPS = ((0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8))
"""vCPUs and GB of a task; several of the largest above it."""
EMR_STEPS = ((1, 4), (2, 8), (4, 16))
FIREHOSE_STEP_BYTES = 5_000
PUT_UNIT_BYTES = 25_000
COMMIT_PUTS = 5
"""The ledger's entry, two manifests' files, the table's metadata, and a spare."""
CATALOG_REQUESTS = 2

Prices = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives. `rate`: messages/s, all day; `pack`: messages in a Kinesis record.

    `interval_seconds`: between commits, so the worst freshness. `utilisation`: the share of bought
    CPU that is used at this rate; the rest is for bursts and catching up.
    """

    rate: float
    message_bytes: int = 140
    pack: int = 25
    interval_seconds: float = 10
    utilisation: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be above 0, found {value}")
        if self.utilisation > 1:
            raise ValueError(f"utilisation is a share, found {self.utilisation}")

    @property
    def records_per_second(self) -> float:
        return self.rate / self.pack

    @property
    def record_bytes(self) -> int:
        return self.message_bytes * self.pack

    @property
    def gb_per_hour(self) -> float:
        return self.rate * self.message_bytes * 3600 / 1e9

    @property
    def shards(self) -> int:
        """A shard takes 1 MB and 1,000 records a second.

        >>> Load(rate=10_000, message_bytes=200, pack=1).shards
        10
        >>> Load(rate=10_000, message_bytes=200, pack=25).shards
        2
        """
        return max(1, ceil(self.rate * self.message_bytes / 1e6),
                   ceil(self.records_per_second / 1000))  # fmt: skip

    def vcpus(self, cpu_seconds_per_million: float) -> float:
        """To be bought for so much CPU.

        >>> Load(rate=100_000).vcpus(2.0)
        0.4
        """
        return self.rate / 1e6 * cpu_seconds_per_million / self.utilisation


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars an hour, by part."""

    option: str
    rate: float
    stream: float
    compute: float
    requests: float
    compaction: float

    @property
    def hour(self) -> float:
        return self.stream + self.compute + self.requests + self.compaction

    @property
    def month(self) -> float:
        return self.hour * HOURS_A_MONTH

    @property
    def per_million(self) -> float:
        return self.hour / (self.rate * 3600 / 1e6)


def cost_headrace(load: Load, prices: Prices) -> Cost:
    """ARM tasks on Fargate; Bronze and Silver objects per shard and interval."""
    needed = load.vcpus(prices["measured"]["headrace"])
    compute = price_tasks(needed, FARGATE_STEPS, *_arm(prices))
    return _build("headrace on ECS", load, prices, compute, objects=2 * load.shards)


def cost_firehose(load: Load, prices: Prices) -> Cost:
    """One stream into Iceberg, one that keeps the raw records: nothing checked or de-duplicated."""
    billed = ceil(load.record_bytes / FIREHOSE_STEP_BYTES) * FIREHOSE_STEP_BYTES
    raw_gb = load.records_per_second * billed * 3600 / 1e9
    firehose = prices["firehose"]
    compute = load.gb_per_hour * firehose["iceberg_gb"] + raw_gb * firehose["s3_gb"]
    return _build("Firehose, raw and Iceberg", load, prices, compute, objects=2 * load.shards)


def cost_flink(load: Load, prices: Prices) -> Cost:
    """Managed Service for Apache Flink: whole KPUs, one more to orchestrate, 50 GB with each."""
    kpus = max(1, ceil(load.vcpus(prices["measured"]["flink"])))
    flink = prices["flink"]
    storage = kpus * 50 * flink["storage_gb_month"] / HOURS_A_MONTH
    compute = (kpus + 1) * flink["kpu_hour"] + storage
    return _build("managed Flink", load, prices, compute, objects=2 * kpus)


def cost_emr(load: Load, prices: Prices) -> Cost:
    """Spark on EMR Serverless: a driver of 1 vCPU, executors of 4 GB a vCPU."""
    emr = prices["emr_serverless"]
    vcpu, gb = emr["vcpu_hour"], emr["gb_hour"]
    needed = load.vcpus(prices["measured"]["spark"])
    compute = vcpu + 4 * gb + price_tasks(needed, EMR_STEPS, vcpu, gb)
    return _build("Spark, EMR Serverless", load, prices, compute, objects=2 * max(1, ceil(needed)))


def cost_glue(load: Load, prices: Prices) -> Cost:
    """Spark on Glue streaming: a driver and executors of a quarter DPU, 2 vCPUs with 4 GB, each."""
    needed = load.vcpus(prices["measured"]["spark"])
    workers = 1 + max(1, ceil(needed / 2))
    compute = workers * prices["glue"]["dpu_hour"] / 4
    return _build("Spark, Glue streaming", load, prices, compute, objects=2 * max(1, ceil(needed)))


OPTIONS: tuple[Callable[[Load, Prices], Cost], ...] = (
    cost_headrace, cost_firehose, cost_flink, cost_emr, cost_glue,
)  # fmt: skip


def price_tasks(
    vcpus: float, steps: tuple[tuple[float, float], ...], vcpu_hour: float, gb_hour: float
) -> float:
    """Dollars an hour of the smallest tasks that hold `vcpus`: one, or several of the largest.

    >>> price_tasks(0.3, ((0.25, 1), (0.5, 2)), 1.0, 0.1)
    0.7
    >>> price_tasks(1.2, ((0.25, 1), (0.5, 2)), 1.0, 0.1)
    2.1
    """
    size, gb = next((step for step in steps if step[0] >= vcpus), steps[-1])
    return round(max(1, ceil(vcpus / size)) * (size * vcpu_hour + gb * gb_hour), 12)


def find_break_even(
    other: Callable[[Load, Prices], Cost], load: Load, prices: Prices
) -> tuple[float | None, float | None]:
    """From which rate headrace is the cheaper, and up to which, in messages/s.

    `None` first: at no rate. `None` last: at every higher one up to 10M/s. Steps of 1 %.
    """
    first = last = None
    for rate in _rates(1, 10_000_000):
        at = Load(**(asdict(load) | {"rate": rate}))
        if cost_headrace(at, prices).hour < other(at, prices).hour:
            first, last = (rate if first is None else first), None
        elif first is not None and last is None:
            last = rate
    return first, last


def read_prices(path: Path | None = None) -> dict[str, Any]:
    """The committed prices, or others in the same form."""
    return tomllib.loads((path or Path(__file__).with_name("prices.toml")).read_text())


def take_measured(prices: dict[str, Any], peers: dict[str, Any]) -> dict[str, Any]:
    """Prices with the CPU of a comparison (`compare.py --json`); what it lacks stays."""
    found = {
        one["name"]: one["cpu_seconds_per_million"]
        for one in peers["contenders"]
        if "cpu_seconds_per_million" in one
    }
    measured = prices["measured"] | {
        name: found[name] for name in ("headrace", "flink", "spark") if name in found
    }
    return prices | {"measured": measured}


def _build(option: str, load: Load, prices: Prices, compute: float, *, objects: int) -> Cost:
    commits = 3600 / load.interval_seconds
    puts = commits * (objects + COMMIT_PUTS)
    catalog = commits * CATALOG_REQUESTS * prices["glue"]["million_catalog_requests"] / 1e6
    kinesis = prices["kinesis"]
    units = load.records_per_second * 3600 / 1e6 * ceil(load.record_bytes / PUT_UNIT_BYTES)
    vcpu_hours = load.rate / 1e6 * prices["measured"]["compaction"]
    arm_vcpu, arm_gb = _arm(prices)
    return Cost(
        option,
        load.rate,
        stream=load.shards * kinesis["shard_hour"] + units * kinesis["million_put_units"],
        compute=compute,
        requests=puts / 1000 * prices["s3"]["thousand_puts"] + catalog,
        compaction=vcpu_hours * (arm_vcpu + 2 * arm_gb),
    )


def _arm(prices: Prices) -> tuple[float, float]:
    return prices["fargate"]["arm_vcpu_hour"], prices["fargate"]["arm_gb_hour"]


def _rates(low: float, high: float) -> Iterator[float]:
    while low <= high:
        yield low
        low *= 1.01


def main() -> None:
    """Print table and break-even rates, as text or JSON; draw them."""
    options = _read_options()
    prices = read_prices(options.prices)
    if options.peers:
        prices = take_measured(prices, json.loads(options.peers.read_text()))
    fields = ("message_bytes", "pack", "interval_seconds", "utilisation")
    given = {name: getattr(options, name) for name in fields}
    loads = [Load(rate, **given) for rate in options.rate or RATES]
    costs = [[option(load, prices) for option in OPTIONS] for load in loads]
    breaks = {
        option(loads[0], prices).option: find_break_even(option, loads[0], prices)
        for option in OPTIONS[1:]
    }
    if options.plot:
        from cost_plot import write_plot

        write_plot(OPTIONS, loads[0], prices, breaks, options.plot)
    if options.json:
        found = [asdict(c) | {"per_million": c.per_million, "month": c.month}
                 for row in costs for c in row]  # fmt: skip
        about = {"date": str(prices["date"]), "region": prices["region"], **given}
        measured = {name: str(value) for name, value in prices["measured"].items()}
        print(json.dumps(about | {"measured": measured, "costs": found, "break_even": breaks}))
        return
    _print(costs, breaks, loads[0], prices)


def _print(
    costs: list[list[Cost]],
    breaks: Mapping[str, tuple[float | None, float | None]],
    load: Load,
    prices: Prices,
) -> None:
    print(
        f"list prices of {prices['region']}, {prices['date']}; messages of {load.message_bytes} B, "
        f"{load.pack} a record; commits each {load.interval_seconds:g} s; "
        f"{load.utilisation:.0%} of bought CPU used"
    )
    measured = ", ".join(f"{name} {value}" for name, value in prices["measured"].items())
    print(f"CPU-seconds per million messages: {measured}")
    for title, read in (
        ("dollars per million messages, stream and compaction included", _per_million),
        ("of it compute alone", _compute_per_million),
        ("dollars a month", lambda cost: f"{cost.month:,.0f}"),
    ):
        print(f"\n{title}\n{'messages/s':28}" + "".join(f"{r[0].rate:>12,.0f}" for r in costs))
        for at, cost in enumerate(costs[0]):
            print(f"{cost.option:28}" + "".join(f"{read(row[at]):>12}" for row in costs))
    print("\nheadrace is the cheaper")
    for option, (first, last) in breaks.items():
        print(f"  than {option:26}{_in_words(first, last)}")


def _per_million(cost: Cost) -> str:
    return f"{cost.per_million:.4f}"


def _compute_per_million(cost: Cost) -> str:
    return f"{cost.compute / (cost.rate * 3600 / 1e6):.4f}"


def _in_words(first: float | None, last: float | None) -> str:
    """
    >>> _in_words(None, None), _in_words(1, None), _in_words(1234.6, None)
    ('at no rate', 'at every rate', 'from 1,235 messages/s')
    >>> _in_words(5, 80)
    'from 5 to 80 messages/s'
    """
    if first is None:
        return "at no rate"
    if last is not None:
        return f"from {first:,.0f} to {last:,.0f} messages/s"
    return "at every rate" if first <= 1 else f"from {first:,.0f} messages/s"


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, action="append", help="messages/s; repeatable")
    parser.add_argument("--message-bytes", type=int, default=140)
    parser.add_argument("--pack", type=int, default=25, help="messages in a Kinesis record")
    parser.add_argument("--interval-seconds", type=float, default=10)
    parser.add_argument("--utilisation", type=float, default=0.5, help="of the CPU that is bought")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="other prices, as TOML")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="of `compare.py --json`")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
