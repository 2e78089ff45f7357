"""Simulated history: any day, the same bytes whenever it is asked for, and clean to the row."""

from __future__ import annotations

import gzip
import json
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.extracts.simulate import SimulatedExtractor
from stream.clock import ManualClock
from stream.decode import decode_records
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.lake.store import open_store
from stream.slices import RECORD_SCHEMA
from stream.sources.extract import find_manifest, read_part
from stream.sources.extract_formats import payloads_of

DAY = date(2026, 1, 5)
FEEDS = ("trades", "quotes", "news", "prices_daily")


def extract(
    dataset: str, first: date = DAY, last: date = DAY, *symbols: str, **options: str
) -> list[Part]:
    options = {"rows_per_day": "300"} | options
    request = ExtractRequest(dataset, first, last, symbols, options)
    return list(SimulatedExtractor().extract(request))


def lines(parts: list[Part]) -> list[bytes]:
    return [line for part in parts for line in gzip.decompress(part.data).splitlines()]


def decode(dataset: str, messages: list[bytes]) -> Any:
    count, arrival_ns = len(messages), 1_800_000_000_000_000_000
    columns = [
        pa.array(messages, pa.binary()),
        pa.array([str(i) for i in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.array([None] * count, pa.string()),
        pa.array([arrival_ns] * count, pa.int64()),
    ]
    return decode_records(
        load_feed(dataset), pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)
    )


@pytest.mark.parametrize("dataset", FEEDS)
def test_day_is_the_same_bytes_alone_and_in_any_range(dataset):
    alone = extract(dataset)
    ranged = extract(dataset, date(2026, 1, 3), date(2026, 1, 7))
    assert alone == [part for part in ranged if part.request["day"] == "2026-01-05"]
    assert len({part.data for part in ranged}) == 5
    assert alone[0].data[4:8] == bytes(4), "a gzip with a time in it differs from run to run"


@pytest.mark.parametrize("dataset", FEEDS)
def test_every_message_is_one_new_row_of_its_own_day(dataset):
    contract = load_feed(dataset)
    messages = lines(extract(dataset, DAY, date(2026, 1, 6)))
    decoded = decode(dataset, messages)
    assert decoded.rejects.to_pylist() == []
    assert decoded.rows.num_rows == len(messages) == 600
    keys = decoded.rows.select(contract.key).to_pylist()
    assert len({tuple(map(str, key.values())) for key in keys}) == 600
    days = decoded.rows[contract.event_time].to_numpy() // 86_400_000_000_000
    assert days.tolist() == [20_458] * 300 + [20_459] * 300


@pytest.mark.parametrize("dataset", FEEDS)
def test_seed_symbols_and_rows_change_the_bytes(dataset):
    asked = [
        extract(dataset),
        extract(dataset, seed="8"),
        extract(dataset, rows_per_day="301"),
        extract(dataset, DAY, DAY, "AAPL", "BRK.B"),
    ]
    assert len({parts[0].data for parts in asked}) == 4


@pytest.mark.parametrize("dataset", FEEDS)
def test_named_symbols_are_the_only_ones(dataset):
    wanted = {"AAPL", "BRK.B", "BTC"}
    messages = [json.loads(line) for line in lines(extract(dataset, DAY, DAY, *sorted(wanted)))]
    if dataset == "news":
        assert {name for m in messages for name in m["symbols"].split(",")} == wanted
        assert all(m["title"].split()[0] in wanted for m in messages)
    else:
        assert {m["symbol"] for m in messages} == wanted
    assert len(messages) == (3 if dataset == "prices_daily" else 300)


def test_large_day_is_several_parts_that_joined_are_the_day():
    parts = extract("trades", rows_per_day="10_000".replace("_", ""), rows_per_part="4000")
    assert [part.rows for part in parts] == [4_000, 4_000, 2_000]
    assert lines(parts) == lines(extract("trades", rows_per_day="10000"))
    assert [part.request["part"] for part in parts] == ["0", "1", "2"]


def test_events_are_in_order_and_fill_the_day():
    times = [json.loads(line)["ts_event_ns"] for line in lines(extract("trades"))]
    assert times == sorted(times)
    assert times[-1] - times[0] > 20 * 3_600 * 10**9


def test_bar_opens_where_the_day_before_closed():
    days = [json.loads(line) for line in lines(extract("prices_daily", DAY, date(2026, 2, 5), "A"))]
    assert [day["open"] for day in days[1:]] == [day["close"] for day in days[:-1]]
    assert all(d["low"] <= min(d["open"], d["close"]) for d in days)
    assert all(d["high"] >= max(d["open"], d["close"]) for d in days)


def test_history_lands_and_reads_back(tmp_path):
    store = open_store(f"file://{tmp_path}")
    request = ExtractRequest("prices_daily", DAY, DAY)
    land_extract(store, SimulatedExtractor(), request, "sim-1", clock=ManualClock(10**18))
    manifest = find_manifest(store, "sim-1")
    (part,) = manifest.parts
    assert part.rows == 100
    assert len(payloads_of(read_part(store, part), part, manifest.mapping)) == 100


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ExtractRequest("bonds", DAY, DAY), "no data set 'bonds'; there are trades, quotes, news"),
        (ExtractRequest("trades", DAY), "say the first and the last day"),
        (ExtractRequest("trades", DAY, date(2026, 1, 4)), "days 2026-01-05 to 2026-01-04"),
        (ExtractRequest("trades", date(1969, 1, 1), DAY), "begins on 1970-01-02"),
        (ExtractRequest("trades", DAY, DAY, ("a b",)), "symbols 'a b': expected"),
        (ExtractRequest("trades", DAY, DAY, ("A", "A")), "named twice"),
        (
            ExtractRequest("trades", DAY, DAY, (), {"row": "5", "seed": "x", "rows_per_day": "0"}),
            "no option 'row'",
        ),
    ],
)
def test_wrong_request_is_refused(request_, said):
    with pytest.raises(ConfigError) as error:
        list(SimulatedExtractor().extract(request_))
    assert said in str(error.value)


def test_every_wrong_option_is_named_at_once():
    with pytest.raises(ConfigError, match=r"(?s)no option 'row'.*rows_per_day: found '0'.*seed"):
        extract("trades", row="5", seed="x", rows_per_day="0")
