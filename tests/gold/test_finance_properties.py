"""P&L, cash and exposure agree with a computation that knows no SQL, on any books and prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import compiled
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.decode import decode_records
from stream.feeds import load_feed
from stream.producers.simulate_books import BOOK_FEEDS, simulate_book_day
from stream.producers.simulate_history import simulate_day
from stream.slices import RECORD_SCHEMA

pytestmark = pytest.mark.slow  # dbt compiles the project: 10 s and more


FIRST = date(2026, 1, 5)
DAYS = [FIRST + timedelta(days=n) for n in range(16)]
SYMBOLS = {"A": "USD", "B": "USD", "C": "EUR", "D": "USD"}
KINDS = ("buy", "sell", "deposit", "withdraw", "dividend", "fee")
EXACT = (
    *("market_value", "cash", "equity", "gross_exposure", "net_exposure", "long_exposure"),
    *("short_exposure", "unrealised_pnl", "dividends", "fees", "net_external_flow", "total_pnl"),
    *("positions", "unpriced_positions", "stale_positions", "transactions"),
)
AMOUNT = pa.decimal128(18, 8)
SCHEMAS = {
    "positions": [
        *(("portfolio", pa.string()), ("symbol", pa.string()), ("currency", pa.string())),
        *(("session_date", pa.date32()), ("quantity", AMOUNT), ("average_cost", AMOUNT)),
        *(("known_at_ns", pa.int64()), ("ts_event_ns", pa.int64())),
    ],
    "transactions": [
        *(("portfolio", pa.string()), ("transaction_id", pa.string()), ("kind", pa.string())),
        *(("symbol", pa.string()), ("currency", pa.string()), ("quantity", AMOUNT)),
        *(("price", AMOUNT), ("fee", AMOUNT), ("session_date", pa.date32())),
        *(("known_at_ns", pa.int64()), ("ts_event_ns", pa.int64())),
    ],
    "prices_daily": [
        *(("source", pa.string()), ("symbol", pa.string()), ("session_date", pa.date32())),
        *((name, AMOUNT) for name in ("open", "high", "low", "close", "adj_close", "volume")),
        *(("known_at_ns", pa.int64()), ("ts_arrival_ns", pa.int64())),
    ],
}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return compiled.compile_models(
        tmp_path_factory.mktemp("finance"), "daily_portfolio_summary", variables={"days": None}
    )


def silver(positions: Rows, transactions: Rows, prices: Rows) -> dict[str, pa.Table]:
    rows = {"positions": positions, "transactions": transactions, "prices_daily": prices}
    return {
        f"silver.{feed}": pa.Table.from_pylist(rows[feed], pa.schema(SCHEMAS[feed]))
        for feed in SCHEMAS
    }


class Luck:
    """Draws for one example, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def pick(self, items: Any) -> Any:
        return items[int(self._rng.integers(len(items)))]

    def amount(self, least: int, most: int, places: int) -> Decimal:
        return Decimal(int(self._rng.integers(least, most + 1))).scaleb(-places)

    def with_versions(self, rows: Rows, *fields: str) -> Rows:
        """Older versions that say something else, and all in disorder."""
        old = [
            row | {field: self.amount(1, 10**6, 4) for field in fields} | {"known_at_ns": 1}
            for row in rows
            if self.chance(0.3)
        ]
        return [(rows + old)[i] for i in self._rng.permutation(len(rows) + len(old))]


def random_books(luck: Luck) -> tuple[Rows, Rows, Rows]:
    """Nothing in them fits together: whatever books say, the sums must be right."""
    positions, transactions, prices = list[dict[str, Any]](), list[dict[str, Any]](), []
    for portfolio in ("p", "q"):
        for day in DAYS:
            row = {"portfolio": portfolio, "session_date": day, "known_at_ns": 2, "ts_event_ns": 1}
            for symbol, currency in {**SYMBOLS, "USD": "USD", "EUR": "EUR"}.items():
                if not luck.chance(0.35):
                    continue
                cost = luck.amount(0, 10**8, 4) if luck.chance(0.8) else None
                units = luck.amount(-(10**9), 10**9, 5) if luck.chance(0.9) else Decimal(0)
                held = {"symbol": symbol, "currency": currency, "quantity": units}
                positions.append(row | held | {"average_cost": None if len(symbol) > 1 else cost})
            for number in range(int(luck.amount(0, 6, 0))):
                kind, symbol = luck.pick(KINDS), luck.pick(list(SYMBOLS))
                is_trade = kind in {"buy", "sell"}
                transactions.append(
                    row
                    | {
                        "transaction_id": f"{day}-{number}",
                        "kind": kind,
                        "symbol": symbol if is_trade or kind == "dividend" else None,
                        "currency": SYMBOLS[symbol],
                        "quantity": luck.amount(1, 10**9, 5),
                        "price": luck.amount(1, 10**7, 4) if is_trade else None,
                        "fee": luck.amount(-50, 500, 2),
                    }
                )
    for symbol in SYMBOLS:
        share = luck.pick((0.1, 0.5, 1.0))
        prices += [
            {
                "source": source,
                "symbol": symbol,
                "session_date": day,
                **dict.fromkeys(("open", "high", "low", "close"), luck.amount(1, 10**7, 4)),
                "known_at_ns": 2,
                "ts_arrival_ns": 2,
            }
            for day in DAYS
            for source in ("s", "t")
            if luck.chance(share)
        ]
    return (
        luck.with_versions(positions, "quantity"),
        luck.with_versions(transactions, "quantity", "fee"),
        luck.with_versions(prices, "close"),
    )


