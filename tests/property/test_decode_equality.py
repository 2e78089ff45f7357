"""The columnar way never differs from the strict one, whatever the messages hold.

Slices are generated from a seed: messages of every shape with awkward but realistic values, some
of them damaged. They are repeated often enough for templates to be learned.
"""

# ruff: noqa: E501, SIM905  # messages stay on one line, numbers unquoted: that is how they are read
from __future__ import annotations

import json
import random
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode import Decoded, decode_records
from stream.decode.plan import plan_of
from stream.feeds import load_feed
from stream.slices import RECORD_SCHEMA

NS = 1_764_000_000_000_000_000
NUMBERS = (
    "1 0 10 101.25 0.00000001 9999999999.99999999 10000000000 0.1 100.50 12345678 123456789 "
    "12345678.12345678 123456789.5 0.000000001 1.1000000000 -1 -0 -0.5 1e2 1E-3 01 1. .5 +1 0x1 1_0 "
    "NaN Infinity -Infinity true null 00 0.0 - 1-1 99999999999999999999 0.123456789012345678901 "
    "9223372036854775807 9223372036854775808 123456789012345678"
).split()
TEXTS = (
    "ACME", "acme", "BTC-USD", "XBT/USD", "", "x", "12345678", "123456789", "a" * 40, "é", "日本",
    'q\\"q', "back\\\\", "\\u00e9", "\\ud800", "tab\t", "sim", "buy", "sell", "b", "s", "new", "~{",
    "\x7f", "A B", "null", "true", "[]", ",", ":", "}",
)  # fmt: skip
TIMES = (
    "2025-11-24T16:00:00Z", "2025-11-24T16:00:00.1Z", "2025-11-24T16:00:00.123456Z",
    "2025-11-24T16:00:00.123456789Z", "2025-11-24T16:00:00.1234567890Z", "2024-02-29T00:00:00Z",
    "2025-02-29T00:00:00Z", "2025-11-24T24:00:00Z", "2025-11-24T23:59:60Z", "2025-11-24T16:00:00",
    "2025-11-24T16:00:00+01:00", "2025-11-24T16:00:00-00:30", "2025-11-24 16:00:00Z", "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z", "2261-12-31T23:59:59.999999999Z", "2262-12-31T00:00:00Z", "2025-11-24T16:00:00.Z",
    "2025-13-01T00:00:00Z", "2025-00-01T00:00:00Z", "2025-11-00T00:00:00Z", "2O25-11-24T16:00:00Z",
    "2025-11-24T16:00:00z", "2025-11-24T16:00:0Z", "2025-11-24 16:00:00", "2025-11-24T16:00:00.12345678Z",
)  # fmt: skip
EPOCHS = (
    str(NS), str(NS + 1), str(NS // 10**6), str(NS // 10**3), str(NS // 10**9), "0", "1", "-1",
    "9223372036854775807", "9223372036854775808", "9000000000000000000", "8999999999999999999",
    "9223372036854", "9223372036855", "1534614057.321597", "1534614057.32159712", "12345678901",
    "1534614057.321597123", "1.764e18", "99999999999999999999", "017", "1.0", "9999999999999",
)  # fmt: skip


class Draw:
    """Values of one message: mostly common ones, now and then an awkward one."""

    def __init__(self, rng: random.Random, awkward: float) -> None:
        self.rng = rng
        self.awkward = awkward

    def _pick(self, common: str, odd: tuple[str, ...] | list[str]) -> str:
        return self.rng.choice(odd) if self.rng.random() < self.awkward else common

    def number(self) -> str:
        digits = self.rng.choice((1, 3, 6, 8))
        whole = str(self.rng.randrange(1, 10**digits))
        places = self.rng.randrange(0, 9)
        common = f"{whole}.{self.rng.randrange(10**places):0{places}d}" if places else whole
        return self._pick(common, NUMBERS)

    def integer(self) -> str:
        return self._pick(str(self.rng.randrange(1, 10 ** self.rng.choice((2, 9, 17)))), NUMBERS)

    def text(self, *common: str) -> str:
        return self._pick(self.rng.choice(common), TEXTS)

    def time(self) -> str:
        return self._pick(f"2025-11-24T16:00:{self.rng.randrange(60):02d}.028459Z", TIMES)

    def plain_time(self) -> str:
        return self._pick(f"2025-11-24 15:00:{self.rng.randrange(60):02d}", TIMES)

    def epoch(self, unit: int) -> str:
        return self._pick(str((NS + self.rng.randrange(10**10)) // unit), EPOCHS)

    def seconds(self) -> str:
        return self._pick(f"1534614057.{self.rng.randrange(10**6):06d}", EPOCHS)

    def boolean(self) -> str:
        return self._pick(self.rng.choice(("true", "false")), NUMBERS)


def canonical_trade(d: Draw) -> str:
    return (
        f'{{"venue":"{d.text("sim")}","symbol":"{d.text("ACME", "FOO")}","trade_id":"{d.text("17", "18")}",'
        f'"kind":"{d.text("new", "correct", "cancel")}","ts_event_ns":{d.epoch(1)},"price":{d.number()},'
        f'"size":{d.number()},"side":"{d.text("buy", "sell", "unknown")}"}}'
    )


def spaced_trade(d: Draw) -> str:
    return (
        f'{{ "size" : {d.number()}, "price": {d.number()} ,"venue": "{d.text("sim")}", "seq": {d.integer()}, '
        f'"ts_event_ns": {d.epoch(1)}, "trade_id": "{d.text("9")}", "symbol": "{d.text("X")}" }} '
    )


def coinbase_match(d: Draw) -> str:
    return (
        f'{{"type":"{d.text("match", "last_match")}","trade_id":{d.integer()},"maker_order_id":"{d.text("m")}",'
        f'"side":"{d.text("buy", "sell")}","size":"{d.number()}","price":"{d.number()}",'
        f'"product_id":"{d.text("BTC-USD", "btc-usd")}","sequence":{d.integer()},"time":"{d.time()}"}}'
    )


def kraken_v1(d: Draw) -> str:
    items = ",".join(
        f'["{d.number()}","{d.number()}","{d.seconds()}","{d.text("b", "s")}","l","{d.text("")}"]'
        for _ in range(d.rng.choice((1, 2)))
    )
    if d.rng.random() < 0.1:
        items = f"{items},{items}"
    return f'[{d.integer()},[{items}],"{d.text("trade")}","{d.text("XBT/USD")}"]'


def kraken_v2(d: Draw) -> str:
    items = ",".join(
        f'{{"symbol":"{d.text("XBT/USD")}","side":"{d.text("buy", "sell")}","price":{d.number()},'
        f'"qty":{d.number()},"ord_type":"market","trade_id":{d.integer()},"timestamp":"{d.time()}"}}'
        for _ in range(d.rng.choice((1, 2)))
    )
    kind = d.rng.choice(("update", "update", "snapshot"))
    return f'{{"channel":"trade","type":"{kind}","data":[{items}]}}'


def binance_trade(d: Draw) -> str:
    inner = (
        f'{{"e":"{d.text("trade")}","E":{d.epoch(10**6)},"s":"{d.text("BNBBTC")}","t":{d.integer()},'
        f'"p":"{d.number()}","q":"{d.number()}","T":{d.epoch(10**6)},"m":{d.boolean()},"M":{d.boolean()}}}'
    )
    return inner if d.rng.random() < 0.5 else f'{{"stream":"x","data":{inner}}}'


def binance_aggregate(d: Draw) -> str:
    return (
        f'{{"e":"aggTrade","E":{d.epoch(10**6)},"s":"{d.text("BNBBTC")}","a":{d.integer()},"p":"{d.number()}",'
        f'"q":"{d.number()}","f":{d.integer()},"l":{d.integer()},"T":{d.epoch(10**6)},"m":{d.boolean()},"M":true}}'
    )


def heartbeat(d: Draw) -> str:
    return d.rng.choice(
        (
            f'{{"type":"heartbeat","sequence":{d.integer()},"product_id":"{d.text("BTC-USD")}","time":"{d.time()}"}}',
            '{"channel":"heartbeat"}',
            f'{{"result":null,"id":{d.integer()}}}',
        )
    )


def canonical_quote(d: Draw) -> str:
    return (
        f'{{"venue":"{d.text("sim")}","symbol":"{d.text("ACME")}","quote_id":"{d.text("5")}",'
        f'"bid_price":{d.number()},"bid_size":{d.number()},"ask_price":{d.number()},"ask_size":{d.number()},'
        f'"ts_event_ns":{d.epoch(1)}}}'
    )


def book_ticker(d: Draw) -> str:
    late = f',"T":{d.epoch(10**6)}' if d.rng.random() < 0.3 else ""
    return (
        f'{{"u":{d.integer()},"s":"{d.text("BNBUSDT")}","b":"{d.number()}","B":"{d.number()}",'
        f'"a":"{d.number()}","A":"{d.number()}"{late}}}'
    )


def kraken_ticker(d: Draw) -> str:
    if d.rng.random() < 0.5:
        return (
            f'[340,{{"a":["{d.number()}",{d.integer()},"{d.number()}"],"b":["{d.number()}",1,"{d.number()}"]}},'
            f'"ticker","{d.text("XBT/USD")}"]'
        )
    return (
        f'{{"channel":"ticker","type":"update","data":[{{"symbol":"{d.text("XBT/USD")}","bid":{d.number()},'
        f'"bid_qty":{d.number()},"ask":{d.number()},"ask_qty":{d.number()},"change":{d.number()},'
        f'"timestamp":{d.rng.choice(("null", json.dumps(d.time())))}}}]}}'
    )


def coinbase_ticker(d: Draw) -> str:
    return (
        f'{{"type":"ticker","sequence":{d.integer()},"product_id":"{d.text("ETH-USD")}","price":"{d.number()}",'
        f'"best_bid":"{d.number()}","best_bid_size":"{d.number()}","best_ask":"{d.number()}",'
        f'"best_ask_size":"{d.number()}","time":"{d.time()}"}}'
    )


def canonical_story(d: Draw) -> str:
    return (
        f'{{"source":"simwire","story_id":"{d.text("sw-1")}","ts_published_ns":{d.epoch(1)},'
        f'"title":"{d.text("ACME rises", "x" * 300)}","text":"{d.text("", "long " * 90)}",'
        f'"symbols":"{d.text("ACME,BTC", "acme")}","language":{d.rng.choice(("null", chr(34) + "en" + chr(34)))}}}'
    )


def fmp_story(d: Draw) -> str:
    return (
        f'{{"symbol":"{d.text("AAPL")}","publishedDate":"{d.plain_time()}","publisher":"{d.text("Zacks")}",'
        f'"title":"{d.text("Apple")}","image":"x","site":"zacks.com","text":"{d.text("Tariffs", "é" * 50)}",'
        f'"url":"{d.text("https://example.com/1")}"}}'
    )


def rss_item(d: Draw) -> str:
    return f'{{"guid":"{d.text("urn:1")}","title":"{d.text("T")}","pubDate":"{d.text("Mon, 24 Nov 2025 09:30:00 GMT")}"}}'


SHAPES: dict[str, tuple[Callable[[Draw], str], ...]] = {
    "trades": (
        canonical_trade,
        spaced_trade,
        coinbase_match,
        kraken_v1,
        kraken_v2,
        binance_trade,
        binance_aggregate,
        heartbeat,
    ),
    "quotes": (canonical_quote, book_ticker, kraken_ticker, coinbase_ticker, heartbeat),
    "news": (canonical_story, fmp_story, rss_item),
}


def damage(rng: random.Random, line: bytes) -> bytes:
    """One careless change of a message's bytes."""
    at = rng.randrange(len(line) + 1)
    junk = rng.choice(
        (b'"', b",", b"}", b"\\", b"\xff", b"\xc3", b"\x00", b"\r", b" ", b"0", b"-", b"e")
    )
    match rng.randrange(5):
        case 0:
            return line[:at]
        case 1:
            return line[:at] + junk + line[at:]
        case 2:
            return line[:at] + junk + line[at + 1 :]
        case 3:
            return line[:at] + line[at + 1 :]
        case _:
            return line + line


def make_slice(feed: str, seed: int, count: int = 240) -> list[bytes]:
    """Some messages of a feed."""
    rng = random.Random(seed)
    shapes = rng.sample(SHAPES[feed], rng.randint(1, min(3, len(SHAPES[feed]))))
    draw = Draw(rng, rng.choice((0.0, 0.01, 0.05, 0.2)))
    damaged = rng.choice((0.0, 0.02, 0.1))
    lines = []
    for _ in range(count):
        line = rng.choice(shapes)(draw).encode()
        lines.append(damage(rng, line) if rng.random() < damaged else line)
    return lines


def pack(rng: random.Random, lines: list[bytes]) -> pa.RecordBatch:
    """Lines in records of any number, with the line ends that producers write."""
    payloads, at = [], 0
    while at < len(lines):
        size = rng.choice((1, 1, 7, 40))
        end = rng.choice((b"\n", b"\n", b"\r\n", b"\n\n", b"\n \n"))
        payloads.append(end.join(lines[at : at + size]) + rng.choice((b"", b"", end)))
        at += size
    return records_of(payloads)


def records_of(payloads: list[bytes]) -> pa.RecordBatch:
    count = len(payloads)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(i) for i in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([NS + i for i in range(count)], pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


def assert_same(left: Decoded, right: Decoded) -> None:
    left.rows.validate(full=True)
    assert left.rows.to_pylist() == right.rows.to_pylist()
    assert left.rows.schema == right.rows.schema
    assert left.rejects.to_pylist() == right.rejects.to_pylist()
    assert left.ignored == right.ignored
    assert left.messages == right.messages


def assert_nothing_lost(decoded: Decoded) -> None:
    seen = {
        place
        for table in (decoded.rows, decoded.rejects)
        for place in zip(
            *(table[name].to_pylist() for name in ("record_no", "line_no")), strict=True
        )
    }
    assert len(seen) + sum(decoded.ignored.values()) == decoded.messages


@pytest.mark.parametrize("feed", SHAPES)
@given(seed=st.integers(0, 2**32))
def test_columnar_decode_equals_strict_decode_on_generated_slices(feed: str, seed: int) -> None:
    contract = load_feed(feed)
    records = pack(random.Random(seed), make_slice(feed, seed))
    columnar = decode_records(contract, records)
    assert_same(columnar, decode_records(contract, records, strict_only=True))
    assert_nothing_lost(columnar)


@given(seed=st.integers(0, 2**32))
def test_learned_templates_never_change_a_result(seed: int) -> None:
    contract = load_feed("trades")
    templates = plan_of(contract).templates
    records = pack(random.Random(seed), make_slice("trades", seed))
    warm = decode_records(contract, records)
    templates.clear()
    cold = decode_records(contract, records)
    again = decode_records(contract, records)
    assert_same(cold, warm)
    assert_same(again, cold)


@given(seed=st.integers(0, 2**32))
def test_chunking_of_lines_into_records_does_not_matter(seed: int) -> None:
    contract = load_feed("trades")
    lines = [line.replace(b"\r", b"") or b"x" for line in make_slice("trades", seed, 120)]
    lines = [line for line in lines if line.strip()]
    one = decode_records(contract, records_of([b"\n".join(lines)]))
    many = decode_records(contract, records_of(lines))
    assert one.messages == many.messages == len(lines)
    for name in contract.row_schema.names:
        if name != "quote_id":
            assert one.rows[name].to_pylist() == many.rows[name].to_pylist()
    assert one.rejects["raw"].to_pylist() == many.rejects["raw"].to_pylist()
    assert one.rejects["reason"].to_pylist() == many.rejects["reason"].to_pylist()


@pytest.mark.parametrize("feed", SHAPES)
@given(payloads=st.lists(st.binary(max_size=80), max_size=70))
def test_arbitrary_bytes_are_never_lost_and_never_raise(feed: str, payloads: list[bytes]) -> None:
    decoded = decode_records(load_feed(feed), records_of(payloads))
    assert_nothing_lost(decoded)
    assert_same(decoded, decode_records(load_feed(feed), records_of(payloads), strict_only=True))


@given(
    whole=st.integers(1, 9_999_999_999),
    places=st.text("0123456789", min_size=1, max_size=8),
    as_text=st.booleans(),
)
def test_decimals_are_exact_to_the_last_place(whole: int, places: str, as_text: bool) -> None:
    number = f"{whole}.{places}"
    if as_text:
        line = f'{{"e":"trade","E":1,"s":"X","t":1,"p":"{number}","q":"1","T":1,"m":true,"M":true}}'
    else:
        line = f'{{"venue":"sim","symbol":"X","trade_id":"1","ts_event_ns":1,"price":{number},"size":1}}'
    decoded = decode_records(load_feed("trades"), records_of([line.encode()] * 60))
    assert {format(price, "f") for price in decoded.rows["price"].to_pylist()} == {
        f"{whole}.{places.ljust(8, '0')}"
    }
