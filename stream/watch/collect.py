"""Read everything that a person watches into one `WatchState`; nothing that is away stops the rest.

    processes      files and the process table: always there
    feed_lake      ledger, quarantine, tables, per feed        ┐ in the background, waited for at
    feed_stream    lag per shard, per feed                     │ most two seconds in all (`parts`);
    gold, prefect  conditions of days, flow runs               ┘ then the last reading stands

A part that fails or does not answer becomes a `Problem` with advice. Collecting writes nothing
but the history of what was seen (`history`), and makes no lake, table or folder.

    watcher = Watcher(settings, ["trades"])
    while True:
        state = watcher.collect()      # every second; keeps what changes slowly
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError, PipelineError
from stream.feeds import load_feed, streamed_feeds
from stream.feeds.contract import Contract
from stream.lag import LagReport
from stream.lake.connect import open_lake_store
from stream.local.platform import connect
from stream.local.state import PlatformState
from stream.settings import Settings
from stream.watch.days import GoldDays, read_gold_days
from stream.watch.feed_lake import FeedFacts, FeedLake, FeedStream, catalog_life
from stream.watch.feed_view import Sight, view_feed
from stream.watch.history import History, Sample
from stream.watch.parts import WAIT_SECONDS, Part, Reading
from stream.watch.prefect_runs import PrefectRuns, find_url
from stream.watch.processes import read_life, read_platform
from stream.watch.state import Feed, Platform, Prefect, Problem, WatchState

T = TypeVar("T")

FIRST_SECONDS = 15.0
"""A single state waits for what takes long to open; who watches shows what there is at once."""
LATE_SECONDS = 5.0
"""A reading that takes longer is a problem to be shown; a busy machine needs a second or two."""
PROBE_SECONDS = 1.0
BAD = {"dead", "stalled", "lagging", "silent"}


def collect(settings: Settings, feeds: Sequence[str] = ()) -> WatchState:
    """One state, from nothing. To watch, keep a `Watcher`: it reads only what changed.

    Args: feeds: empty = every feed that has a stream. Raises: ConfigError (no such feed).
    """
    return Watcher(settings, feeds).collect(wait_seconds=FIRST_SECONDS)


@dataclass(slots=True)
class _FeedParts:
    """The background readings of one feed."""

    contract: Contract
    lake: Part[FeedFacts]
    stream: Part[LagReport | None]


@dataclass(slots=True)
class _Round:
    """What one collecting knows before it comes to the feeds."""

    processes: PlatformState
    away: str
    gold: GoldDays
    deadline: float
    problems: list[Problem]


class Watcher:
    """Collects states of some feeds. Use it from one thread."""

    def __init__(
        self,
        settings: Settings,
        feeds: Sequence[str] = (),
        *,
        clock: Clock = SYSTEM_CLOCK,
        history: History | None = None,
    ) -> None:
        """`history`: where samples go; None = into the home. Raises: ConfigError (no such feed)."""
        self._settings, self._clock = settings, clock
        self.history = history or History(settings.home.absolute() / "watch", clock=clock)
        self._feeds = [self._feed_parts(name) for name in feeds or streamed_feeds()]
        self._gold_days = GoldDays()
        self._gold = Part(self._read_gold, rest_seconds=10.0, name="watch-gold", clock=clock)
        self._prefect_url = ""
        self._prefect = PrefectRuns(settings)
        self._runs = Part(
            lambda: self._prefect.read(self._prefect_url),
            rest_seconds=2.0,
            name="watch-prefect",
            clock=clock,
        )

    def collect(self, *, wait_seconds: float = WAIT_SECONDS) -> WatchState:
        """The state now; waits so long at most for what is slow."""
        platform, processes = read_platform(self._settings)
        problems = _platform_problems(self._settings, platform)
        away = self._reach_aws(processes)
        if away and platform.phase in {"running", "starting", "account"}:
            problems.append(Problem("AWS does not answer", "lake and streams", away))
        self._start(platform, away)
        deadline = self._clock.monotonic() + wait_seconds
        gold = self._gold.look(deadline - self._clock.monotonic())
        problems += _part_problems("Gold", gold)
        prefect = self._look_at_prefect(deadline, problems)
        around = _Round(processes, away, gold.value or GoldDays(), deadline, problems)
        feeds = tuple(self._view(parts, around) for parts in self._feeds)
        state = WatchState(now_ms(self._clock), platform, feeds, prefect, tuple(_once(problems)))
        self._remember(state)
        return state

    def _feed_parts(self, name: str) -> _FeedParts:
        contract, settings, clock = load_feed(name), self._settings, self._clock
        lake, stream = FeedLake(settings, contract, clock), FeedStream(settings, contract, clock)
        # All readers of a real shard share five reads a second.
        rest_seconds = 15.0 if settings.aws == "account" else 0.5
        return _FeedParts(
            contract,
            Part(lake.read, name=f"watch-lake-{name}", clock=clock),
            Part(
                stream.read,
                rest_seconds=rest_seconds,
                name=f"watch-stream-{name}",
                clock=clock,
            ),
        )

    def _reach_aws(self, processes: PlatformState) -> str:
        """Point at the platform's AWS. Returns why it cannot be reached; "" if it can."""
        if self._settings.aws == "account":
            return ""
        try:
            endpoint = connect(self._settings)
        except ConfigError as error:
            return str(error)
        moved = processes.endpoint if processes.phase == "running" else None
        if endpoint and not _answers(endpoint):
            other = f" The platform's is now at {moved}: start this command again." if moved else ""
            other = other if moved != endpoint else ""
            return f"AWS at {endpoint} does not answer.{other or ' Is `headrace up` running?'}"
        return ""

    def _start(self, platform: Platform, away: str) -> None:
        """Begin every reading that can succeed."""
        # Whether a lake was ever made is known without AWS.
        is_lake_there = not away or self._settings.is_in_folders
        is_lake_there = is_lake_there or catalog_life(self._settings) is None
        for parts in self._feeds:
            if is_lake_there:
                parts.lake.start()
            if not away and parts.contract.has_stream:
                parts.stream.start()
        if is_lake_there and catalog_life(self._settings) is not None:
            self._gold.start()
        has_prefect = any(process.name == "prefect" for process in platform.processes)
        self._prefect_url = find_url(self._settings, is_running=has_prefect)
        self._runs.start()

    def _look_at_prefect(self, deadline: float, problems: list[Problem]) -> Prefect:
        found = self._runs.look(deadline - self._clock.monotonic())
        problem = _part_problems("Prefect", found)
        if not problem:
            return found.value or Prefect("off")
        problems += problem
        page = self._prefect_url.removesuffix("/api")
        return Prefect("unreachable", page, found.value.runs if found.value else ())

    def _view(self, parts: _FeedParts, around: _Round) -> Feed:
        name = parts.contract.feed
        lake = parts.lake.look(around.deadline - self._clock.monotonic())
        lag = parts.stream.look(around.deadline - self._clock.monotonic())
        facts = lake.value
        # While AWS is away, that is said once and not again for each reading that needs it.
        has_lake = not around.away or self._settings.is_in_folders
        lake_problem = _part_problems(f"the lake of {name}", lake) if has_lake else []
        stream_problem = [] if around.away else _part_problems(f"the stream of {name}", lag)
        around.problems += [*lake_problem, *stream_problem]
        reason = around.away or next((f"{p.what}: {p.advice}" for p in stream_problem), "")
        view = view_feed(
            self._settings,
            parts.contract,
            Sight(
                facts,
                lake.at_ms,
                lag.value,
                lag.at_ms,
                away=reason,
                life=read_life(self._settings, around.processes, name, self._clock),
                gold=around.gold,
            ),
            now_ms(self._clock),
        )
        if view.condition_now in BAD:
            around.problems.insert(0, Problem(f"{name} is {view.condition_now}", name, view.why))
        if facts and facts.recent_gaps:
            around.problems.insert(0, _gap_problem(name, facts.recent_gaps))
        return view

    def _read_gold(self) -> GoldDays:
        store, home = open_lake_store(self._settings), self._settings.home.absolute()
        self._gold_days = read_gold_days(store, home, self._gold_days)
        return self._gold_days

    def _remember(self, state: WatchState) -> None:
        """Samples for the graphs, if there is a home to keep them in."""
        if not self._settings.home.is_dir():
            return
        with suppress(OSError):  # a full disk must not end what only looks
            for feed in state.feeds:
                if feed.condition_now != "never started":
                    self.history.add(feed.feed, Sample.of(feed, state.at_ms))


