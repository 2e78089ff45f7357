"""The demo's live table: in place on a terminal, one line every two seconds elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stream.clock import SYSTEM_CLOCK

PLAIN_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """One feed's progress. `lag`: messages acknowledged but not yet committed."""

    feed: str
    published: int
    lag: int
    silver_rows: int
    duplicates: int
    rejected: int
    commits: int
    freshness_seconds: float | None


class Screen:
    """Shows progress lines; silent when the caller wants JSON."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.console = Console(highlight=False, quiet=is_quiet, markup=False)
        if not self.console.is_terminal:  # a pipe has no width: do not cut lines
            self.console.width = 120
        self._live: Live | None = None
        self._shown_at = float("-inf")
        self._last: Sequence[Line] = ()

    def __enter__(self) -> Self:
        self.console.print("Starting an embedded AWS and one dataflow per feed ...")
        if self.console.is_terminal and not self.console.quiet:
            self._live = Live(console=self.console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the table, or print a line now and then."""
        self._last = lines
        if self._live is not None:
            self._live.update(_table(lines))
        elif SYSTEM_CLOCK.monotonic() - self._shown_at >= PLAIN_EVERY_SECONDS:
            self._shown_at = SYSTEM_CLOCK.monotonic()
            self.console.print(" | ".join(_plain(line) for line in lines), soft_wrap=True)

    def close(self) -> None:
        """Leave the last table standing."""
        if self._live is not None:
            self._live.update(_table(self._last))
            self._live.stop()
            self._live = None
        elif self._last:
            self.console.print(_table(self._last))
        self._last = ()


def table_of(rows: Sequence[Mapping[str, str | int]], title: str | None = None) -> Table:
    """A plain table; numbers with separators, to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in (rows[0] if rows else {}).items():
        is_text = isinstance(value, str) and not value.replace(",", "").replace(".", "").isdigit()
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(v if isinstance(v, str) else f"{v:,}" for v in row.values()))
    return table


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of an answer as text: prices and amounts with two decimals.

    >>> cells_of({"symbol": "ACME", "last": 1234.5, "trades": 7})
    {'symbol': 'ACME', 'last': '1,234.50', 'trades': '7'}
    """
    return {
        name: f"{value:,.2f}" if isinstance(value, Decimal | float) else f"{value}"
        for name, value in row.items()
    }


def _table(lines: Sequence[Line]) -> Table:
    return table_of(
        [
            {
                "feed": line.feed,
                "published": line.published,
                "lag": line.lag,
                "Silver rows": line.silver_rows,
                "duplicates": line.duplicates,
                "rejected": line.rejected,
                "commits": line.commits,
                "freshness": _freshness(line),
            }
            for line in lines
        ]
    )


def _plain(line: Line) -> str:
    return f"{line.feed}: {line.published:,} published, {line.lag:,} behind, {_freshness(line)} old"


def _freshness(line: Line) -> str:
    return "-" if line.freshness_seconds is None else f"{line.freshness_seconds:.1f} s"
