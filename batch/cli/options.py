"""What batch's verbs have in common: days, key=value options, a progress line, dry runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Self, TypeVar

import click

from stream.clock import SYSTEM_CLOCK
from stream.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

apply_option = click.option(
    "--apply", is_flag=True, help="Do it; without it, only say what would be done."
)
DRY_RUN = "A dry run: nothing was written. --apply does it."
PROGRESS_SECONDS = 0.3


def read_day(text: str) -> date:
    """A UTC day that a user gave. Raises: ConfigError saying what one is."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a day, e.g. 2026-11-24") from None


def read_options(given: Sequence[str]) -> dict[str, str]:
    """`key=value` words as a mapping. Raises: ConfigError naming the word that is none."""
    found = {}
    for word in given:
        key, is_pair, value = word.partition("=")
        if not is_pair or not key:
            raise ConfigError(f"option {word!r}: expected key=value, e.g. interval=5min")
        found[key] = value
    return found


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