def _answers(endpoint: str) -> bool:
    """Whether something takes connections there."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def _platform_problems(settings: Settings, platform: Platform) -> list[Problem]:
    """What the supervisor says itself."""
    where = str(settings.home.absolute())
    if platform.phase == "failed":
        return [Problem("the platform did not start", where, platform.error)]
    if platform.phase == "stopped" and settings.emulator == "roto":
        at_rest = (
            " The lake in the embedded AWS rests with it." if not settings.is_in_folders else ""
        )
        advice = f"Start it: `headrace up`.{at_rest}"
        return [Problem("the platform is not running", where, advice)]
    return []


def _gap_problem(feed: str, count: int) -> Problem:
    return Problem(
        f"{feed} lost records: {count} gap{'s' if count > 1 else ''} within a day",
        feed,
        "The stream no longer held them. Ask the producer to send them again, or replay from an "
        'extract; `headrace query "FROM gaps"` names the ranges.',
    )


def _part_problems(what: str, reading: Reading[Any]) -> list[Problem]:
    """Why a part is not as new as it should be; nothing if it is."""
    if reading.error is not None:
        error = reading.error
        if isinstance(error, PipelineError):
            return [Problem(f"{what} cannot be read", what, str(error))]
        return [
            Problem(
                f"{what} cannot be read",
                what,
                f"{type(error).__name__}: {error}. This is a fault of headrace: report it, with "
                "the output of `headrace check`.",
            )
        ]
    if reading.late_seconds is not None and reading.late_seconds >= LATE_SECONDS:
        late = f"no answer for {reading.late_seconds:.0f} s"
        advice = "Shown is what was read last." if reading.at_ms else "A long ledger takes a while."
        return [Problem(f"{what}: {late}", what, advice)]
    return []


def _once(problems: list[Problem]) -> list[Problem]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(problems))
