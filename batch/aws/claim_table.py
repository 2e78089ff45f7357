"""Claims in a DynamoDB table: the same contract as `claims.SqliteClaims`, for many machines.

One item a key. The partition key is the first part of the claim's key (the source), the sort key
is the whole key: so a prefix is one query. Every change is one conditional write; reads are
strongly consistent. A retry inside the SDK may find its own first attempt applied: what ends a
claim therefore reads back before it says that the claim was lost.
Not here: when a table is made in an account (`infra`); `create_table` is for local use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 (botocore's, not the builtin)
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    WaiterError,
)

from batch.backfill.claims import (
    Claim,
    ClaimRow,
    Result,
    State,
    pack_result,
    shorten,
    unpack_result,
)
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import (
    ConfigError,
    FatalError,
    PipelineError,
    StoreUnavailableError,
    ThrottledError,
)
from stream.settings import aws_endpoint

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_SERVER_FAULT = 500

# `key`, `state`, `owner`, `result` and `error` are among DynamoDB's reserved words.
_NAMES = {
    f"#{name}": name
    for name in (
        *("key", "state", "attempts", "owner", "claimed_ms"),
        *("until_ms", "ended_ms", "result", "error"),
    )
}
_CLAIMABLE = (
    "attribute_not_exists(#key) OR #state IN (:planned, :failed) "
    "OR (#state = :claimed AND (#owner = :owner OR #until_ms <= :now))"
)
_OURS = "#state = :claimed AND #attempts = :attempt"


class DynamoClaims:
    """Claims in one table. Safe to share between threads."""

    def __init__(
        self, table: str, clock: Clock = SYSTEM_CLOCK, *, region: str = "us-east-1"
    ) -> None:
        self._table, self._clock = table, clock
        with _translated(table, "use"):
            self._client: Any = boto3.Session().client(
                "dynamodb",
                region_name=region,
                endpoint_url=aws_endpoint("dynamodb"),
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 5},
                    connect_timeout=3.0,
                    read_timeout=10.0,
                ),
            )

    def create_table(self) -> None:
        """Make the table if it is missing and wait until it can be used."""
        with _translated(self._table, "CreateTable"):
            try:
                self._client.create_table(
                    TableName=self._table,
                    KeySchema=[
                        {"AttributeName": "part", "KeyType": "HASH"},
                        {"AttributeName": "key", "KeyType": "RANGE"},
                    ],
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": "S"} for name in ("part", "key")
                    ],
                    BillingMode="PAY_PER_REQUEST",
                )
            except ClientError as error:
                if _code(error) != "ResourceInUseException":
                    raise
            waiter = self._client.get_waiter("table_exists")
            waiter.wait(TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def plan(self, keys: Iterable[str]) -> int:
        # A batch write knows no condition: it would undo a claim made between read and write.
        wanted = list(keys)
        groups = {key[: key.rfind("/") + 1] for key in wanted} - {""}
        known = {row.key for group in groups for row in self.read(group)}
        return sum(
            self._update(
                key,
                "SET #state = :planned, #attempts = :zero",
                "attribute_not_exists(#key)",
                {":planned": _text("planned"), ":zero": _number(0)},
            )
            is not None
            for key in wanted
            if key not in known
        )

    def claim(self, key: str, owner: str, lease_seconds: float) -> Claim | None:
        now, lease_ms = now_ms(self._clock), int(lease_seconds * 1000)
        found = self._update(
            key,
            "SET #state = :claimed, #attempts = if_not_exists(#attempts, :zero) + :one, "
            "#owner = :owner, #claimed_ms = :now, #until_ms = :until "
            "REMOVE #ended_ms, #result, #error",
            _CLAIMABLE,
            {
                **{f":{state}": _text(state) for state in ("planned", "claimed", "failed")},
                ":owner": _text(owner),
                ":zero": _number(0),
                ":one": _number(1),
                ":now": _number(now),
                ":until": _number(now + lease_ms),
            },
        )
        if found is None:
            return None
        return Claim(key, owner, int(found["attempts"]["N"]), lease_ms, now + lease_ms)

    def renew(self, claim: Claim) -> bool:
        until = _number(now_ms(self._clock) + claim.lease_ms)
        values = {":claimed": _text("claimed"), ":attempt": _number(claim.attempt), ":until": until}
        return self._update(claim.key, "SET #until_ms = :until", _OURS, values) is not None

    def complete(self, claim: Claim, result: Result) -> bool:
        return self._end(claim, "done", result=pack_result(result))

    def fail(self, claim: Claim, error: str) -> bool:
        return self._end(claim, "failed", error=shorten(error))

    def release(self, claim: Claim) -> bool:
        return self._end(claim, "planned")

    def read(self, prefix: str) -> list[ClaimRow]:
        request: dict[str, Any] = {"TableName": self._table, "ConsistentRead": True}
        operation = "scan"  # of everything: part of a partition key cannot be asked for
        if "/" in prefix:
            operation = "query"
            request["KeyConditionExpression"] = "part = :part AND begins_with(#key, :prefix)"
            request["ExpressionAttributeNames"] = {"#key": "key"}
            request["ExpressionAttributeValues"] = {
                ":part": _text(_part(prefix)),
                ":prefix": _text(prefix),
            }
        with _translated(self._table, operation.title()):
            pages = self._client.get_paginator(operation).paginate(**request)
            rows = [_row(item) for page in pages for item in page["Items"]]
        return sorted((row for row in rows if row.key.startswith(prefix)), key=lambda row: row.key)

    def _end(
        self, claim: Claim, state: State, result: str | None = None, error: str | None = None
    ) -> bool:
        given = {"result": result, "error": error}
        kept = {name: _text(text) for name, text in given.items() if text is not None}
        gone = ", ".join(f"#{name}" for name in ("until_ms", *given) if name not in kept)
        sets = "".join(f", #{name} = :{name}" for name in kept)
        ended = self._update(
            claim.key,
            f"SET #state = :state, #ended_ms = :now{sets} REMOVE {gone}",
            _OURS,
            {
                ":state": _text(state),
                ":claimed": _text("claimed"),
                ":attempt": _number(claim.attempt),
                ":now": _number(now_ms(self._clock)),
                **{f":{name}": value for name, value in kept.items()},
            },
        )
        return ended is not None or self._has_ended(claim, state)

    def _has_ended(self, claim: Claim, state: State) -> bool:
        with _translated(self._table, "GetItem"):
            answer = self._client.get_item(
                TableName=self._table, Key=_key(claim.key), ConsistentRead=True
            )
        row = _row(answer["Item"]) if "Item" in answer else ClaimRow(claim.key)
        return (row.state, row.attempts) == (state, claim.attempt)

    def _update(
        self, key: str, change: str, condition: str, values: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """One conditional write; the changed attributes, None if the condition did not hold."""
        text = f"{change} {condition}"
        with _translated(self._table, "UpdateItem"):
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=_key(key),
                    UpdateExpression=change,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={n: v for n, v in _NAMES.items() if n in text},
                    ExpressionAttributeValues=values,
                    ReturnValues="UPDATED_NEW",
                )
            except ClientError as error:
                if _code(error) == "ConditionalCheckFailedException":
                    return None
                raise
        return dict(answer["Attributes"])


def _row(item: Mapping[str, Any]) -> ClaimRow:
    def text(name: str) -> str | None:
        return item[name]["S"] if name in item else None

    def number(name: str) -> int | None:
        return int(item[name]["N"]) if name in item else None

    return ClaimRow(
        key=item["key"]["S"],
        state=item["state"]["S"],
        attempts=int(item["attempts"]["N"]),
        owner=text("owner"),
        claimed_ms=number("claimed_ms"),
        until_ms=number("until_ms"),
        ended_ms=number("ended_ms"),
        result=unpack_result(text("result")),
        error=text("error"),
    )


def _part(key: str) -> str:
    return key.split("/", 1)[0] or "/"


def _key(key: str) -> dict[str, dict[str, str]]:
    return {"part": _text(_part(key)), "key": _text(key)}


def _text(value: str) -> dict[str, str]:
    return {"S": value}


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _translated(table: str, operation: str) -> Iterator[None]:
    """Our errors for the service's."""
    where = f"DynamoDB {operation} on table {table}"
    try:
        yield
    except ClientError as error:
        raise _translate(error, where) from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        raise ConfigError(
            f"{where}: {error}. Start the local platform with `headrace up`, or set AWS "
            "credentials and HEADRACE_AWS=account."
        ) from error
    except (ConnectionError, HTTPClientError, WaiterError) as error:
        raise StoreUnavailableError(
            f"{where}: no answer ({error}). Locally: is `headrace up` running?"
        ) from error
    except BotoCoreError as error:
        raise ConfigError(f"{where}: {error}") from error


def _translate(error: ClientError, where: str) -> PipelineError:
    code, message = _code(error), error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    found: PipelineError = FatalError(f"{where} failed: {code} {message}")
    if code in _THROTTLED:
        found = ThrottledError(f"{where}: {code} {message}")
    elif code in _DENIED:
        found = ConfigError(f"{where} was refused ({code}): the role needs that right. {message}")
    elif code == "ResourceNotFoundException":
        found = ConfigError(
            f"{where}: the table does not exist. Create the stack of this account and region "
            "first; locally the table is made when it is first used."
        )
    elif code == "ValidationException":
        found = ConfigError(f"{where}: {message}")
    elif status >= _SERVER_FAULT or code == "InternalServerError":
        found = StoreUnavailableError(f"{where}: {code} {message}")
    return found
