"""What an Iceberg table of ours is: schema from Arrow, partitioned by UTC day, sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform


def iceberg_schema(schema: pa.Schema, docs: Mapping[str, str]) -> Schema:
    """An Iceberg schema with field ids 1..n in column order."""
    numbered = [
        field.with_metadata(
            {
                "PARQUET:field_id": str(number),
                **({"doc": docs[field.name]} if field.name in docs else {}),
            }
        )
        for number, field in enumerate(schema, start=1)
    ]
    return pyarrow_to_schema(pa.schema(numbered))


def day_partition(schema: Schema) -> PartitionSpec:
    """By the UTC day of `ts_event`."""
    source = schema.find_field("ts_event").field_id
    return PartitionSpec(
        PartitionField(
            source_id=source, field_id=1000, transform=DayTransform(), name="ts_event_day"
        )
    )


def sort_order(schema: Schema, order: Sequence[str]) -> SortOrder:
    """Ascending by these columns."""
    ids = [schema.find_field(name).field_id for name in order]
    return SortOrder(
        *[SortField(source_id=number, transform=IdentityTransform()) for number in ids]
    )


def narrow(field: pa.Field) -> pa.Field:
    """Pyiceberg maps text to 64-bit offsets; a slice never needs them, and Parquet is the same."""
    return field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
