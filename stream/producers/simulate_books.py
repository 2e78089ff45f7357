"""Simulated books: three portfolios over the simulated daily prices, as positions and transactions.

They begin on `INCEPTION`, whatever day is asked for; before it there are none. Every month has its
own plan, drawn from (seed, portfolio, month): trades at that day's simulated close with a fee (at
most one a symbol and day), dividends, an account fee, money in and out. A day is then a pure
function of (day, seed): its positions are its transactions and those of all days before, added up.
"growth" and "income" never go short nor overdrawn; "macro" holds shorts, one of which may turn.
Average costs follow the average-cost method without fees, rounded to 8 decimals after every
opening trade. All persons, addresses and accounts are invented. No corrections, nothing late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from zlib import crc32

import numpy as np
import orjson

from stream.producers.simulate_history import close_of

BOOK_FEEDS = ("positions", "transactions")
INCEPTION = date(2025, 1, 1)
CURRENCY = "USD"

_CENT, _EIGHT = Decimal("0.01"), Decimal("0.00000001")
_TRADE_FEE, _FEE_PER_UNIT, _ACCOUNT_FEE = Decimal("1.50"), Decimal("0.005"), Decimal("120.00")
_RESERVE = Decimal("1000.00")
_YIELD = Decimal("0.006")
_DIVIDEND_MONTHS, _DIVIDEND_DAY = (3, 6, 9, 12), 15
_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Book:
    """One portfolio. `weights`: share of the first deposit per symbol, negative: short."""

    name: str
    holder: str
    deposit: Decimal
    monthly: Decimal
    weights: Mapping[str, float]
    payers: tuple[str, ...]
    turns: tuple[str, ...]
    notes: tuple[str, ...]


BOOKS = (
    Book(
        "growth",
        "Ada Example",
        Decimal("2000000.00"),
        Decimal("10000.00"),
        {"ACME": 0.2, "ETH": 0.15, "SOL": 0.15, "FOO": 0.1, "NOVA": 0.15, "ORCA": 0.15},
        ("ACME", "ORCA"),
        (),
        ("savings plan of Ada Example, ada@example.com", "from DE89 3704 0044 0532 0130 00"),
    ),
    Book(
        "income",
        "Max Mustermann",
        Decimal("1500000.00"),
        Decimal("-4000.00"),
        {"ACME": 0.15, "FOO": 0.2, "BAR": 0.2, "QUX": 0.2, "ZETA": 0.15},
        ("ACME", "FOO", "BAR", "QUX", "ZETA"),
        (),
        ("to GB33BUKB20201555555555, M. Mustermann", "asked for by max.mustermann@example.org"),
    ),
    Book(
        "macro",
        "Jane Placeholder",
        Decimal("3000000.00"),
        Decimal("0.00"),
        {"BTC": 0.2, "ETH": 0.15, "BAR": 0.15, "QUX": 0.1, "ZETA": -0.2, "ORCA": -0.15, "NOVA": 0},
        ("BAR", "QUX"),
        ("NOVA",),
        ("per call with Jane Placeholder +1 202 555 0143", "hedge, jane@example.net"),
    ),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One transaction. `units`: of the symbol, else cash; its direction is the kind's."""

    day: date
    hour: int
    kind: str
    symbol: str | None
    units: Decimal
    price: Decimal | None = None
    fee: Decimal = Decimal(0)
    note: str | None = None

    @property
    def cash(self) -> Decimal:
        """What it adds to the cash."""
        amount = self.units if self.price is None else self.units * self.price
        return (amount if self.kind in {"sell", "deposit", "dividend"} else -amount) - self.fee

    @property
    def signed(self) -> Decimal:
        """What it adds to the holding of its symbol."""
        return {"buy": self.units, "sell": -self.units}.get(self.kind, Decimal(0))


