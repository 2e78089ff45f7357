"""Rows of a file are sorted by group, time and id, whatever order they came in."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stream.ordering import group_codes, sort_indices

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["sim", "kraken", "binance"]),
        st.sampled_from(["B", "A", "AA"]),
        st.integers(0, 5),
        st.integers(0, 200).map(str),
    ),
    max_size=60,
)


def table(rows: list[tuple[str, str, int, str]]) -> pa.Table:
    names = ("venue", "symbol", "at", "id")
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    types = (pa.string(), pa.string(), pa.int64(), pa.string())
    return pa.table(
        {n: pa.array(list(c), t) for n, c, t in zip(names, columns, types, strict=True)}
    )


@given(ROWS)
def test_sort_equals_a_plain_sort(rows: list[tuple[str, str, int, str]]) -> None:
    order = sort_indices(table(rows), ("venue", "symbol"), "at", ("id",))
    expected = sorted(rows, key=lambda row: (row[0], row[1], row[2], len(row[3]), row[3]))
    assert [rows[number] for number in order] == expected


@given(ROWS)
def test_group_codes_are_equal_for_equal_groups_and_rise_with_their_text(
    rows: list[tuple[str, str, int, str]],
) -> None:
    codes = group_codes(table(rows), ("venue", "symbol")).tolist()
    for one, code in zip(rows, codes, strict=True):
        for other, other_code in zip(rows, codes, strict=True):
            assert (one[:2] < other[:2]) == (code < other_code)
