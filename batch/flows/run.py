"""What every flow does first: settings, logs that carry the run's id, checked parameters.

The id of the flow run goes into the environment as LOG_CORRELATION_ID before anything else
starts: every log line of this process and of every child names it, so one search finds a run
in all the containers that it touched.
Not here: what a flow leaves behind (`report`).
"""

from __future__ import annotations

from datetime import date, timedelta

from prefect.runtime import flow_run

from batch.backfill.run import MAX_PARALLEL_DAYS
from batch.flows.logs import set_up_run_logging
from stream.clock import SYSTEM_CLOCK, Clock, parse_time_ms, to_utc
from stream.errors import ConfigError
from stream.local.platform import connect
from stream.settings import Settings, load_settings, set_correlation_id


def open_run() -> Settings:
    """Settings of this process, with logging and AWS set up. Raises: ConfigError."""
    settings = load_settings()
    if run_id := flow_run_id():  # whoever started us may have named its own run already
        set_correlation_id(run_id)
    set_up_run_logging(settings)
    try:
        connect(settings)
    except ConfigError:
        if not settings.is_in_folders:  # those need nothing that runs
            raise
    return settings


def flow_run_id() -> str | None:
    """The run that this code belongs to; None outside of one."""
    return flow_run.id or None


def check_range(first_day: date, last_day: date) -> None:
    """Raises: ConfigError for days that end before they begin.

    >>> check_range(date(2026, 1, 2), date(2026, 1, 2))
    """
    if first_day > last_day:
        raise ConfigError(
            f"start_date {first_day} lies after end_date {last_day}; both days are included"
        )


def check_parallel(days: int) -> None:
    """Raises: ConfigError outside the bounds: each day in work is a thread and an extract."""
    if not 1 <= days <= MAX_PARALLEL_DAYS:
        raise ConfigError(f"parallel_days is {days}; give 1 to {MAX_PARALLEL_DAYS}")


def parse_interval_ms(start: str, end: str) -> tuple[int, int]:
    """Two ISO times as milliseconds. Raises: ConfigError if one is none, or they do not increase.

    >>> parse_interval_ms("1970-01-01T00:00:01", "1970-01-01T00:00:02+00:00")
    (1000, 2000)
    """
    try:
        from_ms, to_ms = parse_time_ms(start), parse_time_ms(end)
    except ValueError:
        raise ConfigError(
            f"start {start!r} and end {end!r} must be ISO times, e.g. 2026-11-23T09:30:00 (UTC) "
            "or 2026-11-23T09:30:00+01:00"
        ) from None
    if from_ms >= to_ms:
        raise ConfigError(f"start {start} is not before end {end}; the end is excluded")
    return from_ms, to_ms


def list_previous_days(count: int, clock: Clock = SYSTEM_CLOCK) -> list[date]:
    """The last full UTC days, oldest first. Raises: ConfigError for less than one.

    >>> from stream.clock import ManualClock
    >>> [str(day) for day in list_previous_days(2, ManualClock(0))]
    ['1969-12-30', '1969-12-31']
    """
    if count < 1:
        raise ConfigError(f"last_days is {count}; give at least 1, or name the days")
    today = to_utc(clock.now_ns()).date()
    return [today - timedelta(days=back) for back in range(count, 0, -1)]
