"""What lineage's tests start from: objects of Bronze as EventBridge announces them, and a queue's
side of Lambda.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from batch.aws import lineage
from batch.aws.lineage_batch import RunRequest
from batch.aws.lineage_table import LineageTable
from stream.clock import to_utc
from stream.errors import StoreUnavailableError
from stream.lake.layout import BronzeKey
from stream.slices import ShardRef

BUCKET, TABLE, SECRET = "headrace-test-bronze", "headrace-test-lineage", "prefect/auth-string"
HOUR_MS = 3_600_000
NOON_MS = 1_795_435_200_000
"""2026-11-23T12:00:00Z."""


def slice_key(number: int = 1, feed: str = "trades", at_ms: int = NOON_MS) -> str:
    """The key of a slice that begins with record `number`."""
    shard = ShardRef(feed, "headrace-trades.0a1b2c3d", "shardId-000000000000")
    return BronzeKey.of(shard, str(number), at_ms * 1_000_000).path


MISSING = object()


def created(key: object, **changes: object) -> dict[str, Any]:
    """An event "Object Created", as EventBridge sends it.

    Args: changes: by path, e.g. detail__object__size=3; MISSING takes a field out.
    """
    event: dict[str, Any] = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail_type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": to_utc(NOON_MS * 1_000_000).isoformat().replace("+00:00", "Z"),
        "region": "eu-west-1",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {
                "key": key,
                "size": 5_000,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "00617F08299329D189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }
    for path, value in changes.items():
        *folders, name = path.split("__")
        place = event
        for folder in folders:
            place = place[folder]
        place[name.replace("version_id", "version-id")] = value
        if value is MISSING:
            del place[name.replace("version_id", "version-id")]
    event["detail-type"] = event.pop("detail_type")
    return event


def delivery(*bodies: object) -> dict[str, Any]:
    """A delivery of SQS as Lambda hands it over. Args: bodies: texts, or events."""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"r{number}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:111122223333:headrace-test-lineage",
                "awsRegion": "eu-west-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.fixture
def lineage_kit() -> SimpleNamespace:
    """What tests of this folder build events and deliveries with."""
    return SimpleNamespace(
        created=created, slice_key=slice_key, delivery=delivery, read_rows=read_rows,
        Queue=Queue, MemoryRuns=MemoryRuns, MISSING=MISSING, BUCKET=BUCKET, TABLE=TABLE,
        SECRET=SECRET, NOON_MS=NOON_MS, HOUR_MS=HOUR_MS,
    )  # fmt: skip


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with the function's table and secret, and the function's environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("LINEAGE_TABLE", TABLE)
    monkeypatch.setenv("LINEAGE_BUCKETS", BUCKET)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with mock_aws():
        LineageTable(TABLE).create_table()
        lineage.connect.cache_clear()
        yield
    lineage.connect.cache_clear()


def read_rows() -> list[dict[str, Any]]:
    """Every row, its values without their types."""
    items = boto3.client("dynamodb").scan(TableName=TABLE)["Items"]
    rows = [{name: next(iter(value.values())) for name, value in item.items()} for item in items]
    return sorted(rows, key=lambda row: (row["object"], row["etag"]))


class Queue:
    """A queue with its dead-letter queue, and what Lambda's poller does between it and a handler.

    Its visibility timeout is none: what was not deleted comes back with the next poll.
    """

    def __init__(self, tries: int = 5) -> None:
        self._sqs: Any = boto3.client("sqs")
        self.dead = self._sqs.create_queue(QueueName="lineage-dead")["QueueUrl"]
        asked = self._sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": asked["Attributes"]["QueueArn"],
            "maxReceiveCount": tries,
        }
        self.url = self._sqs.create_queue(
            QueueName="lineage",
            Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"},
        )["QueueUrl"]

    def send(self, *events: object) -> None:
        """As EventBridge's target does."""
        for event in events:
            body = event if isinstance(event, str) else json.dumps(event)
            self._sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def poll(self, handle: Callable[[object, object], Any]) -> int:
        """One batch: handed over, and deleted but for what the handler names. Its size."""
        messages = self._take(self.url)
        if not messages:
            return 0
        records = [
            {"messageId": m["MessageId"], "body": m["Body"], "receiptHandle": m["ReceiptHandle"]}
            for m in messages
        ]
        answer = json.loads(json.dumps(handle({"Records": records}, None)))  # as Lambda sees it
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        assert failed <= {m["MessageId"] for m in messages}, "one unknown id fails the whole batch"
        for message in messages:
            if message["MessageId"] not in failed:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)

    def drain(self, handle: Callable[[object, object], Any], most: int = 50) -> None:
        """Poll until nothing is left: done, or set aside."""
        assert any(self.poll(handle) == 0 for _ in itertools.repeat(None, most)), "never empty"

    def set_aside(self) -> list[str]:
        """Bodies in the dead-letter queue."""
        return sorted(m["Body"] for m in self._take(self.dead))

    def _take(self, url: str) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return list(answer.get("Messages", []))


class MemoryRuns:
    """Runs as a Prefect server keeps them, one per key. `is_away`: it does not answer."""

    def __init__(self) -> None:
        self.started: dict[str, RunRequest] = {}
        self.is_away = False
        self.calls: list[str] = []

    def find(self, keys: Collection[str]) -> dict[str, str]:
        self._answer("find")
        return {key: f"run-{key[:8]}" for key in keys if key in self.started}

    def start(self, request: RunRequest) -> str:
        self._answer("start")
        self.started.setdefault(request.key, request)
        return f"run-{request.key[:8]}"

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.is_away:
            raise StoreUnavailableError("Prefect does not answer")
