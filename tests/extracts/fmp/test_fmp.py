"""Extracts from a server that behaves like FMP: what is asked, what lands, what becomes of it."""

from __future__ import annotations

import logging
import threading
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pydantic import SecretStr

from batch.extracts import ExtractRequest
from batch.extracts.fmp import DATASETS, MAX_PAGES, FmpExtractor
from batch.extracts.http import CallRule
from batch.extracts.landing import land_extract
from stream.clock import ManualClock
from stream.decode import decode_records
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError
from stream.feeds import load_feed, load_feeds
from stream.feeds.prices_intraday import INTERVALS
from stream.lake.store import open_store
from stream.slices import RECORD_SCHEMA
from stream.sources.extract import PartRef, read_manifest, read_part
from stream.sources.extract_formats import payloads_of

NOW_NS = 1_764_000_000_000_000_000
MONDAY, FRIDAY = date(2025, 2, 3), date(2025, 2, 7)
EACH_DATASET = pytest.mark.parametrize("dataset", DATASETS)


@pytest.fixture
def clock():
    return ManualClock(start_ns=NOW_NS)


@pytest.fixture
def fmp(fmp_server, key, clock):
    with FmpExtractor(SecretStr(key), base_url=fmp_server.url, clock=clock) as extractor:
        yield extractor


def ask(dataset, symbols=("AAPL",), first=MONDAY, last=FRIDAY, **options):
    if DATASETS[dataset].window_days is None:
        first = last = None
    return ExtractRequest(dataset, first, last, tuple(symbols), options)


