"""`gold`, `docs`: build what analysts ask from Silver, and read what it means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.options import read_day
from stream.cli.context import open_lake_settings
from stream.cli.output import json_option, print_json, print_table
from stream.cli.progress import ProgressLine

if TYPE_CHECKING:
    from batch.gold.report import GoldReport, TestFailure

TARGETS = ("local", "athena")
target_option = click.option(
    "--target", type=click.Choice(TARGETS), default="local", show_default=True, help="Where."
)


@click.command()
@click.option("--full", is_flag=True, help="Forget what Gold has; compute all that Silver has.")
@click.option("--day", "days", multiple=True, metavar="DAY", help="This day, too; repeatable.")
@click.option("--select", metavar="SELECTION", help="Only these models, in dbt's words.")
@target_option
@json_option
def gold(full: bool, days: tuple[str, ...], select: str | None, target: str, as_json: bool) -> int:
    """Bring Gold up to date with Silver, test it, and publish it if the tests pass.

    Only the event days that commits touched since the last build are computed again. Readers see
    the old Gold until the new one has passed every test of severity "error"; if one fails, the
    old stays and the rows that failed are shown. Exit code 0 published or up to date, 1 rejected.

    \b
    Examples:
      headrace gold
      headrace gold --day 2026-11-24
      headrace gold --select +var_calculations
      headrace query "SELECT * FROM daily_portfolio_summary ORDER BY session_date DESC LIMIT 5"
    """
    settings = open_lake_settings()

    from batch import actions

    with ProgressLine() as line:
        report = actions.build_gold(
            settings,
            target=target,
            is_full=full,
            days=[read_day(day) for day in days],
            select=select,
            progress=lambda begun, total, what: line.show(f"{begun}/{total} {what}"),
        )
    if as_json:
        print_json({"is_ok": report.is_ok, **_plain(report)})
    else:
        show_report(report)
    return 0 if report.is_ok else 1


def show_report(report: GoldReport) -> None:
    """A build as people read it: models, failed tests with their rows, the verdict."""
    print_table(
        [
            {
                "model": model.name,
                "status": model.status,
                "seconds": model.seconds,
                "rows": model.rows,
                "": model.message[:100],
            }
            for model in report.models
        ],
        title=f"gold {report.target}: {report.reason}",
        max_rows=200,
    )
    for failure in report.failures:
        _show_failure(failure)
    click.echo(str(report))
    if not report.is_ok:
        place = f" The rejected build, until the next one: {report.file}" if report.file else ""
        click.echo(f"What to do: deploy/runbooks/gold-was-rejected.md.{place}")


def _show_failure(failure: TestFailure) -> None:
    word = "FAILED" if failure.severity == "error" else "warning"
    click.echo(f"\n{word}: {failure.name} on {failure.model}: {failure.message}")
    print_table([dict(row) for row in failure.samples])
    more = failure.failures - len(failure.samples)
    if failure.samples and more > 0:
        click.echo(f"… {more:,} more rows in {failure.kept_in}")


@click.command()
@click.option("--port", default=0, help="Of the page [default: a free one].")
@click.option("--write", type=click.Path(path_type=Path), help="Write the page here instead.")
@target_option
@json_option
def docs(port: int, write: Path | None, target: str, as_json: bool) -> None:
    """Browse what the tables of Gold mean, where they come from and how they are tested.

    One self-contained page of the published build, made at the first call; served on 127.0.0.1
    until Ctrl-C, or written to a file.

    \b
    Examples:
      headrace docs
      headrace docs --write gold.html
    """
    settings = open_lake_settings()

    from batch import actions
    from batch.gold.docs import serve_page

    page = actions.gold_docs(settings, target=target)
    if write is not None:
        write.write_bytes(page)
        if as_json:
            print_json({"path": str(write), "bytes": len(page)})
        else:
            click.echo(f"wrote {write}, {len(page):,} bytes")
        return

    def announce(url: str) -> None:
        if as_json:
            print_json({"url": url})
        else:
            click.echo(f"Gold's documentation: {url} (Ctrl-C ends)")

    serve_page(page, port, announce)


def add_to(demo: click.Command) -> None:
    """Let the demo end with Gold."""
    demo.params.append(
        click.Option(
            ["--gold/--no-gold"],
            default=True,
            expose_value=False,
            callback=_choose,
            help="End with Gold: top movers, value at risk.  [default: gold]",
        )
    )


def _choose(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from batch.gold_demo import GoldFinale
    from stream.cli.demo import FINALE

    context.meta[FINALE] = GoldFinale()


def _plain(report: Any) -> dict[str, Any]:
    from stream.cli.output import to_plain

    plain: dict[str, Any] = to_plain(report)
    return plain
