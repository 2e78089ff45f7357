"""Documents of the books: columns and single messages read the same values."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode import decode_records
from stream.decode.message import ABSENT, resolve, walk
from stream.decode.plan import plan_of
from stream.feeds import load_feed
from stream.slices import RECORD_SCHEMA

ARRIVAL_NS = 1_764_000_001_000_000_000
DATE = {"$date": {"$numberLong": "1763999400000"}}
WRAPPED = st.sampled_from(
    [
        {"$numberDecimal": "1.50"},
        {"$numberDecimal": "1E+2"},
        {"$numberDecimal": "NaN"},
        {"$numberInt": "7"},
        {"$numberLong": "12345678901"},
        {"$numberDouble": "-0.25"},
        {"$numberInt": "1", "$numberLong": "1"},
        {},
        [],
        [1],
        None,
        "3.5",
        5,
        5.5,
        True,
        {"$oid": "6925f2a0c3d1e4b5a6978812"},
    ]
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "_id": st.sampled_from([{"$oid": "6925f2a0c3d1e4b5a6978812"}, "t-1", 7, None, {}]),
        "portfolio": st.just("p"),
        "kind": st.sampled_from(["buy", "deposit", "dividend"]),
        "currency": st.just("USD"),
        "symbol": st.sampled_from([None, "A"]),
        "quantity": WRAPPED,
        "executed_at": st.just(DATE),
        "updated_at": st.sampled_from([DATE, {"$date": "2026-01-05T00:00:00Z"}, 5]),
    },
    optional={"price": WRAPPED, "fee": WRAPPED, "account_holder": st.just("x")},
)


def _decode(documents: list[dict[str, Any]], *, strict_only: bool) -> tuple[Any, Any]:
    payloads = [json.dumps(document, separators=(",", ":")).encode() for document in documents]
    count = len(payloads)
    columns = [
        pa.array(payloads, pa.binary()),
        pa.array([str(i) for i in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array([None] * count, pa.string()),
        pa.array([ARRIVAL_NS] * count, pa.int64()),
    ]
    contract = load_feed("transactions")
    plan_of(contract).templates.clear()
    records = pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)
    decoded = decode_records(contract, records, strict_only=strict_only)
    return decoded.rows.to_pylist(), decoded.rejects.to_pylist()


@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
def test_columns_and_single_messages_give_the_same_rows_and_rejects(documents):
    repeated = documents * 60
    assert _decode(repeated, strict_only=False) == _decode(repeated, strict_only=True)


@pytest.mark.parametrize(
    ("message", "path", "value"),
    [
        ({"a": {"$numberInt": "5"}}, ("a", "*"), "5"),
        ({"a": {"$numberInt": {"b": 1}}}, ("a", "*", "b"), 1),
        ({"a": 5}, ("a", "*"), 5),
        ({"a": None}, ("a", "*"), None),
        ({}, ("a", "*"), ABSENT),
        ({"a": {}}, ("a", "*"), {}),
        ({"a": {"x": 1, "y": 2}}, ("a", "*"), {"x": 1, "y": 2}),
        ({"a": [1]}, ("a", "*"), [1]),
    ],
)
def test_star_steps_to_an_only_member_and_leaves_everything_else(message, path, value):
    assert walk(message, path) == value
    assert walk(message, resolve(message, path)) == value
