"""Every feed keeps the promises that the platform builds on, and reads its recorded messages.

The messages are in tests/fixtures/feeds/<feed>/{accepted,rejected}.jsonl; each goes alone down
the strict way and, repeated, down the columnar one. A new feed is tested by adding its files.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stream.decode import decode_records
from stream.decode.plan import plan_of
from stream.decode.values import KINDS
from stream.errors import ConfigError
from stream.feeds import load_feed, load_feeds
from stream.feeds.contract import REASONS
from stream.slices import RECORD_SCHEMA

FIXTURES = Path(__file__).parents[1] / "fixtures" / "feeds"
ARRIVAL_NS = 1_764_000_001_000_000_000
FEEDS = sorted(load_feeds())


def _records(payloads: list[bytes]) -> pa.RecordBatch:
    count = len(payloads)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(i) for i in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([ARRIVAL_NS] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


def _cases(name: str) -> list[Any]:
    cases = []
    for feed in FEEDS:
        lines = (FIXTURES / feed / name).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            case = json.loads(line)
            cases.append(pytest.param(feed, case, id=f"{feed}-{number}-{case.get('reason', 'ok')}"))
    return cases


def _raw(case: dict[str, Any]) -> bytes:
    if "raw_base64" in case:
        return base64.b64decode(case["raw_base64"])
    if "parts" in case:  # a long message: head, filler, how often, tail
        head, filler, times, tail = case["parts"]
        return (head + filler * times + tail).encode()
    return str(case["raw"]).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, dt.date) else value


def _rows(table: pa.Table, record: int, columns: list[str]) -> list[dict[str, Any]]:
    return [
        {name: _plain(row[name]) for name in columns}
        for row in table.to_pylist()
        if row["record_no"] == record
    ]


@pytest.mark.parametrize(("feed", "case"), _cases("accepted.jsonl"))
@pytest.mark.parametrize("strict_only", [True, False])
def test_recorded_message_gives_its_rows(
    feed: str, case: dict[str, Any], strict_only: bool
) -> None:
    contract = load_feed(feed)
    copies = 1 if strict_only else 60
    decoded = decode_records(contract, _records([_raw(case)] * copies), strict_only=strict_only)
    assert decoded.rejects.to_pylist() == []
    for record in {0, copies - 1}:
        assert _rows(decoded.rows, record, contract.row_schema.names) == case["rows"]


@pytest.mark.parametrize(("feed", "case"), _cases("rejected.jsonl"))
@pytest.mark.parametrize("copies", [1, 60])
def test_recorded_bad_message_is_rejected_for_its_reason_with_its_bytes(
    feed: str, case: dict[str, Any], copies: int
) -> None:
    raw = _raw(case)
    decoded = decode_records(load_feed(feed), _records([raw] * copies))
    assert decoded.rows.num_rows == 0
    assert set(decoded.rejects["reason"].to_pylist()) == {case["reason"]}
    assert decoded.rejects["raw"].to_pylist() == [raw] * copies


@pytest.mark.parametrize("feed", FEEDS)
def test_every_reason_of_a_feed_is_documented_and_has_a_recorded_message(feed: str) -> None:
    contract = load_feed(feed)
    recorded = {
        case.values[1]["reason"] for case in _cases("rejected.jsonl") if case.values[0] == feed
    }
    assert {rule.reason for rule in contract.rules} <= set(REASONS)
    assert {rule.reason for rule in contract.rules} <= recorded <= set(REASONS)


@pytest.mark.parametrize("feed", FEEDS)
def test_contract_names_only_columns_that_it_has(feed: str) -> None:
    contract = load_feed(feed)
    names = contract.row_schema.names
    assert len(set(names)) == len(names)
    assert {*contract.key, *contract.order} <= set(names)
    assert contract.event_time in contract.order  # rows of a file are sorted by it, within groups
    assert contract.column(contract.event_time).type == pa.int64()
    assert not any(contract.column(name).nullable for name in contract.key)


@pytest.mark.parametrize("feed", FEEDS)
def test_personal_data_is_text_outside_key_and_order_and_says_why(feed: str) -> None:
    contract = load_feed(feed)
    for column in contract.pii_columns:
        assert column.pii is not None
        assert column.name not in {*contract.key, *contract.order, contract.event_time}
        assert column.type == pa.string()
        assert column.pii.mask in ("hash", "redact")
        assert column.pii.why
    assert {(column.name, column.pii.mask) for column in contract.pii_columns if column.pii} == {
        "news": {("publisher", "hash")},
        "positions": {("account_holder", "hash")},
        "transactions": {("account_holder", "hash"), ("note", "redact")},
    }.get(feed, set())


@pytest.mark.parametrize("feed", FEEDS)
def test_every_shape_fills_every_column_with_a_known_kind(feed: str) -> None:
    contract = load_feed(feed)
    required = {column.name for column in contract.columns if not column.nullable}
    for shape in contract.shapes:
        assert required <= set(shape.fields) <= set(contract.row_schema.names), shape.name
        for name, field in shape.fields.items():
            assert field.kind in KINDS, (shape.name, name)
            assert not field.optional or contract.column(name).nullable, (shape.name, name)


@pytest.mark.parametrize("feed", FEEDS)
def test_every_shape_has_a_recorded_message_that_is_read_column_by_column(feed: str) -> None:
    contract = load_feed(feed)
    strict = {
        shape.name
        for shape in contract.shapes
        if any(KINDS[field.kind].columns is None and KINDS[field.kind].reads in ("string", "list")
               for field in shape.fields.values())
    }  # fmt: skip
    seen = set()
    for case in _cases("accepted.jsonl"):
        if case.values[0] != feed:
            continue
        plan_of(contract).templates.clear()
        decode_records(contract, _records([_raw(case.values[1])] * 60))
        seen |= {one.verdict.shape.name for one in plan_of(contract).templates.known()}
    assert seen == {shape.name for shape in contract.shapes} - strict


@pytest.mark.parametrize("feed", FEEDS)
def test_contract_gives_reasons_for_its_bounds(feed: str) -> None:
    contract = load_feed(feed)
    assert contract.volume.reason
    assert contract.volume.min_per_minute <= contract.volume.max_per_minute
    assert all(column.doc for column in contract.columns)
    assert 0 < contract.rejects.share <= 1


IGNORED = {
    "trades": {
        "coinbase_subscriptions": '{"type":"subscriptions","channels":[{"name":"matches"}]}',
        "coinbase_heartbeat": '{"type":"heartbeat","last_trade_id":0,"product_id":"BTC-USD",'
        '"sequence":90,"time":"2014-11-07T08:19:28.464459Z"}',
        "coinbase_error": '{"type":"error","message":"error message"}',
        "kraken_event": '{"event":"heartbeat"}',
        "kraken_heartbeat": '{"channel":"heartbeat"}',
        "kraken_status": '{"channel":"status","type":"update","data":[{"system":"online"}]}',
        "kraken_snapshot": '{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD"}]}',
        "kraken_answer": '{"method":"subscribe","result":{"channel":"trade"},"success":true}',
        "binance_answer": '{"result":null,"id":1}',
    }
}
IGNORED["quotes"] = IGNORED["trades"] | {
    "kraken_snapshot": '{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD"}]}'
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("copies", [1, 60])
def test_messages_that_are_no_data_are_counted_by_name(feed: str, copies: int) -> None:
    messages = IGNORED.get(feed, {})
    assert set(messages) == {ignored.name for ignored in load_feed(feed).ignored}
    payloads = [message.encode() for message in messages.values()] * copies
    decoded = decode_records(load_feed(feed), _records(payloads))
    assert decoded.ignored == dict.fromkeys(messages, copies)
    assert decoded.rows.num_rows == decoded.rejects.num_rows == 0


def test_load_feed_of_an_unknown_name_lists_the_feeds() -> None:
    with pytest.raises(ConfigError, match=r"no feed 'trade'; feeds are: news, .*trades"):
        load_feed("trade")
