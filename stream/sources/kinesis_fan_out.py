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
from typing import Any

import orjson
from botocore.exceptions import EventStreamError
from urllib3.exceptions import HTTPError

from stream.errors import ConfigError, StoreUnavailableError
from stream.slices import empty_records
from stream.sources import ReadResult, Start
from stream.sources.kinesis import KinesisReader, starting_position
from stream.sources.kinesis_client import NO_ANSWER, call, translate
from stream.sources.kinesis_parser import build_records


class FanOutReader(KinesisReader):
    """`StreamReader` over SubscribeToShard, for a consumer that is registered already."""

    is_push = True

    def __init__(
        self, stream: str, consumer: str, *, region: str = "us-east-1", connections: int = 64
    ) -> None:
        super().__init__(stream, region=region, connections=connections)
        self._consumer = consumer
        self._consumer_arn = ""
        self._open: dict[str, tuple[str, Iterator[dict[str, Any]]]] = {}

    def open_shard(self, shard: str, start: Start) -> str:
        self._open.pop(shard, None)
        return orjson.dumps(starting_position(start, "Type", "SequenceNumber")).decode()

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:  # noqa: ARG002
        events = self._events(shard, cursor)
        try:
            event = next(events, None)
        except EventStreamError as error:
            self._open.pop(shard, None)
            raise translate(error, "SubscribeToShard", self._stream) from error
        except (*NO_ANSWER, HTTPError) as error:  # the stream below is urllib3's own
            self._open.pop(shard, None)
            raise StoreUnavailableError(f"subscription to {shard} broke off: {error}") from error
        if event is None:  # five minutes are over: the same cursor subscribes again
            self._open.pop(shard, None)
            return ReadResult(empty_records(), cursor, behind_ms=1)
        return self._answer(shard, events, event["SubscribeToShardEvent"])

    def _events(self, shard: str, cursor: str) -> Iterator[dict[str, Any]]:
        at, events = self._open.get(shard, ("", iter(())))
        if at == cursor:
            return events
        answer = call(
            self._client,
            "SubscribeToShard",
            self._stream,
            ConsumerARN=self._find_consumer(),
            ShardId=shard,
            StartingPosition=orjson.loads(cursor),
        )
        events = iter(answer["EventStream"])
        self._open[shard] = (cursor, events)
        return events

    def _answer(
        self, shard: str, events: Iterator[dict[str, Any]], event: dict[str, Any]
    ) -> ReadResult:
        raw = event["Records"]
        records = build_records(
            [bytes(r["Data"]) for r in raw],
            [r["SequenceNumber"] for r in raw],
            [r.get("PartitionKey") for r in raw],
            [r["ApproximateArrivalTimestamp"] for r in raw],
        )
        cursor = None
        if last := event.get("ContinuationSequenceNumber"):
            after = starting_position(Start("AFTER", last), "Type", "SequenceNumber")
            cursor = orjson.dumps(after).decode()
            self._open[shard] = (cursor, events)
        else:
            self._open.pop(shard, None)
        return ReadResult(records, cursor, event["MillisBehindLatest"])

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
