"""`query`, `prove`, `ledger`, `redrive`: look at the lake, prove it, mend it."""

from __future__ import annotations

import sys

import click

from stream.cli.context import check_feeds, open_lake_settings, read_time_ms
from stream.cli.output import json_option, print_json, print_table, to_plain


@click.command()
@click.argument("sql")
@click.option("--max-rows", default=40, show_default=True, help="Rows of the printed table.")
@json_option
def query(sql: str, max_rows: int, as_json: bool) -> None:
    """Run one SQL statement (DuckDB) over Silver and Gold; committed rows are visible at once.

    SQL "-" is read from stdin. Tables: one per feed, bars_1m; views: trades_current,
    trades_asof(ns), bars_1m_current, quarantine, ledger_slices, ledger_commits, gaps; and the
    tables of the published build of Gold, also as gold.<table>.

    \b
    Examples:
      headrace query "SELECT symbol, count(*) FROM trades GROUP BY ALL ORDER BY 2 DESC LIMIT 5"
      headrace query "SELECT * FROM bars_1m_current ORDER BY ts_event DESC LIMIT 10"
      headrace query "SELECT * FROM daily_portfolio_summary ORDER BY session_date DESC LIMIT 5"
      headrace query "SELECT reason, count(*) FROM quarantine GROUP BY ALL" --json
    """
    settings = open_lake_settings()

    from stream.query import run_query

    rows = run_query(settings, sys.stdin.read() if sql == "-" else sql)
    if as_json:
        print_json(rows.to_pylist())
        return
    print_table(rows.slice(0, max_rows).to_pylist(), max_rows=max_rows)
    more = f", {max_rows} shown" if rows.num_rows > max_rows else ""
    click.echo(f"{rows.num_rows:,} rows{more}")


@click.command()
@click.argument("feeds", nargs=-1)
@click.option("--from", "start", metavar="TIME", help="Arrivals from this ISO time on (UTC).")
@click.option("--to", "end", metavar="TIME", help="Arrivals before this ISO time (UTC).")
@click.option("--deep", is_flag=True, help="Decode Bronze again and compare the counts, too.")
@json_option
def prove(
    feeds: tuple[str, ...], start: str | None, end: str | None, deep: bool, as_json: bool
) -> int:
    """Reconcile stream, Bronze, Silver, quarantine and ledger; exit 1 if anything differs.

    Re-hashes every object against the ledger and counts every row.

    \b
    Examples:
      headrace prove
      headrace prove trades --from 2026-11-23T09:30 --to 2026-11-23T16:00 --deep
    """
    names = check_feeds(feeds)
    from_ms, to_ms = (read_time_ms(text) if text else None for text in (start, end))
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise click.UsageError(f"--from {start} is not before --to {end}: the range is empty")
    settings = open_lake_settings()

    from stream.prove import prove as prove_feed

    if not feeds:  # all of them: those that were never started have nothing to prove
        from stream.lake.connect import connect_lake

        tables = connect_lake(settings).catalog.names()
        names = [name for name in names if name in tables] or names
    proofs = [prove_feed(settings, name, from_ms, to_ms, deep=deep) for name in names]
    if as_json:
        print_json([proof.to_json() for proof in proofs])
    else:
        click.echo("\n\n".join(str(proof) for proof in proofs))
    return 0 if all(proof.is_equal for proof in proofs) else 1


@click.command()
@click.argument("feed")
@click.option("--commits", is_flag=True, help="One row per commit instead of per slice.")
@click.option("--limit", default=20, show_default=True, help="Newest rows to show.")
@json_option
def ledger(feed: str, commits: bool, limit: int, as_json: bool) -> None:
    """List what was committed: slices with counts and positions, or commits.

    \b
    Examples:
      headrace ledger trades
      headrace ledger trades --commits --limit 5
    """
    check_feeds([feed])
    settings = open_lake_settings()

    from stream.lake.connect import connect_lake
    from stream.ledger_tables import commit_rows, slice_rows

    _, entries = connect_lake(settings).ledger(feed)
    table = (commit_rows if commits else slice_rows)(entries.entries())
    rows = table.slice(max(0, table.num_rows - limit)).to_pylist()
    if as_json:
        print_json(rows)
    else:
        print_table(rows, title=f"{feed}: newest of {table.num_rows:,}", max_rows=limit)


@click.command()
@click.argument("feed")
@click.option("--reason", "reasons", multiple=True, help="Only this reason code; repeatable.")
@click.option("--apply", is_flag=True, help="Land the rows; without it, only say what would be.")
@json_option
def redrive(feed: str, reasons: tuple[str, ...], apply: bool, as_json: bool) -> None:
    """Decode quarantined messages again, after a decoder fix, and land what is good now: once.

    \b
    Examples:
      headrace redrive trades                                   a dry run
      headrace redrive trades --reason unknown_venue --apply
    """
    check_feeds([feed])
    settings = open_lake_settings()

    from stream.redrive import redrive_feed

    report = redrive_feed(settings, feed, reasons=reasons, apply=apply)
    if as_json:
        print_json(report)
    else:
        print_table([{"redrive": k, "": v} for k, v in to_plain(report).items()])
        if not apply:
            click.echo("A dry run: nothing was written. --apply lands the rows.")
