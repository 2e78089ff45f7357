"""`compact`, `expire-snapshots`, `remove-orphans`, `retention`: look after the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from batch.cli.options import DRY_RUN, apply_option, read_day
from stream.cli.context import open_lake_settings
from stream.cli.output import json_option, print_json, print_table
from stream.cli.progress import ProgressLine


def _show(reports: Sequence[Any], *, apply: bool, as_json: bool) -> None:
    if as_json:
        print_json(reports)
        return
    print_table([report.to_row() for report in reports])
    if not reports:
        click.echo("no such table yet")
    elif not apply:
        click.echo(DRY_RUN)


@click.command()
@click.argument("tables", nargs=-1)
@click.option("--from", "start", metavar="DAY", help="First UTC day [default: the oldest].")
@click.option("--to", "end", metavar="DAY", help="Last UTC day [default: yesterday].")
@click.option("--target-mb", default=512, show_default=True, help="Size of the files to make.")
@apply_option
@json_option
def compact(
    tables: tuple[str, ...],
    start: str | None,
    end: str | None,
    target_mb: int,
    apply: bool,
    as_json: bool,
) -> None:
    """Rewrite the small files of past days into few sorted ones with the same rows.

    The rows of the written files are compared with those of the inputs before anything is
    published; the receipt stays in the ledger. Safe while the stream commits, and twice at once.

    \b
    Examples:
      headrace compact                                  all tables, a dry run
      headrace compact trades --from 2026-11-01 --apply
    """
    settings = open_lake_settings()

    from batch import actions

    with ProgressLine() as line:
        reports = actions.compact(
            settings,
            tables,
            first_day=read_day(start) if start else None,
            last_day=read_day(end) if end else None,
            target_bytes=target_mb * 1_000_000,
            apply=apply,
            progress=lambda table, done, total: line.show(f"{table}: {done} of {total} groups"),
        )
    _show(reports, apply=apply, as_json=as_json)


@click.command("expire-snapshots")
@click.argument("tables", nargs=-1)
@click.option("--keep-hours", default=1.25, show_default=True, help="Younger ones stay.")
@click.option("--keep-last", default=10, show_default=True, help="So many stay in any case.")
@apply_option
@json_option
def expire_snapshots(
    tables: tuple[str, ...], keep_hours: float, keep_last: int, apply: bool, as_json: bool
) -> None:
    """Take old snapshots out of the tables' metadata: a commit costs 0.7 ms CPU for each kept one.

    No file is deleted; files that nothing needs any more are orphans after a grace.

    \b
    Examples:
      headrace expire-snapshots
      headrace expire-snapshots trades --keep-hours 24 --apply
    """
    settings = open_lake_settings()

    from batch import actions

    reports = actions.expire_snapshots(
        settings, tables, keep_hours=keep_hours, keep_last=keep_last, apply=apply
    )
    _show(reports, apply=apply, as_json=as_json)


@click.command("remove-orphans")
@click.argument("tables", nargs=-1)
@click.option("--grace-hours", default=72.0, show_default=True, help="Younger objects stay.")
@apply_option
@json_option
def remove_orphans(tables: tuple[str, ...], grace_hours: float, apply: bool, as_json: bool) -> None:
    """Delete objects that no snapshot and no ledger entry needs: this is what frees space.

    \b
    Examples:
      headrace remove-orphans
      headrace remove-orphans trades --apply
    """
    settings = open_lake_settings()

    from batch import actions

    reports = actions.remove_orphans(settings, tables, grace_hours=grace_hours, apply=apply)
    _show(reports, apply=apply, as_json=as_json)


@click.command()
@click.argument("tables", nargs=-1)
@click.option("--keep-days", type=int, help="[default: HEADRACE_KEEP_DAYS; unset: for ever]")
@apply_option
@json_option
def retention(tables: tuple[str, ...], keep_days: int | None, apply: bool, as_json: bool) -> None:
    """Drop whole days that tables need not keep; Bronze stays (its retention is the bucket's).

    The ledger records what was dropped, so `prove` stays equal.

    \b
    Examples:
      headrace retention trades --keep-days 730
      headrace retention trades --keep-days 730 --apply
    """
    settings = open_lake_settings()

    from batch import actions

    reports = actions.apply_retention(settings, tables, keep_days=keep_days, apply=apply)
    _show(reports, apply=apply, as_json=as_json)
