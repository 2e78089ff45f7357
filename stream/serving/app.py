"""The API as one function: an event of the gateway in, a response out; in Lambda and locally.

Before a route runs: the size of the request, who asks, how often, which path and method, and that
no parameter is unknown or said twice. Whatever happens the answer is one that OpenAPI describes:
a refusal is a problem document, a fault of ours is logged and answered without its story.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import orjson
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import PipelineError
from stream.serving.callers import Identify
from stream.serving.keys import KeyRing
from stream.serving.openapi import build_document, parameters_of
from stream.serving.pages import Pages
from stream.serving.parameters import invalid
from stream.serving.problem import MEDIA, Problem, ProblemError, explain
from stream.serving.request import Request, Resolver
from stream.serving.routes import OPEN_PATHS, build_routes
from stream.serving.rows import Rows
from stream.serving.status import Status
from stream.serving.throttle import Throttle

MAX_QUERY_CHARACTERS = 4_096
MAX_HEADERS = 16_384
"""Characters of all their names and values."""
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
logger = logging.getLogger(__name__)

Event = dict[str, Any]


class Api:
    """Answers events. Threads may share it.

    Args: identify: gives the caller of an event; open paths are not asked.
    """

    def __init__(
        self,
        rows: Rows,
        status: Status,
        ring: KeyRing,
        identify: Identify,
        throttle: Throttle,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._rows, self._identify, self._throttle, self._clock = rows, identify, throttle, clock
        self.pages = Pages(rows, ring, clock=clock)
        self._document = ""  # of the routes, which answer with it
        self._resolver = Resolver()
        self._resolver.include_router(build_routes(self.pages, status, lambda: self._document))
        self._resolver.exception_handler(RequestValidationError)(_explain_validation)
        document = build_document(self._resolver)
        self._document = orjson.dumps(document).decode()
        self._parameters = parameters_of(document)

    def handle(self, event: Event) -> dict[str, Any]:
        """The response to an HTTP API event (payload format 2.0); never raises."""
        began, caller = self._clock.monotonic(), ""
        with _Guard() as guard:
            caller = self._admit(event)
            response = self._route(event, caller)
        if guard.problem is not None:
            response = refuse(guard.problem)
        response["headers"] = {**ALWAYS, **response["headers"]}
        response["statusCode"] = int(response["statusCode"])
        if _method(event) == "HEAD":
            response = {**response, "body": "", "isBase64Encoded": False}
        path = event.get("rawPath", "")
        logger.info(
            "%s %s %d, %.1f ms, caller %s",
            _method(event) if _method(event) in {"GET", "HEAD"} else "other method",
            path if path in self._parameters else "unknown path",
            response["statusCode"],
            (self._clock.monotonic() - began) * 1000,
            caller or "unknown",
        )
        return response

    def close(self) -> None:
        """End what runs beside."""
        self._rows.close()

    def _admit(self, event: Event) -> str:
        """The caller, if the request may go on. Raises: ProblemError."""
        if len(event.get("rawQueryString", "")) > MAX_QUERY_CHARACTERS:
            raise ProblemError(
                414, "address-too-long", f"A query has at most {MAX_QUERY_CHARACTERS} characters."
            )
        if sum(len(name) + len(value) for name, value in event["headers"].items()) > MAX_HEADERS:
            raise ProblemError(
                431, "headers-too-large", f"Headers have at most {MAX_HEADERS} characters."
            )
        caller = "anyone" if event["rawPath"] in OPEN_PATHS else self._identify(event)
        wait = self._throttle.take(caller)
        if wait > 0:
            raise ProblemError(
                429,
                "too-many-requests",
                "Too many requests: ask again after `Retry-After` seconds.",
                {"Retry-After": str(int(wait) + 1)},
            )
        return caller

    def _route(self, event: Event, caller: str) -> dict[str, Any]:
        path, method = event["rawPath"], _method(event)
        known = self._parameters.get(path)
        if known is None:
            raise ProblemError(404, "no-such-path", "No such path; /openapi.json lists them.")
        if method not in {"GET", "HEAD"}:
            raise ProblemError(
                405, "method-not-allowed", "This API only reads.", {"Allow": "GET, HEAD"}
            )
        if event.get("body"):
            raise ProblemError(413, "body", "Requests have no body.")
        parameters = read_query(event.get("rawQueryString", ""), known)
        headers = event["headers"]
        request = Request(
            caller, path, headers.get("accept"), headers.get("if-none-match"), parameters
        )
        http = {**event["requestContext"]["http"], "method": "GET"}
        asked = {
            **event,
            "queryStringParameters": dict(parameters),
            "requestContext": {**event["requestContext"], "http": http},
        }
        return self._resolver.answer(asked, request)


class _Guard:
    """Turns what is raised inside into a problem; nothing gets out but an interrupt."""

    def __init__(self) -> None:
        self.problem: Problem | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if isinstance(error, ProblemError):
            self.problem = error.problem
        elif isinstance(error, PipelineError):
            self.problem = explain(error)
        elif isinstance(error, Exception):
            logger.error("a request failed", exc_info=error)
            self.problem = Problem(
                500, "internal", "This is a fault of the API. It is logged; ask again later."
            )
        return isinstance(error, Exception)


def read_query(text: str, known: frozenset[str]) -> Mapping[str, str]:
    """The parameters of a query, each known and said once. Raises: ProblemError."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=64):
        if name not in known:
            near = difflib.get_close_matches(name[:64], known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            all_known = ", ".join(sorted(known)) or "none"
            raise invalid(f"unknown parameter {name[:64]!r}; known: {all_known}.{hint}")
        if name in found:
            raise invalid(f"{name} was given more than once")
        if "," in value:  # a gateway joins repeated ones with it, and no value has one
            raise invalid(f"{name} holds a comma: one value is expected")
        found[name] = value
    return found


def _explain_validation(error: RequestValidationError) -> Response[Any]:
    found = [f"{e['loc'][-1]}: {e.get('msg') or e['type']}" for e in error.errors()]
    problem = Problem(422, "invalid-parameter", "; ".join(found))
    return Response(problem.status, MEDIA, problem.to_json())


def refuse(problem: Problem) -> dict[str, Any]:
    """A problem as the response to an event."""
    return {
        "statusCode": problem.status,
        "headers": {"Content-Type": MEDIA, **problem.headers},
        "body": problem.to_json(),
        "isBase64Encoded": False,
        "cookies": [],
    }


def _method(event: Event) -> str:
    return str(event["requestContext"]["http"]["method"]).upper()
