"""The request that is being answered, and a resolver that many threads may use at once.

Powertools keeps the event of a request in class attributes: right in Lambda, where there is one at
a time, and wrong in a server with threads. Here each request has its own, so that both run the very
same code.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2


@dataclass(frozen=True, slots=True)
class Request:
    """What routes need beside their parameters."""

    caller: str
    route: str
    accept: str | None
    if_none_match: str | None
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _State:
    event: Any = None
    context: dict[str, Any] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)
    request: Request | None = None
    binary: bytes | None = None


_STATE: ContextVar[_State] = ContextVar("headrace_api_request")


def current_request() -> Request:
    """The request of this thread."""
    found = _STATE.get().request
    assert found is not None
    return found


def send_binary(body: bytes) -> None:
    """Answer with bytes instead of the response's body, which Powertools would read as text."""
    _STATE.get().binary = body


class Resolver(APIGatewayHttpResolver):
    """Powertools' resolver of HTTP APIs with a state per request."""

    def __init__(self) -> None:
        self._startup = _State()
        super().__init__(enable_validation=True, debug=False)

    def answer(self, event: dict[str, Any], request: Request) -> dict[str, Any]:
        """The response to an event of the gateway (payload format 2.0)."""
        state = _State(APIGatewayProxyEventV2(event), request=request)
        token = _STATE.set(state)
        try:
            response = self._build_response(self._resolve())
            if state.binary is not None:
                body = base64.b64encode(state.binary).decode()
                response = {**response, "body": body, "isBase64Encoded": True}
            return response
        finally:
            _STATE.reset(token)

    @property
    def _now(self) -> _State:
        return _STATE.get(self._startup)

    @property
    def current_event(self) -> Any:  # type: ignore[override]  # set by `answer` alone
        """Of this thread's request."""
        return self._now.event

    @property
    def lambda_context(self) -> Any:  # type: ignore[override]  # never set
        """Nothing of ours needs it."""
        return None

    @property
    def context(self) -> dict[str, Any]:
        """Of this thread's request."""
        return self._now.context

    @context.setter
    def context(self, value: dict[str, Any]) -> None:
        self._now.context = value

    @property
    def processed_stack_frames(self) -> list[str]:
        """Of this thread's request."""
        return self._now.frames

    @processed_stack_frames.setter
    def processed_stack_frames(self, value: list[str]) -> None:
        self._now.frames = value
