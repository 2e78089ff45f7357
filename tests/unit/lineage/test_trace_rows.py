"""From rows that conditions name, in Silver, its views, bars and quarantine."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stream.errors import ConfigError
from stream.lineage.question import Condition, condition_sql, read_question
from stream.lineage.rows import AmbiguousRowsError, command, event_span

T0_NS = 1_764_000_000_000_000_000


def test_row_leads_to_the_exact_line_that_it_was(traced: Any) -> None:
    traced.land_mixed()
    found = traced.ask("trades", "trade_id=3", "symbol=ACME")
    assert found.is_whole, found.broken
    [record] = found.records
    assert (record.verdict, record.sequence_number, record.line_no) == ("equal", "1001", 2)
    assert orjson.loads(record.message)["trade_id"] == "3"
    assert record.payload.split(b"\n")[2] == record.message


def test_several_rows_are_listed_with_a_command_each_and_traced_on_request(traced: Any) -> None:
    traced.land_mixed()
    with pytest.raises(AmbiguousRowsError, match="5 rows of trades") as refused:
        traced.ask("trades", "venue=sim")
    words = str(refused.value).splitlines()[-1].split()[2:]
    assert traced.ask(*words).records[0].verdict == "equal"
    found = traced.ask("trades", "venue=sim", traces_all=True)
    assert [record.verdict for record in found.records] == ["equal"] * 5
    limited = traced.ask("trades", "venue=sim", traces_all=True, limit=2)
    assert len(limited.records) == 2


def test_current_trade_is_its_last_version(traced: Any) -> None:
    at = traced.small.arrival_ns
    old = traced.trade(1, at_ns=at)
    new = traced.trade(1, "99.5", at_ns=at, kind="correct", known_at_ns=at + 5)
    gone = [traced.trade(2, at_ns=at), traced.trade(2, at_ns=at, kind="cancel", known_at_ns=at + 1)]
    traced.small.land(traced.small.slice([old, new, *gone]))
    [record] = traced.ask("trades_current", "trade_id=1").records
    assert record.message == new
    with pytest.raises(ConfigError, match="no row of trades_current"):
        traced.ask("trades_current", "trade_id=2")


def test_bar_is_computed_again_from_the_bytes_of_its_trades(traced: Any) -> None:
    traced.small.land_trades(4)
    traced.small.land_trades(3)
    [bar] = traced.rows("SELECT ts_event_ns, revision FROM bars_1m_current")
    found = traced.ask("bars_1m_current", f"ts_event_ns={bar['ts_event_ns']}")
    assert found.is_whole, found.broken
    assert len(found.records) == 7
    [link] = [link for link in found.back.walk() if link.kind == "bar"]
    assert (link.state, link.says[:21]) == ("verified", "computed again, equal")
    older = traced.ask("bars_1m", f"revision={bar['revision'] - 1}")
    assert "has replaced it" in older.back.links[0].says


def test_quarantined_message_leads_to_its_slice(traced: Any) -> None:
    item = traced.land_mixed()
    found = traced.ask("quarantine", "reason=malformed_json")
    assert found.is_whole
    assert [link.name for link in found.back.walk() if link.kind == "slice"] == [item.id]
    assert b"{broken" in [record.message for record in found.records]


def test_time_condition_reads_only_the_files_of_its_day(traced: Any) -> None:
    traced.land_extract(4)
    traced.small.land_trades(2)
    found = traced.ask("trades", "ts_event>=2025-11-20", "ts_event<2025-11-21", "trade_id=3")
    assert found.reads.silver_files <= 3
    wide = traced.ask("trades", "trade_id=3")
    assert wide.records == found.records


REFUSED = {
    "simbol=A": "Did you mean 'symbol'?",
    "symbol": "is no condition",
    "symbol=' OR 1=1 --": "no row of trades",
    "symbol=x'; DROP TABLE trades; --": "no row of trades",
    '"symbol" = 1 OR 1=1': "is no condition",
    "price=many": "Could not convert string",
    "ts_event=yesterday": "is not an ISO time",
    "trade_id=77": "no row of trades meets",
}


def test_conditions_are_bound_and_wrong_ones_are_explained(traced: Any) -> None:
    traced.small.land_trades(1)
    for condition, says in REFUSED.items():
        with pytest.raises(ConfigError) as refused:
            traced.ask("trades", condition)
        assert says in str(refused.value), condition
    assert traced.rows("SELECT count(*) AS n FROM trades") == [{"n": 1}]


def test_command_can_be_pasted_into_a_shell() -> None:
    row = {"symbol": "A'; rm -rf /", "at": None}
    assert command("trades", row, ["symbol", "at"]) == (
        "headrace lineage trades 'symbol=A'\"'\"'; rm -rf /'"
    )


def test_question_with_conditions_is_a_table_and_never_a_key() -> None:
    with pytest.raises(ConfigError, match="names nothing of a lake"):
        read_question("bronze/x", ["a=1"])
    assert read_question("gold.fct_bars_1h", ["a>=1"]).schema == "gold"


def test_times_with_a_zone_are_utc() -> None:
    where, values = condition_sql(
        [Condition("ts_event", "=", "2026-11-29T22:00+01:00")], {"ts_event": "TIMESTAMP"}
    )
    assert values == ["2026-11-29T21:00:00.000000"]
    assert where == 'true AND "ts_event" = CAST(? AS TIMESTAMP)'
    assert event_span([Condition("ts_event", "=", "1970-01-01T01:00:01+01:00")]) == (
        1_000_000,
        1_000_000,
    )


def test_source_of_personal_data_is_hidden_unless_it_is_asked_for(
    traced_books: Any,
) -> None:
    found = traced_books("transactions", "transaction_id=t-1")
    assert found.is_whole, found.broken
    assert (found.hides_bytes, len(found.records)) == (True, 1)
    assert "Ada" not in str(found.to_json())
    shown = traced_books("transactions", "transaction_id=t-1", shows_personal=True)
    assert b"Ada Lovelace" in shown.to_json()["records"][0]["message"]
    slices = traced_books(shown.records[0].slice_id)
    assert "Ada" not in str(slices.to_json())
