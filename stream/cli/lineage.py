"""`lineage`: where a value comes from, byte for byte, and what was made of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.cli.context import open_lake_settings
from stream.cli.output import format_cell, json_option, print_json
from stream.cli.progress import ProgressLine
from stream.errors import ConfigError

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from stream.lineage import Link, SourceRecord, Trace

MARKS = {"verified": ("✓", "green"), "broken": ("✗", "bold red"), "stated": ("·", "dim")}


@click.command()
@click.argument("what", metavar="KEY|TABLE")
@click.argument("conditions", nargs=-1, metavar="[COLUMN=VALUE]...")
@click.option("--back", is_flag=True, help="Only back: to files, slices, Bronze and bytes.")
@click.option("--forward", is_flag=True, help="Only forward: to Silver, bars and Gold.")
@click.option("--bytes", "wants_bytes", is_flag=True, help="Show the source bytes, escaped.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the source records here: raw bytes, one after the other, a newline between.",
)
@click.option(
    "--show-personal-data", is_flag=True, help="Show bytes of feeds that hold personal data, too."
)
@click.option("--all", "traces_all", is_flag=True, help="Trace every row that the conditions name.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Items of each kind that are looked at one by one; 0: all.",
)
@json_option
def lineage(
    what: str,
    conditions: tuple[str, ...],
    back: bool,
    forward: bool,
    wants_bytes: bool,
    output: Path | None,
    show_personal_data: bool,
    traces_all: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Trace a value back to the exact source bytes, and forward to what was made of it.

    KEY is an object (bronze/…, silver/…, quarantine/…, ledger/…), a slice id, a record
    (SHARD:SEQUENCE_NUMBER) or a commit (trades#17). TABLE with conditions names a row of Silver,
    bars, quarantine or Gold; values are bound, times are UTC.

    Hashes are compared with the ledger, rows with what their bytes decode to now, Gold's columns
    with what Silver's rows add up to. Exit code 0 every link holds, 1 one is broken (named), 2
    nothing such, or several rows.

    \b
    Examples:
      headrace lineage fct_bars_1h symbol=BTC-USD venue=sim ts_event=2026-11-29T21:00 --bytes
      headrace lineage trades trade_id=4711 symbol=BTC-USD --back --output record.bin
      headrace lineage shardId-000000000000:49590338271490256608559692538361571095921575989136588898
      headrace lineage trades#17 --json
    """
    settings = open_lake_settings()

    from stream.lineage import Options, trace

    options = Options(
        limit=limit,
        goes_back=back or not forward,
        goes_forward=forward or not back,
        shows_personal=show_personal_data,
        traces_all=traces_all,
    )
    with ProgressLine() as line:
        found = trace(settings, what, conditions, options, progress=line.show)
    if output is not None:
        _write(found, output)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found, wants_bytes=wants_bytes)
    return 0 if found.is_whole else 1


def _write(found: Trace, output: Path) -> None:
    """The records' payloads, each once, exactly as they arrived."""
    if found.hides_bytes:
        raise ConfigError(
            "the source holds personal data: --show-personal-data writes it to the file all the "
            "same. Nothing was written."
        )
    payloads = {(r.slice_id, r.record_no): r.payload for r in found.records}
    try:
        output.write_bytes(b"\n".join(payloads.values()))
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"wrote {output}: {len(payloads)} records", err=True)


def _show(found: Trace, *, wants_bytes: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a pipe has no width: do not fold names
        console = Console(width=100_000, highlight=False, markup=False)
    for title, root in (("back", found.back), ("forward", found.forward)):
        if root is not None:
            console.print(_tree(root, title))
    if wants_bytes:
        _show_bytes(found)
    for note in found.notes:
        click.echo(f"note: {note}")
    for difference in found.broken:
        click.secho(str(difference), fg="red")
    read = found.reads
    click.echo(
        f"read: {read.ledger_entries:,} ledger entries, {read.bronze_objects:,} Bronze objects, "
        f"{read.silver_files:,} Silver files; {read.bytes_hashed:,} bytes hashed"
    )
    click.secho(found.verdict, fg="green" if found.is_whole else "red", bold=True)


def _show_bytes(found: Trace) -> None:
    from stream.lineage.slices import escaped

    click.echo(f"source bytes of {len(found.records)} messages:")
    if found.hides_bytes:
        click.echo("  hidden: they hold personal data (--show-personal-data shows them)")
        return
    for record in found.records:
        click.echo(f"  {_place(record)}: {_verdict(record)}")
        click.echo(f"    {escaped(record.message.decode('utf-8', 'backslashreplace'))}")


def _place(record: SourceRecord) -> str:
    return f"record {record.sequence_number} line {record.line_no} of {record.slice_id}"


def _verdict(record: SourceRecord) -> str:
    if record.verdict == "equal":
        return "decoded again: equal to Silver's row"
    if record.verdict == "not compared":
        return record.says
    return f"{record.verdict}: {record.says}"


def _tree(link: Link, title: str | None = None) -> Tree:
    from rich.tree import Tree

    tree = Tree(_label(link, title), guide_style="dim")
    for below in link.links:
        tree.add(_tree(below))
    return tree


def _cell(value: object) -> str:
    """Times and ids in ns are no amounts: without separators they can be copied."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, int) and value >= 10**12 else format_cell(value)


def _label(link: Link, title: str | None) -> Text:
    from rich.text import Text

    mark, style = MARKS[link.state]
    text = Text(f"{title}: " if title else "", style="bold cyan")
    text.append(f"{mark} ", style=style).append(f"{link.kind} ", style="cyan")
    text.append(link.name, style="bold")
    for name, value in link.facts.items():
        text.append(f"  {name} ", style="dim").append(_cell(value))
    if link.says:
        text.append(f"  ({link.says})", style=style if link.state == "broken" else "dim")
    return text
