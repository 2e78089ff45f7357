"""Bars of a few trades, and bars after crashes, rivals and redeliveries."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.bars import FROM_TRADES
from stream.query import connect, run_query

MINUTE_NS = 60_000_000_000


def bars(lake: Any) -> list[dict[str, Any]]:
    """The current bars after a clean end: corrections may wait a few commits until then."""
    lake.committer.finish()
    return run_query(
        lake.settings, "select * from bars_1m_current order by symbol, ts_event_ns"
    ).to_pylist()


def minute(lake: Any) -> int:
    return int(lake.arrival_ns // MINUTE_NS * MINUTE_NS)


def test_bar_of_a_minute_is_open_high_low_close(small_lake: Any, trade: Any) -> None:
    at = minute(small_lake)
    prices = [(3, "12", 30), (1, "10", 10), (2, "15", 20), (4, "9", 25)]
    small_lake.land(small_lake.slice([trade(i, p, "2", at_ns=at + s) for i, p, s in prices]))
    [bar] = bars(small_lake)
    assert [bar[n] for n in ("open", "high", "low", "close")] == [10, 15, 9, 12]
    assert (bar["volume"], bar["trades"], bar["notional"]) == (8, 4, 92)
    assert bar["vwap"] == Decimal("11.5")
    assert (bar["ts_event_ns"], bar["first_trade_ns"], bar["last_trade_ns"]) == (
        at,
        at + 10,
        at + 30,
    )


def test_vwap_never_leaves_the_range_of_prices(small_lake: Any, trade: Any) -> None:
    highest = "9999999999.99999999"  # as a double it is 10^10, which the column cannot hold
    at = minute(small_lake)
    small_lake.land(small_lake.slice([trade(1, highest, "0.00000001", at_ns=at)]))
    [bar] = bars(small_lake)
    assert bar["vwap"] == bar["high"] == Decimal(highest)


def test_cancelled_trades_leave_an_empty_bar(small_lake: Any, trade: Any) -> None:
    at = minute(small_lake)
    small_lake.land(small_lake.slice([trade(1, at_ns=at)]))
    small_lake.land(small_lake.slice([trade(1, at_ns=at, kind="cancel", known_at_ns=at + 5)]))
    [bar] = bars(small_lake)
    assert (bar["trades"], bar["volume"], bar["open"], bar["vwap"]) == (0, 0, None, None)


def test_corrected_price_replaces_the_first_one(small_lake: Any, trade: Any) -> None:
    at = minute(small_lake)
    small_lake.land(small_lake.slice([trade(1, "10", at_ns=at), trade(2, "20", at_ns=at + 1)]))
    fix = trade(2, "30", at_ns=at + 1, kind="correct", known_at_ns=at + 5)
    small_lake.land(small_lake.slice([fix]))
    [bar] = bars(small_lake)
    assert (bar["high"], bar["close"], bar["trades"]) == (30, 30, 2)


def test_late_repetition_does_not_count_twice(small_lake: Any, trade: Any) -> None:
    at = minute(small_lake) - 60 * MINUTE_NS
    for _ in range(3):
        small_lake.land(small_lake.slice([trade(1, at_ns=at)]))
    [bar] = bars(small_lake)
    assert bar["trades"] == 1


def test_crash_between_trades_and_bars_is_caught_up(
    small_lake: Any, trade: Any, open_lake: Any
) -> None:
    small_lake.land(small_lake.slice([trade(1, at_ns=minute(small_lake))]))
    results = small_lake.road.process([small_lake.slice([trade(2, at_ns=minute(small_lake))])])
    small_lake.ledger.commit_slices([(r.record, r.files) for r in results])  # and then a crash
    restarted = open_lake(small_lake.settings.home)
    restarted.bars.catch_up()
    assert sum(bar["trades"] for bar in bars(restarted)) == 2


def test_crash_is_caught_up_by_the_next_commit(small_lake: Any, trade: Any, open_lake: Any) -> None:
    results = small_lake.road.process([small_lake.slice([trade(1, at_ns=minute(small_lake))])])
    small_lake.ledger.commit_slices([(r.record, r.files) for r in results])
    restarted = open_lake(small_lake.settings.home)
    restarted.land(small_lake.slice([trade(2, at_ns=minute(small_lake))]))
    assert sum(bar["trades"] for bar in bars(restarted)) == 2


def test_two_processes_that_take_turns_agree(small_lake: Any, trade: Any, open_lake: Any) -> None:
    rival = open_lake(small_lake.settings.home)
    for number in range(6):
        item = small_lake.slice([trade(number, at_ns=minute(small_lake) + number)])
        (rival if number % 2 else small_lake).land(item)
    assert sum(bar["trades"] for bar in bars(small_lake)) == 6


def test_correction_shows_within_six_commits(small_lake: Any, trade: Any) -> None:
    at = minute(small_lake)
    small_lake.land(small_lake.slice([trade(1, "10", at_ns=at)]))
    fix = trade(1, "30", at_ns=at, kind="correct", known_at_ns=at + 5)
    small_lake.land(small_lake.slice([fix]))
    for number in range(2, 8):
        small_lake.land(small_lake.slice([trade(number, "20", at_ns=at)]))
    sql = "select high, trades from bars_1m_current"
    assert run_query(small_lake.settings, sql).to_pylist() == [{"high": 30, "trades": 7}]


def test_commit_without_trades_leaves_no_bar(small_lake: Any) -> None:
    small_lake.land(small_lake.slice([b"{broken"]))
    assert bars(small_lake) == []


EVENTS = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 8),  # trade
            st.sampled_from(["new", "new", "new", "correct", "cancel"]),
            st.integers(1, 999),  # price
            st.integers(1, 3),  # when it was known
        ),
        max_size=8,
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EVENTS, st.data())
def test_bars_equal_the_definition_over_all_trades(
    trade: Any, open_lake: Any, drawn: list[Any], data: Any
) -> None:
    """Whatever the order, the batches, the restarts, the corrections and the late ones."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lake = first = open_lake(home)
        ago = (0, 0, 1, 3, 45)  # minutes: 45 is late; a correction keeps its trade's time
        times = [first.arrival_ns - ago[i % 5] * MINUTE_NS + i for i in range(9)]
        waiting: list[Any] = []
        for number, events in enumerate(drawn):
            messages = [
                trade(
                    i,
                    str(price),
                    at_ns=times[i],
                    kind=kind,
                    known_at_ns=times[i] + (known if kind != "new" else 0),
                )
                for i, kind, price, known in events
            ]
            waiting.append(first.slice(messages or [b"no trade"]))
            if data.draw(st.booleans()) or number == len(drawn) - 1:
                lake.land(*waiting)
                waiting = []
            if not waiting and data.draw(st.booleans()):
                lake = open_lake(home)  # a crash: nothing was flushed
                lake.bars.catch_up()
        lake.committer.finish()
        with connect(first.settings) as sql:
            wanted = sql.execute(
                "SELECT venue, symbol, minute_ns, open, high, low, close, volume, notional, trades "
                f"FROM ({FROM_TRADES}) ORDER BY ALL"
            ).fetchall()
            kept = sql.execute(
                "SELECT venue, symbol, ts_event_ns, open, high, low, close, volume, notional, "
                "trades FROM bars_1m_current ORDER BY ALL"
            ).fetchall()
        assert kept == wanted
