"""A line on the terminal that says how far a long command has come."""

from __future__ import annotations

import sys
from typing import Self

import click

from stream.clock import SYSTEM_CLOCK

PROGRESS_SECONDS = 0.3


class ProgressLine:
    """One line on a terminal's stderr that is written over; silent anywhere else."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._next_at = 0.0
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)

    def show(self, text: str) -> None:
        """Show a text, not more often than people can read."""
        now = SYSTEM_CLOCK.monotonic()
        if self._is_shown and now >= self._next_at:
            self._next_at = now + PROGRESS_SECONDS
            click.echo("\r" + text.ljust(self._width), nl=False, err=True)
            self._width = max(self._width, len(text))
