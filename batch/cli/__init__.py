"""The whole command line: the stream's verbs, and batch's on top of them.

`headrace` starts here. A verb's file only parses arguments, calls one function of
`batch.actions` and prints its answer. Guarantees: as for `stream.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from stream.allocators import keep_memory_small
from stream.cli import headrace
from stream.cli.failure import run_command


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    keep_memory_small()
    sys.exit(run_command(headrace, arguments))


def _add_verbs() -> None:
    from batch.cli import backfill, extract, gold, maintain, prefect, replay
    from stream.cli import demo, platform

    prefect.add_to(platform.up)
    gold.add_to(demo.demo)

    for verb in (
        replay.replay,
        extract.extract,
        extract.extracts,
        backfill.backfill,
        gold.gold,
        gold.docs,
        maintain.compact,
        maintain.expire_snapshots,
        maintain.remove_orphans,
        maintain.retention,
    ):
        headrace.add_command(verb)


_add_verbs()
