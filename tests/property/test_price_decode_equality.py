"""The columnar way never differs from the strict one on bars, whatever their dates and numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode import decode_records
from stream.decode.plan import plan_of
from stream.decode.zones import day_offset, local_offsets
from stream.feeds import load_feed
from stream.feeds.prices_intraday import INTERVALS, ZONES
from stream.slices import RECORD_SCHEMA

NS = 1_764_000_000_000_000_000
NUMBERS = (
    *("0", "-1", "1e2", "0.123456789", "99999999999", "null", '"1"', "true", "01", "1.", "-0.5"),
    *("12345678901234.1234", "123456789012345", "0.00001", "9999999999.99999999", "1.10000"),
)
DAYS = (
    *(
        "2025-02-30",
        "2025-2-04",
        "1969-12-31",
        "2262-01-01",
        "2025-02-04 00:00:00",
        "",
        "2025-02-0",
    ),
    *("2025-02-041", "O025-02-04", "2024-02-29", "1970-01-01"),
)
TIMES = (
    *("2025-02-04", "2025-02-04T10:00:00", "2025-02-04 24:00:00", "2025-02-04 10:00:60", ""),
    *("1970-01-01 00:00:00", "1970-01-01 05:30:00", "2261-12-31 23:59:59", "2262-01-01 00:00:00"),
    *("2025-11-02 01:30:00", "2025-03-09 02:30:00", "2025-10-05 02:15:00", "2025-02-04 10:00:00Z"),
)


class Draw:
    """Values of one message: mostly common ones, now and then an awkward one."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.awkward = self.rng.choice((0.0, 0.01, 0.1))
        self.moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(
            minutes=self.rng.randrange(500_000)
        )
        self.step = timedelta(minutes=self.rng.choice((1, 17, 1_440)))

    def pick(self, common: str, odd: tuple[str, ...]) -> str:
        return self.rng.choice(odd) if self.rng.random() < self.awkward else common

    def number(self, digits: int = 2) -> str:
        return self.pick(
            f"{self.rng.randrange(1, 10**5)}.{self.rng.randrange(10**digits)}", NUMBERS
        )

    def time(self) -> str:
        self.moment += self.step
        return self.pick(f"{self.moment:%Y-%m-%d %H:%M:%S}", TIMES)

    def day(self) -> str:
        self.moment += self.step
        return self.pick(f"{self.moment:%Y-%m-%d}", DAYS)

    def prices(self) -> str:
        low = self.rng.randrange(1, 500)
        high = self.pick(str(low + 1), NUMBERS)
        return f'"open":{low}.5,"low":{self.pick(str(low), NUMBERS)},"high":{high},"close":{low}.25'


def fmp_day(d: Draw) -> str:
    vwap = f',"vwap":{d.number(4)}' if d.rng.random() < 0.9 else ""
    return (
        f'{{"symbol":"{d.pick("AAPL", ("", "aapl", "é"))}","date":"{d.day()}",{d.prices()},'
        f'"volume":{d.number()},"change":{d.number()},"changePercent":{d.number()}{vwap}}}'
    )


def our_day(d: Draw) -> str:
    known = f',"known_at_ns":{NS}' if d.rng.random() < 0.5 else ""
    return (
        f'{{"source":"desk","symbol":"ACME","session_date":"{d.day()}",{d.prices()},'
        f'"adj_close":{d.number()}{known}}}'
    )


def fmp_minute(d: Draw) -> str:
    zone = d.pick(d.rng.choice(ZONES[:3]), (*ZONES, "Mars/Olympus"))
    return (
        f'{{"context":{{"interval":"{d.pick(d.rng.choice(INTERVALS), ("2min",))}","symbol":"AAPL",'
        f'"zone":"{zone}"}},"item":{{"date":"{d.time()}",{d.prices()},"volume":{d.number()}}}}}'
    )


def our_minute(d: Draw) -> str:
    return (
        f'{{"source":"desk","symbol":"ACME","interval":"5min","ts_event_ns":{NS},{d.prices()},'
        f'"volume":{d.number()},"vwap":{d.number()}}}'
    )


SHAPES: dict[str, tuple[Callable[[Draw], str], ...]] = {
    "prices_daily": (fmp_day, our_day),
    "prices_intraday": (fmp_minute, our_minute),
}


def records_of(lines: list[str]) -> pa.RecordBatch:
    count = len(lines)
    return pa.record_batch(
        [
            pa.array([line.encode() for line in lines], pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([NS] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


@pytest.mark.parametrize("feed", SHAPES)
@given(seed=st.integers(0, 2**32))
def test_columnar_decode_of_bars_equals_strict_decode(feed: str, seed: int) -> None:
    draw = Draw(seed)
    records = records_of([draw.rng.choice(SHAPES[feed])(draw) for _ in range(240)])
    contract = load_feed(feed)
    columnar = decode_records(contract, records)
    strict = decode_records(contract, records, strict_only=True)
    columnar.rows.validate(full=True)
    assert columnar.rows.to_pylist() == strict.rows.to_pylist()
    assert columnar.rejects.to_pylist() == strict.rejects.to_pylist()
    assert plan_of(contract).templates.known()


@given(zone=st.sampled_from(ZONES), day=st.integers(0, 33_000), second=st.integers(0, 86_399))
def test_offset_of_a_day_is_that_of_its_every_second(zone: str, day: int, second: int) -> None:
    offset = day_offset(zone, day)
    if offset is not None:
        assert local_offsets(zone, day * 86_400 + second) == (offset, offset)
