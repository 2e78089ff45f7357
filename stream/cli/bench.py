"""`bench`: how fast this machine is, with proof that the output is right."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from stream.cli.context import open_settings
from stream.cli.output import json_option, print_json, print_table
from stream.errors import ConfigError

if TYPE_CHECKING:
    from stream.cli.measure import Measurement

COMPARE = Path("tests", "benchmarks", "peers", "compare.py")
"""Below a clone of the repository; an installed package has no benchmarks."""


@click.command()
@click.argument("feed", default="trades", type=click.Choice(["trades", "quotes"]))
@click.option(
    "--messages",
    type=click.IntRange(min=1_000),
    default=500_000,
    show_default=True,
    help="How many to generate; the first few hundred thousand also pay for the start.",
)
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", default=7, show_default=True, help="Of the simulated market.")
@click.option("--peers", is_flag=True, help="Compare with Spark, Flink and others (a clone only).")
@json_option
def bench(feed: str, messages: int, runs: int, seed: int, peers: bool, as_json: bool) -> int:
    """Measure the road on this machine: records per second, CPU, memory, bytes.

    Generates messages, then runs them from slices to committed Silver on local files, in a folder
    that goes away; no stream, no S3. What was committed must be what was generated before a
    figure is shown. Kinesis reads cost about 1.5 CPU-seconds per million records more.

    `--peers` runs the comparison of a clone of the repository on the same machine: the same job on
    DuckDB, Polars, PySpark, PyFlink, Pathway and Bytewax, as far as they are installed
    (`python tests/benchmarks/peers/install.py`).

    \b
    Examples:
      headrace bench
      headrace bench quotes --messages 2000000 --runs 3 --json
      headrace bench --peers
    """
    settings = open_settings()
    if peers:
        if feed != "trades":
            raise click.UsageError("--peers compares one job, that of trades")
        return _compare(messages, runs, as_json=as_json)

    from stream.cli.measure import measure_road

    found = [measure_road(settings, feed, messages, seed) for _ in range(runs)]
    if as_json:
        print_json([one.to_json() for one in found])
    else:
        _show(found)
    return 0


def _show(found: list[Measurement]) -> None:
    print_table([
        {
            "messages/s": round(one.messages_per_second),
            "CPU-s per million": round(one.cpu_seconds_per_million, 2),
            "peak memory MB": one.peak_rss_bytes >> 20,
            "bytes a message": round(one.bytes_written / one.messages, 1),
            "commits": one.commits,
            "seconds": round(one.wall_seconds, 1),
        }
        for one in found
    ])  # fmt: skip
    one = found[0]
    click.echo(
        f"verified: {one.silver_rows:,} rows, {one.duplicates:,} duplicates dropped and "
        f"{one.rejected:,} rejects kept, as generated"
    )
    rate = 1e6 / median(one.cpu_seconds_per_million for one in found)
    click.echo(f"one core of this machine does {rate:,.0f} {one.feed} a second")
    if _find_compare().is_file():
        click.echo("other engines at the same job: headrace bench --peers")


def _compare(messages: int, runs: int, *, as_json: bool) -> int:
    import subprocess
    import sys

    script = _find_compare()
    if not script.is_file():
        raise ConfigError(
            f"--peers: there is no {COMPARE} beside this installation ({script.parents[3]}); the "
            "comparison comes with the repository: clone it and run `headrace bench --peers` there"
        )
    command = [sys.executable, str(script), "--messages", str(messages), "--runs", str(runs)]
    command += ["--json"] * as_json
    answer = subprocess.run(command, check=False)  # noqa: S603  # nosec B603: our own script
    return answer.returncode


def _find_compare() -> Path:
    import stream

    return Path(stream.__file__).parents[1] / COMPARE
