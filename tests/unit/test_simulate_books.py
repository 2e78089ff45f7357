"""Simulated books: positions are the transactions added up, on any day, however it is asked for."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts.simulate import SimulatedExtractor
from stream.decode import decode_records
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.producers import simulate_books
from stream.producers.simulate_books import BOOK_FEEDS, BOOKS, INCEPTION, simulate_book_day
from stream.producers.simulate_history import close_of, own_names
from stream.slices import RECORD_SCHEMA

LAST = date(2026, 11, 20)
SEEDS = (0, 7, 2**63 - 1)


def read(feed: str, day: date, seed: int = 7) -> list[dict[str, Any]]:
    lines = simulate_book_day(feed, day, seed=seed)
    return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in lines]


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def book_up_to(last: date, seed: int) -> dict[tuple[str, str], tuple[Decimal, Decimal | None]]:
    """Units and average cost per (portfolio, symbol), from transactions alone."""
    held: dict[tuple[str, str], tuple[Decimal, Decimal | None]] = defaultdict(
        lambda: (Decimal(0), None)
    )
    for event in (e for day in days(INCEPTION, last) for e in read("transactions", day, seed)):
        kind, amount, symbol = event["kind"], event["quantity"], event.get("symbol")
        cash = (event["portfolio"], event["currency"])
        if kind in {"buy", "sell"}:
            sign = 1 if kind == "buy" else -1
            _trade(held, (event["portfolio"], symbol), sign * amount, event["price"])
            amount *= event["price"]
        into = kind in {"sell", "deposit", "dividend"}
        held[cash] = (held[cash][0] + (amount if into else -amount) - event["fee"], None)
    return held


def _trade(held: Any, key: tuple[str, str], signed: Decimal, price: Decimal) -> None:
    units, cost = held[key]
    after = units + signed
    if after == 0:
        held[key] = (after, None)
    elif units == 0 or (units > 0) != (after > 0):
        held[key] = (after, price)
    elif abs(after) < abs(units):
        held[key] = (after, cost)
    else:
        mixed = (abs(units) * cost + abs(signed) * price) / abs(after)
        held[key] = (after, mixed.quantize(Decimal("0.00000001"), ROUND_HALF_EVEN))


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_are_the_transactions_added_up(seed):
    for day in random.Random(seed).sample(days(INCEPTION, LAST), 3):
        said = {
            (row["portfolio"], row["symbol"]): (row["quantity"], row.get("average_cost"))
            for row in read("positions", day, seed)
        }
        assert said == book_up_to(day, seed)


@pytest.mark.parametrize("feed", BOOK_FEEDS)
def test_day_is_the_same_bytes_alone_and_in_any_range(feed):
    first, last, day = date(2026, 3, 1), date(2026, 3, 20), date(2026, 3, 15)
    ranged = [part for part in extract(feed, first, last) if part.request["day"] == str(day)]
    simulate_books._plan_month.cache_clear()
    alone = extract(feed, day, day)
    assert alone == ranged
    assert len(alone) == 1
    assert extract(feed, day, day, seed="8") != alone


@pytest.mark.parametrize("feed", BOOK_FEEDS)
def test_every_message_is_one_new_row_that_the_contract_takes(feed):
    contract = load_feed(feed)
    parts = extract(feed, date(2025, 1, 1), date(2025, 12, 31))
    messages = [line for part in parts for line in gzip.decompress(part.data).splitlines()]
    count, arrival_ns = len(messages), 1_800_000_000_000_000_000
    columns = [
        pa.array(messages, pa.binary()),
        pa.array([str(i) for i in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array([None] * count, pa.string()),
        pa.array([arrival_ns] * count, pa.int64()),
    ]
    decoded = decode_records(contract, pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA))
    assert decoded.rejects.to_pylist() == []
    assert decoded.rows.num_rows == count > 250
    keys = {tuple(map(str, row.values())) for row in decoded.rows.select(contract.key).to_pylist()}
    assert len(keys) == count
    assert all(p.rows == len(gzip.decompress(p.data).splitlines()) for p in parts)


def test_trades_happen_at_the_close_of_their_day():
    for day in days(date(2025, 1, 1), date(2025, 3, 31)):
        for row in read("transactions", day):
            assert str(day) == str(
                INCEPTION + timedelta(days=int(row["ts_event_ns"]) // 86_400_000_000_000 - 20_089)
            )
            if "price" in row:
                assert row["price"] == Decimal(str(close_of(day, 7, row["symbol"])))


def test_long_portfolios_neither_go_short_nor_borrow_and_macro_is_short_somewhere():
    shorts = set()
    for day in days(INCEPTION, LAST)[::13]:
        for row in read("positions", day):
            if row["quantity"] < 0:
                shorts.add((row["portfolio"], row["symbol"]))
    assert {portfolio for portfolio, _ in shorts} == {"macro"}
    assert ("macro", "USD") not in shorts
    assert {symbol for _, symbol in shorts} >= {"ZETA", "ORCA"}


def test_a_holding_turns_from_long_to_short_in_one_trade():
    units = [
        row["quantity"]
        for day in days(INCEPTION, LAST)
        for row in read("positions", day)
        if (row["portfolio"], row["symbol"]) == ("macro", "NOVA")
    ]
    assert any(before * after < 0 for before, after in pairwise(units))


def test_symbols_are_ones_that_every_extract_of_prices_holds():
    symbols = {symbol for book in BOOKS for symbol in book.weights}
    assert symbols <= set(own_names(10, 7))
    assert all(5 <= len(book.weights) <= 8 for book in BOOKS)


def test_every_kind_of_transaction_occurs_and_some_notes_look_personal():
    rows = [row for day in days(INCEPTION, date(2025, 12, 31)) for row in read("transactions", day)]
    assert {row["kind"] for row in rows} == {
        *("buy", "sell", "deposit", "withdraw", "dividend", "fee")
    }
    notes = " ".join(row.get("note", "") for row in rows)
    assert "@example.com" in notes
    assert "DE89 3704" in notes
    assert {row["account_holder"] for row in rows} == {book.holder for book in BOOKS}


@pytest.mark.parametrize("feed", BOOK_FEEDS)
def test_before_the_books_began_there_is_nothing(feed):
    assert extract(feed, date(2024, 12, 1), date(2024, 12, 31)) == []


@pytest.mark.parametrize("asked", [(("ACME",), {}), ((), {"rows_per_day": "5"})])
def test_half_a_book_is_refused(asked):
    symbols, options = asked
    request = ExtractRequest("positions", INCEPTION, INCEPTION, symbols, options)
    with pytest.raises(ConfigError, match="positions are whole books"):
        list(SimulatedExtractor().extract(request))


def extract(feed: str, first: date, last: date, **options: str) -> list[Part]:
    return list(SimulatedExtractor().extract(ExtractRequest(feed, first, last, (), options)))
