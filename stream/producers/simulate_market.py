"""The simulated market: symbols, prices, ids, and their messages in our and the venues' shapes.

Ids count up without gaps per (venue, symbol), as the venues' own do, so that gap detection can be
tried. Columns are drawn with numpy for a whole chunk; only the text is built per message. Not
here: dirt and order (`simulate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stream.producers.pack import DEFAULT_BUCKETS, partition_key

MALFORMED_KINDS = (
    "cut_json",
    "wrong_type",
    "nan",
    "negative_price",
    "invalid_utf8",
    "unknown_venue",
)
_NAMES = ("ACME", "BTC", "ETH", "SOL", "FOO", "BAR", "QUX", "ZETA", "NOVA", "ORCA")
_DOLLARS = (101.0, 95_000.0, 3_200.0, 140.0)
_SIM, _COINBASE, _BINANCE, _KRAKEN = range(4)
_VENUES = ("sim", "coinbase", "binance", "kraken")


@dataclass(frozen=True, slots=True)
class MarketRule:
    """How many symbols, how skewed (Zipf exponent), and how keys are spread."""

    symbols: int = 500
    zipf: float = 1.1
    buckets: int = DEFAULT_BUCKETS

    def __post_init__(self) -> None:
        if self.symbols < 1 or self.buckets < 1 or self.zipf < 0:
            raise ValueError(f"MarketRule needs symbols, buckets >= 1 and zipf >= 0, found {self}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events: partition keys, lines, rows per line, and how to spoil or correct one."""

    keys: list[str]
    lines: list[bytes]
    rows: list[int]
    malform: Callable[[int, str], bytes]
    correct: Callable[[int, str, int], bytes | None]
    malformed_kinds: tuple[str, ...] = MALFORMED_KINDS


class Market(Protocol):
    """What yields events at given times."""

    def chunk(self, ts: np.ndarray, in_venue_shape: np.ndarray) -> Chunk:
        """One event per time (ns); where `in_venue_shape`, as a real venue would say it."""
        ...


class Instruments:
    """Symbols with their walks. Prices are whole ticks, so no step ever leaves the grid."""

    def __init__(self, rng: np.random.Generator, rule: MarketRule) -> None:
        count = rule.symbols
        self.names = [
            _NAMES[i] if i < len(_NAMES) else f"{_NAMES[i % len(_NAMES)][:2]}{i}"
            for i in range(count)
        ]
        weights = 1.0 / np.arange(1, count + 1) ** rule.zipf
        self._cdf = np.cumsum(weights / weights.sum())
        self.tick = rng.choice([0.01, 0.01, 0.01, 0.05, 0.0001], count)
        dollars = rng.lognormal(4.0, 1.0, count)
        dollars[: len(_DOLLARS)] = _DOLLARS[:count]
        self.at_tick = (dollars / self.tick).astype(np.int64) + 100
        self._next_id = rng.integers(1_000, 1_000_000, 4 * count)
        self.products = [[name, f"{name}-USD", f"{name}USDT", f"{name}/USD"] for name in self.names]
        self.keys = [
            [partition_key(venue, names[v], rule.buckets) for v, venue in enumerate(_VENUES)]
            for names in self.products
        ]

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Symbol numbers, Zipf-skewed."""
        drawn = np.searchsorted(self._cdf, rng.random(count), side="right")
        symbols: np.ndarray = np.minimum(drawn, len(self.names) - 1)
        return symbols

    def walk(self, rng: np.random.Generator, symbol: np.ndarray) -> np.ndarray:
        """Prices in ticks: each event moves its symbol by -1, 0 or 1 tick."""
        order = np.argsort(symbol, kind="stable")
        steps = rng.integers(-1, 2, len(symbol))
        ticks = np.empty(len(symbol), np.int64)
        ticks[order] = self.at_tick[symbol[order]] + _running(steps[order], symbol[order])
        ticks = np.maximum(ticks, 10)
        self.at_tick[symbol[order]] = ticks[order]  # the last of a group wins
        return ticks

    def ids(self, venue: np.ndarray, symbol: np.ndarray, used: np.ndarray) -> list[int]:
        """Consecutive ids per (venue, symbol); an event takes `used` of them."""
        group = venue * len(self.names) + symbol
        order = np.argsort(group, kind="stable")
        ends = np.empty(len(group), np.int64)
        ends[order] = self._next_id[group[order]] + _running(used[order], group[order])
        self._next_id[group[order]] = ends[order]
        first: list[int] = (ends - used).tolist()
        return first

    def prices(self, symbol: np.ndarray, ticks: np.ndarray) -> list[float]:
        """Ticks as prices; at most 4 decimals, printed exactly by repr."""
        rounded: list[float] = np.round(ticks * self.tick[symbol], 4).tolist()
        return rounded


def _running(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Inclusive running sums that restart with each run of equal `groups`."""
    total = np.cumsum(values)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    lengths = np.diff(np.r_[starts, len(groups)])
    running: np.ndarray = total - np.repeat(total[starts] - values[starts], lengths)
    return running


