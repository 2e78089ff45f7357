"""What batch's verbs have in common: days, key=value options, dry runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, TypeVar

import click

from stream.cli.progress import ProgressLine  # noqa: F401 - one line for all verbs
from stream.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

apply_option = click.option(
    "--apply", is_flag=True, help="Do it; without it, only say what would be done."
)
DRY_RUN = "A dry run: nothing was written. --apply does it."


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
