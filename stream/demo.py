"""The whole road on one command: what `headrace demo` runs.

An embedded AWS, one dataflow process per feed (the same `headrace run` that ECS starts), a
seeded simulator per feed, live progress, then a query over fresh Silver and a proof. Everything
is tied to this process: however it ends, nothing stays behind but a lake that was asked for.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from rich.console import Console

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.demo_screen import Line, Screen, cells_of, table_of
from stream.errors import ConfigError, PipelineError
from stream.heartbeat import Pulse, read_pulse
from stream.local.platform import create_lake_and_streams, embedded, feed_environment
from stream.local.process import last_line, reap, spawn
from stream.producers.produce import Request, Target, produce
from stream.producers.pump import Figures
from stream.prove import Proof, prove
from stream.query import run_query
from stream.settings import Settings

SHARES: Mapping[str, float] = {"trades": 0.7, "quotes": 0.295, "news": 0.005}
"""Share of each feed in the demo's messages."""
DEFAULT_RATE = 3_000.0
DEFAULT_SECONDS = 15.0
CATCH_UP_SECONDS = 90.0
START_SECONDS = 60.0

QUERY = """
SELECT symbol, venue, sum(trades)::BIGINT AS trades, min(low) AS low, max(high) AS high,
       arg_max(close, ts_event_ns) AS last, round(sum(notional) / sum(volume), 4) AS vwap
FROM bars_1m_current WHERE trades > 0 GROUP BY ALL ORDER BY sum(notional) DESC LIMIT 5
"""


class Finale(Protocol):
    """What follows the proof; it may prepare itself while the stream runs."""

    def begin(self, settings: Settings) -> None:
        """Start to prepare, without blocking. `settings` are those of the demo's platform."""
        ...

    def end(self) -> None:
        """Stop preparing, at any moment; called once, however the demo ends."""
        ...

    def conclude(self, console: Console) -> tuple[bool, Any]:
        """Show it; whether all is well, and what `--json` prints."""
        ...


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo shows at its end. `published`: messages that Kinesis acknowledged."""

    published: dict[str, int]
    committed: dict[str, int]
    answer: list[dict[str, Any]]
    is_equal: bool
    verdict: str
    home: str | None
    seconds: float
    finale: Any = None


@dataclass(slots=True)
class _Feed:
    """One feed of the running demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    figures: Figures | None = None
    error: BaseException | None = None
    pulse: Pulse | None = None

    @property
    def acknowledged(self) -> int:
        return self.figures.receipt.messages if self.figures else 0

    @property
    def committed(self) -> int:
        return int(self.pulse.tally["messages"]) if self.pulse else 0


@dataclass(slots=True)
class _Publishing:
    """The producers' threads."""

    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(10)


