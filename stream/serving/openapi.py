"""The API's description, OpenAPI 3.1, made of the routes: `deploy/openapi.json`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer

from stream.serving.documents import components
from stream.serving.request import Resolver
from stream.serving.routes import OPEN_PATHS, build_routes

PATH = Path("deploy") / "openapi.json"
DESCRIPTION = (
    "Reads of a market-data lake: trades, quotes, bars, news, and what is known of their quality. "
    "Rows come in pages of one snapshot: send `next_cursor` back until it is null. Prices and "
    "sizes are exact decimals as text; `x_ns` is nanoseconds since 1970 UTC, `x` the same as text. "
    "Accept: application/json, text/csv or application/vnd.apache.arrow.stream."
)


def render_document() -> str:
    """The document as it is kept in the tree: sorted, and without the release's number."""
    resolver = Resolver()
    nothing: Any = None
    resolver.include_router(build_routes(nothing, nothing, nothing))
    document = build_document(resolver, "1")
    return orjson.dumps(
        document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    ).decode()


def build_document(resolver: Resolver, release: str | None = None) -> dict[str, Any]:
    """The document of a resolver's routes."""
    text = resolver.get_openapi_json_schema(
        title="headrace",
        version=release or version("headrace"),
        description=DESCRIPTION,
        security_schemes={"token": HTTPBearer()},
        security=[{"token": []}],
    )
    document: dict[str, Any] = orjson.loads(text)
    document["components"]["schemas"] = components()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _without_null(parameter["schema"])
    return document


def parameters_of(document: dict[str, Any]) -> dict[str, frozenset[str]]:
    """Path → the names of its parameters."""
    return {
        path: frozenset(p["name"] for p in methods["get"].get("parameters", []))
        for path, methods in document["paths"].items()
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """An address has no null: what may be left out is not required, and that is all."""
    choices = [c for c in schema.get("anyOf", []) if c != {"type": "null"}]
    rest = {
        name: int(value) if isinstance(value, float) else value
        for name, value in schema.items()
        if name not in {"anyOf", "title", "description"} and value is not None
    }
    return {**choices[0], **rest} if choices else rest
