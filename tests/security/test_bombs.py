"""Input that claims to be small and is not: refused with a reason, memory flat, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import time
import zlib
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from batch.extracts.http import CallRule, JsonClient
from batch.extracts.mapping import plain_mapping
from stream.clock import ManualClock
from stream.decode import decode_records
from stream.errors import ConfigError, FatalError, StoreUnavailableError
from stream.feeds import load_feed, load_feeds
from stream.producers.answer import BoundedBody, UnreadableAnswerError
from stream.producers.news import NewsSource, PollRule
from stream.producers.news_source import RssNews
from stream.producers.rss import MAX_ITEMS, parse_rss
from stream.slices import RECORD_SCHEMA
from stream.sources import extract_columns
from stream.sources.aggregation import AGGREGATED, MAX_KEY_CHARACTERS, split_aggregated
from stream.sources.extract_formats import FREE_BYTES, items_of

MB = 1 << 20
FLAT_MB = 60
NOW_NS = 1_830_000_000_000_000_000
TRADES = plain_mapping(load_feed("trades"))
RULE = CallRule(attempts=1, max_answer_bytes=MB, answer_seconds=60)


def decode(feed, messages):
    count = len(messages)
    columns = [
        pa.array(messages, pa.binary()),
        pa.array([str(n) for n in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array([None] * count, pa.string()),
        pa.array([NOW_NS] * count, pa.int64()),
    ]
    return decode_records(load_feed(feed), pa.record_batch(columns, schema=RECORD_SCHEMA))


@pytest.fixture
def ask():
    """Ask a server once, as an extract does."""

    def get(server, rule=RULE):
        client = JsonClient(
            "FMP",
            f"http://127.0.0.1:{server.port}/stable",
            hosts=(),
            key_header="apikey",
            api_key=SecretStr("k"),
            rule=rule,
            clock=ManualClock(),
        )
        with client:
            return client.get("profile", {}, lambda value: None)

    return get


# Answers over HTTP


def endless(connection):
    """Chunks for ever, until the reader hangs up."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            endless.sent += 65_536


def test_answer_without_an_end_is_left_at_the_cap(serve, ask):
    endless.sent = 0
    with pytest.raises(ConfigError, match="more than 1,048,576 bytes"):
        ask(serve(endless))
    time.sleep(0.1)
    assert endless.sent < 16 * MB  # what fits the sockets' buffers


@pytest.mark.parametrize("length", ["5", "999999999"])
def test_answer_that_lies_about_its_length_is_not_whole(serve, ask, length):
    body = b'[{"symbol":"AAPL"}]'
    lie = (
        f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body
    )
    with pytest.raises(StoreUnavailableError, match=r"no whole answer|expected JSON"):
        ask(serve(lie))


@pytest.mark.parametrize("encoding", ["gzip, gzip", "zstd", "br", "deflate", "gzip;q=1"])
def test_encoding_that_nobody_asked_for_is_refused(serve, ask, answer, encoding):
    twice = gzip.compress(gzip.compress(b"[]"))
    server = serve(answer(twice, Content_Encoding=encoding))
    with pytest.raises(StoreUnavailableError, match="which nobody asked for"):
        ask(server)
    assert b"accept-encoding: gzip\r\n" in server.asked[0].lower()


def test_gzip_bomb_of_an_answer_costs_no_memory(grown_mb):
    prepare = """
import threading, socket, zlib
from pydantic import SecretStr
from batch.extracts.http import CallRule, JsonClient
packer = zlib.compressobj(9, wbits=31)
bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = listener.accept()
    connection.recv(65536)
    head = b"HTTP/1.1 200 OK\\r\\nContent-Encoding: gzip\\r\\nConnection: close\\r\\n\\r\\n"
    connection.sendall(head + bomb)
    connection.close()
threading.Thread(target=serve, daemon=True).start()
client = JsonClient("FMP", f"http://127.0.0.1:{listener.getsockname()[1]}/x", hosts=(),
                    key_header="apikey", api_key=SecretStr("k"),
                    rule=CallRule(attempts=1, max_answer_bytes=1 << 20))
"""
    act = """
try:
    client.get("profile", {}, lambda value: None)
except Exception as error:
    print(error)
"""
    grown, said = grown_mb(prepare, act)
    assert "more than 1,048,576 bytes" in said
    assert grown < FLAT_MB


