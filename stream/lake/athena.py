"""Ask Athena: parameters bound beside the text, answers as Arrow, stopped when they take too long.

A query is started, looked after until it ends, and its result fetched page by page. What was asked
of the same snapshot before is answered from that result: such answers never change. The workgroup
caps what a query may scan. Credentials are found by boto3 itself (`AWS_*`).
Not here: SQL (`serving.statements`), which snapshot (`serving.athena_rows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import boto3
import pyarrow as pa
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, PipelineError, StoreUnavailableError, ThrottledError
from stream.lake.aws_faults import NO_ANSWER

POLL_SECONDS = (0.1, 0.1, 0.2, 0.2, 0.3, 0.5)
"""Pauses between looks; the last one goes on. A small query takes about half a second."""
REUSE_MINUTES = 60
PAGE_ROWS = 1_000
_THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "Throttling"})


class QueryStoppedError(PipelineError):
    """A query ran longer than it may and was stopped."""


class SnapshotMissingError(PipelineError):
    """A query named a snapshot that its table has no more."""


class Athena:
    """One workgroup. Threads may share it."""

    def __init__(
        self, workgroup: str, region: str, *, client: Any = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._workgroup, self._clock = workgroup, clock
        self._client: Any = client or boto3.Session().client(
            "athena",
            region_name=region,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=3.0,
                read_timeout=10.0,
            ),
        )

    def run(
        self, sql: str, values: Sequence[str | int], schema: pa.Schema, seconds: float
    ) -> pa.Table:
        """The answer in exactly this schema.

        Args: sql: with `?` for each value. seconds: how long it may run; then it is stopped.

        Raises: QueryStoppedError, SnapshotMissingError, ThrottledError, StoreUnavailableError,
        ConfigError (denied, or SQL that Athena refuses: a fault of ours).
        """
        ends_at = self._clock.monotonic() + seconds
        try:
            query = self._start(sql, values)
            self._wait(query, ends_at)
            return to_arrow(self._pages(query), schema)
        except ClientError as error:
            raise _explain(error) from error
        except NO_ANSWER as error:
            raise StoreUnavailableError(f"Athena did not answer: {error}") from error
        except BotoCoreError as error:
            raise ConfigError(f"Athena, workgroup {self._workgroup}: {error}") from error

    def _start(self, sql: str, values: Sequence[str | int]) -> str:
        bound = {"ExecutionParameters": [literal(value) for value in values]} if values else {}
        answer = self._client.start_query_execution(
            QueryString=sql,
            WorkGroup=self._workgroup,
            ResultReuseConfiguration={
                "ResultReuseByAgeConfiguration": {
                    "Enabled": True,
                    "MaxAgeInMinutes": REUSE_MINUTES,
                }
            },
            **bound,
        )
        return str(answer["QueryExecutionId"])

    def _wait(self, query: str, ends_at: float) -> None:
        """Until it has succeeded; one that is left behind is stopped, whatever happens to us."""
        is_over = False
        try:
            for pause in _pauses():
                found = self._client.get_query_execution(QueryExecutionId=query)
                status = found["QueryExecution"]["Status"]
                is_over = status["State"] in {"SUCCEEDED", "FAILED", "CANCELLED"}
                if status["State"] == "SUCCEEDED":
                    return
                if is_over:
                    raise _explain_end(query, status)
                if self._clock.monotonic() >= ends_at:
                    raise QueryStoppedError(f"Athena query {query} took too long")
                self._clock.sleep(pause)
        finally:
            if not is_over:
                self._client.stop_query_execution(QueryExecutionId=query)

    def _pages(self, query: str) -> Iterator[list[list[str | None]]]:
        token: dict[str, str] = {}
        is_first = True
        while True:
            answer = self._client.get_query_results(
                QueryExecutionId=query, MaxResults=PAGE_ROWS, **token
            )
            rows = answer["ResultSet"]["Rows"]
            yield [
                [datum.get("VarCharValue") for datum in row["Data"]]
                for row in rows[1 if is_first else 0 :]  # the first row of all is the header
            ]
            is_first = False
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}


def to_arrow(pages: Iterator[list[list[str | None]]], schema: pa.Schema) -> pa.Table:
    """Rows of text as typed columns, in the order of the schema. Decimals are exact.

    >>> kind = pa.schema([("price", pa.decimal128(18, 8)), ("day", pa.date32())])
    >>> to_arrow(iter([[["1.5", "2026-11-29"], [None, None]]]), kind).to_pylist()[0]
    {'price': Decimal('1.50000000'), 'day': datetime.date(2026, 11, 29)}
    """
    rows = [row for page in pages for row in page]
    columns = [
        pa.array([row[at] for row in rows], pa.string()).cast(field.type)
        for at, field in enumerate(schema)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def literal(value: str | int) -> str:
    """A value as Athena takes it for a `?`: the text of an SQL literal.

    >>> literal("it's"), literal(5)
    ("'it''s'", '5')
    """
    return str(int(value)) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _pauses() -> Iterator[float]:
    yield from POLL_SECONDS
    while True:
        yield POLL_SECONDS[-1]


def _explain_end(query: str, status: dict[str, Any]) -> PipelineError:
    """Our error for a query that failed."""
    reason = str(status.get("StateChangeReason", ""))[:500]
    text = f"Athena query {query} {status['State'].lower()}: {reason}"
    if "snapshot" in reason.lower() and "does not exist" in reason.lower():
        return SnapshotMissingError(text)
    if "bytes scanned limit" in reason.lower():
        return QueryStoppedError(text)
    if status["State"] == "CANCELLED" or status.get("AthenaError", {}).get("Retryable"):
        return StoreUnavailableError(text)
    return ConfigError(text)


def _explain(error: ClientError) -> PipelineError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _THROTTLED:
        return ThrottledError(f"Athena: {code}")
    if code == "InternalServerException":
        return StoreUnavailableError(f"Athena: {error}")
    return ConfigError(f"Athena: {error}")
