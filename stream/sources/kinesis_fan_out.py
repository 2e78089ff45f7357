"""Read a Kinesis stream by enhanced fan-out: the service pushes, 2 MiB/s for this consumer alone.

Behind the same protocol as polling: `open_shard` makes a cursor, `read` returns the next pushed
event. A subscription lives five minutes; the next `read` then subscribes again where the last
event ended. A shard that still has a subscription answers `ResourceInUseException` for about
five seconds: that is a `ThrottledError`, the lanes wait.

Not proven against AWS: the tests drive it with a stub of botocore's event stream, because the
embedded platform does not serve SubscribeToShard. At a quiet tip an event comes about every five
seconds, so the last open slice of a burst may wait that long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from botocore.exceptions import EventStreamError
from urllib3.exceptions import HTTPError

from stream.errors import ConfigError, StoreUnavailableError
from stream.lake.aws_faults import NO_ANSWER
from stream.slices import empty_records
from stream.sources import ReadResult, Start
from stream.sources.kinesis import KinesisReader, starting_position
from stream.sources.kinesis_client import call, translate
from stream.sources.kinesis_parser import build_records


@dataclass(slots=True)
class _Subscription:
    """A running event stream; `cursor` is where its next event begins."""

    cursor: str
    stream: Any
    events: Iterator[dict[str, Any]]


class FanOutReader(KinesisReader):
    """`StreamReader` over SubscribeToShard, for a consumer that is registered already."""

    is_push = True

    def __init__(
        self, stream: str, consumer: str, *, region: str = "us-east-1", connections: int = 64
    ) -> None:
        super().__init__(stream, region=region, connections=connections)
        self._consumer = consumer
        self._consumer_arn = ""
        self._open: dict[str, _Subscription] = {}

    def open_shard(self, shard: str, start: Start) -> str:
        self._end(shard)
        return orjson.dumps(starting_position(start, "Type", "SequenceNumber")).decode()

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:  # noqa: ARG002
        subscription = self._subscribe(shard, cursor)
        try:
            event = next(subscription.events, None)
        except EventStreamError as error:
            self._end(shard)
            raise translate(error, "SubscribeToShard", self._stream) from error
        except (*NO_ANSWER, HTTPError) as error:  # the stream below is urllib3's own
            self._end(shard)
            raise StoreUnavailableError(f"subscription to {shard} broke off: {error}") from error
        if event is None:  # five minutes are over: the same cursor subscribes again
            self._end(shard)
            return ReadResult(empty_records(), cursor, behind_ms=1)
        return self._answer(shard, subscription, event["SubscribeToShardEvent"])

    def _subscribe(self, shard: str, cursor: str) -> _Subscription:
        found = self._open.get(shard)
        if found is not None and found.cursor == cursor:
            return found
        self._end(shard)
        answer = call(
            self._client,
            "SubscribeToShard",
            self._stream,
            ConsumerARN=self._find_consumer(),
            ShardId=shard,
            StartingPosition=orjson.loads(cursor),
        )
        stream = answer["EventStream"]
        self._open[shard] = _Subscription(cursor, stream, iter(stream))
        return self._open[shard]

    def _end(self, shard: str) -> None:
        if (found := self._open.pop(shard, None)) is not None:
            found.stream.close()

    def _answer(self, shard: str, subscription: _Subscription, event: dict[str, Any]) -> ReadResult:
        raw = event["Records"]
        records = build_records(
            [bytes(r["Data"]) for r in raw],
            [r["SequenceNumber"] for r in raw],
            [r.get("PartitionKey") for r in raw],
            [r["ApproximateArrivalTimestamp"] for r in raw],
        )
        last = event.get("ContinuationSequenceNumber")
        if last is None:
            self._end(shard)
            return ReadResult(records, None, event["MillisBehindLatest"])
        after = starting_position(Start("AFTER", last), "Type", "SequenceNumber")
        subscription.cursor = orjson.dumps(after).decode()
        return ReadResult(records, subscription.cursor, event["MillisBehindLatest"])

    def _find_consumer(self) -> str:
        if not self._consumer_arn:
            answer = self._call(
                "DescribeStreamConsumer",
                StreamARN=self._summary().arn,
                ConsumerName=self._consumer,
            )
            found = answer["ConsumerDescription"]
            if found["ConsumerStatus"] != "ACTIVE":
                raise ConfigError(
                    f"consumer {self._consumer} of stream {self._stream} is "
                    f"{found['ConsumerStatus']}: wait until it is ACTIVE"
                )
            self._consumer_arn = found["ConsumerARN"]
        return self._consumer_arn
