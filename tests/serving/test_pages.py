"""Pages of rows: exactly once, of one snapshot, resolved like the views of `query`."""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa

from stream.query import connect, run_query

DAY = "2025-11-24"
ARROW = "application/vnd.apache.arrow.stream"
T0_NS = 1_764_000_000_000_000_000
SECOND = 1_000_000_000


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["trade_id"] for row in rows]


def test_page_after_page_gives_each_row_once_while_others_commit(small_lake, caller):
    small_lake.land_trades(25)
    first = caller.get("/v1/trades", symbol="ACME", day=DAY, limit=10)
    small_lake.land_trades(10)
    second = caller.get(
        "/v1/trades", symbol="ACME", day=DAY, limit=10, cursor=first.body["next_cursor"]
    )
    third = caller.get(
        "/v1/trades", symbol="ACME", day=DAY, limit=10, cursor=second.body["next_cursor"]
    )
    found = ids(first.rows) + ids(second.rows) + ids(third.rows)
    assert found == [str(1_000 + i) for i in range(25)]
    assert third.body["next_cursor"] is None
    assert {a.body["as_of"]["snapshot"] for a in (first, second, third)} == {
        first.body["as_of"]["snapshot"]
    }


def test_limit_may_change_between_pages(small_lake, caller):
    small_lake.land_trades(9)
    first = caller.get("/v1/trades", symbol="ACME", day=DAY, limit=2)
    rest = caller.get(
        "/v1/trades", symbol="ACME", day=DAY, limit=100, cursor=first.body["next_cursor"]
    )
    assert len(first.rows) + len(rest.rows) == 9


def test_rows_equal_the_view_of_query(small_lake, caller, trade):
    land_corrections(small_lake, trade)
    rows = [row for page in caller.pages("/v1/trades", symbol="ACME", day=DAY, limit=1)
            for row in page]  # fmt: skip
    wanted = run_query(
        small_lake.settings,
        "SELECT trade_id, kind, price::VARCHAR AS price, ts_event_ns FROM trades_current "
        "ORDER BY ts_event_ns, venue, symbol, trade_id",
    ).to_pylist()
    assert [{name: row[name] for name in wanted[0]} for row in rows] == wanted


