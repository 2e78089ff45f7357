"""A feed now, in one word and one sentence. Pure, so that its precedence can be tested whole.

The first of these that holds is the answer:
    never started   nothing was ever committed, and nothing runs it
    dead            it should run, and its process is gone
    stopped         it was stopped on purpose, or the platform was
    stalled         its process is there, and no epoch ends; or the stream or the lake is away
    lagging         records wait for longer than the contract's freshness target
    silent          the market is open and nothing arrives
    idle            nothing arrives, and nothing has to
    live            records are committed
"""

from __future__ import annotations

from dataclasses import dataclass

from stream.lag import SILENT_MS
from stream.watch.state import Condition

PULSE_SECONDS = 5.0
"""The pulse is written every second; so late, it is not written any more."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a feed. None: not known.

    `process`: the supervisor's word for it, None if it does not run it. `is_alive`: whether the
    process that wrote the last pulse exists; None without a pulse. `is_remote`: the dataflow runs
    elsewhere, so that neither pulse nor process says anything. `away`: why stream or lake cannot
    be reached. `quiet_open_ms`: how much of the time since the newest arrival the market was open.
    """

    feed: str
    has_stream: bool = True
    is_started: bool | None = None
    process: str | None = None
    last_line: str = ""
    is_alive: bool | None = None
    pulse_age_ms: int | None = None
    epoch_age_ms: int | None = None
    epoch_limit_ms: int = 60_000
    commit_age_ms: int | None = None
    is_remote: bool = False
    away: str = ""
    behind_ms: int | None = None
    target_ms: int = 0
    min_per_minute: int = 0
    is_open: bool = True
    quiet_open_ms: int | None = None
    records_per_s: float | None = None


def judge(signs: Signs) -> tuple[Condition, str]:
    """The condition, and why.

    >>> judge(Signs("trades", is_started=False))[0]
    'never started'
    """
    for rule in (_extracted, _absent, _stalled, _behind, _quiet):
        if (found := rule(signs)) is not None:
            return found
    rate = f"{signs.records_per_s:,.0f} records/s" if signs.records_per_s else "records"
    return "live", f"{rate} committed over the last minute"


def _extracted(signs: Signs) -> tuple[Condition, str] | None:
    """A feed without a stream: nothing runs it, extracts fill it."""
    if signs.has_stream:
        return None
    fill = f"`headrace backfill --feed {signs.feed}`"
    if signs.is_started is False:
        return "never started", f"no extract was landed yet. Land one: {fill}"
    return "idle", signs.away or f"extracts fill it: {fill}"


def _absent(signs: Signs) -> tuple[Condition, str] | None:
    """Never started, dead or stopped."""
    if signs.is_remote:
        return _never(signs) if signs.is_started is False else None
    # Without a pulse yet it starts: the first one comes with the first listing of shards.
    starts = signs.process == "running" and signs.is_alive is None
    if signs.is_alive or starts:
        return None
    if signs.process is not None or signs.is_alive is False:
        return "dead", _obituary(signs)
    if signs.is_started is False:
        return _never(signs)
    return "stopped", f"no process runs it. Start it: `headrace up {signs.feed}`"


def _obituary(signs: Signs) -> str:
    said = f": {signs.last_line}" if signs.last_line else ""
    run = f"`headrace run {signs.feed}`"
    if signs.process == "failed":
        return f"its process ended and is not started again{said}. Mend that, then {run}"
    if signs.process == "running":
        return "its process ended; the supervisor has started another, which gets ready"
    if signs.process is not None:
        return f"its process ended; the supervisor starts it again{said}"
    age = _seconds(signs.pulse_age_ms)
    return f"its process is gone, it wrote its last pulse {age} ago. Start it: {run}"


def _never(signs: Signs) -> tuple[Condition, str]:
    return "never started", f"nothing was committed yet. Start it: `headrace up {signs.feed}`"


def _stalled(signs: Signs) -> tuple[Condition, str] | None:
    if signs.away:
        return "stalled", signs.away
    if signs.is_remote:
        waits = (signs.behind_ms or 0) > signs.target_ms
        is_old = signs.commit_age_ms is not None and signs.commit_age_ms > signs.epoch_limit_ms
        if waits and is_old:
            age = _seconds(signs.commit_age_ms)
            return "stalled", f"records wait and nothing was committed for {age}: look at its task"
        return None
    if signs.pulse_age_ms is not None and signs.pulse_age_ms > PULSE_SECONDS * 1000:
        age = _seconds(signs.pulse_age_ms)
        return "stalled", f"its process exists, but has said nothing for {age}: is it suspended?"
    if signs.epoch_age_ms is not None and signs.epoch_age_ms > signs.epoch_limit_ms:
        age = _seconds(signs.epoch_age_ms)
        return "stalled", f"no epoch has ended for {age}; its watchdog restarts it"
    return None


def _behind(signs: Signs) -> tuple[Condition, str] | None:
    if signs.behind_ms is None or signs.behind_ms <= signs.target_ms:
        return None
    return "lagging", (
        f"the oldest unread record arrived {_seconds(signs.behind_ms)} ago; "
        f"the contract promises {_seconds(signs.target_ms)}"
    )


def _quiet(signs: Signs) -> tuple[Condition, str] | None:
    """Silent or idle: nothing was committed lately, and nothing waits."""
    if signs.is_started is None:
        return "idle", "its lake has not been read yet"
    if signs.records_per_s:
        return None
    if not signs.is_open:
        return "idle", "its market is closed"
    if signs.min_per_minute and (signs.quiet_open_ms or 0) >= SILENT_MS:
        return "silent", (
            f"its market is open and nothing has arrived for {_seconds(signs.quiet_open_ms)}; "
            f"the contract promises {signs.min_per_minute:,} a minute. Look at the producer"
        )
    if signs.quiet_open_ms is None:
        return "idle", "it is ready, and nothing has arrived yet"
    return "idle", "everything that arrived is committed"


def _seconds(ms: int | None) -> str:
    """A duration for people.

    >>> _seconds(4_200), _seconds(90_000), _seconds(7_500_000), _seconds(None)
    ('4.2 s', '1 min 30 s', '2 h 5 min', 'some time')
    """
    if ms is None:
        return "some time"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
