"""GetRecords answers to Arrow: equal to botocore's own parser, KPL records split."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import botocore.session
import orjson
import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from botocore.parsers import ResponseParserError, ResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from stream.slices import RECORD_SCHEMA
from stream.sources.aggregation import AGGREGATED, split_aggregated
from stream.sources.kinesis_parser import (
    RecordParserFactory,
    build_records,
    parse_get_records,
    parse_timestamp,
)


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """A protobuf message of small fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += bytes([number << 3, value])
        else:
            out += bytes([number << 3 | 2, len(value)]) + value
    return out


def seal(body: bytes) -> bytes:
    return AGGREGATED + body + md5(body, usedforsecurity=False).digest()


def aggregate(users: list[tuple[bytes, str]]) -> bytes:
    """What the Kinesis Producer Library puts: by the published codec."""
    aggregator = RecordAggregator()
    for data, key in users:
        aggregator.add_user_record(key, data)
    return bytes(aggregator.clear_and_get().get_contents()[2])


def answer(*records: dict[str, Any], **fields: Any) -> bytes:
    return orjson.dumps({"Records": records, "MillisBehindLatest": 0, **fields})


def raw(data: bytes, number: str = "1", **fields: Any) -> dict[str, Any]:
    return {
        "Data": base64.b64encode(data).decode(),
        "SequenceNumber": number,
        "PartitionKey": "k",
        "ApproximateArrivalTimestamp": 1_700_000_000.123,
        **fields,
    }


def test_parse_get_records_builds_the_record_schema() -> None:
    body = answer(
        raw(b"one", "9"), raw(b"", "10"), NextShardIterator="next", MillisBehindLatest=250
    )

    parsed = parse_get_records(body)

    assert parsed["Records"].schema.equals(RECORD_SCHEMA)
    assert parsed["Records"].to_pylist() == [
        {
            "payload": data,
            "sequence_number": number,
            "sub_sequence": 0,
            "partition_key": "k",
            "ts_arrival_ns": 1_700_000_000_123_000_000,
        }
        for data, number in ((b"one", "9"), (b"", "10"))
    ]
    assert (parsed["NextShardIterator"], parsed["MillisBehindLatest"]) == ("next", 250)


def test_parse_get_records_of_a_closed_shard_has_no_cursor() -> None:
    for body in (answer(NextShardIterator=None), answer()):
        parsed = parse_get_records(body)
        assert parsed["NextShardIterator"] is None
        assert parsed["Records"].num_rows == 0
        assert parsed["Records"].schema.equals(RECORD_SCHEMA)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b'{"Records":null}', b"<html>busy</html>", answer()[:-1]]
)
def test_parse_get_records_of_no_answer_is_no_end_of_the_shard(body: bytes) -> None:
    with pytest.raises(ResponseParserError, match="GetRecords answered"):
        parse_get_records(body)


def test_parse_get_records_without_memory_is_no_bad_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(body: bytes) -> Any:
        text = "Not enough memory to allocate buffer for parsing"  # orjson's own words
        raise orjson.JSONDecodeError(text, body.decode(), 0)

    monkeypatch.setattr(orjson, "loads", no_memory)
    with pytest.raises(MemoryError):
        parse_get_records(answer())


def test_parse_get_records_without_a_partition_key_keeps_the_record() -> None:
    record = raw(b"x")
    del record["PartitionKey"]

    assert parse_get_records(answer(record))["Records"]["partition_key"].to_pylist() == [None]


@pytest.mark.parametrize("fraction_ms", range(0, 1000, 37))
def test_parse_get_records_arrival_time_is_exact_to_the_millisecond(fraction_ms: int) -> None:
    seconds = float(f"1763900000.{fraction_ms:03d}")

    records = parse_get_records(answer(raw(b"x", ApproximateArrivalTimestamp=seconds)))["Records"]

    expected = 1_763_900_000_000_000_000 + fraction_ms * 1_000_000
    assert records["ts_arrival_ns"].to_pylist() == [expected]


def test_parse_get_records_splits_aggregated_records_under_the_parents_number() -> None:
    users = [(b"a", "k1"), (b"", "k2"), (b"c", "k1")]
    body = answer(raw(b"plain", "7"), raw(aggregate(users), "8"), raw(b"plain", "9"))

    records = parse_get_records(body)["Records"]

    assert records["payload"].to_pylist() == [b"plain", b"a", b"", b"c", b"plain"]
    assert records["sequence_number"].to_pylist() == ["7", "8", "8", "8", "9"]
    assert records["sub_sequence"].to_pylist() == [0, 0, 1, 2, 0]
    assert records["partition_key"].to_pylist() == ["k", "k1", "k2", "k1", "k"]
    assert len(set(records["ts_arrival_ns"].to_pylist())) == 1


