"""The command line: fixed verbs, `--json` for machines, exit codes 0 ok, 1 failed, 2 usage.

A verb's file only parses arguments, calls one function of the platform and prints its answer.
Guarantees: an error that the platform raises on purpose is one clear block without traceback; an
interrupt ends with 130 and says nothing; `headrace --help` imports no data library (under 0.4 s).
Not here: any decision about data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from stream.allocators import keep_memory_small
from stream.cli.failure import run_command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every setting is a variable HEADRACE_…; `headrace check` lists them with their values.",
)
@click.version_option(package_name="headrace")
def headrace() -> None:
    """Market data from Kinesis to queryable Silver: exactly once, replayable, with proof.

    See it all at once:    headrace demo

    Keep it running:       headrace up; headrace produce trades; headrace query "…"; headrace down
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    keep_memory_small()
    sys.exit(run_command(headrace, arguments))


def _add_verbs() -> None:
    # After `headrace` exists and in the order in which a user meets them.
    from stream.cli import (
        alerts,
        api,
        archive,
        bench,
        demo,
        feeds,
        lake,
        lineage,
        platform,
        plot,
        produce,
        run,
        top,
        ui,
    )

    for verb in (
        demo.demo,
        platform.up,
        platform.down,
        platform.status,
        ui.ui,
        top.top,
        plot.plot,
        produce.produce,
        run.run,
        archive.archive,
        lake.query,
        run.lag,
        lake.prove,
        lake.ledger,
        lineage.lineage,
        lake.redrive,
        alerts.alerts,
        api.api,
        bench.bench,
        feeds.feeds,
        feeds.check,
    ):
        headrace.add_command(verb)


_add_verbs()