@pytest.mark.parametrize("piece", [b"{},", b"[],", b"1,", b'{"a":'])
def test_answer_of_too_many_values_is_refused_before_it_is_parsed(serve, ask, answer, piece):
    body = b"[" + piece * 60_000 + b"0"
    rule = CallRule(attempts=1, max_answer_values=50_000)
    with pytest.raises(ConfigError, match="more than 50,000 values"):
        ask(serve(answer(body)), rule)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_answer_nested_100000_deep_is_no_json(serve, ask, answer, opening):
    with pytest.raises(StoreUnavailableError, match="expected JSON"):
        ask(serve(answer(opening * 100_000)), CallRule(attempts=1))


@given(body=st.binary(max_size=2_000), cut=st.integers(1, 400), packed=st.booleans())
@example(body=bytes(2_000), cut=400, packed=True)
def test_bounded_body_is_the_body_or_too_large_however_it_comes(body, cut, packed):
    limit = 1_000
    wire = gzip.compress(body) if packed else body
    bounded = BoundedBody("gzip" if packed else "", limit)
    for at in range(0, len(wire), cut):
        if bounded.is_too_large:
            break
        bounded.feed(wire[at : at + cut])
        assert len(bounded.data) <= limit + 1
    assert bounded.is_too_large == (len(body) > limit)
    assert bounded.data == body[: limit + 1]
    if not bounded.is_too_large:
        bounded.check_whole()


def test_bounded_body_that_is_cut_or_damaged_is_unreadable():
    whole = gzip.compress(b"x" * 500)
    cut = BoundedBody("gzip", 1_000)
    cut.feed(whole[:-3])
    with pytest.raises(UnreadableAnswerError, match="ends in the middle"):
        cut.check_whole()
    with pytest.raises(UnreadableAnswerError, match="damaged gzip"):
        BoundedBody("gzip", 1_000).feed(b"no gzip at all")
    more = BoundedBody("gzip", 1_000)
    more.feed(whole)
    with pytest.raises(UnreadableAnswerError, match="something follows"):
        more.feed(b"more")


def test_news_answer_that_trickles_is_given_up(serve, tmp_path, caplog):
    def trickle(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"<")
            time.sleep(0.02)

    server = serve(trickle)
    feed = RssNews(f"http://127.0.0.1:{server.port}/", private_hosts=("127.0.0.1",))
    rule = PollRule(min_gap_seconds=0, backoff_seconds=0.01, answer_seconds=0.2)

    async def poll():
        source = NewsSource(feed, tmp_path / "cursor.json", rule=rule)
        async with contextlib.aclosing(source.batches()) as batches, asyncio.timeout(1):
            await anext(batches)

    with pytest.raises(TimeoutError):
        asyncio.run(poll())
    assert "no whole answer within 0 s" in caplog.text


def test_rss_of_too_many_items_is_refused():
    parse_rss(b"<rss>" + b"<item/>" * MAX_ITEMS + b"</rss>")
    with pytest.raises(UnreadableAnswerError, match="more than 5,000 items"):
        parse_rss(b"<rss>" + b"<item/>" * (MAX_ITEMS + 1) + b"</rss>")


# Files


def test_gzip_file_that_unpacks_a_thousandfold_costs_no_more_than_its_bound(grown_mb):
    prepare = """
import zlib
from stream.sources.extract_formats import inflate
packer = zlib.compressobj(9, wbits=31)
line = b"{}\\n" * 350_000
bomb = b"".join(packer.compress(line) for _ in range(200)) + packer.flush()
"""
    act = """
try:
    inflate("a.jsonl.gz", bomb)
except Exception as error:
    print(type(error).__name__, error)
"""
    grown, said = grown_mb(prepare, act)
    assert "FatalError a.jsonl.gz: holds more than 67,108,864 bytes when unpacked" in said
    assert grown < 3 * FREE_BYTES // MB  # 210 MB were claimed