@dataclass(frozen=True, slots=True)
class Holding:
    """Units held (negative: short) and their cost per unit."""

    units: Decimal = Decimal(0)
    average_cost: Decimal | None = None

    def after(self, signed: Decimal, price: Decimal) -> Holding:
        """Opening averages the cost, closing leaves it, crossing zero starts at the price.

        >>> Holding(Decimal(10), Decimal(6)).after(Decimal(5), Decimal(9)).average_cost
        Decimal('7.00000000')
        """
        units = self.units + signed
        if units == 0:
            return Holding()
        if self.average_cost is None or self.units * units < 0:
            return Holding(units, price)
        if self.units * signed < 0:
            return replace(self, units=units)
        cost = self.units * self.average_cost + signed * price
        return Holding(units, (cost / units).quantize(_EIGHT, ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class State:
    """A portfolio at some moment; a symbol that was held once stays with 0 units."""

    cash: Decimal
    holdings: Mapping[str, Holding]

    def after(self, event: Event) -> State:
        """The state once the event is booked."""
        holdings = self.holdings
        if event.kind in {"buy", "sell"}:
            assert event.symbol is not None
            assert event.price is not None
            old = holdings.get(event.symbol, Holding())
            holdings = {**holdings, event.symbol: old.after(event.signed, event.price)}
        return State(self.cash + event.cash, holdings)


def simulate_book_day(feed: str, day: date, *, seed: int) -> list[bytes]:
    """The books' messages of a day: all positions at its end, or its transactions.

    >>> simulate_book_day("positions", date(2024, 12, 31), seed=7)
    []
    >>> len(simulate_book_day("transactions", INCEPTION, seed=7))
    22
    """
    build = _position_lines if feed == "positions" else _transaction_lines
    return [orjson.dumps(line) for book in BOOKS for line in build(book, day, seed)]


def _position_lines(book: Book, day: date, seed: int) -> Iterator[dict[str, object]]:
    if day < INCEPTION:
        return
    state, events = _month(book, _month_number(day), seed)
    for event in events:
        if event.day <= day:
            state = state.after(event)
    rows = [(symbol, held.units, held.average_cost) for symbol, held in state.holdings.items()]
    for symbol, units, average_cost in [*rows, (CURRENCY, state.cash, None)]:
        line = {
            "portfolio": book.name,
            "symbol": symbol,
            "as_of": day.isoformat(),
            "quantity": _number(units),
            "average_cost": None if average_cost is None else _number(average_cost),
            "currency": CURRENCY,
            "account_holder": book.holder,
            "known_at_ns": (_day_number(day) + 1) * _DAY_NS,
        }
        yield {key: value for key, value in line.items() if value is not None}


def _transaction_lines(book: Book, day: date, seed: int) -> Iterator[dict[str, object]]:
    if day < INCEPTION:
        return
    _, events = _month(book, _month_number(day), seed)
    for number, event in enumerate(event for event in events if event.day == day):
        ts = _day_number(day) * _DAY_NS + event.hour * _HOUR_NS + number * 1_000_000_000
        line = {
            "transaction_id": f"{book.name}-{day:%Y%m%d}-{number}",
            "portfolio": book.name,
            "kind": event.kind,
            "symbol": event.symbol,
            "quantity": _number(event.units),
            "price": None if event.price is None else _number(event.price),
            "fee": _number(event.fee),
            "currency": CURRENCY,
            "account_holder": book.holder,
            "note": event.note,
            "ts_event_ns": ts,
        }
        yield {key: value for key, value in line.items() if value is not None}


def _month(book: Book, number: int, seed: int) -> tuple[State, tuple[Event, ...]]:
    """The state in which a month begins, and its events in order."""
    for earlier in range(number):  # each is remembered: no month is planned twice in a process
        _plan_month(book.name, earlier, seed)
    begin, events, _ = _plan_month(book.name, number, seed)
    return begin, events


@lru_cache(maxsize=4_096)
def _plan_month(name: str, number: int, seed: int) -> tuple[State, tuple[Event, ...], State]:
    """A month's begin, events and end. Asked in order of months, or it recurses too deep."""
    book = next(book for book in BOOKS if book.name == name)
    begin = _plan_month(name, number - 1, seed)[2] if number else State(Decimal(0), {})
    rng = np.random.default_rng([seed, crc32(name.encode()), number])
    state, events = begin, list[Event]()
    for event in _planned(book, number, seed, rng):
        booked = _affordable(book, state, event)
        if booked is not None:
            state = state.after(booked)
            events.append(booked)
    return begin, tuple(events), state


def _planned(book: Book, number: int, seed: int, rng: np.random.Generator) -> Iterator[Event]:
    """What a month would like to do, in order of time."""
    first = _first_of_month(number)
    last = _first_of_month(number + 1) - timedelta(days=1)
    wishes = list(_opening(book, seed)) if number == 0 else []
    for _ in range(int(rng.integers(4, 9))):
        day = first + timedelta(days=int(rng.integers(0, last.day)))
        symbol = list(book.weights)[int(rng.integers(len(book.weights)))]
        size = float(rng.uniform(0.1, 0.5)) * (4 if symbol in book.turns else 1)
        is_buy, note = rng.random() < 0.5, int(rng.integers(4 * len(book.notes)))
        units = Decimal(_units(book, symbol, size / len(book.weights), seed))
        text = book.notes[note] if note < len(book.notes) else None
        if (day, symbol) not in {(wish.day, wish.symbol) for wish in wishes}:
            wishes.append(_trade(day, "buy" if is_buy else "sell", symbol, units, seed, note=text))
    if book.monthly:
        kind = "deposit" if book.monthly > 0 else "withdraw"
        wishes.append(Event(first, 10, kind, None, abs(book.monthly), note=book.notes[0]))
    if first.month in _DIVIDEND_MONTHS:
        day = first.replace(day=_DIVIDEND_DAY)
        for symbol in book.payers:
            per_unit = (_YIELD * _price(day, seed, symbol)).quantize(_CENT)
            wishes.append(Event(day, 11, "dividend", symbol, per_unit))
    wishes.append(Event(last, 22, "fee", None, _ACCOUNT_FEE, note="account fee"))
    yield from sorted(wishes, key=lambda event: (event.day, event.hour))


def _opening(book: Book, seed: int) -> Iterator[Event]:
    """The first day: the deposit and what it is put into."""
    text = f"first deposit of {book.holder}"
    yield Event(INCEPTION, 9, "deposit", None, book.deposit, note=text)
    for symbol, weight in book.weights.items():
        if weight:
            kind = "buy" if weight > 0 else "sell"
            units = Decimal(_units(book, symbol, abs(weight), seed))
            yield _trade(INCEPTION, kind, symbol, units, seed)


def _affordable(book: Book, state: State, event: Event) -> Event | None:
    """The event as the portfolio can do it, None if not at all.

    A dividend is paid per unit held; at most half of a holding is closed at once; nothing is
    bought with money that is not there.
    """
    held = state.holdings.get(event.symbol or "", Holding()).units
    if event.kind == "dividend":
        return replace(event, units=event.units * held) if held > 0 else None
    if event.kind == "withdraw":
        return event if state.cash - event.units >= _RESERVE else None
    if event.symbol is None:
        return event
    weight, signed = book.weights[event.symbol], event.signed
    if event.symbol not in book.turns and float(signed) * weight < 0:
        units = min(event.units, (abs(held) / 2).to_integral_value())
        return replace(event, units=units) if units > 0 else None
    if event.kind == "buy" and state.cash + event.cash < _RESERVE:
        return None
    return event


def _trade(
    day: date, kind: str, symbol: str, units: Decimal, seed: int, *, note: str | None = None
) -> Event:
    fee = _TRADE_FEE + (_FEE_PER_UNIT * units).quantize(_CENT, ROUND_HALF_EVEN)
    return Event(day, 21, kind, symbol, units, _price(day, seed, symbol), fee, note)


def _units(book: Book, symbol: str, share: float, seed: int) -> int:
    """As many as that share of the first deposit bought on the first day, in round lots of 10."""
    dollars = share * float(book.deposit)
    return max(10, int(dollars / close_of(INCEPTION, seed, symbol) / 10) * 10)


def _price(day: date, seed: int, symbol: str) -> Decimal:
    return Decimal(str(close_of(day, seed, symbol)))


def _number(value: Decimal) -> orjson.Fragment:
    """The digits as they are: no float in between."""
    return orjson.Fragment(f"{value.normalize():f}")


def _day_number(day: date) -> int:
    return (day - _EPOCH).days


def _month_number(day: date) -> int:
    return (day.year - INCEPTION.year) * 12 + day.month - INCEPTION.month


def _first_of_month(number: int) -> date:
    years, months = divmod(INCEPTION.month - 1 + number, 12)
    return date(INCEPTION.year + years, months + 1, 1)
