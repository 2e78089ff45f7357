"""The simulator: reproducible, countable, shaped like the real thing."""

from __future__ import annotations

import math
from collections import Counter

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.producers.route import read_route, route_key
from stream.producers.simulate import MAX_RESEND_DISTANCE, SimulationRule, Simulator, Truth
from stream.producers.simulate_market import MALFORMED_KINDS, MarketRule, malform

START = 1_764_000_000_000_000_000
LINE = (
    b'{"venue":"sim","symbol":"ACME","trade_id":"1","kind":"new","ts_event_ns":1,'
    b'"price":101.25,"size":10,"side":"buy"}'
)


def simulator(feed="trades", seed=7, **options) -> Simulator:
    return Simulator(feed, seed=seed, start_ns=START, **options)


def rows_of(line: bytes) -> list[tuple[str, str, str, str]] | None:
    """Distinct facts of a trade message, or None if it is malformed: an independent reading."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if "trade_id" in value and "venue" in value:
        price = value["price"]
        if value["venue"] != "sim" or not isinstance(price, float) or price <= 0:
            return None
        version = f"{value['kind']}{value.get('known_at_ns', '')}"
        return [("sim", value["symbol"], value["trade_id"], version)]
    if value.get("type") == "match":
        return [("coinbase", value["product_id"], str(value["trade_id"]), "new")]
    if value.get("e") == "trade":
        return [("binance", value["s"], str(value["t"]), "new")]
    return [("kraken", row["symbol"], str(row["trade_id"]), "new") for row in value["data"]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 3_000), min_size=1, max_size=5))
def test_simulator_same_seed_gives_same_bytes_however_taken(seed, sizes):
    taken = simulator(seed=seed)
    parts = [line for size in sizes for line in taken.generate(size)]
    whole = simulator(seed=seed)
    assert parts == whole.generate(sum(sizes))
    assert taken.truth == whole.truth


def test_simulator_other_seed_gives_other_bytes():
    assert simulator(seed=1).generate(50) != simulator(seed=2).generate(50)


def test_simulator_truth_equals_an_independent_count_of_the_messages():
    source = simulator(rule=SimulationRule(malformed=0.01, corrections=0.01, duplicates=0.02))
    facts: Counter[tuple[str, str, str, str]] = Counter()
    malformed = 0
    lines = source.generate(60_000)
    for line in lines:
        rows = rows_of(line)
        malformed += rows is None
        facts.update(rows or [])
    truth = source.truth
    assert truth.messages == 60_000
    assert truth.rows == len(facts)
    assert truth.duplicate_rows == sum(facts.values()) - len(facts)
    assert sum(truth.malformed.values()) == malformed
    assert set(truth.malformed) == set(MALFORMED_KINDS)
    versions = Counter(version[:6] for _, _, _, version in facts)
    assert truth.cancels == versions["cancel"]
    assert truth.corrections == versions["correc"]
    assert min(truth.duplicates, truth.late, truth.corrections, truth.cancels) > 0


def test_simulator_duplicates_are_exact_and_near():
    source = simulator(rule=SimulationRule(duplicates=0.05, malformed=0, corrections=0))
    seen: dict[bytes, int] = {}
    distances = []
    for at, line in enumerate(source.generate(20_000)):
        if line in seen:
            distances.append(at - seen[line])
        seen.setdefault(line, at)
    assert len(distances) == source.truth.duplicates > 300
    assert max(distances) < MAX_RESEND_DISTANCE * 1.2


def test_simulator_corrections_name_an_earlier_trade_and_its_event_time():
    source = simulator(rule=SimulationRule(corrections=0.05, malformed=0, duplicates=0))
    trades = {}
    corrections = 0
    for line in source.generate(20_000):
        value = orjson.loads(line)
        key = (value.get("symbol"), value.get("trade_id"))
        if value.get("kind") == "new":
            trades[key] = value
        elif "kind" in value:
            corrections += 1
            assert trades[key]["ts_event_ns"] == value["ts_event_ns"] < value["known_at_ns"]
            assert list(value)[:8] == list(trades[key])
    assert corrections == source.truth.corrections + source.truth.cancels > 100


def test_simulator_ids_of_a_venue_and_symbol_have_no_gaps():
    ids: dict[tuple[str, str], list[int]] = {}
    for line in simulator().generate(20_000):
        for venue, symbol, trade_id, version in rows_of(line) or []:
            if version == "new":
                ids.setdefault((venue, symbol), []).append(int(trade_id))
    for found in ids.values():
        assert sorted(set(found)) == list(range(min(found), max(found) + 1))


def test_simulator_symbols_are_skewed_and_prices_stay_on_the_grid():
    source = simulator(rule=SimulationRule(venue_shapes=0, malformed=0))
    symbols: Counter[str] = Counter()
    for line in source.generate(20_000):
        value = orjson.loads(line)
        symbols[value["symbol"]] += 1
        assert value["price"] > 0
        assert math.isclose(value["price"] * 1e4, round(value["price"] * 1e4), abs_tol=1e-6)
    assert symbols.most_common(1)[0][1] > 20_000 * 0.1
    assert len(symbols) > 200


def test_simulator_event_times_follow_the_rate_within_a_second():
    rate = 2_000.0
    source = simulator(rate=rate, rule=SimulationRule(late=0, venue_shapes=0, malformed=0))
    last = 0
    for at, line in enumerate(source.generate(10_000)):
        value = orjson.loads(line)
        if value["kind"] == "new":
            last = max(last, value["ts_event_ns"])
            assert abs((last - START) / 1e9 - at / rate) < 1.2


def test_simulator_keys_are_those_of_the_route():
    for key, line in simulator().take(5_000):
        if read_route(line) is not None and rows_of(line) is not None:
            assert key == route_key(line)


@pytest.mark.parametrize(
    ("feed", "fields"),
    [
        (
            "quotes",
            "venue symbol quote_id ts_event_ns bid_price bid_size ask_price ask_size",
        ),
        ("news", "source story_id ts_published_ns title text url publisher symbols"),
    ],
)
def test_simulator_other_feeds_have_their_canonical_fields(feed, fields):
    rule = SimulationRule(venue_shapes=0, malformed=0, duplicates=0.02)
    source = simulator(feed, rule=rule)
    lines = source.generate(3_000)
    assert all(list(orjson.loads(line)) == fields.split() for line in lines)
    assert source.truth.rows == len(set(lines))
    for line in lines if feed == "quotes" else []:
        value = orjson.loads(line)
        assert 0 < value["bid_price"] < value["ask_price"]


def test_simulator_unknown_feed_or_rate_is_a_config_error():
    with pytest.raises(ConfigError, match="no simulator"):
        simulator("bonds")
    with pytest.raises(ConfigError, match="rate"):
        simulator(rate=0)


@pytest.mark.parametrize("kind", MALFORMED_KINDS)
def test_malform_each_kind_spoils_the_line(kind):
    spoiled = malform(LINE, kind, "price")
    assert spoiled != LINE
    assert b"\n" not in spoiled
    assert rows_of(spoiled) is None


def test_truth_counts_nothing_for_no_messages():
    truth = Truth()
    truth.add([], [])
    assert truth == Truth()


def test_market_rule_nonsense_is_refused():
    with pytest.raises(ValueError, match="symbols"):
        MarketRule(symbols=0)
