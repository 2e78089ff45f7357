"""Masked rows: what is kept, what is hidden, and that no road goes around the mask."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stream.errors import ConfigError, QuarantineLimitError
from stream.feeds import load_feed
from stream.feeds.contract import Contract
from stream.flow import Road
from stream.lake.pii_key import PiiKey
from stream.lake.store import open_store
from stream.masking import HASHED, REDACTED, Masker, hide_unmasked, row_mask
from stream.slices import RECORD_SCHEMA, ShardRef, Slice

TRANSACTIONS = load_feed("transactions")
POSITIONS = load_feed("positions")
TEXT = "correct horse battery staple 2026"
MASKER = Masker(PiiKey.of(TEXT))


def rows_of(contract: Contract, **columns: list[Any]) -> pa.Table:
    """Rows with these columns, and nulls in the others."""
    count = len(next(iter(columns.values())))
    fields = [field.with_nullable(True) for field in contract.row_schema]
    arrays = [pa.array(columns.get(field.name, [None] * count), field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def mask(column: str, values: list[Any], masker: Masker = MASKER) -> list[Any]:
    rows = masker.mask_rows(TRANSACTIONS, rows_of(TRANSACTIONS, **{column: values}))
    return list(rows[column].to_pylist())


def test_hash_is_the_same_for_equal_values_and_tells_nothing_else():
    first, second, again = mask("account_holder", ["Ada Example", "Bo Example", "Ada Example"])
    assert first == again != second
    assert all(
        len(text) == len(HASHED) + 32 and text.startswith(HASHED) for text in (first, second)
    )


def test_hash_of_known_text_stays_what_it_was_for_ever():
    """Another value here would split every lake in two: before and after the release."""
    assert mask("account_holder", ["Ada Example"]) == ["pii1:707a5e000cbac5ca46785d72f5ce8f4f"]


def test_hash_joins_across_feeds():
    rows = MASKER.mask_rows(POSITIONS, rows_of(POSITIONS, account_holder=["Ada Example"]))
    assert rows["account_holder"].to_pylist() == mask("account_holder", ["Ada Example"])


def test_hash_with_another_key_differs():
    other = Masker(PiiKey.of(TEXT + "!"))
    assert mask("account_holder", ["Ada"], other) != mask("account_holder", ["Ada"])


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        (unicodedata.normalize("NFD", "Zoë"), unicodedata.normalize("NFC", "Zoë"), True),
        (" Ada\n", "Ada", True),
        ("Ada  Example", "Ada Example", False),
        ("ADA", "Ada", False),
        ("", "null", False),
    ],
)
def test_hash_ignores_how_a_name_is_encoded_but_not_how_it_is_written(one, other, are_one):
    left, right = mask("account_holder", [one, other])
    assert (left == right) is are_one


def test_null_stays_null_and_empty_text_is_a_value():
    assert mask("note", ["", None, "pay Ada"]) == [REDACTED, None, REDACTED]
    empty, null = mask("account_holder", ["", None])
    assert empty.startswith(HASHED)
    assert null is None


def test_masked_value_is_masked_again_like_any_other():
    """A message that claims to be masked already is not believed."""
    (once,) = mask("account_holder", ["Ada"])
    assert mask("account_holder", [once]) != [once]
    assert mask("note", ["pii1:" + "0" * 32]) == [REDACTED]


@pytest.mark.parametrize("count", [0, 1])
def test_columns_keep_names_types_and_order(count):
    rows = rows_of(TRANSACTIONS, account_holder=["Ada"] * count, portfolio=["p"] * count)
    masked = MASKER.mask_rows(TRANSACTIONS, rows)
    assert masked.schema == rows.schema
    others = [name for name in rows.column_names if name not in {"account_holder", "note"}]
    assert masked.select(others) == rows.select(others)


def test_column_in_chunks_slices_and_codes_is_masked_alike():
    values = ["Ada", None, "Bo", "Ada", "Cy"]
    plain = rows_of(TRANSACTIONS, account_holder=values)
    at = plain.column_names.index("account_holder")
    codes = pa.array(values).dictionary_encode()
    expected = mask("account_holder", values)
    for rows in (
        pa.concat_tables([plain.slice(0, 2), plain.slice(2)]),
        plain.set_column(at, "account_holder", codes),
        plain.schema.empty_table(),
    ):
        found = MASKER.mask_rows(TRANSACTIONS, rows)["account_holder"]
        assert found.to_pylist() == expected[: rows.num_rows]
    assert MASKER.mask_rows(TRANSACTIONS, plain.slice(2, 2))["account_holder"].to_pylist() == [
        expected[2],
        expected[3],
    ]


def test_one_hash_is_computed_per_distinct_value(monkeypatch):
    calls = []
    monkeypatch.setattr(Masker, "hash_text", lambda self, text: calls.append(text) or "x")
    mask("account_holder", ["Ada", "Bo"] * 500)
    assert sorted(calls) == ["Ada", "Bo"]


def test_feed_without_personal_data_is_not_touched():
    trades = rows_of(load_feed("trades"), symbol=["ACME"])
    assert MASKER.mask_rows(load_feed("trades"), trades) is trades


def test_key_is_in_no_text_of_the_masker():
    secret = MASKER.key.secret.get_secret_value()
    for text in (repr(MASKER), str(MASKER), repr(MASKER.key), str(MASKER.key), repr(vars(MASKER))):
        assert TEXT not in text
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


def test_road_of_a_feed_with_personal_data_needs_a_masker():
    with pytest.raises(ConfigError, match="transactions has personal data"):
        row_mask(TRANSACTIONS, None)
    schema = TRANSACTIONS.silver_schema
    with pytest.raises(ConfigError, match="would be written without a mask"):
        Road(TRANSACTIONS, open_store("memory://"), schema, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ("account_holder",)}, "'account_holder' is personal data and part of the key"),
        ({"order": ("ts_event_ns", "note")}, "'note' is personal data and part of the key or the"),
    ],
)
def test_contract_with_personal_data_in_key_or_order_is_impossible(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(TRANSACTIONS, **change)


def test_contract_with_personal_data_that_is_no_text_is_impossible():
    pii = TRANSACTIONS.column("note").pii
    columns = [replace(c, pii=pii) if c.name == "fee" else c for c in TRANSACTIONS.columns]
    with pytest.raises(ConfigError, match="'fee' is personal data of type decimal"):
        replace(TRANSACTIONS, columns=tuple(columns))


def test_sample_row_hides_what_an_older_release_left_unmasked():
    masked = MASKER.hash_text("Ada")
    row = {"account_holder": "Ada", "note": REDACTED, "portfolio": "p", "fee": 1}
    names = {"account_holder", "note"}
    assert hide_unmasked(row, names) == {**row, "account_holder": REDACTED}
    assert hide_unmasked({"account_holder": masked}, names) == {"account_holder": masked}
    assert hide_unmasked({"account_holder": None}, names) == {"account_holder": None}
    assert hide_unmasked({"account_holder": f"{masked} Ada"}, names) == {"account_holder": REDACTED}


def test_error_of_a_stopped_shard_quotes_no_message_of_a_feed_with_personal_data():
    contract = replace(load_feed("news"), rejects=replace(load_feed("news").rejects, run=0))
    payload = b'{"publisher": "Ada Example"}'
    columns = [[payload], ["1"], np.zeros(1, np.int32), ["k"], [1_764_000_000_000_000_000]]
    records = pa.record_batch(
        [pa.array(c, f.type) for c, f in zip(columns, RECORD_SCHEMA, strict=True)],
        schema=RECORD_SCHEMA,
    )
    item = Slice(ShardRef("news", "s", "0"), None, records)
    for feed, is_quoted in ((contract, False), (replace(contract, columns=_open(contract)), True)):
        road = Road(feed, open_store("memory://"), feed.silver_schema, None, masker=MASKER)  # type: ignore[arg-type]
        with pytest.raises(QuarantineLimitError) as raised:
            road.process([item])
        road.close()
        assert ("Ada Example" in str(raised.value)) is is_quoted


def _open(contract: Contract) -> Any:
    return tuple(replace(column, pii=None) for column in contract.columns)