def test_gzip_file_of_a_real_market_is_far_from_the_bound():
    line = b'{"venue":"sim","symbol":"BTC","trade_id":"%d","price":95004.95,"size":0.25}\n'
    data = b"".join(line % n for n in range(200_000))
    packed = zlib.compress(data, 9, wbits=31)
    assert 5 < len(data) / len(packed) < 40
    assert len(items_of("a", packed, "jsonl.gz", {})) == 200_000


def test_parquet_file_that_stands_for_gigabytes_costs_no_more_than_its_bound(grown_mb):
    prepare = """
import io
import pyarrow as pa, pyarrow.parquet as pq
from batch.extracts.mapping import plain_mapping
from stream.feeds import load_feed
from stream.sources.extract_formats import items_of
mapping = plain_mapping(load_feed("trades"))
columns = [spec["column"] for spec in mapping["fields"].values()]
n = 2_000_000
wide = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 1000]))
table = pa.table({c: pa.nulls(n, pa.string()) if i else wide for i, c in enumerate(columns)})
file = io.BytesIO()
pq.write_table(table, file, row_group_size=n, store_schema=False)
bomb = file.getvalue()
del table, wide, file
"""
    act = """
print(len(bomb))
try:
    items_of("a.parquet", bomb, "parquet", mapping)
except Exception as error:
    print(type(error).__name__, error)
"""
    grown, said = grown_mb(prepare, act)
    assert int(said.split()[0]) < MB
    assert "FatalError a.parquet: its columns hold more than 67,108,864 bytes" in said
    assert grown < 4 * FREE_BYTES // MB  # 2,000 MB were claimed


def test_rows_without_a_byte_of_their_own_are_refused_before_memory_is_asked_for():
    fields = [extract_columns._Field("venue", {"constant": "sim"})]
    with pytest.raises(FatalError, match="2,000,000,000 messages would hold more than"):
        extract_columns._messages("a.parquet", fields, {}, 2_000_000_000)


def test_csv_with_a_giant_first_line_is_refused_with_a_reason():
    with pytest.raises(FatalError, match=r"a\.csv: its first line is no header"):
        items_of("a.csv", b"a" * 200_000 + b",b\n1,2\n", "csv", TRADES)


def test_csv_with_a_giant_field_costs_its_own_row_and_nothing_else():
    names = [str(spec["column"]) for spec in TRADES["fields"].values()]  # type: ignore[attr-defined]
    values = {"venue": "sim", "symbol": "A", "kind": "new", "price": "1.5", "size": "2",
              "side": "buy", "ts_event_ns": "1764000000000000000"}  # fmt: skip
    good = ",".join(values.get(name, "") for name in names)
    giant = ",".join("x" * 20_000_000 if n == "symbol" else values.get(n, "") for n in names)
    data = "\n".join([",".join(names), good, giant, good]).encode()
    items = items_of("a.csv", data, "csv", TRADES)
    decoded = decode("trades", items.to_pylist())
    assert decoded.messages == 3
    assert "line_too_long" in decoded.rejects["reason"].to_pylist()
    assert len(decoded.rejects["raw"][1].as_py()) > 20_000_000  # all of it is kept


@pytest.mark.parametrize(
    ("depth", "reason"), [(5_000, "nesting_too_deep"), (1_000_000, "line_too_long")]
)
def test_element_that_is_nested_deep_is_quarantined_and_its_neighbours_are_not(depth, reason):
    good = load_accepted("trades")[0]
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    items = items_of("a.json", b"[" + good + b"," + deep + b"," + good + b"]", "json", {})
    decoded = decode("trades", items.to_pylist())
    assert decoded.messages == 3
    assert decoded.rejected.tolist() == [1]
    assert decoded.rejects["reason"].to_pylist() == [reason]


