"""A vendor's mapping: read whole, every mistake said at once, times strict to the nanosecond."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pyarrow as pa
import pytest

from batch.extracts.mapping import load_mapping, parse_mapping, plain_mapping
from stream.errors import ConfigError
from stream.feeds import load_feed, load_feeds
from stream.sources.extract_formats import items_of
from stream.sources.extract_times import check_format, date_texts, ns_texts

VENDOR = """
feed = "trades"
[columns]
symbol = "Ticker"
price = "Last Px"
size = "Qty"
trade_id = "Trade #"
[constants]
venue = "sim"
[times.ts_event_ns]
column = "Time"
format = "%Y-%m-%d %H:%M:%S.%f"
zone = "America/New_York"
[csv]
delimiter = ";"
"""
NEEDED = {"symbol": "S", "trade_id": "I", "price": "P", "size": "Q", "venue": "V"}


def trades(**sections: Any) -> dict[str, Any]:
    times = {"ts_event_ns": {"column": "T", "unit": "ms"}}
    return {"feed": "trades", "columns": NEEDED, "times": times, **sections}


def fault(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError, match=r"^mapping: ") as error:
        parse_mapping(raw)
    return str(error.value)


def test_mapping_of_a_vendor_is_read_and_makes_messages(tmp_path):
    path = tmp_path / "acme.toml"
    path.write_text(VENDOR)
    mapping = load_mapping(path)
    assert mapping == orjson.loads(orjson.dumps(mapping)), "the manifest keeps it as JSON"
    data = b"Trade #;Time;Ticker;Qty;Last Px\n77;2026-07-01 09:30:00.5;ACME;2;101.250\n"
    assert json.loads(items_of("p", data, "csv", mapping).to_pylist()[0], parse_float=str) == {
        "venue": "sim",
        "symbol": "ACME",
        "trade_id": "77",
        "price": "101.250",
        "size": 2,
        "ts_event_ns": 1_782_912_600_500_000_000,
    }


def test_mapping_says_everything_that_is_wrong_at_once():
    text = fault(
        {
            "feed": "trades",
            "colums": {},
            "columns": {"symbl": "Ticker", "price": 3, "venue": "V"},
            "constants": {"venue": "sim", "side": 5, "size": "two"},
            "times": {"ts_event_ns": {"column": "T", "format": "%Q", "zon": "x"}},
            "csv": {"delimiter": ";;", "encoding": "utf-16", "header": "a,b"},
        }
    )
    for said in (
        "colums: no such key; valid: feed, columns, constants, times, csv",
        "columns.symbl: found 'Ticker', expected a field: ",
        "columns.price: found 3, expected the name of a column",
        "constants.venue: found 'sim', expected each field once",
        "constants.side: found 5, expected text in quotes",
        "constants.size: found 'two', expected a number",
        "times.ts_event_ns.zon: no such key; valid: column, format, zone, ambiguous, unit",
        "times.ts_event_ns.format: '%Q': %Q is none of %Y",
        "times.ts_event_ns.zone: found None",
        "no column, constant or time for symbol, trade_id",
        "csv.delimiter: found ';;', expected one ASCII character",
        "csv.encoding: found 'utf-16', expected one of utf-8",
        "csv.header: found 'a,b', expected a list of texts",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"column": "T", "unit": "min"}, "unit: found 'min', expected one of s, ms, us, ns"),
        ({"column": "T", "unit": "s", "format": "%Y-%m-%d"}, "unit: found 's'"),
        ({"column": "T", "format": "%Y-%m-%d", "zone": "Mars/Base"}, "zone: found 'Mars/Base'"),
        ({"column": "T", "format": "%Y-%m-%d%z", "zone": "UTC"}, "leave it out"),
        ({"column": "T", "unit": "s", "zone": "UTC"}, "leave it out"),
        ({"column": "T", "zone": "UTC", "ambiguous": "both"}, "ambiguous: found 'both'"),
        ({"format": "%Y-%m-%d", "zone": "UTC"}, "column: found None"),
        ({"column": "T", "format": "%H:%M", "zone": "UTC"}, "must name year, month and day"),
        ({"column": "T", "format": "%Y%m%d%d", "zone": "UTC"}, "%d stands twice"),
        ("T", "found 'T', expected a table"),
    ],
)
def test_mapping_of_a_time_that_cannot_be_read_is_refused(times, said):
    assert said in fault(trades(times={"ts_event_ns": times}))


@pytest.mark.parametrize("feed", [None, "tradez", ["trades"], 3])
def test_mapping_without_a_known_feed_lists_them(feed):
    assert "expected one of" in fault({"feed": feed})


def test_mapping_that_is_no_file_or_no_toml_is_refused(tmp_path):
    path = tmp_path / "m.toml"
    with pytest.raises(ConfigError, match="no such file"):
        load_mapping(path)
    path.write_text("feed = trades")
    with pytest.raises(ConfigError, match=r"m\.toml: no TOML: .*line 1"):
        load_mapping(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no TOML"):
        load_mapping(path)


def test_field_that_is_no_time_is_refused_as_one():
    text = fault(trades(times={"side": {"column": "T", "unit": "s"}}))
    assert "times.side: no time in ns and no date" in text


def test_date_of_a_daily_bar_is_read_in_the_vendors_format():
    prices = {name: name.upper() for name in ("open", "high", "low", "close", "symbol")}
    mapping = parse_mapping(
        {
            "feed": "prices_daily",
            "columns": prices,
            "constants": {"source": "acme"},
            "times": {"session_date": {"column": "Date", "format": "%m/%d/%Y"}},
        }
    )
    data = b"SYMBOL,Date,OPEN,HIGH,LOW,CLOSE\nA,1/5/2026,1,3,1,2\nA,2/30/2026,1,3,1,2\n"
    good, bad = items_of("p", data, "csv", mapping).to_pylist()
    assert b'"session_date":"2026-01-05"' in good
    assert b'"session_date":"2/30/2026"' in bad


@pytest.mark.parametrize("feed", sorted(load_feeds()))
def test_every_feed_can_be_filled_from_columns_named_like_its_fields(feed):
    fields = plain_mapping(load_feed(feed))["fields"]
    assert isinstance(fields, dict)
    assert any(not spec["optional"] for spec in fields.values())
    assert not any("." in name for name in fields)


NEW_YORK = {"format": "%Y-%m-%d %H:%M:%S.%f", "zone": "America/New_York"}


@pytest.mark.parametrize(
    ("text", "spec", "ns"),
    [
        ("2026-01-05 09:30:00.000000001", NEW_YORK, 1_767_623_400_000_000_001),
        ("2026-01-05 09:30:00", NEW_YORK, 1_767_623_400_000_000_000),
        ("2026-07-05 09:30:00.5", NEW_YORK, 1_783_258_200_500_000_000),
        ("2026-1-5 9:30:0.5", NEW_YORK, 1_767_623_400_500_000_000),
        (" 2026-01-05 09:30:00.5", NEW_YORK, None),
        ("2026-01-05 09:30:00.", NEW_YORK, None),
        ("2026-01-05 09:30:60.0", NEW_YORK, None),
        ("2026-01-05 24:00:00.0", NEW_YORK, None),
        ("2026-02-29 09:30:00.0", NEW_YORK, None),
        ("2024-02-29 09:30:00.0", NEW_YORK, 1_709_217_000_000_000_000),
        ("2026-04-31 09:30:00.0", NEW_YORK, None),
        ("2026-13-01 09:30:00.0", NEW_YORK, None),
        ("1969-01-01 09:30:00.0", NEW_YORK, None),
        ("2300-01-01 09:30:00.0", NEW_YORK, None),
        ("", NEW_YORK, None),
        # 1 November 2026, 01:30 came twice; 8 March 2026, 02:30 never.
        ("2026-11-01 01:30:00", NEW_YORK, 1_793_511_000_000_000_000),
        ("2026-11-01 01:30:00", NEW_YORK | {"ambiguous": "latest"}, 1_793_514_600_000_000_000),
        ("2026-11-01 01:30:00", NEW_YORK | {"ambiguous": "reject"}, None),
        ("2026-03-08 02:30:00", NEW_YORK, None),
        ("2026-03-08 03:00:00", NEW_YORK, 1_772_953_200_000_000_000),
        ("20260105093000123", {"format": "%Y%m%d%H%M%S%f", "zone": "UTC"}, 1767605400123000000),
        ("05.01.26 09:30 PM", {"format": "%d.%m.%y %I:%M %p", "zone": "UTC"}, 1767648600000000000),
        ("5 Jan 2026 9:30:00", {"format": "%d %b %Y %H:%M:%S", "zone": "UTC"}, 1767605400000000000),
        ("2026-01-05T09:30:00.5Z", {"format": "%Y-%m-%dT%H:%M:%S.%f%z"}, 1767605400500000000),
        ("2026-01-05T09:30:00-05:30", {"format": "%Y-%m-%dT%H:%M:%S.%f%z"}, 1767625200000000000),
        ("2026-01-01T00:30:00+0100", {"format": "%Y-%m-%dT%H:%M:%S%z"}, 1767223800000000000),
        ("2026-01-01T00:30:00+2500", {"format": "%Y-%m-%dT%H:%M:%S%z"}, None),
        ("1764000000", {"unit": "s"}, 1_764_000_000_000_000_000),
        ("1764000000.123456789", {"unit": "s"}, 1_764_000_000_123_456_789),
        ("1764000000.1234567891", {"unit": "s"}, None),
        ("1764000000.120", {"unit": "s"}, 1_764_000_000_120_000_000),
        ("1764000000123.25", {"unit": "ms"}, 1_764_000_000_123_250_000),
        ("1764000000000000001", {"unit": "ns"}, 1_764_000_000_000_000_001),
        ("1764000000000000001.0", {"unit": "ns"}, 1_764_000_000_000_000_001),
        ("9999999999", {"unit": "s"}, None),
        ("9999999999999999999", {"unit": "ns"}, None),
        ("-5", {"unit": "s"}, None),
        ("1e9", {"unit": "s"}, None),
    ],
)
def test_time_is_read_exactly_or_not_at_all(text, spec, ns):
    # Next to a good and an absent one: what a value is must not depend on its neighbours.
    good = "1764000000" if "unit" in spec else text
    found = ns_texts(pa.array([text, None, good]), spec).to_pylist()
    assert found[:2] == [None if ns is None else str(ns), None]


def test_time_does_not_depend_on_its_neighbours():
    texts = ["2026-01-05 09:30:00", "2026-01-05 09:30:00.25", "x", "2026-11-01 01:30:00", None]
    together = ns_texts(pa.array(texts, pa.string()), NEW_YORK).to_pylist()
    alone = [ns_texts(pa.array([text], pa.string()), NEW_YORK).to_pylist()[0] for text in texts]
    assert together == alone


def test_date_is_the_day_as_written():
    assert date_texts(
        pa.array(["20260105", "20260230", None]), {"format": "%Y%m%d"}
    ).to_pylist() == [
        "2026-01-05",
        None,
        None,
    ]
    moments = pa.array([86_400_000_000_000 * 2 - 1], pa.timestamp("ns"))
    assert date_texts(moments, {}).to_pylist() == ["1970-01-02"]


def test_format_with_a_lone_percent_sign_is_refused():
    with pytest.raises(ValueError, match="is none of"):
        check_format("%Y-%m-%d %")
