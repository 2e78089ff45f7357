"""How every verb prints: a table for people, one JSON document for machines.

`show` takes plain rows, so a verb need not care. JSON is exact: decimals stay text, times are
ISO, nothing is cut; tables show at most `max_rows` rows and say so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def to_plain(value: object) -> Any:
    """Dataclasses and containers of them as dicts and lists.

    >>> from stream.slices import ShardRef
    >>> to_plain([ShardRef("trades", "s", "0")])
    [{'feed': 'trades', 'stream': 's', 'shard': '0'}]
    """
    if is_dataclass(value) and not isinstance(value, type):
        # Not `asdict`: it rebuilds a Counter from pairs, which counts the pairs.
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [to_plain(item) for item in value]
    return value


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(to_plain(value), default=_encode, indent=2))


def print_table(
    rows: Sequence[Mapping[str, Any]], *, title: str | None = None, max_rows: int = 40
) -> None:
    """A table on stdout; columns are the keys of the first row. Nothing for no rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if _is_number(value) else "left")
    for row in rows[:max_rows]:
        table.add_row(*(format_cell(value) for value in row.values()))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a pipe has no width: do not cut values
        wide = Console(width=100_000, highlight=False, markup=False)
        console = Console(width=wide.measure(table).maximum, highlight=False, markup=False)
    console.print(table)
    if len(rows) > max_rows:
        click.echo(f"… {len(rows) - max_rows:,} more rows (--json prints all)")


def format_cell(value: object) -> str:
    """A value as people read it.

    >>> format_cell(1234567), format_cell(None), format_cell(True), format_cell(1.5)
    ('1,234,567', '', 'yes', '1.5')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(to_plain(value), default=_encode)
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)
