"""Market models agree with exact arithmetic that knows no SQL, on any trades and quotes.

Decimals, counts, times and texts must be equal. Doubles may differ by half a unit of the digit to
which the model rounds (`HALF`), and by 1e-12 of their size: what a double holds of a quotient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import compiled
import duckdb
import market_reference as reference
import pyarrow as pa
import pyarrow.csv as pc
import pytest
import rendered
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.gold.reach import find_reached
from stream.bars import FROM_TRADES
from stream.feeds import load_feed
from stream.query import DERIVED

DAYS = [date(2026, 11, 18) + timedelta(days=n) for n in range(4)]
EPOCH_DAY, DAY_NS = date(1970, 1, 1), 86_400 * reference.SECOND
VENUES, SYMBOLS = ("sim", "kraken", "fmp"), ("BTC", "NEW")
BY_DAY = (
    *("int_enriched_trades", "int_venue_hours", "fct_bars_1m", "fct_bars_5m", "fct_bars_1h"),
    *("fct_bars_1d", "fct_session_vwap", "fct_spread_liquidity"),
)
OTHERS = ("stg_trades__trades", "trades_current", "fct_data_condition")
WIDTHS = {"fct_bars_1m": 60, "fct_bars_5m": 300, "fct_bars_1h": 3_600, "fct_bars_1d": 86_400}
HALF = {
    **dict.fromkeys(("effective_spread_bps", "quoted_spread_bps", "mean_depth"), 6e-7),
    **dict.fromkeys(("mid_price", "crossed_share", "locked_share", "inside_share"), 6e-10),
    **dict.fromkeys(("vwap", "twap"), 6e-9),
    **dict.fromkeys(("session_return", "imbalance"), 6e-11),
    "quote_age_ms": 6e-4,
}
AS_OF = "with_last_quote"
Row, Rows = dict[str, Any], list[dict[str, Any]]

# Few times, so that they collide, on both sides of minutes, midnight and a quote's last second.
SECONDS = (0, 1, 30, 59, 60, 61, 299, 300, 3_599, 3_600, 7_260, 86_280, 86_339, 86_340, 86_399)
TIMES = st.builds(
    lambda day, second, ns: ((day - EPOCH_DAY).days * 86_400 + second) * reference.SECOND + ns,
    st.sampled_from(DAYS),
    st.sampled_from(SECONDS),
    st.sampled_from((0, 0, 0, 1, 999, 1_000, 500_000_000, 999_999_999)),
)
AMOUNTS = st.one_of(
    st.sampled_from([Decimal(text) for text in ("0.1", "0.15", "0.2", "0.3", "0.4", "0.7", "1")]),
    st.integers(1, 10**6).map(lambda cents: Decimal(cents).scaleb(-2)),
    st.integers(1, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-8)),
)
IDS = st.sampled_from(("1", "2", "9", "10", "11", "100", "a1", "b"))
PLACES = st.tuples(st.sampled_from(VENUES), st.sampled_from(SYMBOLS))
SIDES = st.sampled_from(("buy", "sell", "unknown", "unknown"))
VERSIONS = st.lists(
    st.tuples(
        st.sampled_from(("correct", "correct", "cancel")),
        st.none() | TIMES,  # None: the trade's own time
        st.sampled_from((0, 0, 1, reference.SECOND, DAY_NS)),
        AMOUNTS,
        AMOUNTS,
    ),
    max_size=2,
)
LATE = st.sampled_from((0, 0, 0, 1, 2))


@st.composite
def silver(draw: Any, most: int = 14) -> tuple[Rows, Rows]:
    """Trades and quotes as Silver may hold them, in any order."""
    trades, quotes = list[Row](), list[Row]()
    keys = st.tuples(PLACES, IDS)
    for (venue, symbol), name in draw(st.lists(keys, max_size=most, unique=True)):
        row = {"venue": venue, "symbol": symbol, "trade_id": name, "side": draw(SIDES)}
        at, price, size = draw(TIMES), draw(AMOUNTS), draw(AMOUNTS)
        own = [("new", at, 0, price, size), *draw(VERSIONS)]
        for kind, moved, known, its_price, its_size in own[
            draw(st.sampled_from((0, 0, 0, 0, 1))) :
        ]:
            when = at if moved is None else moved
            version = {
                "kind": kind,
                "price": its_price,
                "size": its_size,
                "known_at_ns": at + known,
            }
            version["ts_event_ns"] = when
            trades += copies(row | version, draw(LATE))
    for place, name in draw(st.lists(keys, max_size=2 * most)):
        (venue, symbol), prices = place, sorted((draw(AMOUNTS), draw(AMOUNTS)))
        if draw(st.sampled_from((False, False, False, True))):
            prices.reverse()
        quote = {"venue": venue, "symbol": symbol, "quote_id": name, "ts_event_ns": draw(TIMES)}
        quote |= {"bid_price": prices[0], "ask_price": prices[1]}
        if not any(same_quote(quote, other) for other in quotes):
            quotes += copies(
                quote | {"bid_size": draw(AMOUNTS), "ask_size": draw(AMOUNTS)}, draw(LATE)
            )
    return numbered(draw, trades), numbered(draw, quotes)


def same_quote(one: Row, other: Row) -> bool:
    """A venue's message with an id and a time says one thing, however often."""
    return all(one[k] == other[k] for k in ("venue", "symbol", "quote_id", "ts_event_ns"))