def test_split_aggregated_of_one_user_record_unwraps_it() -> None:
    assert split_aggregated(aggregate([(b"only", "k")])) == [(b"only", "k")]


@given(st.lists(st.tuples(st.binary(max_size=400), st.text(min_size=1, max_size=40)), min_size=1))
def test_split_aggregated_returns_what_the_published_codec_packed(
    users: list[tuple[bytes, str]],
) -> None:
    assert split_aggregated(aggregate(users)) == users


@given(st.binary(max_size=60))
def test_split_aggregated_never_raises_on_any_message(body: bytes) -> None:
    split_aggregated(seal(body))


def test_split_aggregated_skips_fields_that_it_does_not_know() -> None:
    tagged = message((1, 0), (2, 0), (3, b"a"), (4, b"tag"))
    fixed = bytes([9 << 3 | 1]) + b"8 bytes!" + bytes([9 << 3 | 5]) + b"four"

    assert split_aggregated(seal(message((2, b"hash"), (3, tagged), (1, b"k")) + fixed)) == [
        (b"a", "k")
    ]


USER = (3, message((1, 0), (3, b"a")))
NOT_AGGREGATED = {
    "magic alone": AGGREGATED,
    "magic and a short rest": AGGREGATED + b"short",
    "bad checksum": aggregate([(b"a", "k")])[:-1] + b"\x00",
    "changed body": seal(message((1, b"k"), USER)).replace(b"a", b"b"),
    "no user record": seal(message((1, b"k"))),
    "broken protobuf": seal(b"\xff\xff\xff"),
    "endless varint": seal(b"\xff" * 12),
    "unknown wire type": seal(b"\x0b\x00"),
    "truncated field": seal(message((1, b"k"), USER)[:-1]),
    "key index out of range": seal(message((1, b"k"), (3, message((1, 3), (3, b"a"))))),
    "no key index": seal(message((1, b"k"), (3, message((3, b"a"))))),
    "key is not text": seal(message((1, b"\xff"), USER)),
}


@pytest.mark.parametrize("payload", NOT_AGGREGATED.values(), ids=NOT_AGGREGATED)
def test_parse_get_records_keeps_what_only_looks_aggregated(payload: bytes) -> None:
    records = parse_get_records(answer(raw(payload)))["Records"]

    assert records["payload"].to_pylist() == [payload]
    assert records["sub_sequence"].to_pylist() == [0]


def test_parser_equals_botocores_own_for_get_records() -> None:
    shape = _output_shape("GetRecords")
    body = answer(*(raw(b"%d" % i * i, str(i)) for i in range(50)), NextShardIterator="n")
    response = {"status_code": 200, "headers": {"x-amzn-requestid": "r"}, "body": body}

    shipped = ResponseParserFactory().create_parser("json").parse(response, shape)
    ours = RecordParserFactory().create_parser("json").parse(response, shape)

    assert ours["ResponseMetadata"] == shipped["ResponseMetadata"]
    assert ours["NextShardIterator"] == shipped["NextShardIterator"]
    assert ours["Records"]["payload"].to_pylist() == [r["Data"] for r in shipped["Records"]]
    assert [ns // 1_000_000 for ns in ours["Records"]["ts_arrival_ns"].to_pylist()] == [
        round(r["ApproximateArrivalTimestamp"].timestamp() * 1000) for r in shipped["Records"]
    ]


def test_parser_leaves_errors_and_other_operations_as_shipped() -> None:
    parser = RecordParserFactory().create_parser("json")
    error = {
        "status_code": 400,
        "headers": {},
        "body": b'{"__type":"com.amazonaws#ExpiredIteratorException","message":"old"}',
    }

    assert parser.parse(error, _output_shape("GetRecords"))["Error"] == {
        "Code": "ExpiredIteratorException",
        "Message": "old",
    }
    listed = {"status_code": 200, "headers": {}, "body": b'{"Shards":[],"NextToken":"t"}'}
    assert parser.parse(listed, _output_shape("ListShards"))["NextToken"] == "t"


def test_parse_timestamp_reads_numbers_text_and_datetimes() -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)

    assert parse_timestamp("1763900000.5") == 1763900000.5
    assert parse_timestamp("2026-11-23T00:00:00Z") == parse_timestamp(moment) == moment.timestamp()


def test_build_records_of_nothing_has_the_schema() -> None:
    assert build_records([], [], [], []).schema.equals(RECORD_SCHEMA)


def _output_shape(operation: str) -> Any:
    model = botocore.session.get_session().get_service_model("kinesis")
    return model.operation_model(operation).output_shape