def decode(feed, payloads):
    count = len(payloads)
    records = pa.record_batch(
        [
            payloads,
            pa.array([str(n) for n in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([NOW_NS] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    return decode_records(load_feed(feed), records)


@EACH_DATASET
def test_every_dataset_fills_an_existing_feed_or_stays_in_bronze(fmp, dataset):
    assert fmp.feed_of(dataset) in {*load_feeds(), None}
    assert fmp.mapping_of(dataset) == {}
    assert fmp.source not in load_feeds()


def test_daily_prices_are_one_call_per_symbol(fmp, fmp_server):
    parts = list(fmp.extract(ask("prices_daily", ["AAPL", "BRK-B", "AAPL"])))
    days = {"from": "2025-02-03", "to": "2025-02-07"}
    assert [(path, params) for path, params, _ in fmp_server.asked] == [
        ("historical-price-eod/full", {"symbol": symbol, **days}) for symbol in ("AAPL", "BRK-B")
    ]
    assert [part.rows for part in parts] == [5, 5]
    assert [part.data for part in parts] == fmp_server.bodies
    assert parts[0].request == {"path": "historical-price-eod/full", "symbol": "AAPL", **days}
    assert parts[0].context == {}


def test_long_range_is_cut_into_windows_without_gap_or_overlap(fmp, fmp_server):
    first, last = date(1990, 1, 1), date(2025, 12, 31)
    parts = list(fmp.extract(ask("prices_daily", first=first, last=last)))
    windows = [(params["from"], params["to"]) for _, params, _ in fmp_server.asked]
    ordinals = [tuple(date.fromisoformat(day).toordinal() for day in window) for window in windows]
    assert (windows[0][0], windows[-1][1]) == ("1990-01-01", "2025-12-31")
    assert all(end - begin < 5 * 365 for begin, end in ordinals)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(ordinals))
    assert len(parts) == 8
    assert sum(part.rows for part in parts) == np.busday_count(first, last + timedelta(days=1))


@pytest.mark.parametrize(("interval", "calls"), list(zip(INTERVALS, (30, 6, 2, 1, 1), strict=True)))
def test_intraday_window_holds_as_many_bars_as_a_session_has_minutes(
    fmp, fmp_server, interval, calls
):
    request = ask(
        "prices_intraday", first=date(2025, 2, 1), last=date(2025, 3, 2), interval=interval
    )
    parts = list(fmp.extract(request))
    assert {path for path, _, _ in fmp_server.asked} == {f"historical-chart/{interval}"}
    assert len(parts) == calls
    assert parts[0].context == {
        "symbol": "AAPL", "interval": interval, "zone": "America/New_York"
    }  # fmt: skip


def test_empty_answer_is_a_part_that_proves_that_we_asked(fmp):
    (part,) = fmp.extract(ask("prices_intraday", first=date(2025, 2, 8), last=date(2025, 2, 8)))
    assert (part.data, part.rows, part.request["from"]) == (b"[]", 0, "2025-02-08")


def test_news_are_paged_to_the_first_empty_page(fmp, fmp_server):
    fmp_server.stories = 601
    parts = list(fmp.extract(ask("news", ["AAPL", "MSFT"])))
    assert [part.rows for part in parts] == [250, 250, 101, 0]
    assert [params["page"] for _, params, _ in fmp_server.asked] == ["0", "1", "2", "3"]
    assert {params["symbols"] for _, params, _ in fmp_server.asked} == {"AAPL,MSFT"}


def test_news_with_more_pages_than_fmp_gives_are_an_error_and_not_a_part_of_them(fmp, fmp_server):
    fmp_server.stories = 10**6
    with pytest.raises(ConfigError, match=f"more than {MAX_PAGES} pages; ask for fewer"):
        list(fmp.extract(ask("news")))


def test_quotes_of_many_symbols_are_few_calls(fmp, fmp_server):
    symbols = [f"S{n}" for n in range(45)]
    parts = list(fmp.extract(ask("quotes", symbols)))
    assert [part.rows for part in parts] == [20, 20, 5]
    assert ",".join(params["symbols"] for _, params, _ in fmp_server.asked) == ",".join(symbols)


@pytest.mark.parametrize(
    ("dataset", "path"), [("quote_snapshots", "quote"), ("profiles", "profile")]
)
def test_snapshot_that_no_feed_takes_is_landed_all_the_same(fmp, fmp_server, dataset, path):
    (part,) = fmp.extract(ask(dataset))
    assert fmp_server.asked[0][:2] == (path, {"symbol": "AAPL"})
    assert (part.rows, fmp.feed_of(dataset)) == (1, None)


WRONG = {
    "no such data set": (ExtractRequest("prices"), r"no data set 'prices'; it has prices_daily, "),
    "no symbol": (ExtractRequest("prices_daily", MONDAY, FRIDAY), "name at least one symbol"),
    "two in one": (ask("prices_daily", ["AAPL,MSFT"]), "'AAPL,MSFT' is no symbol"),
    "a path": (ask("profiles", ["../quote"]), "'../quote' is no symbol"),
    "no range": (ExtractRequest("news", None, FRIDAY, ("AAPL",)), "a first and a last day"),
    "range upside down": (ask("news", first=FRIDAY, last=MONDAY), "in order, found 2025-02-07 and"),
    "days of now": (ExtractRequest("quotes", MONDAY, FRIDAY, ("AAPL",)), "have no days"),
    "no such option": (ask("prices_daily", adjusted="no"), "no option 'adjusted'; options: none"),
    "no such interval": (ask("prices_intraday", interval="2min"), "expected one of 1min, 5min"),
    "no such zone": (ask("prices_intraday", zone="Mars/Olympus"), "one of America/New_York"),
    "elsewhere": (ask("prices_intraday", ["VOD.L"]), "VOD.L trades outside the USA"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_request_that_fmp_could_not_answer_is_refused_before_any_call(fmp, fmp_server, case):
    request, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        fmp.extract(request)
    assert fmp_server.asked == []


def test_foreign_symbol_with_its_zone_is_asked_for(fmp):
    (part,) = fmp.extract(
        ask("prices_intraday", ["VOD.L"], first=MONDAY, last=MONDAY, zone="Europe/London")
    )
    decoded = decode("prices_intraday", payloads_of(part.data, as_reference(part), {}))
    assert decoded.rows["ts_event_ns"].to_pylist()[1] == 1_738_575_000_000_000_000  # 09:30 UTC


def as_reference(part):
    return PartRef("p", part.suffix, part.rows, len(part.data), "", part.request, part.context)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Invalid API KEY. Feel free to create a Free API Key", ConfigError),
        ("Exclusive Endpoint : This endpoint is not available", ConfigError),
        ("Limit Reach . Please upgrade your plan", ThrottledError),
    ],
)
def test_refusal_with_status_200_is_told_apart(fmp, fmp_server, fault, text, error):
    fmp_server.faults = [fault(body=orjson.dumps({"Error Message": text})) for _ in range(7)]
    with pytest.raises(error, match=text.split(".")[0]):
        list(fmp.extract(ask("profiles")))
    assert len(fmp_server.asked) == (7 if error is ThrottledError else 1)


@pytest.mark.parametrize("body", [b'{"a":1}', b"[1]", b"null", b'"text"'])
def test_answer_of_another_form_is_asked_again_and_then_an_error(fmp, fmp_server, fault, body):
    fmp_server.faults = [fault(body=body) for _ in range(7)]
    with pytest.raises(StoreUnavailableError, match="expected a JSON list of objects, found"):
        list(fmp.extract(ask("profiles")))


def test_wrong_key_is_a_config_error(fmp_server, clock):
    with (
        FmpExtractor(SecretStr("wrong-key"), base_url=fmp_server.url, clock=clock) as extractor,
        pytest.raises(ConfigError, match=r"HTTP 401.*key was refused") as raised,
    ):
        list(extractor.extract(ask("profiles")))
    assert "wrong-key" not in str(raised.value)


def test_empty_key_is_a_config_error():
    with pytest.raises(ConfigError, match="found an empty one"):
        FmpExtractor(SecretStr(""))


def test_threads_share_one_budget(fmp_server, key, clock):
    rule = CallRule(calls_per_minute=10)
    with FmpExtractor(SecretStr(key), base_url=fmp_server.url, rule=rule, clock=clock) as extractor:
        requests = [ask("profiles", [f"S{n}{m}" for m in range(6)]) for n in range(5)]
        threads = [
            threading.Thread(target=lambda one=one: list(extractor.extract(one)))
            for one in requests
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fmp_server.asked) == 30
    assert clock.now_ns() - NOW_NS >= 120 * 10**9


@EACH_DATASET
def test_extract_lands_as_served_and_becomes_rows(
    fmp, fmp_server, key, clock, tmp_path, caplog, dataset
):
    caplog.set_level(logging.DEBUG)
    fmp_server.stories = 3
    store = open_store(f"file://{tmp_path}/lake")
    manifest = land_extract(store, fmp, ask(dataset, ["AAPL", "MSFT"]), "run-1", clock=clock)
    assert read_manifest(store, "fmp", "run-1") == manifest
    assert [read_part(store, part) for part in manifest.parts] == fmp_server.bodies
    assert manifest.rows == sum(part.rows for part in manifest.parts) > 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(manifest.parts) + 1
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in caplog.text + repr(manifest) + repr(fmp)
    if manifest.feed is None:
        return
    for part in manifest.parts:
        decoded = decode(manifest.feed, payloads_of(read_part(store, part), part, {}))
        assert decoded.rejects.to_pylist() == []
        assert decoded.rows.num_rows == part.rows


def test_interrupted_extract_counts_for_nothing_and_is_run_again(
    fmp, fmp_server, fault, clock, tmp_path
):
    store = open_store(f"file://{tmp_path}/lake")
    request = ask("profiles", ["AAPL", "MSFT"])
    begun = fmp.extract(request)
    next(begun)
    fmp_server.faults = [fault(403)]
    with pytest.raises(ConfigError):
        next(begun)
    fmp_server.faults = [fault(403)]
    with pytest.raises(ConfigError):
        land_extract(store, fmp, request, "run-1", clock=clock)
    assert read_manifest(store, "fmp", "run-1") is None
    clock.sleep(1.0)
    assert land_extract(store, fmp, request, "run-1", clock=clock).rows == 2
