"""Athena's call protocol, against botocore's own description of it; and the handler above it.

Not proven here: that Athena accepts the SQL beyond Trino's grammar (`test_statements`), its
latency, its rights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.stub import Stubber

from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError
from stream.lake.athena import Athena, QueryStoppedError, SnapshotMissingError
from stream.serving import lambda_handler
from stream.serving.app import Api
from stream.serving.athena_rows import AthenaRows
from stream.serving.callers import claimed_callers
from stream.serving.keys import local_key_ring
from stream.serving.status import Status
from stream.serving.throttle import Throttle
from stream.settings import load_settings

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("price", pa.decimal128(18, 8)),
        ("n", pa.int64()),
        ("d", pa.date32()),
    ]
)
ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def stubbed() -> Iterator[tuple[Athena, Stubber, ManualClock]]:
    client = boto3.client(
        "athena", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    clock = ManualClock()
    with Stubber(client) as stubber:
        yield (
            Athena("headrace-interactive", "us-east-1", client=client, clock=clock),
            stubber,
            clock,
        )


def expect_start(stubber: Stubber, sql: str, parameters: list[str] | None) -> None:
    reuse = {"ResultReuseByAgeConfiguration": {"Enabled": True, "MaxAgeInMinutes": 60}}
    wanted: dict[str, Any] = {
        "QueryString": sql,
        "WorkGroup": "headrace-interactive",
        "ResultReuseConfiguration": reuse,
    }
    if parameters is not None:
        wanted["ExecutionParameters"] = parameters
    stubber.add_response("start_query_execution", {"QueryExecutionId": ID}, wanted)


def expect_state(
    stubber: Stubber, state: str, reason: str = "", *, retryable: bool = False
) -> None:
    status = {"State": state, "StateChangeReason": reason, "AthenaError": {"Retryable": retryable}}
    answer = {"QueryExecution": {"QueryExecutionId": ID, "Status": status}}
    stubber.add_response("get_query_execution", answer, {"QueryExecutionId": ID})


def rows(*values: list[str | None]) -> list[dict[str, Any]]:
    return [{"Data": [{"VarCharValue": v} if v is not None else {} for v in row]} for row in values]


def test_values_travel_beside_the_text_and_every_page_is_read(stubbed):
    athena, stubber, _ = stubbed
    expect_start(stubber, "SELECT ? , ?", ["'it''s'", "5"])
    for state in ("QUEUED", "RUNNING", "SUCCEEDED"):
        expect_state(stubber, state)
    head = ["symbol", "price", "n", "d"]
    first = rows(head, ["A", "1.5", "3", "2026-11-29"])
    second = rows(["B", None, "4", None])
    asked = {"QueryExecutionId": ID, "MaxResults": 1000}
    stubber.add_response(
        "get_query_results", {"ResultSet": {"Rows": first}, "NextToken": "t"}, asked
    )
    asked_again = {**asked, "NextToken": "t"}
    stubber.add_response("get_query_results", {"ResultSet": {"Rows": second}}, asked_again)
    found = athena.run("SELECT ? , ?", ["it's", 5], SCHEMA, 10)
    assert found.schema == SCHEMA
    assert found.to_pylist() == [
        {"symbol": "A", "price": Decimal("1.50000000"), "n": 3, "d": date(2026, 11, 29)},
        {"symbol": "B", "price": None, "n": 4, "d": None},
    ]
    stubber.assert_no_pending_responses()


def test_query_that_takes_too_long_is_stopped_in_athena_too(stubbed):
    athena, stubber, clock = stubbed
    expect_start(stubber, "SELECT 1", None)
    for _ in range(9):
        expect_state(stubber, "RUNNING")
    stubber.add_response("stop_query_execution", {}, {"QueryExecutionId": ID})
    with pytest.raises(QueryStoppedError):
        athena.run("SELECT 1", [], SCHEMA, 2.0)
    assert 2.0 <= clock.monotonic() < 3.0
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("reason", "retryable", "error"),
    [
        ("INVALID_ARGUMENTS: Iceberg snapshot ID does not exist: 12", False, SnapshotMissingError),
        ("Query cancelled! : Bytes scanned limit was exceeded", False, QueryStoppedError),
        ("INTERNAL_ERROR_QUERY_ENGINE", True, StoreUnavailableError),
        ("SYNTAX_ERROR: line 1:8", False, ConfigError),
    ],
)
def test_query_that_fails_is_told_apart(stubbed, reason, retryable, error):
    athena, stubber, _ = stubbed
    expect_start(stubber, "SELECT 1", None)
    expect_state(stubber, "FAILED", reason, retryable=retryable)
    with pytest.raises(error):
        athena.run("SELECT 1", [], SCHEMA, 2.0)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TooManyRequestsException", ThrottledError),
        ("InternalServerException", StoreUnavailableError),
        ("AccessDeniedException", ConfigError),
    ],
)
def test_call_that_is_refused_is_told_apart(stubbed, code, error):
    athena, stubber, _ = stubbed
    stubber.add_client_error("start_query_execution", code)
    with pytest.raises(error):
        athena.run("SELECT 1", [], SCHEMA, 2.0)


class Recorded:
    """Stands where Athena is: keeps what it is asked and answers one trade."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str | int, ...]]] = []

    def run(self, sql: str, values: Any, schema: pa.Schema, seconds: float) -> pa.Table:
        self.asked.append((sql, values))
        row = {field.name: None for field in schema} | {
            "venue": "sim", "symbol": "ACME", "trade_id": "1", "kind": "new", "side": "buy",
            "price": Decimal(1), "size": Decimal(2), "ts_event_ns": 5, "known_at_ns": 5,
            "session_date": date(1970, 1, 1), "ts_arrival_ns": 6,
        }  # fmt: skip
        return pa.Table.from_pylist([row], schema=schema)


def test_same_routes_answer_from_athena_for_whom_the_gateway_let_in(small_lake):
    small_lake.land_trades(1)
    known = small_lake.settings
    settings = load_settings(home=known.home, lake=known.lake, api_workgroup="w")
    athena = Recorded()
    backend = AthenaRows(settings, athena=athena)
    api = Api(
        backend, Status(settings, backend.lake), local_key_ring(known.home), claimed_callers,
        Throttle(10),
    )  # fmt: skip
    event: dict[str, Any] = {
        "version": "2.0",
        "rawPath": "/v1/trades",
        "rawQueryString": "symbol=ACME&day=2025-11-24",
        "headers": {},
        "requestContext": {"http": {"method": "GET", "path": "/v1/trades"}, "stage": "$default"},
    }
    assert api.handle(event)["statusCode"] == 401
    forged = {**event, "headers": {"authorization": "Bearer anything"}}
    assert api.handle(forged)["statusCode"] == 401
    event["requestContext"]["authorizer"] = {"jwt": {"claims": {"sub": "somebody"}, "scopes": None}}
    answer = api.handle(event)
    assert answer["statusCode"] == 200, answer["body"]
    assert json.loads(answer["body"])["data"][0]["price"] == "1.00000000"
    [(sql, values)] = athena.asked
    snapshot = small_lake.lake.catalog.open("trades").snapshot_id
    assert f'"silver"."trades" FOR VERSION AS OF {snapshot}' in sql
    assert values[0] == "ACME"


def test_handler_says_what_is_missing_as_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(lambda_handler, "_CONTAINER", lambda_handler._Container())
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    answer = lambda_handler.handle({}, None)
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (503, 503)
