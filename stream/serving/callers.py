"""Who asks: a bearer token on this machine, the gateway's verified claims in AWS."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from stream.serving.problem import ProblemError

Identify = Callable[[Mapping[str, Any]], str]
"""The caller of an event. Raises: ProblemError (401)."""


def token_callers(token: SecretStr) -> Identify:
    """Whoever knows the token is `local`."""
    wanted = token.get_secret_value().encode()

    def identify(event: Mapping[str, Any]) -> str:
        kind, _, given = str(event["headers"].get("authorization", "")).partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), wanted)
        if kind.lower() != "bearer" or not is_right:
            raise _unknown("Send `Authorization: Bearer <token>`; `headrace api` says where it is.")
        return "local"

    return identify


def claimed_callers(event: Mapping[str, Any]) -> str:
    """The subject of the token that the gateway verified.

    An event without claims did not pass the authorizer: a gateway that was set up wrongly, or a
    call past it.
    """
    authorizer = event.get("requestContext", {}).get("authorizer") or {}
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    caller = claims.get("sub") or claims.get("client_id")
    if not isinstance(caller, str) or not caller:
        raise _unknown("The request came without verified claims.")
    return caller


def _unknown(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
