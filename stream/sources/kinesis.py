"""Read a Kinesis stream by polling: one GetRecords at a time per shard, straight into Arrow.

Guarantees: records in shard order; aggregated records are never split over two answers; errors
say whether to wait (`ThrottledError`, `StoreUnavailableError`), to re-open (`ExpiredCursorError`)
or to change something (`ConfigError`). A stream that was deleted and created again has another
identity. Sequence numbers are opaque decimals; only their order within a shard means something.
Not here: pacing and back-off (`lanes`), a consumer's own bandwidth (`kinesis_fan_out`).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from stream.clock import SYSTEM_CLOCK
from stream.errors import RetryableError
from stream.sources import ReadResult, ShardInfo, Start, StreamIdentity
from stream.sources.kinesis_client import call, make_client
from stream.sources.kinesis_streams import (
    create_stream,
    delete_stream,
    merge_shards,
    split_shard,
)

__all__ = [
    "KinesisReader",
    "create_stream",
    "delete_stream",
    "merge_shards",
    "split_shard",
]

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
PAUSES_SECONDS = (0.2, 0.5, 1.0)
"""Before a question about the stream is asked again: at a start, and for a shard's first slice,
there are no lanes that would, and one 503 would cost a restart."""
ANSWER_BYTES = 10_000_000
"""The service's own cap of an answer. Emulators know none, and a backlog of large records came as
one answer of gigabytes."""
FIRST_RECORD_BYTES = 10_000
"""A record's size as long as none was seen: the first answer of a shard has at most 1,000."""
_FIRST_RECORD_TRIES = 20


@dataclass(frozen=True, slots=True)
class _Summary:
    identity: StreamIdentity
    retention_ms: int
    arn: str


class KinesisReader:
    """`StreamReader` over GetRecords. Cheap to build: the first call goes to the service."""

    is_push = False

    def __init__(self, stream: str, *, region: str = "us-east-1", connections: int = 64) -> None:
        self._stream = stream
        self._client = make_client(region, connections)
        self._lock = threading.Lock()
        self._known: _Summary | None = None
        self._record_bytes: dict[str, int] = {}

    @property
    def identity(self) -> StreamIdentity:
        return self._summary().identity

    @property
    def retention_ms(self) -> int:
        return self._summary().retention_ms

    def list_shards(self) -> list[ShardInfo]:
        # No ShardFilter: emulators ignore it or get it wrong, and the whole list is what we want.
        shards: dict[str, ShardInfo] = {}
        page: dict[str, Any] = {"StreamName": self._stream}
        while True:
            answer = self._ask("ListShards", **page)
            for raw in answer.get("Shards", []):
                shards[raw["ShardId"]] = parse_shard(raw)
            if not answer.get("NextToken"):
                return list(shards.values())
            page = {"NextToken": answer["NextToken"]}

    def open_shard(self, shard: str, start: Start) -> str:
        answer = self._call(
            "GetShardIterator",
            StreamName=self._stream,
            ShardId=shard,
            **starting_position(start, "ShardIteratorType", "StartingSequenceNumber"),
        )
        return str(answer["ShardIterator"])

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        limit = min(limit, self._limit(shard))
        answer = self._call("GetRecords", ShardIterator=cursor, Limit=limit)
        if rows := answer["Records"].num_rows:
            self._record_bytes[shard] = max(answer["Records"].nbytes // rows, 1)
        # A null iterator says: closed, and read to its end.
        return ReadResult(
            answer["Records"], answer["NextShardIterator"], answer["MillisBehindLatest"]
        )

    def first_sequence_number(self, shard: str) -> str | None:
        cursor: str | None = self.open_shard(shard, Start("TRIM_HORIZON"))
        for _ in range(_FIRST_RECORD_TRIES):  # an empty answer does not mean the tip
            if cursor is None:
                return None
            answer = self.read(shard, cursor, limit=1)
            if answer.records.num_rows:
                return str(answer.records["sequence_number"][0].as_py())
            if answer.behind_ms == 0:
                return None
            cursor = answer.cursor
        return None

    def _limit(self, shard: str) -> int:
        """So many records as the last answer's size lets expect in a full one."""
        return max(ANSWER_BYTES // self._record_bytes.get(shard, FIRST_RECORD_BYTES), 1)

    def _ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """`_call`, a few times: for what is asked seldom and nothing goes on without."""
        for pause in PAUSES_SECONDS:
            try:
                return self._call(operation, **parameters)
            except RetryableError as error:
                log.warning("%s; asked again in %.1f s", error, pause)
                SYSTEM_CLOCK.sleep(pause)
        return self._call(operation, **parameters)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return call(self._client, operation, self._stream, **parameters)

    def _summary(self) -> _Summary:
        with self._lock:
            if self._known is None:
                answer = self._ask("DescribeStreamSummary", StreamName=self._stream)
                self._known = parse_summary(answer["StreamDescriptionSummary"])
            return self._known


def parse_shard(raw: dict[str, Any]) -> ShardInfo:
    """A shard of ListShards; both parents of a merge count."""
    parents = (raw.get("ParentShardId"), raw.get("AdjacentParentShardId"))
    return ShardInfo(
        shard=raw["ShardId"],
        parents=tuple(parent for parent in parents if parent),
        first_hash_key=int(raw["HashKeyRange"]["StartingHashKey"]),
        last_hash_key=int(raw["HashKeyRange"]["EndingHashKey"]),
        is_closed=bool(raw["SequenceNumberRange"].get("EndingSequenceNumber")),
    )


def parse_summary(raw: dict[str, Any]) -> _Summary:
    """Identity (name and creation time) and retention of a stream."""
    created_ms = round(raw["StreamCreationTimestamp"] * 1000)
    digest = sha256(f"{raw['StreamARN']}{created_ms}".encode()).hexdigest()[:8]
    return _Summary(
        StreamIdentity(raw["StreamName"], created_ms, digest),
        raw["RetentionPeriodHours"] * HOUR_MS,
        raw["StreamARN"],
    )


def starting_position(start: Start, type_name: str, sequence_name: str) -> dict[str, Any]:
    """A `Start` in the words of the API."""
    if start.at == "AFTER":
        return {type_name: "AFTER_SEQUENCE_NUMBER", sequence_name: start.sequence_number}
    if start.at == "AT_TIMESTAMP":
        # Whole milliseconds: arrival times are stored so, and a finer one would skip its record.
        return {type_name: "AT_TIMESTAMP", "Timestamp": (start.timestamp_ms or 0) / 1000}
    return {type_name: start.at}
