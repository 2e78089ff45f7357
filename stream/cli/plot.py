"""`plot`: lag, freshness and throughput of a range as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.cli.context import check_feeds, open_lake_settings, read_time_ms
from stream.cli.output import json_option, print_json

if TYPE_CHECKING:
    from stream.watch.ledger_history import FeedHistory

HOUR_MS = 3_600_000


@click.command()
@click.argument("feeds", nargs=-1)
@click.option("--from", "start", metavar="TIME", help="ISO time (UTC); an hour before the end.")
@click.option("--to", "end", metavar="TIME", help="ISO time (UTC); now.")
@click.option(
    "--output",
    default="headrace.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The PNG; an existing one is replaced.",
)
@json_option
def plot(
    feeds: tuple[str, ...], start: str | None, end: str | None, output: Path, as_json: bool
) -> None:
    """Draw lag, freshness and throughput of a range, from the ledger: exact, however long ago.

    One feed shows its shards, several show the worst shard of each. Closed markets are shaded,
    gaps and rejects marked.

    \b
    Examples:
      headrace plot trades
      headrace plot trades quotes --from 2026-11-23T09:30 --to 2026-11-23T16:00 --output lag.png
    """
    from stream.clock import now_ms

    names = check_feeds(feeds, needs_stream=not feeds)
    to_ms = read_time_ms(end) if end else now_ms()
    from_ms = read_time_ms(start) if start else to_ms - HOUR_MS
    if from_ms >= to_ms:
        raise click.UsageError(
            f"--from {start} is not before --to {end or 'now'}: nothing lies between"
        )
    settings = open_lake_settings()

    from stream.feeds import load_feed
    from stream.lake.connect import connect_lake
    from stream.watch.ledger_history import read_history
    from stream.watch.plot import Plotted, draw_png

    lake = connect_lake(settings)
    if not feeds:  # all of them: those that were never started have nothing to show
        tables = lake.catalog.names()
        names = [name for name in names if name in tables] or names
    plotted = [
        Plotted(
            read_history(lake, name, from_ms, to_ms),
            load_feed(name).freshness_seconds * 1000,
            load_feed(name).calendar,
        )
        for name in names
    ]
    if not feeds:  # nor those that were idle
        plotted = [feed for feed in plotted if not feed.history.is_empty] or plotted
    draw_png(plotted, output)
    if as_json:
        print_json({"output": str(output), "feeds": [_summary(p.history) for p in plotted]})
    else:
        click.echo(f"wrote {output}: {', '.join(feed.history.feed for feed in plotted)}")


def _summary(history: FeedHistory) -> dict[str, object]:
    """What the picture shows, in numbers."""
    lags = [lag for line in history.lags for _, lag in line.points]
    return {
        "feed": history.feed,
        "from_ms": history.from_ms,
        "to_ms": history.to_ms,
        "commits": len(history.delays),
        "max_lag_ms": max(lags, default=None),
        "max_freshness_ms": max((delay.oldest_ms for delay in history.delays), default=None),
        "max_records_per_s": max((rate.records_per_s for rate in history.rates), default=None),
        "gaps": sum(event.count for event in history.gaps),
        "rejected": sum(event.count for event in history.rejects),
    }
