"""Key hashes depend on the values alone, not on how Arrow holds them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.keyhash import hash_rows, is_among

ROWS = pa.table(
    {
        "venue": ["sim", "sim", "kraken", "", "a-name-longer-than-eight-bytes"],
        "id": pa.array([1, 2, 1, None, -1], pa.int64()),
    }
)
KEY = ("venue", "id")
FIRST = 10795220563277650955


def test_dictionary_and_plain_text_hash_alike() -> None:
    encoded = ROWS.set_column(0, "venue", ROWS["venue"].dictionary_encode())
    assert (hash_rows(encoded, KEY) == hash_rows(ROWS, KEY)).all()


def test_chunks_and_offsets_do_not_matter() -> None:
    joined = pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(2)])
    assert (hash_rows(joined, KEY) == hash_rows(ROWS, KEY)).all()
    assert (hash_rows(ROWS.slice(2), KEY) == hash_rows(ROWS, KEY)[2:]).all()


def test_hashes_are_the_same_on_every_run() -> None:
    """Restarts compare hashes of rows that an earlier process wrote."""
    assert hash_rows(ROWS.slice(0, 1), KEY).tolist() == [FIRST]


def test_columns_and_their_order_matter() -> None:
    texts = pa.table({"a": ["x"], "b": ["y"]})
    assert hash_rows(texts, ("a", "b")) != hash_rows(texts, ("b", "a"))
    swapped = pa.table({"a": ["xy", "x"], "b": ["", "y"]})
    assert len(set(hash_rows(swapped, ("a", "b")).tolist())) == 2


def test_null_is_a_value_of_its_own() -> None:
    column = pa.table({"id": pa.array([None, 0], pa.int64())})
    assert len(set(hash_rows(column, ("id",)).tolist())) == 2


def test_many_keys_have_no_collision() -> None:
    keys = pa.table({"id": [str(number) for number in range(200_000)]})
    assert len(np.unique(hash_rows(keys, ("id",)))) == 200_000


def test_key_column_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="double"):
        hash_rows(pa.table({"x": [1.5]}), ("x",))


SOME = st.lists(st.integers(0, 20) | st.just(2**64 - 1))


@given(SOME, SOME)
def test_is_among_says_what_a_set_says(hashes: list[int], known: list[int]) -> None:
    mask = is_among(np.array(hashes, np.uint64), np.unique(np.array(known, np.uint64)))
    assert mask.tolist() == [value in set(known) for value in hashes]
