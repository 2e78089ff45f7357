"""Answers that refuse: RFC 9457 problem documents, and what our errors become on the wire.

Nothing internal reaches a caller: an error of the platform is logged where it is turned into an
answer, the answer says what the caller can do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

from stream.errors import (
    ConfigError,
    PipelineError,
    RetryableError,
    ThrottledError,
)

MEDIA = "application/problem+json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal. `kind`: a stable word, the end of its `type`; `detail`: what to do."""

    status: int
    kind: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The document."""
        return orjson.dumps(
            {
                "type": f"urn:headrace:problem:{self.kind}",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
            }
        ).decode()


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.problem = Problem(status, kind, detail, headers or {})


class SnapshotGoneError(PipelineError):
    """The rows that a cursor continues in are no longer kept."""


class QueryTimeoutError(PipelineError):
    """A query ran longer than it may and was stopped."""


def explain(error: PipelineError) -> Problem:
    """What a caller is told of an error of the platform; the whole of it goes to the log."""
    if isinstance(error, SnapshotGoneError):
        return Problem(
            410,
            "snapshot-gone",
            "The snapshot that this cursor reads was expired. Begin again without the cursor: "
            "the first page pins the newest snapshot.",
        )
    if isinstance(error, QueryTimeoutError):
        return Problem(
            504,
            "query-timeout",
            "The query ran longer than it may and was stopped. Narrow the range or lower the "
            "limit.",
        )
    if isinstance(error, ThrottledError):
        logger.warning("a service asked us to slow down: %s", error)
        return _away("A service behind the API asked it to slow down.")
    if isinstance(error, RetryableError):
        logger.warning("the lake did not answer: %s", error)
        return _away("The lake did not answer.")
    if isinstance(error, ConfigError):
        logger.warning("the lake cannot be read: %s", error)
        return _away("The lake cannot be read as it is configured; the API's log says why.")
    logger.error("a request failed: %s", error)
    return _away("The lake needs a person; the API's log says why.")


def _away(what: str) -> Problem:
    return Problem(
        503,
        "lake-unavailable",
        f"{what} Ask again in a few seconds. On a local platform `headrace status` shows what runs "
        "and `headrace up` starts it.",
        {"Retry-After": "5"},
    )
