"""The read model of watching: what is known of platform, feeds and Prefect at one moment. Pure.

All times are epoch milliseconds, UTC. None always means "not known", never zero: a lag that
could not be measured is not a lag of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Condition = Literal[
    "live", "idle", "lagging", "silent", "stalled", "dead", "stopped", "never started"
]
"""A feed now, in a word; `stream.watch.condition` says which one wins."""

DayCondition = Literal["available", "degraded", "pending", "missing", "unknown"]
"""A day of a feed's data, in Databento's words."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the local platform. `last_line`: what it said before it ended."""

    name: str
    state: str
    pid: int | None
    since_ms: int
    restarts: int
    exit_code: int | None
    last_line: str


@dataclass(frozen=True, slots=True)
class Platform:
    """The local platform. `phase`: starting, running, stopping, failed, stopped, or "account" when
    the feeds run in an AWS account and nothing here does.
    """

    phase: str
    emulator: str = ""
    endpoint: str | None = None
    error: str = ""
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class Market:
    """The feed's market. `next_change_ms`: when it opens or closes; None if it never does."""

    calendar: str
    is_open: bool
    next_change_ms: int | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was committed per second over the last `over_ms`."""

    records_per_s: float | None = None
    messages_per_s: float | None = None
    bytes_per_s: float | None = None
    over_ms: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard; the numbers are those of `stream.lag.ShardLag`, None if the stream is away."""

    shard: str
    state: str
    behind_ms: int | None
    tip_ms: int | None
    backlog: int | None
    is_capped: bool
    is_ended: bool
    committed: str | None
    records_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far each stage lies behind, as a time: everything that arrived before is durable there.

    Where nothing waits that is as fresh as the look itself, however old the newest record is: its
    age is `newest_ms`, from its arrival in the stream. None: not known.
    """

    bronze_ms: int | None
    silver_ms: int | None
    bars_ms: int | None
    newest_ms: int | None
    target_ms: int
    is_fresh: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the feed's ledger. `entry`: its object's key."""

    number: int
    kind: str
    committed_ms: int
    slices: int
    records: int
    silver_rows: int
    rejected: int
    duplicates: int
    entry: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One rejected message. `raw`: its text, at most 300 characters."""

    slice_id: str
    line_no: int
    detail: str
    raw: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Messages in quarantine under one reason code, redriven ones not counted.

    `withheld`: why no samples are shown; "" if they are (or could not be read).
    """

    reason: str
    count: int
    meaning: str
    samples: tuple[Sample, ...] = ()
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that the source no longer held, as the ledger names them."""

    shard: str
    reason: str
    after: str | None
    first_kept: str | None
    commit: int


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day of the feed (`YYYY-MM-DD`)."""

    day: str
    condition: DayCondition
    rows: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate in US dollars at the settings' prices. `parts`: per hour, by what is paid for."""

    usd_per_million: float | None = None
    usd_per_hour: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tables:
    """The Silver table. `rows` are those that the current snapshot holds."""

    snapshots: int | None = None
    small_files: int | None = None
    files: int | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Commands:
    """What to copy into a shell."""

    replay: str
    redrive: str
    prove: str


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed. `why` explains `condition_now` in one sentence, with what to do if it is bad."""

    feed: str
    doc: str
    condition_now: Condition
    why: str
    pulse_age_ms: int | None
    pid: int | None
    market: Market
    throughput: Throughput
    shards: tuple[Shard, ...]
    freshness: Freshness
    commits: tuple[Commit, ...]
    rejects: tuple[Reject, ...]
    gaps: tuple[Gap, ...]
    days: tuple[Day, ...]
    cost: Cost
    tables: Tables
    commands: Commands

    @property
    def behind_ms(self) -> int | None:
        """The lag of the shard that is furthest behind; None if none could be measured."""
        known = [shard.behind_ms for shard in self.shards if shard.behind_ms is not None]
        return max(known, default=None)


@dataclass(frozen=True, slots=True)
class PrefectRun:
    """One flow run. `url`: its page, "" if there is none."""

    flow: str
    name: str
    state: str
    start_ms: int | None
    duration_ms: int | None
    url: str


@dataclass(frozen=True, slots=True)
class Prefect:
    """Prefect's newest runs. `state` "off": none is configured or running here."""

    state: Literal["off", "up", "unreachable"]
    url: str = ""
    runs: tuple[PrefectRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A part that could not be read, or needs a person: what, where, and what to do."""

    what: str
    where: str
    advice: str


@dataclass(frozen=True, slots=True)
class WatchState:
    """Everything at `at_ms`."""

    at_ms: int
    platform: Platform
    feeds: tuple[Feed, ...] = ()
    prefect: Prefect = field(default_factory=lambda: Prefect("off"))
    problems: tuple[Problem, ...] = ()

    def feed(self, name: str) -> Feed:
        """One feed by its name. Raises: KeyError."""
        for found in self.feeds:
            if found.feed == name:
                return found
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """For machines: lists, dicts, numbers, text and None only."""
        state: dict[str, Any] = _plain(asdict(self))
        return state


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has no others."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
