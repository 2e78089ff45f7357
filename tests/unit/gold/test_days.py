"""Which days a commit touches: what its files and spans say, nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from batch.gold.days import days_between, retired_days, touched_days
from batch.gold.pins import Pins, read_new_entries, take_pins
from batch.gold.reach import reached_days
from stream.lake.entries import Entry, Rewrite
from stream.lake.layout import SilverKey

DAY_NS = 86_400_000_000_000
T0_DAY = date(2025, 11, 24)
"""The day of the small lake's first arrival."""


def ns(day: date, hour: int = 12) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()) * 10**9


def entry(kind: str, **fields: object) -> Entry:
    return Entry("trades", 1, None, kind, 0, {}, **fields)


def test_slices_touch_the_days_of_their_files(small_lake, trade):
    first, second = ns(T0_DAY), ns(date(2025, 11, 20))
    small_lake.land(small_lake.slice([trade(1, at_ns=first), trade(2, at_ns=second)]))
    assert touched_days(small_lake.entries()) == {T0_DAY, date(2025, 11, 20)}


def test_slice_without_rows_touches_nothing(small_lake):
    small_lake.land(small_lake.slice([b"no message"]))
    assert touched_days(small_lake.entries()) == set()


def test_replay_touches_the_spans_of_what_differed_alone():
    spans = ((ns(date(2026, 1, 1)), ns(date(2026, 1, 3))), (ns(T0_DAY), ns(T0_DAY)))
    found = touched_days([entry("replay", event_spans=spans)])
    assert found == {*days_between(date(2026, 1, 1), date(2026, 1, 3)), T0_DAY}


def test_compaction_and_retention_touch_nothing():
    path = SilverKey("trades", T0_DAY, "x", "0" * 16).path
    rewrite = Rewrite(removed=(path,))
    entries = [entry("compact", rewrites=(rewrite,)), entry("retention", rewrites=(rewrite,))]
    assert touched_days(entries) == set()
    assert retired_days(entries) == {T0_DAY}


def test_correction_reaches_the_day_of_the_trade_that_it_corrects(small_lake, trade):
    monday, friday = T0_DAY, date(2025, 11, 21)
    small_lake.land(small_lake.slice([trade(7, at_ns=ns(friday)), trade(8, at_ns=ns(friday))]))
    known = ns(monday, 13)
    moved = trade(7, "99", at_ns=ns(monday), kind="correct", known_at_ns=known)
    small_lake.land(small_lake.slice([moved]))
    lake, settings = small_lake.lake, small_lake.settings
    pins = take_pins(lake, {"trades": small_lake.ledger.head().number - 1})
    new = read_new_entries(lake, "trades", pins.tables["trades"])
    assert touched_days(new) == {monday}

    def reach(days, correction_days):
        return reached_days(
            settings, lake, pins, days, correction_days=correction_days, quote_seconds=60
        )

    assert reach({monday}, 7) == {monday, friday}
    assert reach({monday}, 2) == {monday}, "beyond the reach"
    assert reach({friday}, 7) == {friday}, "no correction there"


def test_pins_hold_one_state_whatever_is_committed_later(small_lake):
    small_lake.land_trades(10)
    pins = take_pins(small_lake.lake, {})
    small_lake.land_trades(10)
    pin = pins.tables["trades"]
    assert Pins.from_bytes(pins.to_bytes()) == pins
    table = small_lake.lake.catalog.open("trades")
    assert sum(rows for _, rows in table.data_files(pin.snapshot_id)) == 10
    numbers = [e.number for e in read_new_entries(small_lake.lake, "trades", pin)]
    assert numbers == list(range(1, pin.number + 1))
    assert read_new_entries(small_lake.lake, "trades", replace(pin, after=pin.number)) == ()
