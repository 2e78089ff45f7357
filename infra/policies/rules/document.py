"""Reading policy documents: IAM's JSON as a list of statements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Statement = Mapping[str, Any]


def statements(document: Any) -> Iterator[Statement]:
    """The statements of a document that is JSON or already parsed; none if there is no document."""
    if not document:
        return
    parsed = json.loads(document) if isinstance(document, str) else document
    found = parsed.get("Statement", [])
    yield from (found if isinstance(found, list) else [found])


def values(statement: Statement, key: str) -> list[str]:
    """`Action`, `Resource` and the like, which may be one text or a list."""
    found = statement.get(key, [])
    return [found] if isinstance(found, str) else list(found)


def allows(statement: Statement) -> bool:
    """Whether it grants something."""
    return statement.get("Effect") == "Allow"


def is_anyone(principal: Any) -> bool:
    """Whether a principal is everybody."""
    if isinstance(principal, Mapping):
        found = principal.get("AWS", [])
        return "*" in ([found] if isinstance(found, str) else found)
    return principal == "*"
