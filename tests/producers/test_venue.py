"""The websocket client against venues that drop, stall and lie."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import orjson
import pytest

from stream.errors import ConfigError
from stream.producers.pack import partition_key
from stream.producers.venue import ConnectRule, GapDetector, VenueSource, VenueStats
from stream.producers.venue_protocol import VENUES, find_venue

pytestmark = pytest.mark.enable_socket

QUICK = ConnectRule(open_seconds=2, backoff_seconds=0.01, max_backoff_seconds=0.02)


def match(trade_id: int, product: str = "BTC-USD") -> bytes:
    return (
        b'{"type":"match","trade_id":%d,"maker_order_id":"a","taker_order_id":"b","side":"sell",'
        b'"size":"5.23512","price":"400.23","product_id":"%s","sequence":%d,'
        b'"time":"2026-11-07T08:19:27.028459Z"}' % (trade_id, product.encode(), trade_id * 7)
    )


DATA = {
    ("coinbase", "trades"): (match(10), ["BTC-USD"], "coinbase"),
    ("coinbase", "quotes"): (
        b'{"type":"ticker","sequence":3,"product_id":"BTC-USD","best_bid":"1","best_ask":"2"}',
        ["BTC-USD"],
        "coinbase",
    ),
    ("kraken", "trades"): (
        b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
        b'"price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,'
        b'"timestamp":"2026-09-25T07:49:37.708706Z"}]}',
        ["BTC/USD"],
        "kraken",
    ),
    ("kraken", "quotes"): (
        b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":1,"ask":2}]}',
        ["BTC/USD"],
        "kraken",
    ),
    ("kraken1", "trades"): (
        b'[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]',
        ["XBT/USD"],
        "kraken",
    ),
    ("kraken1", "quotes"): (
        b'[0,{"a":["5525.4",1,"1.0"],"b":["5525.1",1,"1.0"]},"ticker","XBT/USD"]',
        ["XBT/USD"],
        "kraken",
    ),
    ("binance", "trades"): (
        b'{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":12345,"p":"0.001","q":"100",'
        b'"T":1672515782136,"m":true,"M":true}',
        ["BTCUSDT"],
        "binance",
    ),
    ("binance", "quotes"): (
        b'{"u":400900217,"s":"BTCUSDT","b":"25.35190000","B":"31.2","a":"25.36","A":"40.6"}',
        ["BTCUSDT"],
        "binance",
    ),
}


def make(venue, url, feed="trades", products=("BTC-USD",), rule=QUICK):
    return VenueSource(
        find_venue(venue), feed, products, url=url, rule=rule, jitter=random.Random(1)
    )


async def listen(server, count, **options):
    """The first `count` messages of a source, within 5 s."""
    got = []
    async with server.running() as url, asyncio.timeout(5):
        source = make(server.venue, url, **options)
        async with contextlib.aclosing(source.batches()) as batches:
            async for batch in batches:
                got += batch
                if len(got) >= count:
                    break
    return source, got


@pytest.mark.parametrize(("venue", "feed"), list(DATA))
def test_venue_data_leaves_unchanged_and_control_messages_stay(venue_server, venue, feed):
    line, products, name = DATA[venue, feed]
    odd = line.replace(b'"', b' "', 1)  # another spelling of the same JSON must survive
    server = venue_server(venue, [["heartbeat", line, "heartbeat", odd, "stall"]])
    source, got = asyncio.run(listen(server, 2, feed=feed, products=products))
    key = partition_key(name, products[0])
    assert got == [(key, line), (key, odd)]
    assert source.stats.control_messages == 3
    assert products[0].lower() in orjson.dumps(server.asked[0]).decode().lower()


def test_venue_dropped_connection_is_opened_again_and_the_hole_named(venue_server, caplog):
    server = venue_server(
        "coinbase", [[match(1), match(2), "drop"], [match(3), "close"], [match(7), "stall"]]
    )
    with caplog.at_level(logging.ERROR):
        source, got = asyncio.run(listen(server, 4))
    assert [orjson.loads(line)["trade_id"] for _, line in got] == [1, 2, 3, 7]
    assert source.stats.connects == 3
    assert [(gap.first_id, gap.last_id) for gap in source.stats.gaps] == [(4, 6)]
    assert source.stats.missing_ids == 3
    assert "product=BTC-USD first_id=4 last_id=6" in caplog.text


def test_venue_silent_connection_counts_as_dead(venue_server):
    server = venue_server("coinbase", [["no ack", "stall"], [match(1), "stall"]])
    rule = ConnectRule(stale_seconds=0.1, backoff_seconds=0.01)
    source, got = asyncio.run(listen(server, 1, rule=rule))
    assert len(got) == 1
    assert source.stats.stale == 1


def test_venue_garbage_is_published_for_quarantine_not_fatal(venue_server):
    lies = [b"<html>", b"{", b"null", b"[1]", b'{"type":7}', b'{"type":"match"}', b'"x"', b"1e999"]
    server = venue_server("coinbase", [[*lies, match(5), "stall"]])
    source, got = asyncio.run(listen(server, len(lies) + 1))
    assert [line for _, line in got] == [*lies, match(5)]
    assert source.stats.gap_count == 0


def test_venue_refused_product_is_a_config_error_before_any_data(venue_server):
    error = b'{"type":"error","message":"Failed to subscribe","reason":"NO-COIN is not valid"}'
    server = venue_server("coinbase", [["no ack", error, "stall"]])
    with pytest.raises(ConfigError, match="NO-COIN is not valid"):
        asyncio.run(listen(server, 1))


def test_venue_error_after_data_reconnects(venue_server):
    error = b'{"type":"error","message":"internal"}'
    server = venue_server("coinbase", [[match(1), error, "stall"], [match(2), "stall"]])
    source, got = asyncio.run(listen(server, 2))
    assert len(got) == 2
    assert source.stats.connects == 2


def test_venue_wrong_address_is_a_config_error():
    async def scenario():
        async for _ in make("coinbase", "http://127.0.0.1:1").batches():
            pass

    with pytest.raises(ConfigError, match="coinbase"):
        asyncio.run(scenario())


def test_venue_nobody_listening_keeps_trying():
    async def scenario():
        source = make("coinbase", "ws://127.0.0.1:9")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                async for _ in source.batches():
                    raise AssertionError("nobody sent anything")
        return source

    assert asyncio.run(scenario()).stats.connects == 0


def test_venue_unknown_name_feed_or_no_product_is_a_config_error():
    with pytest.raises(ConfigError, match="coinbase, kraken, kraken1, binance"):
        find_venue("nyse")
    with pytest.raises(ConfigError, match="no feed 'news'"):
        VENUES["kraken"].subscriptions("news", ["X"])
    with pytest.raises(ConfigError, match="at least one product"):
        VenueSource(VENUES["kraken"], "trades", [])


def test_gap_detector_repeats_are_no_gaps_and_products_are_apart():
    stats = VenueStats()
    detector = GapDetector("v", stats)
    for product, ids in [
        ("a", (1, 1)),
        ("b", (50, 50)),
        ("a", (2, 4)),
        ("a", (3, 3)),
        ("b", (51, 51)),
    ]:
        assert detector.observe(product, ids) is None
    assert stats.repeated_ids == 1
    gap = detector.observe("a", (7, 8))
    assert gap is not None
    assert (gap.product, gap.first_id, gap.last_id) == ("a", 5, 6)


def test_gap_detector_one_wild_id_does_not_blind_it():
    stats = VenueStats()
    detector = GapDetector("v", stats)
    detector.observe("a", (1, 1))
    detector.observe("a", (10**15, 10**15))
    for trade_id in range(2, 102):
        detector.observe("a", (trade_id, trade_id))
    gap = detector.observe("a", (105, 105))
    assert gap is not None
    assert (gap.first_id, gap.last_id) == (102, 104)
