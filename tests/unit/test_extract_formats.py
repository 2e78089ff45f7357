"""Parts of every format become messages exactly, and damage is said, not guessed around."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.errors import FatalError
from stream.sources import extract_formats
from stream.sources.extract import PartRef
from stream.sources.extract_formats import inflate, items_of, payloads_of

MAPPING: dict[str, Any] = {
    "feed": "trades",
    "fields": {
        "symbol": {"column": "Ticker", "as": "text"},
        "price": {"column": "Last Px", "as": "scalar"},
        "side": {"column": "Side", "as": "text", "optional": True},
        "venue": {"constant": "sim"},
        "ts_event_ns": {
            "column": "Time",
            "as": "ns",
            "format": "%Y-%m-%d %H:%M:%S.%f",
            "zone": "America/New_York",
        },
    },
    "csv": {"delimiter": ";"},
}
HEADER = b"Time;Ticker;Last Px\n"
ROW = b"2026-01-05 09:30:00.123456789;ACME;101.250\n"
MESSAGE = (
    b'{"price":101.250,"symbol":"ACME","ts_event_ns":1767623400123456789,"venue":"sim"}'
)  # fmt: skip


def items(data: bytes, suffix: str = "json", mapping: dict[str, Any] | None = None) -> list[bytes]:
    return items_of("part-7", data, suffix, mapping or {}).to_pylist()


def rows(*lines: bytes, header: bytes = HEADER) -> list[bytes]:
    return items(header + b"".join(lines), "csv", MAPPING)


def part(suffix: str, count: int, **kwargs: Any) -> PartRef:
    return PartRef("bronze/part-7", suffix, count, 0, "", **kwargs)


def test_json_list_gives_the_exact_text_of_each_element():
    data = b' [ {"p":1.10,"t":"a,]\\"}"} ,\n{"p":12345678901234567890.10} , [1,[2]], "x" ,7 ]\n'
    assert items(data) == [
        b'{"p":1.10,"t":"a,]\\"}"}',
        b'{"p":12345678901234567890.10}',
        b"[1,[2]]",
        b'"x"',
        b"7",
    ]


def test_json_element_over_several_lines_becomes_one_line():
    assert items(b'[\n  {\r\n "a":\t1\n  }\n]') == [b'{   "a":\t1   }']


@pytest.mark.parametrize("data", [b"[]", b" [ \n ] ", b"\xef\xbb\xbf[]"])
def test_json_empty_list_has_no_items(data):
    assert items(data) == []


def test_json_single_object_is_one_item():
    assert items(b'\n{"a":[1,\n2]}\n') == [b'{"a":[1, 2]}']


def test_json_backslashes_before_a_quote_are_counted():
    data = rb'[{"a":"\\"},{"b":"\\\"],["},{"c":"x\\\\"}]'
    assert items(data) == [rb'{"a":"\\"}', rb'{"b":"\\\"],["}', rb'{"c":"x\\\\"}']


def test_json_bad_element_is_left_to_the_decoder():
    assert items(b'[{"a":1},{"a":tru},{"a":2}]')[1] == b'{"a":tru}'


def test_json_long_white_space_is_trimmed():
    assert items(b"[" + b" " * 2_000 + b"1" + b" " * 2_000 + b",2]") == [b"1", b"2"]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "begins with nothing"),
        (b"<html>Not found</html>", "begins with '<html>Not found</html>'"),
        (b'"text"', "begins with"),
        (b'[{"a":1},{"a"', "ends in the middle, after 13 bytes: it was cut"),
        (b'[{"a":1},{"a":"x', "it was cut"),
        (b'[{"a":1}', "it was cut"),
        (b"[1][2]", "after its value follows"),
        (b'{"a":1]', "after its value follows"),
        (b"[1,,2]", "nothing between two commas at byte 3"),
        (b"[1,]", "nothing between two commas"),
        (b"[,]", "nothing between two commas"),
        (b'["a\nb"]', "a string with a raw newline at byte 3"),
        (b'["\xff"]', "not UTF-8"),
    ],
)
def test_json_damage_is_named(data, found):
    with pytest.raises(FatalError, match="part-7: expected one JSON list or object") as error:
        items(data)
    assert found in str(error.value)


def test_jsonl_lines_are_items_and_blank_ones_are_not():
    data = b'{"a": 1.0}\r\n\n  \t\r\n  {"b":2}\nnot json\n\xff\n{"c":3}'
    assert items(data, "jsonl") == [
        b'{"a": 1.0}\r',
        b'  {"b":2}',
        b"not json",
        b"\xff",
        b'{"c":3}',
    ]


def test_jsonl_mark_of_an_encoding_is_no_part_of_its_first_line():
    assert items(b"\xef\xbb\xbf1\n2", "jsonl") == [b"1", b"2"]
    assert items(b"", "jsonl") == []


def test_gzip_of_several_members_and_padding_is_read_whole():
    data = gzip.compress(b"1\n2\n") + gzip.compress(b"3\n") + bytes(64)
    assert items(data, "jsonl.gz") == [b"1", b"2", b"3"]


@pytest.mark.parametrize("cut", [0, 5, 30, -1, -8])
def test_gzip_that_was_cut_is_refused(cut):
    data = gzip.compress(b'{"a":1}\n' * 100)
    with pytest.raises(FatalError, match=r"part-7: the gzip ends in the middle.*Fetch it again"):
        items(data[:cut] if cut else b"", "jsonl.gz")


def test_gzip_with_another_checksum_is_refused():
    data = bytearray(gzip.compress(b'{"a":1}\n' * 100))
    data[-6] ^= 1
    with pytest.raises(FatalError, match="part-7: damaged gzip"):
        items(bytes(data), "jsonl.gz")
    with pytest.raises(FatalError, match="damaged gzip"):
        items(b"plain text", "jsonl.gz")


def test_gzip_bomb_is_refused_before_it_fills_the_memory():
    bomb = gzip.compress(bytes(8 << 20))
    with pytest.raises(FatalError, match="more than 1,048,576 bytes when unpacked"):
        inflate("part-7", bomb, limit=1 << 20)
    assert len(inflate("part-7", bomb, limit=8 << 20)) == 8 << 20


def test_plain_part_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(extract_formats, "MAX_PART_BYTES", 10)
    with pytest.raises(FatalError, match="holds more than"):
        items(b"[" + b"1," * 10 + b"1]")


def test_unknown_suffix_lists_those_that_are_read():
    with pytest.raises(FatalError, match=r"suffix 'xml' is none of json, jsonl"):
        items(b"<a/>", "xml")


def test_csv_row_becomes_a_message_by_the_mapping():
    assert rows(ROW, ROW.replace(b"101.250", b"")) == [
        MESSAGE,
        MESSAGE.replace(b"101.250", b"null"),
    ]


def test_csv_optional_column_is_read_where_it_is():
    found = rows(ROW.replace(b"\n", b";buy\n"), header=HEADER.replace(b"\n", b";Side\n"))
    assert found == [MESSAGE.replace(b'"symbol"', b'"side":"buy","symbol"')]


def test_csv_text_is_escaped_and_may_hold_newlines_and_quotes():
    row = '2026-01-05 09:30:00.1;"A;""b""\n\\\t\u0001é";1\n'.encode()
    assert rows(row) == [
        (
            r'{"price":1,"symbol":"A;\"b\"\n\\\t\u0001é","ts_event_ns":1767623400100000000,'
            r'"venue":"sim"}'
        ).encode()
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("-0.50", "-0.50"),
        ("1e5", "1e5"),
        ("+.5", "0.5"),
        ("007", "7"),
        ("5.", "5"),
        (" 5 ", "5"),
        ("00.10", "0.10"),
        ("NaN", '"NaN"'),
        ('1,"venue":"x"', r'"1,\"venue\":\"x\""'),
        ("1,234", '"1,234"'),
        ("--5", '"--5"'),
    ],
)
def test_csv_number_keeps_its_digits_or_becomes_text_that_is_rejected(text, value):
    quoted = '"' + text.replace('"', '""') + '"'
    row = f"2026-01-05 09:30:00.1;ACME;{quoted}\n".encode()
    assert rows(row, ROW)[0].startswith(f'{{"price":{value},"symbol"'.encode())
    assert rows(row, ROW)[1] == MESSAGE


def test_csv_bad_time_becomes_text_that_is_rejected_and_harms_no_other_row():
    found = rows(ROW, ROW.replace(b"01-05", b"02-30"), ROW.replace(b"2026", b"soon"), ROW)
    assert found[0] == found[3] == MESSAGE
    assert b'"ts_event_ns":"2026-02-30 09:30:00.123456789"' in found[1]
    assert b'"ts_event_ns":"soon-01-05 09:30:00.123456789"' in found[2]


def test_csv_piece_of_a_file_takes_the_header_of_its_request():
    reference = part("csv", 1, request={"csv_header": "Time;Ticker;Last Px"})
    assert payloads_of(ROW, reference, MAPPING).to_pylist() == [MESSAGE]


def test_csv_without_header_takes_the_mappings():
    mapping = {**MAPPING, "csv": {"delimiter": ";", "header": ["Time", "Ticker", "Last Px"]}}
    assert items(ROW, "csv", mapping) == [MESSAGE]


def test_csv_in_another_encoding_is_read_by_the_mapping():
    mapping = {**MAPPING, "csv": {"delimiter": ";", "encoding": "cp1252", "nulls": ["NA"]}}
    data = HEADER + ROW.replace(b"ACME", b"\x80").replace(b"101.250", b"NA")
    assert items(data, "csv", mapping) == [
        MESSAGE.replace(b"ACME", "€".encode()).replace(b"101.250", b"null")
    ]


@pytest.mark.parametrize("data", [HEADER, HEADER.strip(), HEADER + b"\r\n"])
def test_csv_with_a_header_alone_has_no_items(data):
    assert items(data, "csv", MAPPING) == []


def test_csv_text_with_a_lone_quote_is_no_damage():
    assert b'"symbol":"12\\" disc"' in rows(ROW.replace(b"ACME", b'12" disc'))[0]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (HEADER + ROW + b"2026-01-05 09:30:00.1;ACME", "Expected 3 columns, got 2"),
        (HEADER + ROW.replace(b"\n", b";5\n"), "Expected 3 columns, got 4"),
        (HEADER + ROW + ROW.replace(b"101", b'"101'), "a quoted value never ends: it was cut"),
        (HEADER + ROW.replace(b"ACME", b"\xff"), "invalid UTF8"),
        (b"", "an empty CSV"),
        (b"Time;Px;Ticker;Ticker\n" + ROW, "has no column 'Last Px', has column 'Ticker' more"),
        (b"<html>\n", "Its header is: '<html>'"),
    ],
)
def test_csv_damage_is_named(data, found):
    with pytest.raises(FatalError, match=r"^part-7: ") as error:
        items(data, "csv", MAPPING)
    assert found in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_without_mapping_is_refused(suffix):
    with pytest.raises(FatalError, match=r"needs a column mapping and its manifest has none"):
        items(HEADER + ROW, suffix)


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, row_group_size=2)
    return stream.getvalue()


FIELDS = {
    "a": {"column": "a", "as": "scalar"},
    "b": {"column": "b", "as": "text"},
    "t": {"column": "t", "as": "ns", "zone": "Europe/Berlin"},
}


def test_parquet_columns_of_many_types_become_messages():
    data = parquet(
        a=pa.array([0.1, None, 1e22]),
        b=pa.array(["x", None, "x"]).dictionary_encode(),
        t=pa.array([0, 3_600 * 10**9, 86_400 * 10**9 * 182 + 1], pa.timestamp("ns")),
    )
    assert items(data, "parquet", {"fields": FIELDS}) == [
        b'{"a":0.1,"b":"x","t":null}',  # midnight of 1970 in Berlin lies before 1970
        b'{"a":null,"b":null,"t":0}',
        b'{"a":1e+22,"b":"x","t":15721200000000001}',
    ]


def test_parquet_decimals_integers_and_booleans_keep_their_digits():
    price = pa.array(["1.50", "0.00000001"]).cast(pa.decimal128(18, 8))
    data = parquet(
        a=price,
        b=pa.array([1, 2**62]),
        t=pa.array([1, 2], pa.timestamp("us", "America/New_York")),
    )
    assert items(data, "parquet", {"fields": FIELDS}) == [
        b'{"a":1.50000000,"b":"1","t":1000}',
        b'{"a":1E-8,"b":"4611686018427387904","t":2000}',
    ]


def test_parquet_without_rows_has_no_items():
    data = parquet(a=pa.array([], pa.int64()), b=pa.array([], pa.int64()), t=pa.array([]))
    assert items(data, "parquet", {"fields": FIELDS}) == []


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"PAR1 nothing", "no readable Parquet file"),
        (parquet(a=[1], b=["x"], t=[1])[:-20], "no readable Parquet file"),
        (parquet(a=[1], b=["x"]), "has no column 't'. Its header is: 'a', 'b'"),
        (parquet(a=[[1]], b=["x"], t=[1]), "column 'a' of type list"),
        (parquet(a=[1], b=["x"], t=["2026"]), "text needs a format or a unit"),
    ],
)
def test_parquet_damage_is_named(data, found):
    with pytest.raises(FatalError, match=r"^part-7: ") as error:
        items(data, "parquet", {"fields": FIELDS})
    assert found in str(error.value)


def test_parquet_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(extract_formats, "MAX_PART_BYTES", 2_000)
    data = parquet(a=[1] * 1_000, b=["x"] * 1_000, t=pa.array([1] * 1_000, pa.timestamp("ns")))
    with pytest.raises(FatalError, match=r"holds? more than"):
        items(data, "parquet", {"fields": FIELDS})


def test_context_is_laid_around_each_item():
    reference = part("json", 2, context={"symbol": "A", "note": 'x"'})
    assert payloads_of(b"[1,{}]", reference, {}).to_pylist() == [
        rb'{"context":{"note":"x\"","symbol":"A"},"item":1}',
        rb'{"context":{"note":"x\"","symbol":"A"},"item":{}}',
    ]


def test_another_count_than_the_manifests_is_refused():
    with pytest.raises(FatalError, match=r"bronze/part-7: holds 1 items, its manifest says 2"):
        payloads_of(b"[1]", part("json", 2), {})


def test_constants_alone_make_a_message_of_each_row():
    mapping = {"fields": {"venue": {"constant": "sim"}, "n": {"constant": 1.5}}}
    assert items(b"a\n1\n2\n", "csv", mapping) == [b'{"n":1.5,"venue":"sim"}'] * 2
