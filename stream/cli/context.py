"""What most verbs need first: settings, logging, a valid feed name, the platform's endpoints."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from stream.errors import ConfigError

if TYPE_CHECKING:
    from stream.settings import Settings


def open_settings(*, needs_platform: bool = False, **overrides: object) -> Settings:
    """Load settings, set up logging, and reach AWS if the verb needs it. Raises: ConfigError."""
    from stream.failpoints import arm
    from stream.settings import correlation_id, load_settings, secret_values
    from stream.telemetry import set_up_logging

    settings = load_settings(**overrides)
    set_up_logging(
        settings.log_level,
        settings.log_format,
        correlation_id(),
        secrets=secret_values(settings),
    )
    arm(settings.failpoints)
    if needs_platform:
        from stream.local.platform import connect

        connect(settings)
    return settings


def open_lake_settings() -> Settings:
    """Like `open_settings`, for verbs that look at a lake which may be at rest.

    When the local platform is down but its data is there, its emulator runs for the length of
    the command: a lake kept by `demo --keep` answers without `up`.
    """
    from stream.local.platform import embedded, is_at_rest

    settings = open_settings()
    if is_at_rest(settings):
        click.get_current_context().with_resource(embedded(settings))
        return settings
    try:
        return open_settings(needs_platform=True)
    except ConfigError:
        if settings.is_in_folders:
            return settings
        raise


def check_feeds(names: tuple[str, ...] | list[str], *, needs_stream: bool = False) -> list[str]:
    """The feeds that were named, or all of them (with a stream, if the verb needs one).

    Raises: ConfigError with the nearest name.
    """
    from stream.feeds import load_feeds, streamed_feeds

    known, streamed = list(load_feeds()), streamed_feeds()
    for name in names:
        if needs_stream and name in known and name not in streamed:
            raise ConfigError(
                f"feed {name!r} has no stream, extracts fill it: `headrace backfill --feed {name}` "
                f"or `headrace replay {name} --source extract`. Streams: {', '.join(streamed)}."
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"no feed {name!r}; feeds are: {', '.join(known)}.{hint}")
    return list(names) or (streamed if needs_stream else known)


def read_time_ms(text: str) -> int:
    """Milliseconds of an ISO time that a user gave. Raises: ConfigError saying what one is."""
    from stream.clock import parse_time_ms

    try:
        return parse_time_ms(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not an ISO time, e.g. 2026-11-23T09:30:00 (UTC) or "
            "2026-11-23T09:30:00+01:00"
        ) from None
