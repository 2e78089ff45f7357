"""Replay of recorded slices into the live table: unchanged, mended, once, and never past it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pyarrow.compute as pc
import pytest

from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.errors import ConfigError, FatalError, ReplayedMeanwhileError
from stream.feeds.contract import Rule
from stream.prove import prove_lake
from stream.query import run_query

T0_MS = 1_764_000_000_000


def replay(lake: Any, contract: Any = None, *, apply: bool = True, span: Any = None) -> Any:
    return replay_recorded(
        lake.settings,
        lake.lake,
        contract or lake.contract,
        span or (T0_MS, T0_MS + 10**9),
        BronzeSource(lake.lake.store),
        apply=apply,
        clock=lake.clock,
    )


def with_rule(contract: Any, reason: str, is_bad: Any) -> Any:
    """A decoder fix: one more rule."""
    return replace(contract, rules=(*contract.rules, Rule(reason, reason, is_bad)))


def rows(lake: Any, sql: str = "SELECT * FROM trades ORDER BY ALL") -> list[Any]:
    return run_query(lake.settings, sql).to_pylist()


def trade(number: int, at_ns: int) -> bytes:
    message = {"venue": "sim", "symbol": "ACME", "trade_id": str(number), "price": 1, "size": 1}
    return orjson.dumps({**message, "ts_event_ns": at_ns})


def refuses_even(contract: Any) -> Any:
    return with_rule(
        contract, "bad_value", lambda r: pc.equal(pc.bit_wise_and(r["ts_event_ns"], 1), 0)
    )


def test_replay_of_what_is_recorded_changes_nothing(small_lake: Any) -> None:
    for _ in range(4):
        small_lake.land_trades(20)
    before = rows(small_lake)
    report = replay(small_lake)
    assert (report.slices, report.changed_slices, report.commit) == (4, 0, None)
    assert report.rows_before == report.rows_after == 80
    assert rows(small_lake) == before


def test_replay_after_a_decoder_fix_replaces_the_rows_and_proves_equal(small_lake: Any) -> None:
    for _ in range(4):
        small_lake.land_trades(20)
    fixed = refuses_even(small_lake.contract)
    dry = replay(small_lake, fixed, apply=False)
    assert (dry.changed_slices, dry.rows_before, dry.rows_after) == (4, 80, 40)
    assert (dry.rows_removed, dry.rows_added, dry.rejected) == (40, 0, {"bad_value": 40})
    assert len(rows(small_lake)) == 80
    report = replay(small_lake, fixed)
    assert report.commit is not None
    assert len(rows(small_lake)) == 40
    assert prove_lake(small_lake.lake, fixed).is_equal
    assert replay(small_lake, fixed).commit is None


def test_replay_of_a_range_leaves_other_slices_alone(small_lake: Any) -> None:
    items = [small_lake.land_trades(20) for _ in range(4)]
    at = items[1].arrival_ns[0] // 1_000_000
    report = replay(small_lake, refuses_even(small_lake.contract), span=(at, at + 1))
    assert (report.slices, report.changed_slices) == (1, 1)
    counts = "SELECT slice_id, count(*)::INT AS n FROM trades GROUP BY ALL ORDER BY slice_id"
    assert [row["n"] for row in rows(small_lake, counts)] == [20, 10, 20, 20]


def test_slice_after_the_range_that_repeats_a_lost_trade_lands_it(small_lake: Any) -> None:
    """It dropped the trade as a duplicate of one that the fix refuses."""
    first = small_lake.slice([trade(1, T0_MS * 1_000_000), trade(2, T0_MS * 1_000_000 + 1)])
    second = small_lake.slice([trade(1, T0_MS * 1_000_000), trade(4, T0_MS * 1_000_000)])
    third = small_lake.slice([trade(6, T0_MS * 1_000_000)])
    for item in (first, second, third):
        small_lake.land(item)
    first_ms = first.arrival_ns[0] // 1_000_000
    is_first = with_rule(
        small_lake.contract,
        "bad_value",
        lambda r: pc.and_(
            pc.equal(r["trade_id"].cast("string"), "1"),
            pc.less(r["ts_arrival_ns"], second.arrival_ns[0]),
        ),
    )
    report = replay(small_lake, is_first, span=(first_ms, first_ms + 1))
    assert (report.slices, report.changed_slices) == (2, 2)
    where = "SELECT trade_id, slice_id FROM trades ORDER BY trade_id"
    assert [row["trade_id"] for row in rows(small_lake, where)] == ["1", "2", "4", "6"]
    assert rows(small_lake, where)[0]["slice_id"] == second.id
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_replay_brings_bars_along(small_lake: Any) -> None:
    for _ in range(3):
        small_lake.land_trades(20)
    replay(small_lake, refuses_even(small_lake.contract))
    bars = rows(small_lake, "SELECT sum(trades)::INT AS n FROM bars_1m_current")
    assert bars == [{"n": 30}]


def test_replay_that_leaves_no_trade_empties_the_bar(small_lake: Any) -> None:
    small_lake.land_trades(20)
    nothing = with_rule(small_lake.contract, "bad_value", lambda r: pc.is_valid(r["price"]))
    replay(small_lake, nothing)
    assert rows(small_lake, "SELECT trades FROM bars_1m_current") == [{"trades": 0}]


def test_dataflow_beside_a_replay_of_its_last_half_hour_starts_over(
    small_lake: Any, open_lake: Any, tmp_path: Any
) -> None:
    """Its memory of keys holds rows that are gone: it commits nothing, a restart goes on."""
    for _ in range(2):
        small_lake.land_trades(20)
    replay(small_lake, refuses_even(small_lake.contract))
    item = small_lake.slice([trade(9_000_000 + n, at_ns=T0_MS * 1_000_000) for n in range(20)])
    with pytest.raises(ReplayedMeanwhileError, match="a restart decides them anew"):
        small_lake.land(item)
    assert len(rows(small_lake)) == 20
    again = open_lake(tmp_path)
    again.land(item)
    assert len(rows(small_lake)) == 40
    assert rows(small_lake, "SELECT sum(trades)::INT AS n FROM bars_1m_current") == [{"n": 40}]
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_dataflow_beside_a_replay_of_older_slices_goes_on(small_lake: Any) -> None:
    small_lake.land_trades(20)
    small_lake.arrival_ns += 3_600 * 10**9
    small_lake.land_trades(20)
    report = replay(small_lake, refuses_even(small_lake.contract), span=(T0_MS, T0_MS + 10_000))
    assert (report.slices, report.changed_slices) == (1, 1)
    small_lake.land_trades(20)
    assert len(rows(small_lake)) == 50
    assert rows(small_lake, "SELECT sum(trades)::INT AS n FROM bars_1m_current") == [{"n": 50}]
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_dataflow_leaves_the_bars_of_a_replay_to_the_replay(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of them would stall it; when they are there, or never came, it goes on."""
    small_lake.land_trades(20)
    small_lake.arrival_ns += 3_600 * 10**9
    small_lake.land_trades(20)
    with monkeypatch.context() as patch:
        patch.setattr("batch.replay.recorded.open_bars", lambda *_: None)  # killed before them
        replay(small_lake, refuses_even(small_lake.contract), span=(T0_MS, T0_MS + 10_000))
    small_lake.land_trades(20)
    bars = "SELECT sum(trades)::INT AS n FROM bars_1m_current"
    assert rows(small_lake, bars) == [{"n": 40}]
    small_lake.clock.sleep(700)
    small_lake.land_trades(20)
    assert rows(small_lake, bars) == [{"n": 70}]


def test_replay_of_an_empty_range_says_what_the_ledger_covers(small_lake: Any) -> None:
    small_lake.land_trades(5)
    with pytest.raises(ConfigError, match=r"nothing arrived from 1970.*holds arrivals from 2025"):
        replay(small_lake, span=(0, 1_000))


def test_replay_refuses_a_changed_bronze_object(small_lake: Any) -> None:
    small_lake.land_trades(5)
    path = small_lake.path(small_lake.results[0].record.bronze.path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(FatalError, match="was changed: sha256"):
        replay(small_lake)


def test_replay_refuses_silver_that_is_not_as_recorded(small_lake: Any) -> None:
    """A foreign file doubled the slice's rows: replacing them would hide it."""
    small_lake.land_trades(5)
    head = small_lake.ledger.head().properties()
    small_lake.table.append(small_lake.results[0].files, head, {})
    with pytest.raises(FatalError, match="Silver holds 10 rows, the ledger counted 5"):
        replay(small_lake, refuses_even(small_lake.contract))
