"""`demo`: the whole road on one command."""

from __future__ import annotations

import signal

import click

from stream.cli.context import open_settings
from stream.cli.output import json_option, print_json

FINALE = "headrace.demo.finale"
"""In `context.meta`: a `stream.demo.Finale` that another layer adds."""


@click.command()
@click.option("--records", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option("--seconds", type=click.FloatRange(min=1), help="Stop publishing after this time.")
@click.option("--rate", type=click.FloatRange(min=1), help="Messages per second.")
@click.option("--seed", default=7, show_default=True, help="Of the simulated market.")
@click.option("--keep", is_flag=True, help="Keep the lake for `headrace query`.")
@json_option
def demo(
    records: int | None,
    seconds: float | None,
    rate: float | None,
    seed: int,
    keep: bool,
    as_json: bool,
) -> int:
    """Simulated market data through the whole road, then a query and a proof.

    Starts an embedded AWS, publishes trades and news with duplicates, malformed, late and
    corrected messages, runs the dataflows, shows progress, and leaves nothing behind.

    \b
    Examples:
      headrace demo
      headrace demo --records 100000 --seed 3
      headrace demo --seconds 60 --keep && headrace query "SELECT count(*) FROM trades"
    """
    from stream.demo import run_demo

    settings = open_settings()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    result = run_demo(
        settings,
        records=records,
        seconds=seconds,
        rate=rate,
        seed=seed,
        keep=keep,
        is_quiet=as_json,
        finale=click.get_current_context().meta.get(FINALE),
    )
    if as_json:
        print_json(result)
    return 0 if result.is_equal else 1


def _interrupt(*_: object) -> None:
    """Clean up and leave, SIGTERM as Ctrl-C; a second one may not cut the cleaning short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
