"""`backfill`: fill a range of days, from options or from a committed record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.extract import request_options
from batch.cli.options import read_day, read_options
from stream.cli.context import open_lake_settings
from stream.cli.output import json_option, print_json, print_table
from stream.cli.progress import ProgressLine

if TYPE_CHECKING:
    from batch.backfill.record import BackfillRecord
    from batch.backfill.report import BackfillReport
    from stream.settings import Settings

RECORDS = Path("deploy") / "backfills"


@click.command()
@click.option("--feed", "dataset", help="The data set; named like its feed.")
@click.option("--source", help="fmp, mongo, simulated; with --path the name of any vendor.")
@click.option("--from", "start", metavar="DAY", help="First UTC day.")
@click.option("--to", "end", metavar="DAY", help="Last UTC day, included.")
@click.option(
    "--record",
    "record_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Run a committed record instead; it is marked done at the end.",
)
@click.option("--new-record", metavar="ID", help=f"Keep this backfill as a record in {RECORDS}/.")
@click.option("--reason", help="Of the new record: why.")
@click.option("--owner", help="Of the new record: who asked for it.")
@click.option("--parallel-days", default=8, show_default=True, help="Chunks fetched side by side.")
@click.option("--chunk-days", default=1, show_default=True, help="Days of one chunk.")
@click.option("--version", "version", default=1, show_default=True, help="Raise to fetch again.")
@click.option("--no-compact", is_flag=True, help="Leave the small files of the days as they are.")
@request_options
@json_option
def backfill(
    record_path: Path | None, new_record: str | None, no_compact: bool, as_json: bool, **given: Any
) -> int:
    """Fill a range of days: extract in chunks, land them, each day exactly once.

    Killed, it goes on where it was; two of them share the work. A chunk that is done is never
    fetched again, unless --version is raised. Ends with compaction of the days that it touched.
    Exit code 0 if every chunk is done, 1 if not.

    \b
    Examples:
      headrace backfill --feed prices_daily --source simulated --from 2025-11-25 --to 2026-11-24
      headrace backfill --feed prices_daily --source fmp --symbol AAPL \\
        --from 2021-01-01 --to 2026-11-24 \\
        --new-record 2026-11-25-five-years --reason "history for the models" --owner quants
      headrace backfill --record deploy/backfills/2026-11-25-five-years.yaml
      headrace backfill --feed trades --source acme --path s3://dumps/acme --mapping acme.toml \\
        --from 2026-01-01 --to 2026-06-30 --parallel-days 4
    """
    from batch.backfill.record import mark_record, read_record, write_record

    if record_path is not None:
        _refuse_both(given)
        record = read_record(record_path)
    else:
        record = _record_of(given, new_record)
        if new_record is not None:
            record_path = write_record(RECORDS, record)
            click.echo(f"wrote {record_path}: commit it", err=True)
    settings = open_lake_settings()
    report = _run(settings, record, given)
    if report.is_complete and record_path is not None:
        mark_record(record_path, "done", _today())
    _show(report, as_json=as_json)
    if report.is_complete and not no_compact:
        _compact(settings, record, report, quiet=as_json)
    return 0 if report.is_complete else 1


def _run(settings: Settings, record: BackfillRecord, given: dict[str, Any]) -> BackfillReport:
    from batch import actions
    from batch.backfill.patience import stop_on_signals

    with stop_on_signals() as should_stop, ProgressLine() as line:
        return actions.backfill(
            settings,
            source=record.source,
            dataset=record.dataset,
            first_day=record.first_day,
            last_day=record.last_day,
            parallel_days=given["parallel_days"],
            chunk_days=record.chunk_days,
            version=record.version,
            symbols=record.symbols,
            options=record.options,
            path=record.path,
            mapping=given["mapping"],
            progress=lambda progress: line.show(str(progress)),
            should_stop=should_stop,
        )


def _compact(
    settings: Settings, record: BackfillRecord, report: BackfillReport, *, quiet: bool
) -> None:
    from batch import actions

    for table in actions.compact(settings, [record.feed], days=report.days_touched, apply=True):
        if table.files_before and not quiet:
            click.echo(
                f"compacted {table.table}: {table.files_before:,} files into {table.files_after:,}"
            )


def _show(report: BackfillReport, *, as_json: bool) -> None:
    rows = report.to_rows()
    if as_json:
        print_json({"is_complete": report.is_complete, "rows": report.rows, "chunks": rows})
        return
    print_table([r for r in rows if r["state"] != "done"], title="chunks that are not done")
    click.echo(str(report))


def _record_of(given: dict[str, Any], new_record: str | None) -> BackfillRecord:
    from batch.backfill.record import BackfillRecord

    names = {"--feed": "dataset", "--source": "source", "--from": "start", "--to": "end"}
    if new_record is not None:
        names |= {"--reason": "reason", "--owner": "owner"}
    missing = [option for option, name in names.items() if not given[name]]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)} (or run a --record)")
    return BackfillRecord(
        id=new_record or "",
        feed=given["dataset"],
        source=given["source"],
        dataset=given["dataset"],
        first_day=read_day(given["start"]),
        last_day=read_day(given["end"]),
        reason=given["reason"] or "",
        owner=given["owner"] or "",
        status="running",
        requested_on=_today(),
        version=given["version"],
        chunk_days=given["chunk_days"],
        symbols=given["symbols"],
        options=read_options(given["options"]),
        path=given["path"],
    )


def _refuse_both(given: dict[str, Any]) -> None:
    named = ("dataset", "source", "start", "end", "symbols", "options", "path", "reason", "owner")
    if any(given[name] for name in named):
        raise click.UsageError("a --record says what to fill: leave the other options out")


def _today() -> Any:
    from stream.clock import SYSTEM_CLOCK, to_utc

    return to_utc(SYSTEM_CLOCK.now_ns()).date()
