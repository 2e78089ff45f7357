"""Decoding by hand: one bad message, several items, the order, and what never stops it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from stream.decode import REJECT_SCHEMA, decode_records, rows_schema
from stream.feeds import load_feed
from stream.slices import RECORD_SCHEMA, empty_records

TRADES = load_feed("trades")
NS = 1_764_000_000_000_000_000
GOOD = {
    "venue": "sim", "symbol": "ACME", "trade_id": "1", "kind": "new", "ts_event_ns": NS,
    "price": 101.25, "size": 10, "side": "buy",
}  # fmt: skip


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def records(*payloads: bytes, arrival_ns: int = NS) -> pa.RecordBatch:
    count = len(payloads)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(i) for i in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([arrival_ns] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


def reject_of(payload: bytes) -> dict[str, object]:
    decoded = decode_records(TRADES, records(payload))
    assert decoded.rows.num_rows == 0
    (reject,) = decoded.rejects.to_pylist()
    assert reject["raw"] == payload
    return reject


# --- the ten kinds of bad input that a stream must survive ---


def test_empty_payload_is_rejected() -> None:
    assert reject_of(b"")["reason"] == "empty_payload"


def test_invalid_utf8_is_rejected() -> None:
    assert reject_of(line().replace(b"ACME", b"AC\xff"))["reason"] == "invalid_utf8"


def test_record_of_a_megabyte_is_rejected() -> None:
    assert reject_of(line(pad="x" * 1_000_000))["reason"] == "line_too_long"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_not_a_number_is_rejected(number: bytes) -> None:
    assert reject_of(line().replace(b"101.25", number))["reason"] == "not_a_number"


def test_number_as_a_string_is_rejected_as_another_type() -> None:
    reject = reject_of(line(price="101.25"))
    assert reject["reason"] == "wrong_type"
    assert reject["detail"] == "price: found a string '101.25', expected a JSON number"


def test_negative_price_is_rejected() -> None:
    assert reject_of(line(price=-101.25))["reason"] == "non_positive_price"


def test_unknown_venue_is_rejected() -> None:
    assert reject_of(line(venue="nowhere"))["reason"] == "unknown_venue"


def test_far_future_time_is_rejected() -> None:
    late = NS + TRADES.future_tolerance_ms * 1_000_000
    assert reject_of(line(ts_event_ns=late + 1))["reason"] == "event_time_in_future"
    assert decode_records(TRADES, records(line(ts_event_ns=late))).rows.num_rows == 1


@pytest.mark.parametrize("depth", [17, 2_000, 30_000])
def test_deep_nesting_is_rejected(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert reject_of(deep)["reason"] == "nesting_too_deep"


def test_brackets_inside_text_are_no_nesting() -> None:
    assert decode_records(TRADES, records(line(note="[{" * 50 + '\\"'))).rows.num_rows == 1


def test_duplicate_key_is_rejected() -> None:
    payload = line().replace(b'"size"', b'"price": 1, "size"')
    assert reject_of(payload)["reason"] == "duplicate_key"


# --- one bad message among many ---


def test_bad_message_costs_its_record_nothing_else() -> None:
    payload = b"\n".join([line(trade_id="1"), b"nope", line(trade_id="2")])
    decoded = decode_records(TRADES, records(payload, line(trade_id="3")))
    assert decoded.rows["trade_id"].to_pylist() == ["1", "2", "3"]
    assert decoded.rows["line_no"].to_pylist() == [0, 2, 0]
    assert decoded.rows["record_no"].to_pylist() == [0, 0, 1]
    assert decoded.rejects.to_pylist() == [
        {
            "record_no": 0,
            "line_no": 1,
            "reason": "malformed_json",
            "detail": "Expecting value at character 0",
            "raw": b"nope",
        }
    ]
    assert decoded.messages == 4


def test_rejected_messages_are_numbered_over_lines_and_empty_records() -> None:
    good = b"\n".join([line(trade_id="1"), b"", line(trade_id="2")])  # a blank line is no message
    beat = b'{"type": "heartbeat", "product_id": "BTC-USD"}'
    batch = records(b"", good, b"nope", beat, b"\n", good + b"\n" + b"nope", line(trade_id="3"))
    decoded = decode_records(TRADES, batch.slice(0))
    assert decoded.ignored
    assert decoded.rejected.tolist() == [0, 3, 5, 8]
    assert decoded.messages == 10


def test_bad_item_of_a_message_is_rejected_and_the_others_stay() -> None:
    items = [
        {
            "symbol": "XBT/USD", "side": "buy", "price": price, "qty": 1.5, "trade_id": number,
            "timestamp": "2025-11-24T16:00:00Z",
        }
        for number, price in enumerate([1.5, -1.5, "x", 2.5])
    ]  # fmt: skip
    raw = json.dumps({"channel": "trade", "type": "update", "data": items}).encode()
    decoded = decode_records(TRADES, records(raw, arrival_ns=NS))
    assert decoded.rows["trade_id"].to_pylist() == ["0", "3"]
    assert decoded.rejects["reason"].to_pylist() == ["non_positive_price", "wrong_type"]
    assert decoded.rejects["detail"].to_pylist()[0].startswith("item 1: ")
    assert decoded.rejects["detail"].to_pylist()[1].startswith("item 2: price: ")
    assert decoded.rejects["raw"].to_pylist() == [raw, raw]


@pytest.mark.parametrize("share", [2, 10, 100])
def test_bad_messages_in_a_large_slice_are_the_only_ones_rejected(share: int) -> None:
    payloads = [
        line(trade_id=str(i)) if i % share else (b"nope", line(price="1"), line(price=-1))[i % 3]
        for i in range(1_000)
    ]
    decoded = decode_records(TRADES, records(*payloads))
    good = [str(i) for i in range(1_000) if i % share]
    assert decoded.rows["trade_id"].to_pylist() == good
    assert decoded.rejects["record_no"].to_pylist() == list(range(0, 1_000, share))


def test_character_torn_between_two_records_is_invalid_in_both() -> None:
    left, right = line(symbol="A").replace(b"A", b"\xc3", 1), b"\xa9" + line()
    decoded = decode_records(TRADES, records(*[line()] * 60, b"x\xc3", right, left, *[line()] * 60))
    assert decoded.rejects["reason"].to_pylist() == ["invalid_utf8"] * 3
    assert decoded.rows.num_rows == 120


def test_no_records_give_empty_tables_of_the_right_types() -> None:
    decoded = decode_records(TRADES, empty_records())
    assert decoded.rows.schema == rows_schema(TRADES)
    assert decoded.rejects.schema == REJECT_SCHEMA
    assert (decoded.rows.num_rows, decoded.rejects.num_rows, decoded.messages) == (0, 0, 0)


def test_rows_outlive_the_buffer_that_they_were_read_from() -> None:
    first = decode_records(TRADES, records(*[line(symbol="FIRST")] * 100))
    decode_records(TRADES, records(*[line(symbol="OTHER")] * 100))
    assert set(first.rows["symbol"].to_pylist()) == {"FIRST"}
    first.rows.validate(full=True)


def test_arrival_of_its_own_record_is_what_a_message_is_measured_by() -> None:
    quotes = load_feed("quotes")
    payload = b'{"u":1,"s":"BNBUSDT","b":"1","B":"1","a":"2","A":"1"}'
    batch = records(*[payload] * 100)
    arrival = pa.array(range(NS, NS + 100), pa.int64())
    batch = batch.set_column(4, RECORD_SCHEMA.field("ts_arrival_ns"), arrival)
    assert decode_records(quotes, batch).rows["ts_event_ns"].to_pylist() == arrival.to_pylist()
