"""`run`, `lag`: one feed's dataflow, and how far behind it is."""

from __future__ import annotations

import gc
import signal
import sys

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json, print_table, to_plain


@click.command()
@click.argument("feed")
@json_option
def run(feed: str, as_json: bool) -> None:
    """Run one feed's dataflow until SIGTERM or Ctrl-C: what `up` and ECS start.

    It resumes from the last commit. Two instances of one feed are safe, the loser of a commit
    restarts. Its log goes to stderr.

    \b
    Examples:
      headrace run trades
      HEADRACE_AWS=account HEADRACE_LAKE=s3://my-lake HEADRACE_CATALOG=glue headrace run trades
      HEADRACE_LOG_FORMAT=json HEADRACE_METRICS_PORT=9100 headrace run quotes
    """
    # Until the dataflow runs there is nothing to commit: a stop during the imports is a clean one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    check_feeds([feed], needs_stream=True)
    settings = open_settings(needs_platform=True)

    from stream.engine import Stop, stop_on_signals
    from stream.live import run_feed
    from stream.observe import observe
    from stream.telemetry.logs import bind_log_context

    bind_log_context(feed=feed)
    stop = Stop()
    stop_on_signals(stop)  # before any thread starts: they inherit its signal mask
    seen = observe(settings, feed)
    try:
        tally = run_feed(settings, feed, stop=stop, observer=seen)
    finally:
        if seen is not None:
            seen.close()
    gc.freeze()  # or Python visits every object once more at its exit: a third of the stop's time
    if as_json:
        print_json(tally)
    else:
        click.echo(f"{feed}: stopped after {tally.commits} commits, {tally.silver_rows:,} rows")


@click.command()
@click.argument("feeds", nargs=-1)
@json_option
def lag(feeds: tuple[str, ...], as_json: bool) -> None:
    """How far behind: per shard the distance to the tip, per table its freshness.

    \b
    Examples:
      headrace lag
      headrace lag trades --json
    """
    names = check_feeds(feeds, needs_stream=True)
    settings = open_settings(needs_platform=True)

    from stream.lag import read_lag

    report = read_lag(settings, names)
    if as_json:
        print_json(report.to_json())
    else:
        print_table(to_plain(report.shards), title="shards")
        print_table(to_plain(report.tables), title="tables")