def copies(row: Row, late: int) -> Rows:
    return [row | {"is_late": number > 0} for number in range(late + 1)]


def numbered(draw: Any, rows: Rows) -> Rows:
    """In the order of their arrival, which is any; with what every Silver row carries."""
    return [
        row
        | {
            "session_date": reference.day_of(row["ts_event_ns"]),
            "ts_event": row["ts_event_ns"] // 1_000,
            "ts_arrival_ns": 10**18 + place // 3,
            "slice_id": f"slice-{place // 2}",
            "sequence_number": str(place),
            "line_no": 0,
            "shard": "s",
        }
        for place, row in enumerate(draw(st.permutations(rows)))
    ]


def table(feed: str, rows: Rows) -> pa.Table:
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in load_feed(feed).silver_schema
    ]
    return pa.Table.from_pylist(rows, pa.schema(fields))


class Gold:
    """A DuckDB with Silver, the seeds and the models that were built."""

    def __init__(self, project: Any, trades: Rows, quotes: Rows) -> None:
        self.project, self.sql = project, duckdb.connect(config={"threads": 1})
        for schema in ("lake.silver", "headrace.gold", "headrace.gold_staging"):
            self.sql.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {schema.partition('.')[0]}")
            self.sql.execute(f"CREATE SCHEMA {schema}")
        for schema in ("intermediate", "reference"):
            self.sql.execute(f"CREATE SCHEMA headrace.gold_{schema}")
        self.put("lake.silver.trades", table("trades", trades))
        self.put("lake.silver.quotes", table("quotes", quotes))
        for seed, rows in SEEDS.items():
            self.put(project.relation(seed), rows)

    def put(self, name: str, rows: pa.Table) -> None:
        self.sql.register("given", rows)
        self.sql.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")
        self.sql.unregister("given")

    def build(self, *models: str) -> Gold:
        for model in models:
            relation = self.project.relation(model)
            self.sql.execute(f"CREATE OR REPLACE TABLE {relation} AS {self.project.sql(model)}")
        return self

    def land(self, feed: str, rows: Rows) -> None:
        self.sql.register("given", table(feed, rows))
        self.sql.execute(f"INSERT INTO lake.silver.{feed} FROM given")
        self.sql.unregister("given")

    def build_days(self, days: Sequence[date]) -> None:
        """What a run with these days does: delete, then insert."""
        for model in BY_DAY:
            self.sql.execute(self.project.forget(model, days))
            text = self.project.sql(model, days)
            self.sql.execute(f"INSERT INTO {self.project.relation(model)} {text}")

    def rows(self, sql: str) -> Rows:
        answer: Rows = self.sql.execute(sql).to_arrow_table().to_pylist()
        return answer

    def model(self, name: str) -> Rows:
        return self.rows(f"FROM {self.project.relation(name)}")


SEEDS = {
    name: pc.read_csv(
        rendered.DBT / f"seeds/{name}.csv",
        convert_options=pc.ConvertOptions(true_values=["true"], false_values=["false"]),
    )
    for name in ("venues", "instruments")
}
ALWAYS_OPEN = {row["venue"]: row["is_always_open"] for row in SEEDS["venues"].to_pylist()}
ASSET_CLASS = {row["symbol"]: row["asset_class"] for row in SEEDS["instruments"].to_pylist()}
PROJECT, PORTABLE = rendered.Project(), rendered.Project(portable=[AS_OF])


