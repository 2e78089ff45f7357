"""Receipts: the digest of rows as a multiset, the same in whatever order and files they lie.

Every row becomes two independent 64-bit hashes over all columns; the digest is their two sums
modulo 2^64 and the number of rows. A lost, doubled or changed row passes with probability 2^-128
(it guards against defects, not against an adversary who builds collisions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stream.keyhash import hash_rows

SALT = "salt"


@dataclass(slots=True)
class RowDigest:
    """Accumulates rows; equal digests mean equal multisets of rows."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def add(self, rows: pa.Table, schema: pa.Schema) -> None:
        """Count rows in. Columns are taken as the table's schema says; a missing one is null."""
        if not rows.num_rows:
            return
        typed = as_schema(rows, schema)
        one = hash_rows(typed, schema.names)
        salted = typed.append_column(SALT, pa.array(one.view(np.int64)))
        two = hash_rows(salted, [SALT, *schema.names[::-1]])
        self.rows += rows.num_rows
        self.first = (self.first + _sum(one)) % (1 << 64)
        self.second = (self.second + _sum(two)) % (1 << 64)

    @property
    def hex(self) -> str:
        """The digest as text."""
        return f"{self.first:016x}{self.second:016x}"


def digest_rows(rows: pa.Table, schema: pa.Schema) -> str:
    """The digest of one table."""
    digest = RowDigest()
    digest.add(rows, schema)
    return digest.hex


def as_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns in the order and types of the table's schema; dictionaries stay."""
    return pa.table({field.name: _column(rows, field) for field in schema})


def _column(rows: pa.Table, field: pa.Field) -> pa.Array:
    if field.name not in rows.column_names:
        return pa.nulls(rows.num_rows, field.type)
    column = rows[field.name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        return column  # hashed by its few values
    return column.cast(field.type)


def _sum(hashes: np.ndarray) -> int:
    return int(np.add.reduce(hashes, dtype=np.uint64))
