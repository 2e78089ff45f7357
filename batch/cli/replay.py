"""`replay`: run a range, or an extract, through the live dataflow again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch.cli.options import DRY_RUN, apply_option
from stream.cli.context import check_feeds, open_lake_settings, read_time_ms
from stream.cli.output import json_option, print_json, print_table, to_plain
from stream.cli.progress import ProgressLine
from stream.errors import ConfigError

if TYPE_CHECKING:
    from batch.replay.report import ReplayReport


@click.command()
@click.argument("feed")
@click.option("--from", "start", metavar="TIME", help="Arrivals from this ISO time on (UTC).")
@click.option("--to", "end", metavar="TIME", help="Arrivals before this ISO time (UTC).")
@click.option(
    "--source",
    type=click.Choice(["bronze", "kinesis", "extract"]),
    default="bronze",
    show_default=True,
    help="What is read again; the stream mends objects that are missing from Bronze.",
)
@click.option("--run-id", metavar="RUN_ID", help="The extract (see `headrace extracts`).")
@click.option("--into", metavar="TABLE", help="A table beside the live one; that stays untouched.")
@apply_option
@json_option
def replay(
    feed: str,
    start: str | None,
    end: str | None,
    source: str,
    run_id: str | None,
    into: str | None,
    apply: bool,
    as_json: bool,
) -> int:
    """Replay what was recorded: the same records, the same cuts, the decoder of today.

    A dry run compares and writes nothing. With --apply the slices that differ are replaced in
    one commit, while the stream goes on; Bronze never changes. An identical second replay changes
    nothing.

    \b
    Examples:
      headrace replay trades --from 2026-11-17T09:30 --to 2026-11-17T10:00
      headrace replay trades --from 2026-11-17T09:30 --to 2026-11-17T10:00 --apply
      headrace replay trades --from 2026-11-17 --to 2026-11-18 --into trades_fixed --apply
      headrace replay trades --from 2026-11-25T09:30 --to 2026-11-25T10:00 --source kinesis
      headrace replay prices_daily --source extract --run-id fmp-prices_daily-v1-2026-11-24 --apply
    """
    check_feeds([feed])
    from_ms, to_ms = (read_time_ms(text) if text else None for text in (start, end))
    if source == "extract" and run_id is None:
        raise click.UsageError("--source extract needs --run-id; `headrace extracts` lists them")
    if source != "extract" and (from_ms is None or to_ms is None):
        raise click.UsageError("say which arrivals: --from TIME and --to TIME")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise ConfigError(f"--from {start} is not before --to {end}: the range is empty")
    settings = open_lake_settings()

    from batch import actions

    with ProgressLine() as line:
        report = actions.replay(
            settings,
            feed,
            from_ms,
            to_ms,
            source=source,
            run_id=run_id,
            into=into,
            apply=apply,
            progress=lambda done, total: line.show(f"replayed {done:,} of {total:,}"),
        )
    if as_json:
        print_json(report.to_json())
    else:
        show(report)
    return 0


def show(report: ReplayReport) -> None:
    """A replay's report for people."""
    differing = [row for row in report.to_rows() if row["before"] != row["after"]]
    print_table(differing, title=f"days of {report.table} whose number of rows changes")
    print_table(to_plain(report.samples), title="some of the rows that differ")
    for note in report.notes:
        click.echo(f"note: {note}")
    rejected = sum(report.rejected.values())
    click.echo(
        f"{report.feed} from {report.source}: {report.slices:,} slices, {report.records:,} "
        f"records, {report.messages:,} messages ({report.duplicates:,} rows dropped as duplicates, "
        f"{rejected:,} messages rejected) in {report.seconds:.1f} s"
    )
    click.echo(
        f"{report.table}: {report.rows_before:,} rows on {len(report.days):,} days before, "
        f"{report.rows_after:,} after"
    )
    if report.restored:
        verb = "are written again" if report.is_applied else "would be written again"
        click.echo(f"{report.restored} objects that were missing {verb}")
    if not report.is_changed:
        is_new = report.source == "extract" or report.table != report.feed
        same = f"unchanged: {report.table} holds all of it already"
        click.echo(same if is_new else "unchanged: every slice came out exactly as it is recorded")
        return
    verb = "replaced" if report.is_applied else "would be replaced"
    if report.source == "extract" or report.table != report.feed:
        verb = "landed" if report.is_applied else "would land"
    click.echo(
        f"{report.changed_slices:,} slices {verb}: {report.rows_removed:,} rows out, "
        f"{report.rows_added:,} rows in"
    )
    if report.commit is not None:
        click.echo(f"commit {report.commit}")
    elif not report.is_applied:
        click.echo(DRY_RUN)