def assert_equal(rows: Rows, right: Mapping[Any, Row], *keys: str) -> None:
    """The same keys, once each; every column that `right` names says the same."""
    found = [tuple(row[key] for key in keys) for row in rows]
    assert len(found) == len(set(found))
    assert set(found) == set(right)
    for key, row in zip(found, rows, strict=True):
        for name, known in right[key].items():
            if name not in row:
                continue
            said = row[name]
            if name in HALF and known is not None:
                assert said is not None, (key, name, known)
                most = HALF[name] + 1e-12 * abs(known)
                assert abs(Fraction(said) - Fraction(known)) <= most, (
                    key,
                    name,
                    said,
                    float(known),
                )
            else:
                assert said == known, (key, name)


def check_all(gold: Gold, trades: Rows, quotes: Rows) -> None:
    """Every model of trades and quotes against the reference."""
    wanted = reference.enriched(trades, quotes)
    rows = gold.model("int_enriched_trades")
    assert_equal(
        rows, {k: without_time(v) for k, v in wanted.items()}, "venue", "symbol", "trade_id"
    )
    for row in rows:
        assert row["asset_class"] == ASSET_CLASS.get(row["symbol"])
        assert row["is_always_open"] == ALWAYS_OPEN[row["venue"]]
    for model, seconds in WIDTHS.items():
        right = reference.bars(wanted, seconds)
        assert_equal(gold.model(model), right, "venue", "symbol", "ts_event_ns")
        assert all(row["low"] <= row["vwap"] <= row["high"] for row in gold.model(model))
    of_day = ("venue", "symbol", "event_day")
    assert_equal(gold.model("fct_session_vwap"), reference.sessions(wanted), *of_day)
    assert_equal(gold.model("fct_spread_liquidity"), reference.spreads(wanted, quotes), *of_day)
    hours = reference.hours(wanted)
    assert_equal(gold.model("int_venue_hours"), hours, "venue", "event_day", "hour")


def without_time(row: Row) -> Row:
    """`ts_event` comes back as a datetime: ts_event_ns says more."""
    return {name: value for name, value in row.items() if name not in {"ts_event", "shard"}}


def any_data_agrees(data: tuple[Rows, Rows]) -> None:
    check_all(Gold(PROJECT, *data).build(*BY_DAY), *data)


@settings(max_examples=25)
@given(silver())
def test_models_agree_with_exact_arithmetic(data):
    any_data_agrees(data)


@pytest.mark.slow
@settings(max_examples=150)
@given(silver(most=25))
def test_models_agree_with_exact_arithmetic_on_many_more(data):
    any_data_agrees(data)


@settings(max_examples=15)
@given(silver())
def test_portable_as_of_join_says_the_same(data):
    right = reference.enriched(*data)
    rows = Gold(PORTABLE, *data).build("int_enriched_trades").model("int_enriched_trades")
    named = {key: without_time(row) for key, row in right.items()}
    assert_equal(rows, named, "venue", "symbol", "trade_id")


@settings(max_examples=15)
@given(
    silver(),
    st.lists(
        st.tuples(st.sampled_from(DAYS), st.booleans(), st.booleans()), unique_by=lambda d: d[0]
    ),
)
def test_data_condition_agrees(data, told):
    feed_days = [
        {"feed": feed, "arrival_day": day, "gaps": int(has_gap), "reject_share": 0.02 * is_bad}
        for day, has_gap, is_bad in told
        for feed in ("trades", "quotes")
        if feed == "trades" or has_gap
    ]
    types = {
        "feed": pa.string(),
        "arrival_day": pa.date32(),
        "gaps": pa.int64(),
        "reject_share": pa.float64(),
    }
    gold = Gold(PROJECT, *data).build("int_enriched_trades", "int_venue_hours")
    gold.put(PROJECT.relation("fct_feed_day"), pa.Table.from_pylist(feed_days, pa.schema(types)))
    gold.build("fct_data_condition")
    right = reference.conditions(reference.enriched(*data), feed_days, ALWAYS_OPEN.__getitem__)
    assert_equal(gold.model("fct_data_condition"), right, "venue", "event_day")


@st.composite
def commits(draw: Any) -> list[tuple[Rows, Rows]]:
    """Silver in two to four commits: any row may come first."""
    trades, quotes = draw(silver())
    count = draw(st.integers(2, 4))
    found = [(list[Row](), list[Row]()) for _ in range(count)]
    for rows, which in ((trades, 0), (quotes, 1)):
        for row in rows:
            found[draw(st.integers(0, count - 1))][which].append(row)
    return found