def test_rows_known_at_a_time_equal_the_macro_of_query(small_lake, caller, trade):
    land_corrections(small_lake, trade)
    with connect(small_lake.settings) as sql:
        for known_s in (0, 10, 20, 30):
            known_ns = T0_NS + known_s * SECOND
            rows = caller.get(
                "/v1/trades", symbol="ACME", day=DAY, known_at=f"2025-11-24T16:00:{known_s:02}.5Z"
            ).rows
            wanted = sql.execute(
                "SELECT trade_id FROM trades_asof(?) ORDER BY ts_event_ns", [known_ns + SECOND // 2]
            )
            assert ids(rows) == [trade_id for (trade_id,) in wanted.fetchall()]


def test_a_version_outside_the_range_still_takes_a_trade_back(small_lake, caller, trade):
    """The correction says another time than the print: neither range may show both."""
    small_lake.land(small_lake.slice([trade(1, at_ns=T0_NS), trade(2, at_ns=T0_NS + 1)]))
    moved = trade(
        1, "11", at_ns=T0_NS + 30 * SECOND, kind="correct", known_at_ns=T0_NS + 40 * SECOND
    )
    small_lake.land(small_lake.slice([moved]))
    early = caller.get(
        "/v1/trades", symbol="ACME", from_="2025-11-24T16:00:00Z", to="2025-11-24T16:00:20Z"
    )
    late = caller.get(
        "/v1/trades", symbol="ACME", from_="2025-11-24T16:00:20Z", to="2025-11-24T17:00:00Z"
    )
    assert ids(early.rows) == ["2"]
    assert ids(late.rows) == ["1"]


def test_numbers_are_exact_and_times_are_said_twice(small_lake, caller, trade):
    payload = trade(1, "9999999999.12345678", "0.00000001", at_ns=T0_NS + 123_456_789)
    small_lake.land(small_lake.slice([payload]))
    [row] = caller.get("/v1/trades", symbol="ACME", day=DAY).rows
    assert (row["price"], row["size"]) == ("9999999999.12345678", "0.00000001")
    assert row["ts_event_ns"] == T0_NS + 123_456_789
    assert row["ts_event"] == "2025-11-24T16:00:00.123456789Z"


def test_arrow_and_csv_hold_the_rows_of_json_and_name_the_cursor(small_lake, caller):
    small_lake.land_trades(5)
    asked = {"symbol": "ACME", "day": DAY, "limit": 3}
    plain = caller.get("/v1/trades", **asked)
    arrow = caller.get("/v1/trades", **asked, headers={"accept": ARROW})
    csv = caller.get("/v1/trades", **asked, headers={"accept": "text/csv"})
    assert arrow.raw["isBase64Encoded"]
    table = pa.ipc.open_stream(base64.b64decode(arrow.raw["body"])).read_all()
    assert table["price"].type == pa.decimal128(18, 8)
    assert table["ts_event"].type == pa.timestamp("ns", "UTC")
    assert table["trade_id"].to_pylist() == ids(plain.rows)
    head, *lines = csv.body.splitlines()
    assert head.replace('"', "").split(",") == list(plain.rows[0])
    assert len(lines) == 3
    for answer in (arrow, csv):
        assert json.loads(answer.headers["X-As-Of"]) == plain.body["as_of"]
        again = caller.get("/v1/trades", **asked, cursor=answer.headers["X-Next-Cursor"])
        assert len(again.rows) == 2


def test_an_answer_that_would_be_too_large_is_cut_and_goes_on(small_lake, caller, monkeypatch):
    monkeypatch.setattr("stream.serving.pages.MAX_ANSWER_BYTES", 5_000)
    small_lake.land_trades(60)
    pages = caller.pages("/v1/trades", symbol="ACME", day=DAY)
    assert len(pages) > 3
    assert [i for page in pages for i in ids(page)] == [str(1_000 + i) for i in range(60)]


def test_an_unchanged_page_is_not_read_again(small_lake, caller, monkeypatch):
    small_lake.land_trades(5)
    first = caller.get("/v1/trades", symbol="ACME", day=DAY)

    def refuse(*_: object) -> None:
        raise AssertionError("the lake was asked")

    monkeypatch.setattr("stream.serving.duckdb_rows.DuckdbRows.select", refuse)
    known = {"if-none-match": f'"other", {first.headers["ETag"]}'}
    again = caller.get("/v1/trades", symbol="ACME", day=DAY, headers=known)
    assert (again.status, again.body) == (304, "")
    assert caller.get("/v1/trades", symbol="ACME", day=DAY).body == first.body


def test_a_commit_shows_within_a_second_and_changes_the_tag(small_lake, caller, monkeypatch):
    small_lake.land_trades(5)
    first = caller.get("/v1/trades", symbol="ACME", day=DAY)
    monkeypatch.setattr("stream.serving.snapshots.REFRESH_SECONDS", -1.0)
    small_lake.land_trades(5)
    known = {"if-none-match": first.headers["ETag"]}
    second = caller.get("/v1/trades", symbol="ACME", day=DAY, headers=known)
    assert len(second.rows) == 10


def test_bars_of_a_minute_are_the_current_view(small_lake, caller):
    small_lake.land_trades(10)
    small_lake.land_trades(10)
    rows = caller.get("/v1/bars", symbol="ACME", day=DAY).rows
    wanted = run_query(
        small_lake.settings,
        "SELECT open::VARCHAR AS open, volume::VARCHAR AS volume, trades FROM bars_1m_current "
        "ORDER BY ts_event_ns",
    ).to_pylist()
    assert [{name: row[name] for name in wanted[0]} for row in rows] == wanted


def test_freshness_says_what_lag_says_and_needs_no_stream(small_lake, caller):
    small_lake.land_trades(5)
    [row] = caller.get("/v1/freshness").rows
    assert (row["feed"], row["commit"], row["is_fresh"]) == ("trades", 2, False)
    assert caller.get("/v1/freshness", feed="trades").rows[0]["commit"] == 2
    assert caller.get("/v1/freshness", feed="news").status == 404


def test_what_does_not_exist_yet_says_what_makes_it(small_lake, caller):
    assert "headrace run quotes" in caller.get("/v1/quotes", symbol="ACME").body["detail"]
    gold = caller.get("/v1/bars", symbol="ACME", interval="5m")
    assert (gold.status, "headrace gold" in gold.body["detail"]) == (409, True)
    assert caller.get("/v1/condition").status == 409
    assert caller.get("/v1/condition", feed="news").status == 404
    assert caller.get("/v1/trades", symbol="NOBODY", day=DAY).rows == []


def land_corrections(small_lake: Any, trade: Any) -> None:
    """Trades 1 and 4 are corrected, 2 is cancelled, 3 stands."""
    small_lake.land(small_lake.slice([trade(i, str(10 * i), at_ns=T0_NS + i) for i in range(1, 5)]))
    known = {"known_at_ns": T0_NS + 10 * SECOND}
    small_lake.land(
        small_lake.slice(
            [
                trade(1, "11", at_ns=T0_NS + 1, kind="correct", **known),
                trade(2, "20", at_ns=T0_NS + 2, kind="cancel", **known),
            ]
        )
    )
    later = {"known_at_ns": T0_NS + 20 * SECOND}
    small_lake.land(small_lake.slice([trade(4, "41", at_ns=T0_NS + 5, kind="correct", **later)]))
