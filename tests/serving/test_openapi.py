"""The published description: valid OpenAPI 3.1, of every route and every answer of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from stream.serving.documents import ALWAYS
from stream.serving.routes import OPEN_PATHS

DOCUMENT = json.loads((Path(__file__).parents[2] / "deploy" / "openapi.json").read_text())
OPERATIONS = {path: methods["get"] for path, methods in DOCUMENT["paths"].items()}


def test_description_names_every_route_and_only_reads():
    assert set(OPERATIONS) == {
        "/v1/trades", "/v1/quotes", "/v1/quotes/as-of", "/v1/bars", "/v1/news", "/v1/condition",
        "/v1/freshness", "/v1/lag", "/v1/feeds", "/v1/health", "/openapi.json",
    }  # fmt: skip
    assert all(set(methods) == {"get"} for methods in DOCUMENT["paths"].values())
    assert DOCUMENT["openapi"].startswith("3.1")


def test_schemas_are_json_schema_and_references_lead_somewhere():
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(DOCUMENT)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.removeprefix("#/components/schemas/") in DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize("path", OPERATIONS)
def test_operation_documents_its_refusals_as_problems(path):
    operation = OPERATIONS[path]
    wanted = set(ALWAYS) - ({401} if path in OPEN_PATHS else set())
    assert {str(status) for status in wanted} <= set(operation["responses"])
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            assert set(answer["content"]) == {"application/problem+json"}
        assert answer["description"]
    assert operation["security" if path in OPEN_PATHS else "summary"] in ([], operation["summary"])
    for parameter in operation.get("parameters", []):
        assert parameter["description"] or parameter["schema"].get("description")


def test_rows_that_are_answered_are_as_described(small_lake, caller):
    small_lake.land_trades(3)
    for path, name in (("/v1/trades", "Trade"), ("/v1/bars", "Bar")):
        schema = DOCUMENT["components"]["schemas"][name]
        for row in caller.get(path, symbol="ACME", day="2025-11-24").rows:
            Draft202012Validator(schema).validate(row)
            assert list(row) == schema["required"]
