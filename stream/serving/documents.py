"""What OpenAPI says of answers: their forms, headers and refusals, the same words for every route.

Columns are described out of the resources themselves, so that the document cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from aws_lambda_powertools.event_handler.openapi.types import OpenAPIResponse

from stream.serving.formats import MEDIA
from stream.serving.problem import MEDIA as PROBLEM_MEDIA
from stream.serving.resource import Resource, bars, news, quotes, trades
from stream.serving.statements import CONDITION

PROBLEMS = {
    400: "A cursor that this API did not make, or that belongs to another query",
    401: "No token, or a wrong one",
    404: "The lake has nothing of this yet; `detail` says what makes it",
    405: "Only GET and HEAD",
    406: "No form that the caller accepts",
    409: "Gold is not published yet, or lacks the table; `detail` says what makes it",
    410: "The cursor is too old, or its snapshot was expired: begin again",
    413: "A body: requests have none",
    414: "The address is too long",
    422: "A parameter is unknown, repeated, or out of its bounds",
    429: "Too many requests of this caller",
    431: "The headers are too large",
    500: "A fault of this program; it is logged",
    503: "The lake does not answer; ask again",
    504: "The query took too long and was stopped",
}
ALWAYS = (401, 405, 413, 414, 422, 429, 431, 500, 503)
WAIT = {"Retry-After": "Seconds to wait"}
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    405: {"Allow": "The methods that are allowed"},
    429: WAIT,
    503: WAIT,
}

TYPES = {
    pa.string(): {"type": "string"},
    pa.int64(): {"type": "integer"},
    pa.bool_(): {"type": "boolean"},
    pa.float64(): {"type": "number"},
    pa.date32(): {"type": "string", "format": "date"},
}
DECIMAL = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
TIME = {"type": "string", "format": "date-time"}


def rows_of(resource: Resource) -> dict[str, Any]:
    """The schema of a resource's rows in JSON: a name among the components."""
    return {"$ref": f"#/components/schemas/{_name(resource)}"}


def components() -> dict[str, Any]:
    """The schemas that routes refer to."""
    resources = (trades(), quotes(), news(), bars("1m"), CONDITION)
    return {
        **{_name(r): _row(r.schema) for r in resources},
        "Problem": _object(
            {
                "type": {"type": "string", "description": "Stable: urn:headrace:problem:<kind>"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string", "description": "What to do"},
            }
        ),
        "AsOf": _object(
            {
                "table": {"type": "string"},
                "snapshot": {"type": "string", "description": "Of Iceberg, or the build of Gold"},
                "committed_at": TIME,
            }
        ),
    }


def page_responses(
    resources: Sequence[Resource], problems: Iterable[int] = ()
) -> dict[int, OpenAPIResponse]:
    """Of a route that answers rows."""
    rows = [rows_of(resource) for resource in resources]
    page = _object(
        {
            "data": {"type": "array", "items": rows[0] if len(rows) == 1 else {"oneOf": rows}},
            "next_cursor": {"type": ["string", "null"]},
            "as_of": {"$ref": "#/components/schemas/AsOf"},
        }
    )
    return {
        200: {
            "description": "Rows. In Arrow and CSV the cursor and `as_of` are headers alone",
            "content": {
                MEDIA["json"]: {"schema": page},
                MEDIA["csv"]: {"schema": {"type": "string"}},
                MEDIA["arrow"]: {"schema": {"type": "string", "format": "binary"}},
            },
            "headers": _header_schemas(
                {
                    "ETag": "Of this page of this snapshot",
                    "X-As-Of": "`as_of` as JSON",
                }
            )
            | {
                "X-Next-Cursor": {
                    "description": "`next_cursor`, if there is one",
                    "schema": {"type": "string"},
                }
            },
        },
        304: {
            "description": "The caller has this page",
            "headers": _header_schemas({"ETag": "Of this page of this snapshot"}),
        },
        **_problems((*ALWAYS, 404, 406, *problems)),
    }


def json_responses(
    items: dict[str, Any], problems: Iterable[int] = ALWAYS
) -> dict[int, OpenAPIResponse]:
    """Of a route that answers `{"data": …}` in JSON alone."""
    answer = _object({"data": items})
    return {
        200: {"description": "OK", "content": {MEDIA["json"]: {"schema": answer}}},
        **_problems(problems),
    }


def _problems(statuses: Iterable[int]) -> dict[int, OpenAPIResponse]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": PROBLEMS[status],
            "content": {PROBLEM_MEDIA: {"schema": schema}},
            **({"headers": _header_schemas(HEADERS[status])} if status in HEADERS else {}),
        }
        for status in sorted(set(statuses))
    }


def _header_schemas(headers: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"description": doc, "required": True, "schema": {"type": "string"}}
        for name, doc in headers.items()
    }


def _row(schema: pa.Schema) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in schema:
        if field.name.endswith("_ns"):
            properties[field.name.removesuffix("_ns")] = _or_null(TIME, field)
        properties[field.name] = _or_null(_type(field.type), field)
    return _object(properties)


def _type(kind: pa.DataType) -> dict[str, Any]:
    return DECIMAL if pa.types.is_decimal(kind) else TYPES[kind]


def _or_null(schema: dict[str, Any], field: pa.Field) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]} if field.nullable else schema


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _name(resource: Resource) -> str:
    return {"bars-1m": "Bar", "news": "Story"}.get(
        resource.name, resource.name.removesuffix("s").capitalize()
    )