# Messages


def load_accepted(feed):
    fixtures = Path(__file__).parents[1] / "fixtures" / "feeds" / feed / "accepted.jsonl"
    cases = [orjson.loads(line) for line in fixtures.read_bytes().splitlines() if line.strip()]
    return [case["raw"].encode() for case in cases if "raw" in case]


HUGE = {
    "100,000 digits": b"9" * 100_000,
    "4,000 digits": b"9" * 4_000,
    "a huge exponent": b"1e999999999",
    "a tiny exponent": b"1e-999999999",
    "an exponent beyond all": b"1e" + b"9" * 30,
    "100,000 decimals": b"0." + b"1" * 100_000,
}


@pytest.mark.parametrize("feed", sorted(load_feeds()))
@pytest.mark.parametrize("number", HUGE)
def test_number_beyond_reason_is_quarantined_at_once_wherever_it_stands(feed, number):
    """Each value of some accepted messages in turn: as a number, and as text."""
    messages = []
    for line in load_accepted(feed)[:2]:
        value = orjson.loads(line)
        for path in list(_leaves(value))[:20]:
            for text in (HUGE[number], b'"' + HUGE[number] + b'"'):
                messages.append(_with(value, path, text))
    began = time.process_time()
    decoded = decode(feed, messages)
    assert time.process_time() - began < 20
    assert decoded.messages == len(messages)
    assert len(decoded.rejected) >= 4
    seen = {*decoded.rows["record_no"].to_pylist(), *decoded.rejected.tolist()}
    assert len(seen) + sum(decoded.ignored.values()) >= len(messages)  # nothing vanished


@pytest.mark.parametrize("feed", sorted(load_feeds()))
def test_accepted_messages_are_accepted_before_they_are_changed(feed):
    decoded = decode(feed, load_accepted(feed))
    assert (decoded.rejects.num_rows, decoded.messages) == (0, len(load_accepted(feed)))


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, (*path, at))
    else:
        yield path


def _with(value, path, text):
    """The message with one value replaced by a text that no JSON library would write."""
    changed = json.loads(json.dumps(value))
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = "\0here\0"
    return orjson.dumps(changed).replace(b'"\\u0000here\\u0000"', text)


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def aggregated(*fields):
    body = b"".join(bytes([tag]) + varint(len(value)) + value for tag, value in fields)
    return AGGREGATED + body + hashlib.md5(body, usedforsecurity=False).digest()


EMPTY_USER = (0x1A, b"\x08\x00\x1a\x00")


def test_aggregated_record_whose_keys_outgrow_it_is_kept_as_it_is():
    long_key = aggregated((0x0A, b"k" * (MAX_KEY_CHARACTERS + 1)), EMPTY_USER)
    assert split_aggregated(long_key) is None
    many = aggregated((0x0A, b"k" * MAX_KEY_CHARACTERS), *[EMPTY_USER] * 2_000)
    assert split_aggregated(many) is None
    sane = aggregated((0x0A, b"k" * MAX_KEY_CHARACTERS), *[EMPTY_USER] * 10)
    assert split_aggregated(sane) == [(b"", "k" * MAX_KEY_CHARACTERS)] * 10


def test_aggregated_record_that_claims_a_billion_costs_no_memory(grown_mb):
    prepare = """
import hashlib
from stream.sources import extract_columns
from stream.sources.aggregation import AGGREGATED
from stream.sources.kinesis_parser import build_records
body = b"\\x0a\\xc0\\x9a\\x0c" + b"k" * 200_000 + b"\\x1a\\x04\\x08\\x00\\x1a\\x00" * 100_000
payload = AGGREGATED + body + hashlib.md5(body).digest()
"""
    act = """
records = build_records([payload], ["1"], ["key"], [1.0])
print(records.num_rows, records["payload"][0].as_py() == payload)
"""
    grown, said = grown_mb(prepare, act)
    assert said.startswith("1 True")  # one row with the exact bytes; 20 GB of keys were claimed
    assert grown < FLAT_MB
