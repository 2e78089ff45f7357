"""Rows of lineage in DynamoDB: one for each version of each object, written once.

    object      "bucket/key"                         partition key
    etag        the version                          sort key
    kind, source, hour, stream, shard, first, run_id what the key says
    bytes, event_time, event_ms, sequencer           what S3 says
    batch       the batch that means to cover it     set with the row; see `lineage_batch`
    run         the Prefect run that covers it       set once, last
    expires_at  DynamoDB's own end of the row, epoch seconds

Everything is a conditional PutItem, the only right that the function has: a put that is refused
answers with the row that is there. A row is a function of its event, so a second one is the same.
Not here: when the table is made in an account (`infra`); `create_table` is for local use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 (botocore's, not the builtin)
    HTTPClientError,
)

from batch.aws.lineage_event import Landed
from stream.clock import to_utc
from stream.errors import (
    ConfigError,
    FatalError,
    PipelineError,
    RecordRejected,
    StoreUnavailableError,
    ThrottledError,
)

OBJECT, VERSION, EXPIRES = "object", "etag", "expires_at"
"""Attributes of the table's key and of its end."""
BATCH, RUN = "batch", "run"
KEEP_DAYS = 400
"""A year's audit and a month to do it in."""

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
}
_SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says of its version: the batch that means to cover it, the run that does."""

    batch: str
    run: str | None = None


class LineageTable:
    """The rows of one table. Safe to share between threads."""

    def __init__(self, name: str, client: Any | None = None) -> None:
        self._name = name
        self._client = client or connect_dynamodb()

    def note(self, landed: Landed, batch: str) -> Row | None:
        """Write a version's row if it has none; else the row that is there.

        Raises: RecordRejected (DynamoDB refuses the row), RetryableError, ConfigError, FatalError.
        """
        return self._put(landed, Row(batch), unless=OBJECT)

    def amend(self, landed: Landed, row: Row) -> None:
        """Say that another batch means to cover a version, or that a run does. The first run that
        was noted stays: it covers the version as well as any.
        """
        self._put(landed, row, unless=RUN)

    def create_table(self) -> None:
        """Make the table if it is missing, as `infra` does."""
        with _explained(self._name, "CreateTable"):
            try:
                self._client.create_table(
                    TableName=self._name,
                    KeySchema=[
                        {"AttributeName": OBJECT, "KeyType": "HASH"},
                        {"AttributeName": VERSION, "KeyType": "RANGE"},
                    ],
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": "S"} for name in (OBJECT, VERSION)
                    ],
                    BillingMode="PAY_PER_REQUEST",
                )
            except ClientError as error:
                if _code(error) != "ResourceInUseException":
                    raise

    def _put(self, landed: Landed, row: Row, unless: str) -> Row | None:
        with _explained(self._name, "PutItem"):
            try:
                self._client.put_item(
                    TableName=self._name,
                    Item=build_item(landed, row),
                    ConditionExpression="attribute_not_exists(#unless)",
                    ExpressionAttributeNames={"#unless": unless},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if _code(error) != "ConditionalCheckFailedException":
                    raise
                answer: Mapping[str, Any] = error.response
                return _read_row(answer.get("Item", {}))
        return None


def connect_dynamodb() -> Any:
    """A client that gives up early: the message comes back, the function's time does not."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=2.0,
        read_timeout=5.0,
    )
    return boto3.Session().client("dynamodb", config=config)


def build_item(landed: Landed, row: Row) -> dict[str, dict[str, str]]:
    """A row as DynamoDB takes it; what is empty is left out."""
    texts = {
        OBJECT: landed.object,
        VERSION: landed.etag,
        "kind": landed.kind,
        "source": landed.place.source,
        "hour": landed.place.hour.isoformat(),
        **landed.origin,
        "event_time": to_utc(landed.event_ms * 1_000_000).isoformat(),
        "sequencer": landed.sequencer,
        "version_id": landed.version_id,
        BATCH: row.batch,
        RUN: row.run or "",
    }
    numbers = {
        "bytes": landed.bytes,
        "event_ms": landed.event_ms,
        EXPIRES: landed.event_ms // 1000 + KEEP_DAYS * 86_400,
    }
    return {
        **{name: {"S": text} for name, text in texts.items() if text},
        **{name: {"N": str(number)} for name, number in numbers.items()},
    }


def _read_row(item: Mapping[str, Any]) -> Row:
    return Row(item.get(BATCH, {}).get("S", ""), item.get(RUN, {}).get("S"))


@contextmanager
def _explained(table: str, operation: str) -> Iterator[None]:
    """Our errors for the service's."""
    where = f"DynamoDB {operation} on table {table}"
    try:
        yield
    except ClientError as error:
        raise _explain(error, where) from error
    except (ConnectionError, HTTPClientError) as error:
        raise StoreUnavailableError(f"{where}: no answer ({error})") from error
    except BotoCoreError as error:
        raise ConfigError(f"{where}: {error}") from error


def _explain(error: ClientError, where: str) -> PipelineError:
    code, message = _code(error), error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED:
        return ThrottledError(f"{where}: {code} {message}")
    if status >= _SERVER_FAULT or code == "InternalServerError":
        return StoreUnavailableError(f"{where}: {code} {message}")
    if code == "ValidationException":
        return RecordRejected("row", f"{where}: {message}")
    if code == "ResourceNotFoundException":
        return ConfigError(f"{where}: the table does not exist in this account and region")
    return FatalError(f"{where} failed: {code} {message}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