def run_demo(
    settings: Settings,
    *,
    records: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    seed: int = 7,
    keep: bool = False,
    is_quiet: bool = False,
    finale: Finale | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> DemoResult:
    """Run it. Publishes `records` messages (default: 15 s at `rate`, 3,000 a second).

    Raises: ConfigError (a port, the disk, a missing tool), PipelineError when a dataflow died.
    """
    began = clock.monotonic()
    rate = rate or DEFAULT_RATE
    seconds = seconds or (records / rate * 2 + 30 if records else DEFAULT_SECONDS)
    with ExitStack() as stack:
        settings = _demo_settings(settings, stack, keep=keep)
        stack.enter_context(embedded(settings))
        create_lake_and_streams(settings, list(SHARES))
        screen = stack.enter_context(Screen(is_quiet=is_quiet))
        feeds = stack.enter_context(_dataflows(settings))
        _wait_for_dataflows(settings, feeds, clock)
        requests = {
            feed: Request(
                feed,
                rate=rate * share,
                count=max(1, round(records * share)) if records else None,
                seconds=seconds,
                seed=seed,
                start_ns=clock.now_ns(),
            )
            for feed, share in SHARES.items()
        }
        publishing = _publish(settings, feeds, requests)
        stack.callback(publishing.end)
        if finale is not None:
            stack.callback(finale.end)
            finale.begin(settings)
        _watch(settings, feeds, publishing, screen, clock)
        for feed in feeds:  # SIGTERM: the open epoch is committed, then exit 0
            reap(feed.process)
        screen.close()
        result = _conclude(settings, feeds, console=screen.console)
        is_well, more = finale.conclude(screen.console) if finale is not None else (True, None)
        screen.console.print(result.verdict)
        if keep:
            _say_where(screen.console, settings.home)
        return replace(
            result,
            is_equal=result.is_equal and is_well,
            finale=more,
            home=str(settings.home) if keep else None,
            seconds=round(clock.monotonic() - began, 1),
        )


def _demo_settings(settings: Settings, stack: ExitStack, *, keep: bool) -> Settings:
    """Short windows and epochs, so that a short run shows commits; a folder that goes away."""
    quick = {"window_ms": 1_000, "grace_ms": 300, "epoch_seconds": 2.0, "aws": "embedded"}
    if not keep:
        home = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        quick["home"] = home
    return settings.model_copy(update=quick)


@contextmanager
def _dataflows(settings: Settings) -> Iterator[list[_Feed]]:
    """One `headrace run` process per feed, ended with the block."""
    feeds: list[_Feed] = []
    try:
        for name in SHARES:
            log = settings.home.absolute() / "log" / f"{name}.log"
            command = [sys.executable, "-m", "stream.cli", "run", name]
            feeds.append(_Feed(name, spawn(command, log, feed_environment(settings, name)), log))
        yield feeds
    finally:
        for feed in feeds:
            if feed.process.poll() is None:
                feed.process.terminate()
        for feed in feeds:
            reap(feed.process)


def _wait_for_dataflows(settings: Settings, feeds: list[_Feed], clock: Clock) -> None:
    """Until each has written its first pulse: a demo should not begin with a backlog."""
    deadline = clock.monotonic() + START_SECONDS
    while any(read_pulse(settings.home, feed.name) is None for feed in feeds):
        for feed in feeds:
            _check(feed)
        if clock.monotonic() > deadline:
            raise PipelineError(f"the dataflows did not start within {START_SECONDS:.0f} s")
        clock.sleep(0.1)


def _publish(
    settings: Settings, feeds: list[_Feed], requests: Mapping[str, Request]
) -> _Publishing:
    """Start one simulator per feed in a thread of its own."""
    publishing = _Publishing()

    def run(feed: _Feed) -> None:
        target = Target(settings.stream_name(feed.name), settings.region)
        request = requests[feed.name]
        try:
            feed.figures = produce(
                target, request, stop=publishing.stop, progress=lambda f: _note(feed, f)
            ).figures
        except PipelineError as error:
            feed.error = error

    for feed in feeds:
        thread = threading.Thread(
            target=run, args=(feed,), name=f"produce-{feed.name}", daemon=True
        )
        publishing.threads.append(thread)
        thread.start()
    return publishing


def _note(feed: _Feed, figures: Figures) -> None:
    feed.figures = figures


def _watch(
    settings: Settings,
    feeds: list[_Feed],
    publishing: _Publishing,
    screen: Screen,
    clock: Clock,
) -> None:
    """Show progress until everything that was acknowledged is committed."""
    deadline: float | None = None
    while True:
        for feed in feeds:
            feed.pulse = read_pulse(settings.home, feed.name) or feed.pulse
            _check(feed)
        screen.show([_line(feed, clock) for feed in feeds])
        if not publishing.is_running:
            if all(feed.committed >= feed.acknowledged for feed in feeds):
                return
            deadline = deadline or clock.monotonic() + CATCH_UP_SECONDS
            if clock.monotonic() > deadline:
                raise ConfigError(
                    f"the dataflows did not catch up within {CATCH_UP_SECONDS:.0f} s of the last "
                    "message: this machine is too slow for that rate. Try --rate 500."
                )
        clock.sleep(0.25)


def _check(feed: _Feed) -> None:
    if feed.error is not None:
        raise feed.error
    if feed.process.poll() is not None:
        raise PipelineError(f"the dataflow of {feed.name} ended: {last_line(feed.log)}")


def _line(feed: _Feed, clock: Clock) -> Line:
    tally = feed.pulse.tally if feed.pulse else {}
    newest = tally.get("newest_arrival_ms", 0)
    return Line(
        feed=feed.name,
        published=feed.acknowledged,
        lag=max(0, feed.acknowledged - feed.committed),
        silver_rows=tally.get("silver_rows", 0),
        duplicates=tally.get("duplicates", 0),
        rejected=sum(tally.get("rejected", {}).values()),
        commits=tally.get("commits", 0),
        freshness_seconds=(now_ms(clock) - newest) / 1000 if newest else None,
    )


def _conclude(settings: Settings, feeds: list[_Feed], *, console: Console) -> DemoResult:
    """Query fresh Silver, prove every feed, and compare with what Kinesis acknowledged."""
    answer = run_query(settings, QUERY)
    proofs = [prove(settings, feed.name) for feed in feeds]
    published = {feed.name: feed.acknowledged for feed in feeds}
    committed = {proof.feed: proof.totals.messages for proof in proofs}
    is_equal = published == committed and all(proof.is_equal for proof in proofs)
    verdict = _verdict(published, committed, is_equal=is_equal)
    _print(console, answer, proofs)
    return DemoResult(published, committed, answer.to_pylist(), is_equal, verdict, None, 0.0)


def _verdict(published: dict[str, int], committed: dict[str, int], *, is_equal: bool) -> str:
    total = sum(published.values())
    if is_equal:
        return f"EQUAL: {total:,} messages acknowledged by Kinesis, all of them accounted for, once"
    return f"DIFFERENT: acknowledged {published}, accounted for {committed}; see the proofs above"


def _say_where(console: Console, home: Path) -> None:
    console.print(f'\nKept in {home}. Look around, e.g.: headrace query "FROM bars_1m_current"')


def _print(console: Console, answer: pa.Table, proofs: list[Proof]) -> None:
    top = [cells_of(row) for row in answer.to_pylist()]
    console.print(table_of(top, "headrace query: top symbols by notional, from fresh Silver"))
    rows = [
        {
            "feed": proof.feed,
            "records": proof.totals.records,
            "Bronze rows": proof.totals.bronze_rows,
            "messages": proof.totals.messages,
            "Silver rows": proof.totals.silver_rows,
            "duplicates": proof.totals.duplicates,
            "quarantined": proof.totals.quarantined,
            "verdict": "equal" if proof.is_equal else "NOT EQUAL",
        }
        for proof in proofs
    ]
    console.print(table_of(rows, "headrace prove: every object hashed, every row counted"))
    for proof in proofs:
        if not proof.is_equal:
            console.print(str(proof))
