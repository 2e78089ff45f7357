"""What FMP's items become: exact prices, sessions, moments, versions; and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stream.decode import Decoded, decode_records
from stream.decode.values import KINDS
from stream.dedup import Dedup
from stream.errors import RecordRejected
from stream.feeds import load_feed
from stream.slices import RECORD_SCHEMA, ShardRef

ARRIVAL = datetime(2025, 11, 24, 16, tzinfo=UTC)
ARRIVAL_NS = int(ARRIVAL.timestamp()) * 10**9
DAILY = (
    '{"symbol":"AAPL","date":"2025-02-04","open":227.2,"high":233.13,"low":226.65,"close":232.8,'
    '"volume":44489128,"change":5.6,"changePercent":2.46479,"vwap":230.86}'
)


def decode(feed: str, *lines: str, arrival_ns: int = ARRIVAL_NS) -> Decoded:
    count = len(lines)
    records = pa.record_batch(
        [
            pa.array([line.encode() for line in lines], pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([arrival_ns] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    return decode_records(load_feed(feed), records)


def minute(local: str, zone: str = "America/New_York", **numbers: float) -> str:
    bar = {"date": local, "open": 1.5, "low": 1.25, "high": 2, "close": 1.75, "volume": 9}
    context = {"symbol": "AAPL", "interval": "1min", "zone": zone}
    return json.dumps({"context": context, "item": bar | numbers})


def test_daily_bar_keeps_its_decimals_and_is_dated_at_midnight_utc_of_its_session() -> None:
    (row,) = decode("prices_daily", DAILY).rows.to_pylist()
    assert (row["open"], row["vwap"]) == (Decimal("227.20000000"), Decimal("230.86000000"))
    assert row["volume"] == Decimal("44489128.0000")
    assert row["session_date"] == date(2025, 2, 4)
    assert row["ts_event_ns"] == int(datetime(2025, 2, 4, tzinfo=UTC).timestamp()) * 10**9
    assert row["known_at_ns"] == ARRIVAL_NS


def test_restated_bar_is_a_new_version_and_the_same_extract_twice_is_not() -> None:
    class Nothing:
        def read(self, shard: ShardRef, before: str | None, since_ns: int) -> Any:
            return np.empty(0, np.uint64), np.empty(0, np.int64)

    contract = load_feed("prices_daily")
    dedup = Dedup(contract, Nothing())
    shard = ShardRef("prices_daily", "extract", "part-0")
    first, again = (decode("prices_daily", DAILY) for _ in range(2))
    restated = DAILY.replace("232.8", "116.4").replace("226.65", "113.3")
    later = decode("prices_daily", restated, arrival_ns=ARRIVAL_NS + 10**9)
    kept = [
        dedup.drop_duplicates(shard, str(n), ARRIVAL_NS + n, one.rows)
        for n, one in enumerate((first, again, later))
    ]
    assert [one.rows.num_rows for one in kept] == [1, 0, 1]
    assert not kept[2].is_late.any()


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("America/New_York", "2025-02-04 09:30:00", datetime(2025, 2, 4, 14, 30, tzinfo=UTC)),
        ("America/New_York", "2025-07-01 15:59:00", datetime(2025, 7, 1, 19, 59, tzinfo=UTC)),
        ("America/New_York", "2025-03-09 01:59:00", datetime(2025, 3, 9, 6, 59, tzinfo=UTC)),
        ("America/New_York", "2025-03-09 03:00:00", datetime(2025, 3, 9, 7, 0, tzinfo=UTC)),
        ("America/New_York", "2025-11-21 19:59:00", datetime(2025, 11, 22, 0, 59, tzinfo=UTC)),
        ("Europe/London", "2025-07-01 08:00:00", datetime(2025, 7, 1, 7, 0, tzinfo=UTC)),
        ("Australia/Sydney", "2025-11-24 10:00:00", datetime(2025, 11, 23, 23, 0, tzinfo=UTC)),
    ],
)
def test_bar_within_the_day_begins_at_the_moment_of_its_local_time(
    zone: str, local: str, utc: datetime
) -> None:
    (row,) = decode("prices_intraday", minute(local, zone)).rows.to_pylist()
    assert row["ts_event_ns"] == int(utc.timestamp()) * 10**9
    assert row["session_date"].isoformat() == local[:10]


@pytest.mark.parametrize(
    ("local", "often"),
    [("2025-11-02 01:30:00", "happens twice"), ("2025-03-09 02:30:00", "never happens")],
)
def test_hour_that_the_clocks_repeat_or_skip_is_refused_and_says_why(
    local: str, often: str
) -> None:
    decoded = decode("prices_intraday", *[minute(local)] * 60)
    assert decoded.rows.num_rows == 0
    assert set(decoded.rejects["reason"].to_pylist()) == {"bad_time"}
    assert f"{often} in America/New_York" in decoded.rejects["detail"][0].as_py()


def test_day_of_a_change_of_the_clocks_keeps_its_other_hours() -> None:
    lines = [minute(f"2025-11-02 {hour:02d}:30:00") for hour in range(24)] * 4
    decoded = decode("prices_intraday", *lines)
    assert decoded.rows.num_rows == 92
    assert decoded.rejects.num_rows == 4


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"low": 0}, "non_positive_price"),
        ({"close": -1}, "non_positive_price"),
        ({"high": 1.24}, "bad_value"),
        ({"volume": -1}, "bad_value"),
        ({"open": 1.000000001}, "too_many_decimals"),
    ],
)
def test_impossible_bar_is_refused(numbers: dict[str, float], reason: str) -> None:
    decoded = decode("prices_intraday", minute("2025-02-04 09:30:00", **numbers))
    assert decoded.rejects["reason"].to_pylist() == [reason]


def test_session_that_opens_before_the_midnight_of_its_date_is_not_in_the_future() -> None:
    sydney = DAILY.replace("2025-02-04", "2025-11-25")
    assert decode("prices_daily", sydney).rows.num_rows == 1
    assert decode("prices_daily", sydney.replace("11-25", "11-26")).rows.num_rows == 0


def test_quote_time_is_in_milliseconds_and_a_plain_quote_is_no_top_of_book() -> None:
    top = '{"symbol":"AAPL","bidSize":1,"bidPrice":232.45,"askSize":3,"askPrice":232.64,"volume":4'
    (row,) = decode("quotes", top + ',"timestamp":1738715334311}').rows.to_pylist()
    assert (row["venue"], row["ts_event_ns"]) == ("fmp", 1_738_715_334_311_000_000)
    plain = decode("quotes", '{"symbol":"AAPL","price":232.8,"open":227,"timestamp":1738702801}')
    assert plain.rejects["reason"].to_pylist() == ["unknown_shape"]


ZONE = {"zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("date_assumed_utc", "1970-01-02", 86_400_000_000_000),
        ("date_assumed_utc", "2024-02-29", 19_782 * 86_400_000_000_000),
        ("local_date", "1970-01-02 23:59:59", 1),
        ("date_time_in_zone", "1970-01-01 01:00:00", 0),
        ("date_time_in_zone", "2025-07-01 02:00:00", 1_751_328_000_000_000_000),
    ],
)
def test_kind_reads_a_local_time_exactly(kind: str, value: str, stored: int) -> None:
    assert KINDS[kind].parse(value, ZONE) == stored


@pytest.mark.parametrize("kind", ["date_assumed_utc", "local_date", "date_time_in_zone"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (20250704, "wrong_type"),
        ("", "bad_time"),
        ("2025-02-30", "bad_time"),
        ("2025-02-30 10:00:00", "bad_time"),
        ("2025-7-04", "bad_time"),
        ("2025-07-04T10:00:00", "bad_time"),
        ("2025-07-04 10:00:00Z", "bad_time"),
        ("1969-12-31 23:00:00", "bad_time"),
        ("\u0662\u0660\u0662\u0665-07-04", "bad_time"),
    ],
)
def test_kind_refuses_what_is_no_local_time(kind: str, value: object, reason: str) -> None:
    with pytest.raises(RecordRejected) as raised:
        KINDS[kind].parse(value, ZONE)
    assert raised.value.reason == reason


def test_local_time_before_1970_in_utc_is_refused() -> None:
    with pytest.raises(RecordRejected, match="lies outside 1970"):
        KINDS["date_time_in_zone"].parse("1970-01-01 00:30:00", ZONE)
