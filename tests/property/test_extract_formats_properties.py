"""Whatever the items are: each format gives them back exactly, and a cut part never passes."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import FatalError
from stream.sources.extract import PartRef
from stream.sources.extract_formats import items_of, payloads_of

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SPACE = st.text(" \t\r\n", max_size=3)


@given(st.lists(VALUES, max_size=6), st.lists(SPACE, min_size=14, max_size=14), st.booleans())
def test_json_list_gives_every_element_in_its_own_digits_on_one_line(values, spaces, ascii_only):
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    padded = [f"{spaces[2 * i]}{text}{spaces[2 * i + 1]}" for i, text in enumerate(texts)]
    data = f"{spaces[12]}[{','.join(padded)}]{spaces[13]}".encode()
    assert items_of("p", data, "json", {}).to_pylist() == [text.encode() for text in texts]


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(0, 4))
def test_indented_json_list_gives_elements_of_the_same_meaning_on_one_line(values, indent):
    found = items_of("p", json.dumps(values, indent=indent).encode(), "json", {}).to_pylist()
    assert [json.loads(item) for item in found] == values
    assert not any(b"\n" in item for item in found)


@given(st.lists(VALUES, min_size=1, max_size=5), st.data())
def test_json_list_that_was_cut_anywhere_is_refused(values, data):
    whole = json.dumps(values).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(FatalError):
        items_of("p", cut, "json", {})


@given(st.binary(max_size=80))
def test_no_bytes_at_all_break_a_reader(data):
    for suffix in ("json", "jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"):
        try:
            found = items_of("p", data, suffix, {"fields": {"a": {"column": "a", "as": "text"}}})
        except FatalError:
            continue
        assert not found.null_count
        assert not any(b"\n" in item for item in found.to_pylist())


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=8))
def test_lines_that_are_not_blank_are_the_items_exactly(lines):
    data = b"\n".join(lines)
    lines[:1] = [lines[0].removeprefix(b"\xef\xbb\xbf")] if lines else []
    expected = [line for line in lines if line.strip(b" \t\r")]
    assert items_of("p", data, "jsonl", {}).to_pylist() == expected
    assert items_of("p", gzip.compress(data), "jsonl.gz", {}).to_pylist() == expected


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=6)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=10)


@given(
    st.lists(NAMES, min_size=2, max_size=4, unique=True),
    st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_csv_texts_come_back_whatever_they_hold(names, table, delimiter):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows = [row[: len(names)] for row in table]
    writer.writerows([names, *rows])
    mapping: dict[str, Any] = {
        "fields": {f"f{i}": {"column": name, "as": "text"} for i, name in enumerate(names)},
        "csv": {"delimiter": delimiter},
    }
    found = items_of("p", stream.getvalue().encode(), "csv", mapping).to_pylist()
    expected = [{f"f{i}": cell or None for i, cell in enumerate(row)} for row in rows]
    assert [json.loads(item) for item in found] == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12))
def test_number_column_never_lets_text_out_of_its_value(text):
    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["a"], [text], ["1.50"]])
    mapping: dict[str, Any] = {"fields": {"a": {"column": "a", "as": "scalar"}}}
    bad, good = items_of("p", stream.getvalue().encode(), "csv", mapping).to_pylist()
    assert good == b'{"a":1.50}'
    value = json.loads(bad, parse_float=str, parse_int=str)["a"]
    assert value is None or isinstance(value, bool) or value.strip(" +0.") in text


@given(st.lists(VALUES, max_size=5), st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3))
def test_context_and_item_can_be_told_apart_again(values, context):
    data = json.dumps(values).encode()
    part = PartRef("p", "json", len(values), len(data), "", context=context)
    found = payloads_of(data, part, {}).to_pylist()
    assert [json.loads(item) for item in found] == [
        {"context": context, "item": value} for value in values
    ]
