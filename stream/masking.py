"""Mask personal data in decoded rows: what Silver and Gold hold of a person.

A contract says which columns are personal data (`Column.pii`). `hash` keeps that two values are
equal: a keyed hash, the same for every feed and column, so rows of different feeds still join.
`redact` keeps only that there was a value. Nulls stay null; names and types of columns stay.

Values are hashed after Unicode NFC and without white space around them: how a keyboard or an
export wrote the same name must not split it. Capitals count: folding them would join different
people, and one database spells one owner in one way.

Guarantees: the same rows and key give the same bytes, on any machine; a masked value cannot be
computed from a guess without the key. Bronze and quarantine keep the messages as they came: both
hold personal data. Pure but for `open_masker`. Not here: the key (`lake.pii_key`).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stream.errors import ConfigError
from stream.feeds.contract import Contract
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake
from stream.lake.pii_key import PiiKey, check_key, pin_key, read_pii_key
from stream.settings import Settings

REDACTED = "[redacted]"
HASHED = "pii1:"
"""Before every hash, so that nobody takes it for a value. The digit: the rule it was made by."""

_DOMAIN = b"headrace.pii1"
_MASKED = re.compile(rf"{HASHED}[0-9a-f]{{32}}|{re.escape(REDACTED)}")


class Masker:
    """Masks rows with one key."""

    def __init__(self, key: PiiKey) -> None:
        self.key = key

    def mask_rows(self, contract: Contract, rows: pa.Table) -> pa.Table:
        """The rows with every column of personal data masked; all else is untouched.

        Cost: one hash per distinct value of a column, and Arrow kernels over the rows.
        """
        for column in contract.pii_columns:
            assert column.pii is not None
            mask = self._hash if column.pii.mask == "hash" else _redact
            at = rows.schema.get_field_index(column.name)
            masked = mask(rows[column.name].combine_chunks()).cast(column.type)
            rows = rows.set_column(at, rows.schema.field(at).with_type(column.type), masked)
        return rows

    def hash_text(self, text: str) -> str:
        """What Silver holds instead of a text.

        >>> masker = Masker(PiiKey.of("a key of the example, 32 and more"))
        >>> masker.hash_text("Ada Lovelace ")
        'pii1:177f103c1ca38753ff1fc9193bf63369'
        """
        value = unicodedata.normalize("NFC", text).strip().encode()
        secret = self.key.secret.get_secret_value()
        digest = hashlib.blake2b(value, digest_size=16, key=secret, person=_DOMAIN)
        return HASHED + digest.hexdigest()

    def _hash(self, column: pa.Array) -> pa.Array:
        coded = column.dictionary_encode()
        values = coded.dictionary.to_pylist()
        texts = [None if value is None else self.hash_text(value) for value in values]
        return pa.array(texts, pa.string()).take(coded.indices)


def open_masker(settings: Settings, lake: Lake, contract: Contract) -> Masker | None:
    """The masker of a feed's rows; None if the feed has no personal data. Creates no table.

    Raises: ConfigError: no key, or not the one that the lake is masked with.
    """
    if not contract.pii_columns:
        return None
    masker = Masker(read_pii_key(settings))
    check_key(lake, masker.key)
    return masker


def pin_masker(table: LakeTable, masker: Masker | None) -> None:
    """Say in a table which key masks it. For the handle that commits: once another process has
    pinned another key, its commits are refused.

    Raises: ConfigError: the table is masked with another key.
    """
    if masker is not None:
        pin_key(table, masker.key)


def row_mask(contract: Contract, masker: Masker | None) -> Callable[[pa.Table], pa.Table]:
    """What a road does to decoded rows. Raises: ConfigError: personal data, and no masker."""
    if masker is not None:
        return lambda rows: masker.mask_rows(contract, rows)
    if contract.pii_columns:
        raise ConfigError(
            f"feed {contract.feed} has personal data and would be written without a mask: "
            "this is a defect of headrace, `open_masker` was not called"
        )
    return lambda rows: rows


def hide_unmasked(row: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A row for people's eyes: what an older release left unmasked in these columns is hidden."""
    return {
        name: REDACTED if name in names and value and not _MASKED.fullmatch(value) else value
        for name, value in row.items()
    }


def _redact(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_valid(column), REDACTED, pa.scalar(None, pa.string()))
