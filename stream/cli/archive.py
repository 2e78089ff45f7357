"""`archive`: keep a stream in Bronze, coordinated by the Kinesis Client Library."""

from __future__ import annotations

import signal
import sys

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json


@click.command()
@click.argument("feed")
@click.option(
    "--coordinator",
    type=click.Choice(["kcl", "kcl-java"]),
    default="kcl",
    show_default=True,
    help="kcl: kcl_rs, in this process. kcl-java: AWS's MultiLangDaemon; needs Java.",
)
@click.option(
    "--worker",
    metavar="NAME",
    help="This worker's name in the lease table; unset: a new one at each start. A restart under "
    "the same name goes on with its shards. Never give it to two at a time.",
)
@json_option
def archive(feed: str, coordinator: str, worker: str | None, as_json: bool) -> None:
    """Keep one feed's stream in Bronze without its dataflow, until SIGTERM or Ctrl-C.

    Any number of these share the stream's shards by a lease table in DynamoDB, named
    HEADRACE_ARCHIVE_PREFIX plus the feed. They write the Bronze objects that `headrace run` writes,
    so they may run beside it, or instead of it while it is away: it adopts them. Needs the extra
    `headrace[kcl]`. Not for streams that the Kinesis Producer Library aggregates.

    \b
    Examples:
      headrace archive trades
      headrace archive trades --coordinator kcl-java
      HEADRACE_AWS=account HEADRACE_LAKE=s3://my-lake headrace archive trades --worker task-1
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # nothing runs yet
    check_feeds([feed], needs_stream=True)

    from stream.archive import java, rust
    from stream.archive.place import refuse_embedded
    from stream.archive.processor import ArchiveRun
    from stream.telemetry.logs import bind_log_context

    if coordinator == "kcl-java":
        java.find_java(), java.find_jars()
    else:
        rust.load_library()
    refuse_embedded(open_settings())
    settings = open_settings(needs_platform=True)
    bind_log_context(feed=feed)
    run = ArchiveRun()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stopping.set())
    if coordinator == "kcl-java":
        java.archive_with_java(settings, feed, run, worker=worker)
        return
    tally = rust.archive_with_kcl(settings, feed, run, worker=worker)
    if as_json:
        print_json(tally)
    else:
        click.echo(f"{feed}: archived {tally.records:,} records in {tally.slices:,} slices")
