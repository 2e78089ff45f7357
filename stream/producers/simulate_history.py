"""Simulated history: what the simulated market said on any day, a pure function of what is asked.

The same feed, day, symbols, rows and seed give the same lines, whichever days were made before.
Every day begins at the same prices; ids carry their day, so that no two days share one. Clean on
purpose: no duplicates, nothing late, one row a line, exactly as many as asked for; the stream's
`Simulator` has the dirt. Not here: parts and manifests (`batch.extracts.simulate`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from zlib import crc32

import numpy as np
import orjson

from stream.errors import ConfigError
from stream.producers.simulate_market import (
    Instruments,
    Market,
    MarketRule,
    QuoteMarket,
    TradeMarket,
)
from stream.producers.simulate_news import NewsWire

HISTORY_FEEDS = ("trades", "quotes", "news", "prices_daily")
DEFAULT_SYMBOLS = 100

_CHUNK = 4_096
_DAY_NS = 86_400_000_000_000
_EPOCH = date(1970, 1, 1)
_MARKETS: dict[str, Callable[[np.random.Generator, MarketRule], Market]] = {
    "trades": TradeMarket,
    "quotes": QuoteMarket,
    "news": NewsWire,
}
_DAY_BOUND = {
    "trades": ((b'"trade_id":"', b'"trade_id":"%s'),),
    "quotes": ((b'"quote_id":"', b'"quote_id":"%s'),),
    "news": ((b'"story_id":"sw-', b'"story_id":"sw-%s-'), (b"/simwire/", b"/simwire/%s-")),
}
"""What ids look like, and how they carry their day."""


def simulate_day(
    feed: str, day: date, *, rows: int, seed: int, symbols: tuple[str, ...] = ()
) -> Iterator[list[bytes]]:
    """The day's messages in order of event time, some thousand at a time.

    Args: rows: how many; of prices_daily as many symbols, if none are named. symbols: upper case,
    at most one row each in prices_daily; without, the simulated market's own.
    Raises: ConfigError for a feed that has no simulated history.

    >>> from datetime import date
    >>> a, b = (list(simulate_day("quotes", date(2026, 1, 5), rows=3, seed=1)) for _ in "ab")
    >>> a == b, [len(lines) for lines in a]
    (True, [3])
    """
    if feed == "prices_daily":
        yield [_bar(day, seed, symbol) for symbol in symbols or own_names(rows, seed)]
        return
    if feed not in _MARKETS:
        raise ConfigError(
            f"{feed!r} has no simulated history; it exists for {', '.join(HISTORY_FEEDS)}"
        )
    rule = MarketRule(symbols=len(symbols) or DEFAULT_SYMBOLS)
    market, rng = _open_market(feed, day, seed, rule)
    rename = _renamer(own_names(rule.symbols, seed), symbols)
    # Gaps of a Poisson process, stretched to the day.
    ends = np.cumsum(rng.exponential(1.0, rows + 1))
    begin_ns = (day - _EPOCH).days * _DAY_NS
    ts = begin_ns + (ends[:-1] / ends[-1] * _DAY_NS).astype(np.int64)
    stamp = day.strftime("%Y%m%d").encode()
    for at in range(0, rows, _CHUNK):
        times = ts[at : at + _CHUNK]
        text = b"\n".join(market.chunk(times, np.zeros(len(times), bool)).lines)
        for plain, stamped in _DAY_BOUND[feed]:
            text = text.replace(plain, stamped % stamp)
        yield rename(text).split(b"\n")


def _open_market(
    feed: str, day: date, seed: int, rule: MarketRule
) -> tuple[Market, np.random.Generator]:
    """A market that opens at its seed's prices and then goes the day's own way."""
    name = crc32(feed.encode())
    rng = np.random.default_rng([seed, name])
    market = _MARKETS[feed](rng, rule)
    rng.bit_generator.state = np.random.default_rng(
        [seed, name, day.toordinal()]
    ).bit_generator.state
    return market, rng


def own_names(count: int, seed: int) -> tuple[str, ...]:
    """The simulated market's own symbols, the first `count`."""
    return tuple(Instruments(np.random.default_rng(seed), MarketRule(symbols=count)).names)


def _renamer(own: tuple[str, ...], wanted: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """Puts the wanted symbols where the market's own names stand."""
    if not wanted:
        return lambda text: text
    table = {name.encode(): symbol.encode() for name, symbol in zip(own, wanted, strict=True)}
    names = re.compile(rb"\b(?:%s)\b" % b"|".join(table))
    return lambda text: names.sub(lambda found: table[found[0]], text)


def _bar(day: date, seed: int, symbol: str) -> bytes:
    """One bar: it opens where the day before closed, and became known when its day was over."""
    before, close = close_of(day - timedelta(days=1), seed, symbol), close_of(day, seed, symbol)
    rng = np.random.default_rng([seed, crc32(symbol.encode()), day.toordinal(), 1])
    up, down = rng.exponential(0.004, 2)
    bar = {
        "source": "simulated",
        "symbol": symbol,
        "session_date": day.isoformat(),
        "open": before,
        "high": round(max(before, close) * (1 + float(up)), 2),
        "low": round(min(before, close) * (1 - min(float(down), 0.5)), 2),
        "close": close,
        "volume": int(rng.lognormal(13.0, 0.6)),
        "known_at_ns": ((day - _EPOCH).days + 1) * _DAY_NS,
    }
    return orjson.dumps(bar)


def close_of(day: date, seed: int, symbol: str) -> float:
    """A symbol's close: slow waves around its level, and the day's own noise."""
    own = np.random.default_rng([seed, crc32(symbol.encode())])
    level, phases = own.lognormal(4.0, 1.0), own.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * day.toordinal() / np.array([900.0, 170.0, 31.0]) + phases)
    noise = np.random.default_rng([seed, crc32(symbol.encode()), day.toordinal()]).normal(0, 0.01)
    return round(float(level * np.exp(waves @ np.array([0.3, 0.1, 0.03]) + noise)) + 1, 2)
