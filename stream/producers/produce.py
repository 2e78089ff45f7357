"""Run one producer, from a request to a report: what `headrace produce` calls.

Sources: the seeded simulator, a file of JSON lines, or live (a venue's websocket, FMP or RSS).
Raises ConfigError for a wrong request, a missing stream or missing permission; an unreachable
stream is no error when there is a spool. Not here: creating the stream, parsing arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, StoreUnavailableError
from stream.producers.kinesis import open_sender
from stream.producers.news import NewsSource, NewsStats
from stream.producers.news_source import FmpNews, NewsFeed, RssNews
from stream.producers.outbox import PublishRule
from stream.producers.pack import Packer, PackRule
from stream.producers.publish import Publisher
from stream.producers.pump import Batches, Figures, Progress, Pump
from stream.producers.replay_file import replay_file, simulate
from stream.producers.simulate import SimulationRule, Simulator, Truth
from stream.producers.spool import Spool
from stream.producers.venue import VenueSource, VenueStats
from stream.producers.venue_protocol import find_venue

DEFAULT_RATE = 5_000.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where to publish. Without a spool folder, what cannot be sent is counted and lost."""

    stream: str
    region: str
    endpoint_url: str | None = None
    spool_folder: Path | None = None
    spool_max_bytes: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """What to publish. `rate` None: as fast as it goes (simulated event times advance at 5,000/s).

    `source` "live" takes trades and quotes from `venue` and `products`, news from `rss_url` or
    from FMP for `products`. `url` replaces the venue's or FMP's address. `private_hosts`
    of RSS feeds need not be public. `state_folder` keeps the cursors of news sources.
    """

    feed: str
    source: Literal["simulate", "file", "live"] = "simulate"
    rate: float | None = DEFAULT_RATE
    count: int | None = None
    seconds: float | None = None
    seed: int = 1
    start_ns: int | None = None
    simulation: SimulationRule | None = None
    path: Path | None = None
    venue: str = "coinbase"
    products: tuple[str, ...] = ()
    url: str | None = None
    rss_url: str | None = None
    private_hosts: tuple[str, ...] = ()
    fmp_api_key: SecretStr | None = None
    state_folder: Path = Path(".headrace/producers")


@dataclass(frozen=True, slots=True)
class ProduceReport:
    """The figures of a run, and what its source can tell beside them."""

    figures: Figures
    truth: Truth | None = None
    venue: VenueStats | None = None
    news: NewsStats | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    batches: Batches
    on_settled: Callable[[], None] | None = None
    truth: Truth | None = None
    venue: VenueStats | None = None
    news: NewsStats | None = None


def produce(
    target: Target,
    request: Request,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ProduceReport:
    """Publish until the source ends, a bound is reached, or `stop` is set (from any thread).

    `progress` is called twice a second with the figures so far, and once at the end.
    """
    return asyncio.run(run(target, request, stop=stop, progress=progress, clock=clock))


async def run(
    target: Target,
    request: Request,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ProduceReport:
    """`produce` inside an event loop."""
    source = _open_source(request, clock)
    figures = await publish_batches(
        target,
        _at_most(source.batches, request.count),
        stop=stop,
        progress=progress,
        on_settled=source.on_settled,
        seconds=request.seconds,
        clock=clock,
    )
    return ProduceReport(figures, source.truth, source.venue, source.news)


async def publish_batches(
    target: Target,
    batches: Batches,
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    on_settled: Callable[[], None] | None = None,
    seconds: float | None = None,
    pack_rule: PackRule | None = None,
    publish_rule: PublishRule | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Figures:
    """Publish any source of (partition key, message) batches."""
    spool = open_spool(target, clock)
    try:
        async with open_sender(
            target.stream, region=target.region, endpoint_url=target.endpoint_url
        ) as sender:
            # An unreachable stream is no reason not to start: that is what the spool is for.
            with contextlib.suppress(StoreUnavailableError):
                await sender.check()
            pump = Pump(
                Publisher(sender, rule=publish_rule, spool=spool, clock=clock),
                Packer(pack_rule),
                target.stream,
                stop=stop,
                progress=progress,
                on_settled=on_settled,
                seconds=seconds,
                clock=clock,
            )
            return await pump.run(batches)
    finally:
        if spool is not None:
            spool.close()


def open_spool(target: Target, clock: Clock = SYSTEM_CLOCK) -> Spool | None:
    """The target's spool: one folder per stream."""
    if target.spool_folder is None:
        return None
    folder = target.spool_folder / target.stream
    return Spool(folder, max_bytes=target.spool_max_bytes, clock=clock)


def _open_source(request: Request, clock: Clock) -> _Source:
    if request.rate is not None and request.rate <= 0:
        raise ConfigError(f"produce {request.feed}: rate must be > 0, found {request.rate}")
    if request.source == "simulate":
        return _open_simulator(request, clock)
    if request.source == "file":
        if request.path is None:
            raise ConfigError(f"produce {request.feed}: name the file with --from-file")
        return _Source(replay_file(request.path, rate=request.rate, clock=clock))
    if request.feed == "news":
        news = NewsSource(_news_feed(request), _cursor_file(request), clock=clock)
        return _Source(news.batches(), on_settled=news.commit, news=news.stats)
    live = VenueSource(
        find_venue(request.venue), request.feed, request.products, url=request.url, clock=clock
    )
    return _Source(live.batches(), venue=live.stats)


def _open_simulator(request: Request, clock: Clock) -> _Source:
    simulator = Simulator(
        request.feed,
        seed=request.seed,
        start_ns=clock.now_ns() if request.start_ns is None else request.start_ns,
        rate=request.rate or DEFAULT_RATE,
        rule=request.simulation,
    )
    # The count is given to the simulator too: its truth counts what was taken.
    batches = simulate(simulator, rate=request.rate, count=request.count, clock=clock)
    return _Source(batches, truth=simulator.truth)


def _news_feed(request: Request) -> NewsFeed:
    if request.rss_url is not None:
        return RssNews(request.rss_url, private_hosts=request.private_hosts)
    if request.url is not None:
        return FmpNews(request.fmp_api_key, request.products, url=request.url)
    return FmpNews(request.fmp_api_key, request.products)


def _cursor_file(request: Request) -> Path:
    """One cursor per address and symbols; a digest, because addresses may hold tokens."""
    what = f"{request.rss_url or request.url or 'fmp'} {','.join(sorted(request.products))}"
    return request.state_folder / f"news-{sha256(what.encode()).hexdigest()[:16]}.json"


async def _at_most(batches: Batches, count: int | None) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Cut a source after `count` messages."""
    done = 0
    try:
        async for batch in batches:
            yield batch if count is None else batch[: count - done]
            done += len(batch)
            if count is not None and done >= count:
                return
    finally:
        close = getattr(batches, "aclose", None)
        if close is not None:
            await close()
