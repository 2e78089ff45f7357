"""`produce`: publish a feed's messages, simulated, from a file, or live from a venue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json

if TYPE_CHECKING:
    from stream.producers.produce import ProduceReport, Request
    from stream.settings import Settings


@click.command()
@click.argument("feed")
@click.option("--rate", type=click.FloatRange(min=1), help="Messages per second [default: 5000].")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="Stop after this time.")
@click.option("--seed", default=1, show_default=True, help="Of the simulated market.")
@click.option(
    "--from-file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON lines (or .gz) instead of the simulator.",
)
@click.option("--venue", help="Live: coinbase, kraken or binance (trades, quotes).")
@click.option("--product", "products", multiple=True, help="Live: product or symbol; repeatable.")
@click.option("--rss", "rss_url", metavar="URL", help="Live news from an RSS address, not FMP.")
@json_option
def produce(feed: str, as_json: bool, **given: Any) -> int:
    """Publish messages of a feed to its stream until they end, or Ctrl-C.

    Without a source: a seeded, realistic market with duplicates, malformed, late and corrected
    messages. What cannot be sent waits on disk and is sent first next time.

    \b
    Examples:
      headrace produce trades --rate 5000 --seconds 60
      headrace produce trades --from-file ticks.jsonl
      headrace produce trades --venue coinbase --product BTC-USD --product ETH-USD
      headrace produce news --product AAPL            (needs HEADRACE_FMP_API_KEY)
      headrace produce news --rss https://example.com/feed.xml
    """
    check_feeds([feed], needs_stream=True)
    source = choose_source(given)
    settings = open_settings(needs_platform=True)

    from stream.producers.produce import Request

    options = {name: value for name, value in given.items() if value is not None}
    request = Request(
        feed,
        source=source,
        fmp_api_key=settings.fmp_api_key,
        private_hosts=settings.private_hosts,
        state_folder=settings.home / "producers",
        **options,
    )
    report = publish(settings, request)
    receipt = report.figures.receipt
    left = receipt.spooled_messages + receipt.unsent_messages
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"{settings.stream_name(feed)}: {receipt.messages:,} messages in "
            f"{receipt.records:,} records, {report.figures.messages_per_second:,.0f}/s"
        )
    if left:
        click.echo(f"{left:,} messages could not be sent; see the log above", err=True)
    return 1 if left else 0


def choose_source(given: dict[str, Any]) -> Any:
    """Which kind of source the options name. Raises: click.UsageError if they name several."""
    sources = [name for name in ("path", "venue", "rss_url") if given[name]]
    if len(sources) > 1:
        raise click.UsageError("choose one of --from-file, --venue and --rss")
    if given["path"]:
        return "file"
    return "live" if sources or given["products"] else "simulate"


def publish(settings: Settings, request: Request) -> ProduceReport:
    """Run the producer that was asked for; SIGTERM and Ctrl-C flush and end it."""
    import signal
    import threading

    from stream.producers.produce import Target, produce
    from stream.settings import aws_endpoint

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    target = Target(
        stream=settings.stream_name(request.feed),
        region=settings.region,
        endpoint_url=aws_endpoint("kinesis"),
        spool_folder=settings.home / "spool" / request.feed,
        spool_max_bytes=settings.spool_max_bytes,
    )
    return produce(target, request, stop=stop)
