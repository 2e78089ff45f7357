"""`extract`, `extracts`: pull history into Bronze, and list what landed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch.cli.options import read_day, read_options
from stream.cli.context import open_lake_settings
from stream.cli.output import json_option, print_json, print_table
from stream.cli.progress import ProgressLine


def request_options(command: Any) -> Any:
    """The options that say what to fetch."""
    for option in (
        click.option("--symbol", "symbols", multiple=True, help="Only this symbol; repeatable."),
        click.option(
            "--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the source."
        ),
        click.option("--path", metavar="PATH", help="Files: a folder, a file or s3://bucket/x."),
        click.option(
            "--mapping",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Files: TOML that names the vendor's columns.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source")
@click.argument("dataset")
@click.option("--from", "start", metavar="DAY", help="First UTC day.")
@click.option("--to", "end", metavar="DAY", help="Last UTC day, included.")
@click.option("--run-id", metavar="ID", help="Name of the run [default: source-dataset-time].")
@request_options
@json_option
def extract(source: str, dataset: str, as_json: bool, **given: Any) -> None:
    """Pull an extract into Bronze, as it comes; it is in no table until it is replayed.

    A run id that landed before is not fetched again. A run that was interrupted left no manifest
    and does not count: run it again.

    \b
    Examples:
      headrace extract simulated prices_daily --from 2026-11-01 --to 2026-11-24
      headrace extract fmp prices_daily --symbol AAPL --from 2021-01-01 --to 2026-11-24
      headrace extract mongo transactions --option cursor=updated_at
      headrace extract acme trades --path dumps/2026-11 --mapping acme.toml
    """
    settings = open_lake_settings()

    from batch import actions
    from batch.extracts import ExtractRequest

    days = [read_day(text) if text else None for text in (given["start"], given["end"])]
    request = ExtractRequest(
        dataset, days[0], days[1], given["symbols"], read_options(given["options"])
    )
    with ProgressLine() as line:
        manifest = actions.extract(
            settings,
            source,
            request,
            given["run_id"] or default_run_id(source, dataset),
            path=given["path"],
            mapping=given["mapping"],
            progress=lambda part: line.show(f"landed {part.path.rpartition('/')[2]}"),
        )
    if as_json:
        print_json({"rows": manifest.rows, "path": manifest.path, **_plain(manifest)})
        return
    click.echo(
        f"{manifest.run_id}: {manifest.rows:,} items in {len(manifest.parts):,} parts, "
        f"{manifest.stored_bytes:,} bytes"
    )
    if manifest.feed:
        click.echo(
            f"Next: headrace replay {manifest.feed} --source extract --run-id {manifest.run_id} "
            "--apply"
        )


@click.command()
@json_option
def extracts(as_json: bool) -> None:
    """List the extracts that landed in Bronze, newest last.

    \b
    Examples:
      headrace extracts
      headrace extracts --json | jq '.[-1].run_id'
    """
    settings = open_lake_settings()

    from batch import actions
    from stream.clock import to_utc

    rows = [
        {
            "run_id": m.run_id,
            "source": m.source,
            "dataset": m.dataset,
            "feed": m.feed,
            "days": f"{m.first_day or ''} {m.last_day or ''}".strip(),
            "parts": len(m.parts),
            "items": m.rows,
            "bytes": m.stored_bytes,
            "extracted": to_utc(m.extracted_ms * 1_000_000).isoformat(timespec="seconds"),
        }
        for m in actions.list_extracts(settings)
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, title="extracts", max_rows=200)
    else:
        click.echo("no extract yet: `headrace extract --help`")


def default_run_id(source: str, dataset: str) -> str:
    """A name that says what and when."""
    from stream.clock import SYSTEM_CLOCK, to_utc

    return f"{source}-{dataset}-{to_utc(SYSTEM_CLOCK.now_ns()):%Y%m%dT%H%M%SZ}"


def _plain(manifest: Any) -> dict[str, Any]:
    from stream.cli.output import to_plain

    plain: dict[str, Any] = to_plain(manifest)
    return plain