class TradeMarket:
    """Trade prints: canonical, Coinbase `match`, Binance `trade`, Kraken v2 `trade`."""

    def __init__(self, rng: np.random.Generator, rule: MarketRule) -> None:
        self._rng = rng
        self._book = Instruments(rng, rule)

    def chunk(self, ts: np.ndarray, in_venue_shape: np.ndarray) -> Chunk:
        """Draw the columns, then write each line in its shape."""
        rng, book, count = self._rng, self._book, len(ts)
        venue = np.where(in_venue_shape, rng.integers(1, 4, count), _SIM)
        symbol = book.draw(rng, count)
        used = np.where((venue == _KRAKEN) & (rng.random(count) < 0.25), 2, 1)
        trades = _Columns(
            symbol=symbol.tolist(),
            ids=book.ids(venue, symbol, used),
            ts=ts.tolist(),
            iso=np.datetime_as_string(ts.astype("datetime64[ns]").astype("datetime64[us]")),
            price=book.prices(symbol, book.walk(rng, symbol)),
            size=(rng.integers(1, 20, count) * rng.choice([1, 1, 5, 10, 100], count)).tolist(),
            is_buy=(rng.random(count) < 0.5).tolist(),
            rows=used.tolist(),
            names=book.products,
        )
        lines = [
            f'{{"venue":"sim","symbol":"{names[s][0]}","trade_id":"{trade_id}","kind":"new",'
            f'"ts_event_ns":{at},"price":{price!r},"size":{size},'
            f'"side":"{"buy" if is_buy else "sell"}"}}'.encode()
            for names in (book.products,)
            for s, trade_id, at, price, size, is_buy in zip(
                trades.symbol,
                trades.ids,
                trades.ts,
                trades.price,
                trades.size,
                trades.is_buy,
                strict=True,
            )
        ]
        canonical = lines.copy()
        venues = venue.tolist()
        for i in np.flatnonzero(in_venue_shape).tolist():
            lines[i] = _TRADE_SHAPES[venues[i]](trades, i)
        keys = [book.keys[s][v] for s, v in zip(trades.symbol, venues, strict=True)]

        def correct(i: int, kind: str, known_at_ns: int) -> bytes | None:
            return _correct(trades, i, kind, known_at_ns) if venues[i] == _SIM else None

        return Chunk(
            keys, lines, trades.rows, lambda i, kind: malform(canonical[i], kind, "price"), correct
        )


@dataclass(frozen=True, slots=True)
class _Columns:
    symbol: list[int]
    ids: list[int]
    ts: list[int]
    iso: Any
    price: list[float]
    size: list[int]
    is_buy: list[bool]
    rows: list[int]
    names: list[list[str]]


def _correct(trades: _Columns, i: int, kind: str, known_at_ns: int) -> bytes:
    """The same trade_id and event time, said again later: corrected by 1 % or cancelled."""
    price = trades.price[i] if kind == "cancel" else round(trades.price[i] * 1.01, 4)
    known = max(known_at_ns, trades.ts[i] + 1_000_000)
    return (
        f'{{"venue":"sim","symbol":"{trades.names[trades.symbol[i]][0]}",'
        f'"trade_id":"{trades.ids[i]}","kind":"{kind}","ts_event_ns":{trades.ts[i]},'
        f'"price":{price!r},"size":{trades.size[i]},'
        f'"side":"{"buy" if trades.is_buy[i] else "sell"}","known_at_ns":{known}}}'
    ).encode()


def _coinbase_match(trades: _Columns, i: int) -> bytes:
    order_id = f"{trades.ids[i] & 0xFFFFFFFF:08x}-0000-4000-8000-{trades.ts[i] % 10**12:012d}"
    return (
        f'{{"type":"match","trade_id":{trades.ids[i]},"maker_order_id":"{order_id}",'
        f'"taker_order_id":"{order_id}","side":"{"sell" if trades.is_buy[i] else "buy"}",'
        f'"size":"{trades.size[i]}.00000000","price":"{trades.price[i]!r}",'
        f'"product_id":"{trades.names[trades.symbol[i]][1]}","sequence":{trades.ids[i] * 7},'
        f'"time":"{trades.iso[i]}Z"}}'
    ).encode()


def _binance_trade(trades: _Columns, i: int) -> bytes:
    at_ms = trades.ts[i] // 1_000_000
    return (
        f'{{"e":"trade","E":{at_ms + 1},"s":"{trades.names[trades.symbol[i]][2]}",'
        f'"t":{trades.ids[i]},"p":"{trades.price[i]:.8f}","q":"{trades.size[i]}.00000000",'
        f'"T":{at_ms},"m":{"false" if trades.is_buy[i] else "true"},"M":true}}'
    ).encode()


