"""A feed's Silver row as an Avro schema: what the Glue Schema Registry publishes. Pure.

Names, types, nullability, documentation and field ids are those of the Iceberg table, which
pyiceberg's own Avro reader confirms in a test. A nullable column has the default null, so that a
schema with one more column still reads what was written before (BACKWARD).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from stream.feeds.contract import Contract
from stream.lake.connect import LINEAGE_DOCS

COMPATIBILITY = "BACKWARD"
_PLAIN = {"bool": "boolean", "int32": "int", "int64": "long", "string": "string"}
_LOGICAL: Mapping[str, Mapping[str, Any]] = {
    "date32[day]": {"type": "int", "logicalType": "date"},
    # "adjust-to-utc" is Iceberg's: false is a timestamp without a zone, UTC by contract.
    "timestamp[us]": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": False},
}


def avro_schema(contract: Contract) -> dict[str, Any]:
    """The record schema of a feed's table.

    Raises: ValueError naming a column whose type has no Avro form here.
    """
    docs = {column.name: column.doc for column in contract.columns} | LINEAGE_DOCS
    return {
        "type": "record",
        "name": contract.feed,
        "namespace": "headrace.silver",
        "doc": contract.doc,
        "fields": [
            _field(contract.feed, number, field, docs.get(field.name))
            for number, field in enumerate(contract.silver_schema, start=1)
        ],
    }


def avro_text(contract: Contract) -> str:
    """`avro_schema` in one line, keys in a fixed order."""
    return json.dumps(avro_schema(contract), separators=(",", ":"))


def _field(feed: str, number: int, field: pa.Field, doc: str | None) -> dict[str, Any]:
    kind = _type(feed, field)
    found: dict[str, Any] = {"name": field.name, "type": kind, "field-id": number}
    if field.nullable:
        found |= {"type": ["null", kind], "default": None}
    return found | ({"doc": doc} if doc else {})


def _type(feed: str, field: pa.Field) -> str | Mapping[str, Any]:
    name = str(field.type)
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _LOGICAL:
        return _LOGICAL[name]
    if pa.types.is_decimal128(field.type):
        return {
            "type": "bytes",
            "logicalType": "decimal",
            "precision": field.type.precision,
            "scale": field.type.scale,
        }
    raise ValueError(
        f"feed {feed}: column {field.name!r} of type {name} has no Avro form; add it to "
        "infra/components/message_schema.py"
    )
