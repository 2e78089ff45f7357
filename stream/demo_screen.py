"""The demo's live table: in place on a terminal, one line every two seconds elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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
        self._console = Console(highlight=False, quiet=is_quiet)
        self._live: Live | None = None
        self._shown_at = float("-inf")
        self._last: Sequence[Line] = ()

    def __enter__(self) -> Self:
        self._console.print("Starting an embedded AWS and one dataflow per feed ...")
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(console=self._console, refresh_per_second=4, transient=False)
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
            self._console.print(" | ".join(_plain(line) for line in lines))

    def close(self) -> None:
        """Leave the last table standing."""
        if self._live is not None:
            self._live.update(_table(self._last))
            self._live.stop()
            self._live = None
        elif self._last:
            self._console.print(_table(self._last))
        self._last = ()


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = (
        *("feed", "published", "lag", "Silver rows", "duplicates", "rejected"),
        *("commits", "freshness"),
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "feed" else "right")
    for line in lines:
        table.add_row(
            line.feed,
            f"{line.published:,}",
            f"{line.lag:,}",
            f"{line.silver_rows:,}",
            f"{line.duplicates:,}",
            f"{line.rejected:,}",
            f"{line.commits:,}",
            _freshness(line),
        )
    return table


def _plain(line: Line) -> str:
    return f"{line.feed}: {line.published:,} published, {line.lag:,} behind, {_freshness(line)} old"


def _freshness(line: Line) -> str:
    return "-" if line.freshness_seconds is None else f"{line.freshness_seconds:.1f} s"