def latest(rows: Rows, *key: str) -> Iterator[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["known_at_ns"]):
        found[tuple(row[k] for k in key)] = row
    yield from found.values()


class Reference:
    """The summary, by hand: dictionaries and exact fractions."""

    def __init__(self, positions: Rows, transactions: Rows, prices: Rows) -> None:
        self.held: dict[Any, dict[Any, Any]] = defaultdict(dict)
        for row in latest(positions, "portfolio", "symbol", "session_date"):
            value = row["quantity"], row["average_cost"]
            self.held[row["portfolio"], row["session_date"]][row["symbol"], row["currency"]] = value
        self.transactions = list(latest(transactions, "portfolio", "transaction_id"))
        self.close: dict[Any, Decimal] = {}
        bars = latest(prices, "source", "symbol", "session_date")
        for row in sorted(bars, key=lambda row: row["source"], reverse=True):
            self.close[row["symbol"], row["session_date"]] = row["close"]

    def price(self, symbol: str, currency: str, day: date) -> tuple[Decimal | None, bool]:
        if symbol == currency:
            return Decimal(1), False
        for age in range(8):
            if (price := self.close.get((symbol, day - timedelta(days=age)))) is not None:
                return price, age > 0
        return None, False

    def summary(self) -> dict[tuple[str, date, str], dict[str, Any]]:
        answer = {}
        for portfolio in {portfolio for portfolio, _ in self.held}:
            days = sorted(day for p, day in self.held if p == portfolio)
            for before, day in zip([None, *days[:-1]], days, strict=True):
                counted = [
                    t
                    for t in self.transactions
                    if t["portfolio"] == portfolio
                    and (day == t["session_date"] if before is None else
                         before < t["session_date"] <= day)
                ]  # fmt: skip
                old = self.held[portfolio, before] if before else {}
                currencies = {currency for _, currency in self.held[portfolio, day]}
                currencies |= {currency for (_, currency), (units, _) in old.items() if units}
                currencies |= {t["currency"] for t in counted}
                for currency in currencies:
                    of_it = [t for t in counted if t["currency"] == currency]
                    row = self.day(portfolio, before, day, currency, of_it)
                    answer[portfolio, day, currency] = row
        return answer

    def worth(self, portfolio: str, day: date, currency: str) -> dict[str, Any]:
        values, costs, cash, counts = [], [], Fraction(0), dict.fromkeys(("n", "un", "st"), 0)
        for (symbol, its), (units, cost) in self.held[portfolio, day].items():
            if its != currency or not units:
                continue
            price, is_old = self.price(symbol, currency, day)
            if symbol == currency:
                cash += Fraction(units)
                continue
            counts["n"] += 1
            counts["un"] += price is None
            counts["st"] += is_old
            if price is not None:
                values.append(Fraction(units) * Fraction(price))
                costs.append(None if cost is None else Fraction(units) * Fraction(cost))
        gains = [v - c for v, c in zip(values, costs, strict=True) if c is not None]
        return {
            "market_value": sum(values),
            "cash": cash,
            "equity": sum(values) + cash,
            "long_exposure": sum(v for v in values if v > 0),
            "short_exposure": -sum(v for v in values if v < 0),
            "gross_exposure": sum(map(abs, values)),
            "net_exposure": sum(values),
            "unrealised_pnl": sum(gains),
            "positions": counts["n"],
            "unpriced_positions": counts["un"],
            "stale_positions": counts["st"],
        }

    def day(self, portfolio: str, before: Any, day: date, currency: str, counted: Rows) -> Any:
        row = self.worth(portfolio, day, currency)
        total = defaultdict(Fraction)
        for t in counted:
            total[t["kind"]] += Fraction(t["quantity"])
            total["fees"] += Fraction(t["fee"])
        row["dividends"], row["fees"] = total["dividend"], total["fees"] + total["fee"]
        row["net_external_flow"] = total["deposit"] - total["withdraw"]
        row["transactions"] = len(counted)
        row["realised_pnl"] = self.realised(portfolio, before, currency, counted)
        row["total_pnl"] = row["unexplained_pnl"] = row["day_return"] = None
        if before is None:
            return row
        old = self.worth(portfolio, before, currency)
        if not row["unpriced_positions"] and not old["unpriced_positions"]:
            pnl = row["equity"] - old["equity"] - row["net_external_flow"]
            row["total_pnl"] = pnl
            row["day_return"] = pnl / old["equity"] if old["equity"] > 0 else None
            if row["realised_pnl"] is not None:
                gained = row["unrealised_pnl"] - old["unrealised_pnl"] + row["realised_pnl"]
                row["unexplained_pnl"] = pnl - gained - row["dividends"] + row["fees"]
        return row

    def realised(self, portfolio: str, before: Any, currency: str, counted: Rows) -> Any:
        if before is None:
            return None
        made = Fraction(0)
        for symbol in {t["symbol"] for t in counted if t["kind"] in {"buy", "sell"}}:
            trades = [t for t in counted if t["symbol"] == symbol]
            pair = self.held[portfolio, before].get((symbol, currency), (Decimal(0), None))
            units, cost = Fraction(pair[0]), pair[1]
            sides: dict[str, list[tuple[Fraction, Fraction]]] = {"buy": [], "sell": []}
            for t in trades:
                if t["kind"] in sides:
                    lot = Fraction(t["quantity"]), Fraction(t["price"])
                    sides[t["kind"]].append(lot)
            opening, closing = ("sell", "buy") if units < 0 else ("buy", "sell")
            if units and cost is None:
                if sides[closing]:
                    return None
                continue
            lots = [(abs(units), Fraction(cost or 0)), *sides[opening]]
            open_units = sum(u for u, _ in lots)
            shut_units = sum(u for u, _ in sides[closing])
            if not open_units or not shut_units:
                continue
            paid = sum(u * p for u, p in lots) / open_units
            got = sum(u * p for u, p in sides[closing]) / shut_units
            gain = min(open_units, shut_units) * (got - paid)
            made += -gain if units < 0 else gain
        return made


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_summary_agrees_with_exact_fractions_on_any_books(models, seed):
    books = random_books(Luck(seed))
    rows = models.answer("daily_portfolio_summary", silver(*books))
    wanted = Reference(*books).summary()
    assert {(r["portfolio"], r["session_date"], r["currency"]) for r in rows} == set(wanted)
    for row in rows:
        right = wanted[row["portfolio"], row["session_date"], row["currency"]]
        for name in EXACT:
            assert_near(row, right, name, 1e-6)
        assert_near(row, right, "realised_pnl", 1e-3)
        assert_near(row, right, "unexplained_pnl", 1e-3)
        if right["day_return"] is not None:
            assert row["day_return"] == pytest.approx(float(right["day_return"]), 1e-9, 1e-9)