def _kraken_trade(trades: _Columns, i: int) -> bytes:
    items = ",".join(
        f'{{"symbol":"{trades.names[trades.symbol[i]][3]}",'
        f'"side":"{"buy" if trades.is_buy[i] else "sell"}","price":{trades.price[i]!r},'
        f'"qty":{trades.size[i]}.0,"ord_type":"market","trade_id":{trades.ids[i] + n},'
        f'"timestamp":"{trades.iso[i]}Z"}}'
        for n in range(trades.rows[i])
    )
    return f'{{"channel":"trade","type":"update","data":[{items}]}}'.encode()


_TRADE_SHAPES = {_COINBASE: _coinbase_match, _BINANCE: _binance_trade, _KRAKEN: _kraken_trade}


class QuoteMarket:
    """Top of book: canonical and Coinbase `ticker`."""

    def __init__(self, rng: np.random.Generator, rule: MarketRule) -> None:
        self._rng = rng
        self._book = Instruments(rng, rule)

    def chunk(self, ts: np.ndarray, in_venue_shape: np.ndarray) -> Chunk:
        """A bid and an ask around each symbol's walk, never crossed."""
        rng, book, count = self._rng, self._book, len(ts)
        venue = np.where(in_venue_shape, _COINBASE, _SIM)
        symbol = book.draw(rng, count)
        ids = book.ids(venue, symbol, np.ones(count, np.int64))
        bid = book.walk(rng, symbol)
        columns = (
            symbol.tolist(),
            ids,
            ts.tolist(),
            book.prices(symbol, bid),
            rng.integers(1, 500, count).tolist(),
            book.prices(symbol, bid + rng.integers(1, 6, count)),
            rng.integers(1, 500, count).tolist(),
        )
        lines = [
            f'{{"venue":"sim","symbol":"{names[s][0]}","quote_id":"{quote_id}",'
            f'"ts_event_ns":{at},"bid_price":{bid_price!r},"bid_size":{bid_size},'
            f'"ask_price":{ask_price!r},"ask_size":{ask_size}}}'.encode()
            for names in (book.products,)
            for s, quote_id, at, bid_price, bid_size, ask_price, ask_size in zip(
                *columns, strict=True
            )
        ]
        canonical = lines.copy()
        iso = np.datetime_as_string(ts.astype("datetime64[ns]").astype("datetime64[us]"))
        rows = list(zip(*columns, strict=True))
        for i in np.flatnonzero(in_venue_shape).tolist():
            lines[i] = _coinbase_ticker(book.products, rows[i], iso[i])
        keys = [book.keys[s][v] for s, v in zip(columns[0], venue.tolist(), strict=True)]
        return Chunk(
            keys,
            lines,
            [1] * count,
            lambda i, kind: malform(canonical[i], kind, "bid_price"),
            lambda i, kind, known_at_ns: None,  # noqa: ARG005  # quotes have no corrections
        )


def _coinbase_ticker(products: list[list[str]], row: tuple[Any, ...], iso: str) -> bytes:
    symbol, quote_id, _, bid, bid_size, ask, ask_size = row
    return (
        f'{{"type":"ticker","sequence":{quote_id},"product_id":"{products[symbol][1]}",'
        f'"price":"{bid!r}","open_24h":"{bid!r}","volume_24h":"1000.00000000",'
        f'"low_24h":"{bid!r}","high_24h":"{ask!r}","volume_30d":"30000.00000000",'
        f'"best_bid":"{bid!r}","best_bid_size":"{bid_size}.00000000",'
        f'"best_ask":"{ask!r}","best_ask_size":"{ask_size}.00000000","side":"buy",'
        f'"time":"{iso}Z","trade_id":{quote_id},"last_size":"1.00000000"}}'
    ).encode()


def malform(line: bytes, kind: str, number: str) -> bytes:
    """Spoil a canonical line in a named way; `number` is the field that loses its value."""
    marker = f'"{number}":'.encode()
    before, _, after = line.partition(marker)
    value, rest = after[: after.find(b",")], after[after.find(b",") :]
    if kind == "cut_json":
        return line[: len(line) * 2 // 3]
    if kind == "wrong_type":
        return before + marker + b"[" + value + b"]" + rest
    if kind == "nan":
        return before + marker + b"NaN" + rest
    if kind == "negative_price":
        return before + marker + b"-" + value + rest
    if kind == "invalid_utf8":
        return line.replace(b'"symbol":"', b'"symbol":"\xff\xfe', 1)
    if kind == "unknown_venue":
        return line.replace(b'"venue":"sim"', b'"venue":"nowhere"', 1)
    raise ValueError(f"malform: kind {kind!r} is none of {MALFORMED_KINDS}")
