"""Turn a GetRecords answer into one Arrow batch, without a Python object per field.

botocore walks every answer by its service model: 14-16 µs of CPU per record. Its own extension
point (`register_component("response_parser_factory", ...)`) lets one operation be parsed by
orjson straight into columns: 1.5 µs. Records that the Kinesis Producer Library aggregated are
split into the user's records, which keep the parent's sequence number and count `sub_sequence`.

Guarantees: every Kinesis record yields at least one row; what only looks aggregated (bad
checksum, broken protobuf, nothing inside) stays one row with its exact bytes. Unlike the KCL,
user records whose hash key belongs to another shard are kept: the dedup key drops the copies
that a KPL retry makes, and bytes that are dropped here would be lost for good.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from botocore.parsers import JSONParser, ResponseParserError, ResponseParserFactory

from stream.slices import RECORD_SCHEMA
from stream.sources.aggregation import AGGREGATED, split_aggregated


class GetRecordsParser(JSONParser):
    """botocore's JSON parser, except that GetRecords answers hold a `RecordBatch`."""

    def _do_parse(self, response: dict[str, Any], shape: Any) -> dict[str, Any]:
        shipped: Any = super()
        if shape is None or shape.name != "GetRecordsOutput":
            return dict(shipped._do_parse(response, shape))  # noqa: SLF001
        parsed = parse_get_records(response["body"])
        shipped._inject_response_metadata(parsed, response["headers"])  # noqa: SLF001
        return parsed


class RecordParserFactory(ResponseParserFactory):
    """Registered on the session; other operations parse as shipped, with cheap blobs and times."""

    def create_parser(self, protocol_name: str) -> Any:
        if protocol_name != "json":
            return super().create_parser(protocol_name)
        return GetRecordsParser(timestamp_parser=parse_timestamp, blob_parser=a2b_base64)


def parse_get_records(body: bytes) -> dict[str, Any]:
    """The answer's fields; `Records` is a batch of `slices.RECORD_SCHEMA`.

    Raises: MemoryError; ResponseParserError for what is no such answer (a proxy's page, a body that
    was cut short): callers ask again. Without this check `{}` would read as a shard's end.
    """
    answer = _load(body)
    raw = answer["Records"]
    records = build_records(
        [a2b_base64(r["Data"]) for r in raw],
        [r["SequenceNumber"] for r in raw],
        # Streams that distribute records by themselves may send no key.
        [r.get("PartitionKey") for r in raw],
        [r["ApproximateArrivalTimestamp"] for r in raw],
    )
    return {
        "Records": records,
        "NextShardIterator": answer.get("NextShardIterator"),
        "MillisBehindLatest": answer.get("MillisBehindLatest") or 0,
    }


def build_records(
    payloads: list[bytes],
    sequence_numbers: list[str],
    partition_keys: list[str | None],
    arrivals_seconds: list[float],
) -> pa.RecordBatch:
    """Columns to a batch. Arrival times keep microseconds, the same by every way of reading."""
    arrival_ns = np.rint(np.array(arrivals_seconds, np.float64) * 1e6).astype(np.int64) * 1000
    sub_sequence = np.zeros(len(payloads), np.int32)
    if any(payload.startswith(AGGREGATED) for payload in payloads):
        users = _split_aggregated(payloads, partition_keys)
        rows = [row for _, _, row, _ in users]
        payloads = [data for data, _, _, _ in users]
        partition_keys = [key for _, key, _, _ in users]
        sequence_numbers = [sequence_numbers[row] for row in rows]
        arrival_ns = arrival_ns[rows]
        sub_sequence = np.array([sub for _, _, _, sub in users], np.int32)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array(sequence_numbers, pa.string()),
            pa.array(sub_sequence),
            pa.array(partition_keys, pa.string()),
            pa.array(arrival_ns),
        ],
        schema=RECORD_SCHEMA,
    )


def parse_timestamp(value: float | str | datetime) -> float:
    """Seconds since the epoch: numbers on the wire, ISO text from some emulators.

    >>> parse_timestamp(1.5), parse_timestamp("1970-01-01T00:00:02Z")
    (1.5, 2.0)
    """
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return float(value)
    except ValueError:
        return datetime.fromisoformat(str(value)).timestamp()


def _load(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if str(error).startswith("Not enough memory"):
            raise MemoryError(str(error)) from error
        raise ResponseParserError(f"GetRecords answered what is no JSON: {error}") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("Records"), list):
        raise ResponseParserError(f"GetRecords answered without Records: {body[:100]!r}")
    return answer


def _split_aggregated(
    payloads: Sequence[bytes], partition_keys: Sequence[str | None]
) -> list[tuple[bytes, str | None, int, int]]:
    """Payload, partition key, row of the parent, and place in it, of every user record."""
    users: list[tuple[bytes, str | None, int, int]] = []
    for row, (payload, key) in enumerate(zip(payloads, partition_keys, strict=True)):
        split: Sequence[tuple[bytes, str | None]]
        split = split_aggregated(payload) or [(payload, key)]
        users += [(data, user_key, row, sub) for sub, (data, user_key) in enumerate(split)]
    return users
