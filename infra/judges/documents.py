"""Read policy documents of a graph, and match actions and ARNs as IAM does. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from synth import Resource

Statement = Mapping[str, Any]


def as_list(value: Any) -> list[Any]:
    """IAM takes one thing or a list of them."""
    return value if isinstance(value, list) else [value]


def statements_of(resource: Resource, key: str = "policy") -> list[dict[str, Any]]:
    """The statements of one document."""
    return as_list(json.loads(resource.inputs[key])["Statement"])


def compact(resource: Resource, key: str = "policy") -> str:
    """A document as AWS counts its characters: without white space."""
    return json.dumps(json.loads(resource.inputs[key]), separators=(",", ":"))


def matches(pattern: str, text: str) -> bool:
    """Whether IAM's pattern covers a text; a text's own "*" is covered by a "*" alone.

    >>> matches("s3:Get*", "s3:GetObject"), matches("arn:aws:s3:::a", "arn:aws:s3:::*")
    (True, False)
    """
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), text, re.IGNORECASE) is not None


def covers(statement: Statement, action: str, resource: str) -> bool:
    """Whether a statement is about this action on this resource."""
    return any(matches(pattern, action) for pattern in as_list(statement["Action"])) and any(
        matches(pattern, resource) for pattern in as_list(statement["Resource"])
    )


def named(name: str) -> Callable[[Resource], bool]:
    """The condition of `plant`: the resource of that name."""
    return lambda resource: resource.name == name


def drop_conditions(document: dict[str, Any]) -> None:
    """A fault: every statement holds always."""
    for statement in document["Statement"]:
        statement.pop("Condition", None)


def without(sid: str) -> Callable[[dict[str, Any]], None]:
    """A fault: the statement of that sid is gone."""

    def change(document: dict[str, Any]) -> None:
        document["Statement"] = [s for s in document["Statement"] if s["Sid"] != sid]

    return change
