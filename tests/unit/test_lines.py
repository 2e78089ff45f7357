"""Records are cut into messages at newlines and record bounds, and every byte keeps its address."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode.lines import borrow_buffer, buffer_size, split_lines


def split(payloads: list[bytes]) -> tuple[list[tuple[int, int, bytes]], list[int]]:
    array = pa.array(payloads, pa.binary())
    with borrow_buffer(buffer_size(array, b"spare")) as data:
        lines = split_lines(array, data, b"spare")
        found = [
            (int(lines.record_no[i]), int(lines.line_no[i]), lines.raw(i))
            for i in range(len(lines))
        ]
        return found, lines.empty.tolist()


def expected(payloads: list[bytes]) -> tuple[list[tuple[int, int, bytes]], list[int]]:
    """The rule, one line at a time."""
    found = [
        (record, number, piece.removesuffix(b"\r"))
        for record, payload in enumerate(payloads)
        for number, piece in enumerate(payload.split(b"\n"))
        if piece.strip(b" \t\r")
    ]
    with_lines = {record for record, _, _ in found}
    return found, [record for record in range(len(payloads)) if record not in with_lines]


@pytest.mark.parametrize(
    ("payload", "messages"),
    [
        (b"a", [(0, b"a")]),
        (b"a\n", [(0, b"a")]),
        (b"a\r\nb\r\n", [(0, b"a"), (1, b"b")]),
        (b"a\n\n \nb", [(0, b"a"), (3, b"b")]),
        (b"\na", [(1, b"a")]),
        (b" a ", [(0, b" a ")]),
    ],
)
def test_record_with_line_ends_gives_its_messages(
    payload: bytes, messages: list[tuple[int, bytes]]
) -> None:
    assert split([payload]) == ([(0, number, raw) for number, raw in messages], [])


@pytest.mark.parametrize("payload", [b"", b"\n", b"\r\n", b" \n\t\n"])
def test_record_without_any_message_is_named_empty(payload: bytes) -> None:
    assert split([b"a", payload, b"b"]) == ([(0, 0, b"a"), (2, 0, b"b")], [1])


def test_no_records_give_no_messages() -> None:
    assert split([]) == ([], [])


def test_sliced_column_is_read_from_its_offset() -> None:
    array = pa.array([b"a", b"b\nc", b"d"], pa.binary()).slice(1, 1)
    with borrow_buffer(buffer_size(array, b"")) as data:
        lines = split_lines(array, data)
        assert [lines.raw(i) for i in range(len(lines))] == [b"b", b"c"]


@given(
    st.lists(
        st.lists(st.sampled_from([b"a", b"\n", b"\r", b" ", b"{}", b"\x00", b"\xff"])).map(b"".join)
    )
)
def test_any_bytes_are_cut_like_the_plain_rule(payloads: list[bytes]) -> None:
    assert split(payloads) == expected(payloads)


def test_borrowed_buffer_is_used_again() -> None:
    with borrow_buffer(1_000_003) as first:
        pass
    with borrow_buffer(1_000_000) as second, borrow_buffer(1_000_000) as third:
        assert second is first
        assert third is not first