def assert_near(row: dict[str, Any], right: dict[str, Any], name: str, most: float) -> None:
    said, known = row[name], right[name]
    assert (said is None) == (known is None), (name, row, right)
    assert said is None or abs(Fraction(said) - known) <= most, (name, row, right)


def consistent_books(luck: Luck) -> tuple[Rows, Rows, Rows]:
    """Positions that are their transactions added up, by daily average cost, at daily prices."""
    positions, transactions = list[dict[str, Any]](), list[dict[str, Any]]()
    held = {symbol: (Decimal(0), Decimal(0)) for symbol in "ABD"}
    cash = Decimal(0)
    sides: dict[str, dict[str, list[tuple[Decimal, Decimal]]]] = defaultdict(
        lambda: {"buy": [], "sell": []}
    )
    for number, day in enumerate(DAYS):
        for kind in [luck.pick(KINDS) for _ in range(4)] if number else ["deposit"]:
            is_trade, symbol = kind in {"buy", "sell"}, luck.pick("ABD")
            units, price = luck.amount(1, 3_000, 0), luck.amount(100, 90_000, 2)
            fee = luck.amount(0, 900, 2)
            amount = units * price if is_trade else units
            cash += (amount if kind in {"sell", "deposit", "dividend"} else -amount) - fee
            if is_trade:
                sides[symbol][kind].append((units, price))
            transactions.append(
                {
                    "portfolio": "p",
                    "transaction_id": str(len(transactions)),
                    "kind": kind,
                    "symbol": symbol if is_trade or kind == "dividend" else None,
                    "currency": "USD",
                    "quantity": units,
                    "price": price if is_trade else None,
                    "fee": fee,
                    "session_date": day,
                    "known_at_ns": 1,
                    "ts_event_ns": 1,
                }
            )
        if not luck.chance(0.7) and 0 < number < len(DAYS) - 1:
            continue  # the books say nothing of this day
        for symbol, trades in sides.items():
            held[symbol] = _after_day(*held[symbol], **trades)
        sides.clear()
        row = {"portfolio": "p", "currency": "USD", "session_date": day, "known_at_ns": 1}
        row |= {"ts_event_ns": 1}
        for symbol, (units, cost) in held.items():
            if units or luck.chance(0.2):
                its = {"symbol": symbol, "quantity": units, "average_cost": cost}
                positions.append(row | its)
        positions.append(row | {"symbol": "USD", "quantity": cash, "average_cost": None})
    prices = [
        {
            "source": "s",
            "symbol": symbol,
            "session_date": day,
            **dict.fromkeys(("open", "high", "low", "close"), luck.amount(100, 90_000, 2)),
            "known_at_ns": 1,
            "ts_arrival_ns": 1,
        }
        for symbol in "ABD"
        for day in DAYS
    ]
    return positions, transactions, prices


