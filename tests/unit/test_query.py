"""SQL over Silver: fresh, of one snapshot, read-only, and clear when it is wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stream.bars import FROM_TRADES
from stream.errors import ConfigError, StoreUnavailableError
from stream.query import connect, run_query
from stream.settings import load_settings


def ask(lake: Any, sql: str) -> list[tuple[Any, ...]]:
    table = run_query(lake.settings, sql)
    return [tuple(row.values()) for row in table.to_pylist()]


def test_query_after_a_commit_shows_its_rows_at_once(small_lake: Any) -> None:
    small_lake.land_trades(10)
    assert ask(small_lake, "select count(*) from trades") == [(10,)]
    small_lake.land_trades(5)
    assert ask(small_lake, "select count(*) from silver.trades") == [(15,)]


def test_query_of_an_empty_table_has_its_columns(small_lake: Any) -> None:
    table = run_query(small_lake.settings, "select * from trades")
    assert table.num_rows == 0
    assert {"venue", "price", "ts_event", "slice_id"} <= set(table.column_names)
    assert ask(small_lake, "select count(*) from trades_current") == [(0,)]
    assert ask(small_lake, "select count(*) from quarantine") == [(0,)]


def test_query_price_times_size_does_not_overflow(small_lake: Any) -> None:
    small_lake.land_trades(2, price="9999999999.5", size="1000")
    [(notional,)] = ask(small_lake, "select sum(price * size) from trades")
    assert notional == 2 * Decimal("9999999999.5") * 1000


def test_trades_current_takes_the_latest_version_and_leaves_cancelled_out(
    small_lake: Any, trade: Any
) -> None:
    land_corrections(small_lake, trade)
    rows = ask(small_lake, "select trade_id, price from trades_current order by trade_id")
    assert rows == [("1", Decimal(11)), ("3", Decimal(30))]


def test_trades_asof_shows_what_was_known_then(small_lake: Any, trade: Any) -> None:
    at = land_corrections(small_lake, trade)
    sql = "select trade_id, price from trades_asof({}) order by trade_id"
    before = ask(small_lake, sql.format(at + 500_000_000))
    assert before == [("1", Decimal(10)), ("2", Decimal(20)), ("3", Decimal(30))]
    assert ask(small_lake, sql.format(at - 1)) == []


def test_trades_current_adds_up_to_the_bars(small_lake: Any, trade: Any) -> None:
    land_corrections(small_lake, trade)
    small_lake.committer.finish()  # corrections may wait a few commits for their bars
    with connect(small_lake.settings) as sql:
        bars = sql.execute(f"SELECT sum(trades), sum(volume), sum(notional) FROM ({FROM_TRADES})")
        from_trades = bars.fetchone()
        current = sql.execute(
            "SELECT count(*), sum(size), sum(price * size) FROM trades_current"
        ).fetchone()
        kept = sql.execute(
            "SELECT sum(trades), sum(volume), sum(notional) FROM bars_1m_current"
        ).fetchone()
    assert from_trades == current == kept


def test_bars_current_has_one_row_per_minute(small_lake: Any) -> None:
    small_lake.land_trades(10)
    small_lake.land_trades(10)
    [(bars, revisions)] = ask(
        small_lake,
        "select (select count(*) from bars_1m_current), (select count(*) from bars_1m)",
    )
    assert revisions > bars
    assert ask(small_lake, "select sum(trades) from bars_1m_current") == [(20,)]


def test_quarantine_view_shows_what_the_ledger_names(small_lake: Any, trade: Any) -> None:
    small_lake.land(small_lake.slice([trade(1), b"{broken", trade(2, price="-5")]))
    rows = ask(small_lake, "select feed, raw from quarantine order by line_no, record_no")
    assert ("trades", b"{broken") in rows
    assert len(rows) == 2


def test_ledger_views_list_slices_and_commits(small_lake: Any) -> None:
    small_lake.land_trades(10)
    small_lake.land_trades(20)
    slices = ask(small_lake, "select records, silver_rows from ledger_slices order by commit")
    assert slices == [(10, 10), (20, 20)]
    commits = ask(
        small_lake, "select kind, slices, silver_rows from ledger_commits order by commit"
    )
    assert commits == [("start", 0, 0), ("slices", 1, 10), ("slices", 1, 20)]
    assert ask(small_lake, "select * from gaps") == []


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to 'stolen.csv'",
        "explain analyze copy (select 1) to 'stolen.csv'",
        "create table x as select 1",
        "attach 'other.db'",
        "install httpfs",
        "set threads = 1",
        "insert into trades select * from trades",
        "select 1; select 2",
        "",
    ],
)
def test_query_that_writes_is_refused(small_lake: Any, sql: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run_query(small_lake.settings, sql)
    assert not Path("stolen.csv").exists()


@pytest.mark.parametrize(
    "sql",
    ["show tables", "describe trades", "summarize trades", "from trades", "explain from trades"],
)
def test_query_that_only_looks_is_allowed(small_lake: Any, sql: str) -> None:
    small_lake.land_trades(3)
    assert run_query(small_lake.settings, sql).num_rows > 0


def test_query_of_an_unknown_table_lists_what_exists(small_lake: Any) -> None:
    with pytest.raises(ConfigError, match=r"tradez.*bars_1m.*trades_current"):
        run_query(small_lake.settings, "select * from tradez")


def test_query_with_a_typing_error_fails_in_one_line(small_lake: Any) -> None:
    for sql in ("selec 1", "select nothing from trades"):
        with pytest.raises(ConfigError) as caught:
            run_query(small_lake.settings, sql)
        assert "\n" not in str(caught.value)


def test_query_of_a_lake_without_tables_says_how_to_start(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    with pytest.raises(ConfigError, match="headrace run"):
        run_query(settings, "select 1")


def test_query_of_a_missing_file_says_what_to_do(small_lake: Any) -> None:
    small_lake.land_trades(3)
    small_lake.path(small_lake.entries()[-1].slices[0].silver[0].path).unlink()
    with pytest.raises(StoreUnavailableError, match="headrace prove"):
        run_query(small_lake.settings, "select * from trades")


def test_query_on_s3_without_credentials_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_lake: Any
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    settings = small_lake.settings.model_copy(update={"lake": "s3://nowhere"})
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        run_query(settings, "select 1")


def land_corrections(lake: Any, trade: Any) -> int:
    """Trades 1 to 3; a second later 1 is corrected and 2 is cancelled. Returns their time."""
    at = lake.arrival_ns
    later = at + 1_000_000_000
    lake.land(lake.slice([trade(i, price=str(i * 10), at_ns=at) for i in (1, 2, 3)]))
    lake.land(
        lake.slice(
            [
                trade(1, price="11", at_ns=at, kind="correct", known_at_ns=later),
                trade(2, price="20", at_ns=at, kind="cancel", known_at_ns=later),
            ]
        )
    )
    return int(at)
