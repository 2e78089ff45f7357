"""What the service's errors become, and enhanced fan-out over a stub of the event stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError, EventStreamError, ReadTimeoutError
from urllib3.exceptions import ProtocolError

from stream.errors import ConfigError, FatalError, StoreUnavailableError, ThrottledError
from stream.sources import ExpiredCursorError, Start
from stream.sources.kinesis_client import call, make_client, translate
from stream.sources.kinesis_fan_out import FanOutReader
from stream.sources.kinesis_parser import RecordParserFactory


def client_error(code: str, status: int = 400) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "the message"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "GetRecords")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ProvisionedThroughputExceededException", 400, ThrottledError),
        ("LimitExceededException", 400, ThrottledError),
        ("ResourceInUseException", 400, ThrottledError),
        ("ExpiredIteratorException", 400, ExpiredCursorError),
        ("ResourceNotFoundException", 400, ConfigError),
        ("AccessDeniedException", 400, ConfigError),
        ("KMSAccessDeniedException", 400, ConfigError),
        ("InvalidArgumentException", 400, ConfigError),
        ("InternalFailure", 500, StoreUnavailableError),
        ("503", 503, StoreUnavailableError),
        ("SomethingNewException", 400, FatalError),
    ],
)
def test_translate_maps_each_error_to_its_consequence(
    code: str, status: int, expected: type[Exception]
) -> None:
    found = translate(client_error(code, status), "GetRecords", "ticks")

    assert type(found) is expected
    assert "the message" in str(found)


def test_translate_denied_names_the_permission() -> None:
    found = translate(client_error("AccessDeniedException"), "ListShards", "ticks")

    assert "kinesis:ListShards" in str(found)
    assert "ticks" in str(found)


def test_call_timeout_is_retryable() -> None:
    class Client:
        def get_records(self, **_: object) -> dict[str, Any]:
            raise ReadTimeoutError(endpoint_url="http://example")

    with pytest.raises(StoreUnavailableError, match="did not answer GetRecords"):
        call(Client(), "GetRecords", "ticks", ShardIterator="x")


def test_make_client_leaves_retries_to_the_lanes() -> None:
    client = make_client("us-east-1", connections=100)

    assert client.meta.config.retries["total_max_attempts"] == 1
    assert client.meta.config.max_pool_connections == 100


class StubClient:
    """SubscribeToShard that yields what the test lines up, one list per subscription."""

    def __init__(self, *subscriptions: list[Any]) -> None:
        self.subscriptions = list(subscriptions)
        self.positions: list[dict[str, Any]] = []

    def describe_stream_summary(self, **_: object) -> dict[str, Any]:
        summary = {
            "StreamName": "ticks",
            "StreamARN": "arn:ticks",
            "StreamCreationTimestamp": 1.5,
            "RetentionPeriodHours": 24,
        }
        return {"StreamDescriptionSummary": summary}

    def describe_stream_consumer(self, **asked: object) -> dict[str, Any]:
        assert asked == {"StreamARN": "arn:ticks", "ConsumerName": "headrace"}
        return {"ConsumerDescription": {"ConsumerARN": "arn:consumer", "ConsumerStatus": "ACTIVE"}}

    def subscribe_to_shard(self, **asked: Any) -> dict[str, Any]:
        assert asked["ConsumerARN"] == "arn:consumer"
        self.positions.append(asked["StartingPosition"])
        lined_up = self.subscriptions.pop(0)
        if isinstance(lined_up, Exception):
            raise lined_up
        return {"EventStream": self._events(lined_up)}

    def _events(self, lined_up: list[Any]) -> Iterator[dict[str, Any]]:
        for event in lined_up:
            if isinstance(event, Exception):
                raise event
            yield {"SubscribeToShardEvent": event}


def event(*numbers: int, behind_ms: int = 0, is_last: bool = False) -> dict[str, Any]:
    return {
        "Records": [
            {
                "Data": b"%d" % number,
                "SequenceNumber": str(number),
                "PartitionKey": "k",
                "ApproximateArrivalTimestamp": 1_700_000_000.5,
            }
            for number in numbers
        ],
        "ContinuationSequenceNumber": None if is_last else str(max(numbers, default=0)),
        "MillisBehindLatest": behind_ms,
    }


def fan_out(client: StubClient) -> FanOutReader:
    reader = FanOutReader("ticks", "headrace")
    reader._client = client
    return reader


def test_fan_out_yields_pushed_events_of_one_subscription() -> None:
    client = StubClient([event(1, 2, behind_ms=100), event(3)])
    reader = fan_out(client)

    cursor = reader.open_shard("s", Start("TRIM_HORIZON"))
    first = reader.read("s", cursor)
    assert first.cursor is not None
    second = reader.read("s", first.cursor)

    assert first.records["payload"].to_pylist() == [b"1", b"2"]
    assert first.records["ts_arrival_ns"].to_pylist() == [1_700_000_000_500_000_000] * 2
    assert second.records["sequence_number"].to_pylist() == ["3"]
    assert (first.behind_ms, second.behind_ms) == (100, 0)
    assert client.positions == [{"Type": "TRIM_HORIZON"}]


def test_fan_out_subscribes_again_after_the_last_event_when_five_minutes_are_over() -> None:
    client = StubClient([event(1)], [event(2)])
    reader = fan_out(client)

    first = reader.read("s", reader.open_shard("s", Start("AT_TIMESTAMP", timestamp_ms=1_500)))
    assert first.cursor is not None
    over = reader.read("s", first.cursor)
    assert (over.cursor, over.records.num_rows) == (first.cursor, 0)
    assert over.behind_ms > 0  # an ended subscription does not say that the tip was reached
    assert over.cursor is not None
    again = reader.read("s", over.cursor)

    assert again.records["payload"].to_pylist() == [b"2"]
    assert client.positions == [
        {"Type": "AT_TIMESTAMP", "Timestamp": 1.5},
        {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "1"},
    ]


def test_fan_out_at_the_end_of_a_closed_shard_has_no_cursor() -> None:
    reader = fan_out(StubClient([event(1, is_last=True)]))

    assert reader.read("s", reader.open_shard("s", Start("TRIM_HORIZON"))).cursor is None


def test_fan_out_shard_still_in_use_is_throttled_and_the_cursor_stays_good() -> None:
    client = StubClient(client_error("ResourceInUseException"), [event(7)])  # type: ignore[arg-type]
    reader = fan_out(client)
    cursor = reader.open_shard("s", Start("AFTER", sequence_number="6"))

    with pytest.raises(ThrottledError):
        reader.read("s", cursor)

    assert reader.read("s", cursor).records["payload"].to_pylist() == [b"7"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            EventStreamError(
                {"Error": {"Code": "InternalFailureException", "Message": "x"}}, "SubscribeToShard"
            ),
            StoreUnavailableError,
        ),
        (ReadTimeoutError(endpoint_url="http://example"), StoreUnavailableError),
        (ProtocolError("connection broken"), StoreUnavailableError),
    ],
)
def test_fan_out_broken_subscription_is_retried_from_the_last_event(
    error: Exception, expected: type[Exception]
) -> None:
    client = StubClient([event(1), error], [event(2)])
    reader = fan_out(client)
    first = reader.read("s", reader.open_shard("s", Start("TRIM_HORIZON")))
    assert first.cursor is not None

    with pytest.raises(expected):
        reader.read("s", first.cursor)

    assert reader.read("s", first.cursor).records["payload"].to_pylist() == [b"2"]
    assert client.positions[1] == {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "1"}


def test_fan_out_parses_a_real_event_stream_frame() -> None:
    """botocore's own event stream parser, with our blob and time parsers, on encoded bytes."""
    model = botocore.session.get_session().get_service_model("kinesis")
    shape = model.operation_model("SubscribeToShard").output_shape.members["EventStream"]
    parser = RecordParserFactory().create_parser("json")._event_stream_parser

    body = (
        b'{"Records":[{"Data":"eA==","SequenceNumber":"5","PartitionKey":"k",'
        b'"ApproximateArrivalTimestamp":1700000000.25}],"ContinuationSequenceNumber":"5",'
        b'"MillisBehindLatest":0}'
    )
    headers = {":message-type": "event", ":event-type": "SubscribeToShardEvent"}
    parsed = parser.parse({"headers": headers, "body": body, "status_code": 200}, shape)

    record = parsed["SubscribeToShardEvent"]["Records"][0]
    assert record["Data"] == b"x"
    assert record["ApproximateArrivalTimestamp"] == 1_700_000_000.25