def _after_day(units: Decimal, cost: Decimal, buy: Any, sell: Any) -> tuple[Decimal, Decimal]:
    sign = -1 if units < 0 else 1
    opening, closing = (sell, buy) if units < 0 else (buy, sell)
    lots = [(abs(units), cost), *opening]
    opened, shut = sum(u for u, _ in lots), sum(u for u, _ in closing)
    side = opening if shut <= opened else closing
    paid = sum(u * p for u, p in (lots if side is opening else closing))
    total = opened if side is opening else shut
    left = sign * (opened - shut)
    average = paid / total if total else Decimal(0)
    return left, average.quantize(Decimal("1e-8"), ROUND_HALF_EVEN)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_pnl_of_consistent_books_is_explained_to_the_cent(models, seed):
    books = consistent_books(Luck(seed))
    rows = models.answer("daily_portfolio_summary", silver(*books))
    rows.sort(key=lambda row: row["session_date"])
    assert all(row["total_pnl"] is not None for row in rows[1:])
    assert all(abs(row["unexplained_pnl"]) <= Decimal("0.01") for row in rows[1:])
    made = sum(row["total_pnl"] + row["net_external_flow"] for row in rows[1:])
    assert made == rows[-1]["equity"] - rows[0]["equity"]


def test_pnl_of_the_simulated_books_is_explained_to_the_cent(models):
    days = [date(2026, 2, 20) + timedelta(days=n) for n in range(45)]
    lines = {
        feed: [line for day in days for line in simulate_book_day(feed, day, seed=3)]
        for feed in BOOK_FEEDS
    }
    lines["prices_daily"] = [
        line
        for day in days
        for chunk in simulate_day("prices_daily", day, rows=12, seed=3)
        for line in chunk
    ]
    tables = {f"silver.{feed}": decoded(feed, messages) for feed, messages in lines.items()}
    rows = models.answer("daily_portfolio_summary", tables)
    assert len(rows) == 3 * len(days)
    later = [row for row in rows if row["previous_session_date"] is not None]
    assert all(abs(row["unexplained_pnl"]) <= Decimal("0.01") for row in later)
    assert sum(row["transactions"] for row in rows) == len(lines["transactions"])
    assert sum(row["realised_pnl"] != 0 for row in later) > 5
    assert {row["unpriced_positions"] + row["stale_positions"] for row in rows} == {0}


def decoded(feed: str, messages: list[bytes]) -> pa.Table:
    count = len(messages)
    columns = [
        pa.array(messages, pa.binary()),
        pa.array([str(i) for i in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array([None] * count, pa.string()),
        pa.array([1_800_000_000_000_000_000] * count, pa.int64()),
    ]
    records = pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)
    rows = decode_records(load_feed(feed), records).rows
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    if "ts_arrival_ns" not in table.column_names:
        table = table.append_column("ts_arrival_ns", pa.array([1] * table.num_rows, pa.int64()))
    return table