def any_commits_add_up(parts: list[tuple[Rows, Rows]]) -> None:
    """Day by day what changed, or all at once: the same tables."""
    gold = Gold(PROJECT, [], []).build(*BY_DAY)
    for trades, quotes in parts:
        gold.land("trades", trades)
        gold.land("quotes", quotes)
        touched = {reference.day_of(row["ts_event_ns"]) for row in (*trades, *quotes)}
        if touched:
            gold.build_days(sorted(touched | find_reached(gold.sql, touched, 7, 60)))
    grown = {model: gold.rows(f"FROM {PROJECT.relation(model)} ORDER BY ALL") for model in BY_DAY}
    gold.build(*BY_DAY)
    for model in BY_DAY:
        assert grown[model] == gold.rows(f"FROM {PROJECT.relation(model)} ORDER BY ALL"), model
    gold.build_days(DAYS[1:3])
    for model in BY_DAY:
        assert grown[model] == gold.rows(f"FROM {PROJECT.relation(model)} ORDER BY ALL"), model


@settings(max_examples=5)
@given(commits())
def test_commit_by_commit_gives_what_a_full_run_gives(parts):
    any_commits_add_up(parts)


@pytest.mark.slow
@settings(max_examples=80)
@given(commits())
def test_commit_by_commit_gives_what_a_full_run_gives_with_many_more(parts):
    any_commits_add_up(parts)


BAR = (
    "venue, symbol, ts_event_ns, open, high, low, close, volume, notional, trades, "
    "first_trade_ns, last_trade_ns"
)
VERSION = (
    "venue, symbol, trade_id, kind, side, price, size, ts_event_ns, known_at_ns, ts_event, "
    "session_date"
)


@settings(max_examples=12)
@given(silver())
def test_bars_of_the_stream_and_trades_of_a_query_are_those_of_gold(data):
    gold = Gold(PROJECT, *data).build("int_enriched_trades", "fct_bars_1m", *OTHERS[:2])
    gold.sql.execute("CREATE VIEW trades AS FROM lake.silver.trades")
    streamed = BAR.replace("ts_event_ns", "minute_ns AS ts_event_ns", 1)
    streamed = streamed.replace(
        "first_trade_ns, last", "first_ns AS first_trade_ns, last_ns AS last"
    )
    gold.sql.execute(
        f"CREATE VIEW streamed AS SELECT {streamed} FROM ({FROM_TRADES}) WHERE trades > 0"
    )
    bars = PROJECT.relation("fct_bars_1m")
    assert gold.rows("FROM streamed ORDER BY ALL") == gold.rows(
        f"SELECT {BAR} FROM {bars} ORDER BY ALL"
    )
    query_views(gold)
    current = gold.rows(f"SELECT {VERSION} FROM trades_current ORDER BY ALL")
    for model in OTHERS[:2]:
        relation = PROJECT.relation(model)
        assert gold.rows(f"SELECT {VERSION} FROM {relation} ORDER BY ALL") == current


def query_views(gold: Gold) -> None:
    gold.sql.execute("CREATE SCHEMA silver")
    gold.sql.execute("CREATE VIEW silver.trades AS FROM lake.silver.trades")
    for statement in DERIVED["trades"]:
        gold.sql.execute(statement)


@settings(max_examples=12)
@given(silver(), st.data())
def test_trades_as_of_a_time_are_those_that_were_known(data, more):
    gold = Gold(PROJECT, *data)
    query_views(gold)
    known = [row["known_at_ns"] for row in data[0]]
    at = more.draw(st.sampled_from(known) if known else TIMES) + more.draw(st.integers(-1, 1))
    analysis = PROJECT.text((rendered.DBT / "analyses/trades_asof.sql").read_text(), known_by_ns=at)
    rows = gold.rows(f"SELECT {VERSION} FROM trades_asof({at}) ORDER BY ALL")
    assert rows == gold.rows(f"SELECT {VERSION} FROM ({analysis}) ORDER BY ALL")
    right = reference.standing([row for row in data[0] if row["known_at_ns"] <= at])
    assert keys(rows) == keys(right)


def keys(rows: Iterable[Row]) -> list[Any]:
    names = ("venue", "symbol", "trade_id", "kind", "price", "size", "ts_event_ns")
    return sorted(tuple(row[name] for name in names) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("days", [None, DAYS[:1], [DAYS[0], DAYS[2]]])
def test_what_is_tested_here_is_what_dbt_compiles(tmp_path, days):
    named = None if days is None else [day.isoformat() for day in days]
    models = compiled.compile_models(tmp_path, *BY_DAY, *OTHERS, variables={"days": named})
    for model in (*BY_DAY, *OTHERS):
        relation = models.relations[model]
        assert relation.sql.strip() == PROJECT.sql(model, days), model
        assert relation.address == PROJECT.relation(model)
