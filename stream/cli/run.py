"""`run`, `lag`: one feed's dataflow, and how far behind it is."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json, print_table, to_plain

if TYPE_CHECKING:
    from stream.settings import Settings


@click.command()
@click.argument("feed")
@click.option("--processes", type=int, help="Share the feed's lanes among N processes here.")
@click.option("--process-index", type=int, help="Across hosts: which of the addresses is mine.")
@click.option("--addresses", help="Across hosts: host:port of every process, comma-separated.")
@json_option
def run(
    feed: str,
    processes: int | None,
    process_index: int | None,
    addresses: str | None,
    as_json: bool,
) -> None:
    """Run one feed's dataflow until SIGTERM or Ctrl-C: what `up` and ECS start.

    It resumes from the last commit. Two instances of one feed are safe, the loser of a commit
    restarts. Its log goes to stderr.

    With --processes it starts N of them, which restart together when one ends; another N next
    time is fine. Across hosts, start one per address and have each restarted when it exits.

    \b
    Examples:
      headrace run trades
      headrace run trades --processes 4
      headrace run trades --process-index 0 --addresses 10.0.0.1:2101,10.0.0.2:2101
      HEADRACE_AWS=account HEADRACE_LAKE=s3://my-lake HEADRACE_CATALOG=glue headrace run trades
      HEADRACE_LOG_FORMAT=json HEADRACE_METRICS_PORT=9100 headrace run quotes
    """
    # Until the dataflow runs there is nothing to commit: a stop during the imports is a clean one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    check_feeds([feed], needs_stream=True)
    settings = open_settings(
        needs_platform=True, processes=processes, process_index=process_index, addresses=addresses
    )
    if settings.processes > 1 and settings.process_index is None:
        _run_gang(settings, feed, as_json)
        return
    if len(settings.process_addresses) > 1:
        _run_member(settings, feed, as_json)
    else:
        _run_here(settings, feed, as_json)


def _run_gang(settings: Settings, feed: str, as_json: bool) -> None:
    """Start and watch the processes; none of the dataflow's libraries are loaded here."""
    from stream.local.gang import Gang, gang_command
    from stream.local.platform import StopSignals, feed_environment

    stop = StopSignals()
    env = feed_environment(settings, feed)
    command = [*gang_command(feed), *(["--json"] if as_json else [])]
    code = Gang(command, settings.processes, env).run(lambda: stop.requested)
    if code:
        raise click.exceptions.Exit(code)


def _run_member(settings: Settings, feed: str, as_json: bool) -> None:
    """Be one process of a cluster, and leave at once: that is how its peers learn of an error."""
    from stream.cli.failure import OK, report

    code = OK
    try:
        _run_here(settings, feed, as_json)
    except SystemExit:  # a stop during the imports
        raise
    except BaseException as error:
        code = report(error)
        raise
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_here(settings: Settings, feed: str, as_json: bool) -> None:
    from stream.cluster import cluster_of
    from stream.engine import Stop, stop_on_signals
    from stream.live import run_feed
    from stream.observe import observe
    from stream.telemetry.logs import bind_log_context

    bind_log_context(feed=feed)
    stop = Stop()
    stop_on_signals(stop)  # before any thread starts: they inherit its signal mask
    seen, cluster = observe(settings, feed), cluster_of(settings)
    try:
        tally = run_feed(settings, feed, stop=stop, observer=seen, cluster=cluster)
    finally:
        if seen is not None:
            seen.close()
    gc.freeze()  # or Python visits every object once more at its exit: a third of the stop's time
    if not cluster.is_committer:
        return
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
