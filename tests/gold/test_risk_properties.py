"""Value at risk, expected shortfall and returns agree with numpy on any prices and positions."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import compiled
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow  # dbt compiles the project: 10 s and more


DAY = date(2026, 1, 5)
WINDOW, RISK_DAYS = 60, 3
MONEY, PRICE = pa.decimal128(28, 8), pa.decimal128(18, 8)
HOLDINGS = pa.schema(
    [
        *(("portfolio", pa.string()), ("as_of_date", pa.date32()), ("currency", pa.string())),
        *(("symbol", pa.string()), ("is_cash", pa.bool_()), ("market_value", MONEY)),
        ("is_unpriced", pa.bool_()),
    ]
)
SCENARIOS = pa.schema(
    [
        *(("portfolio", pa.string()), ("as_of_date", pa.date32()), ("currency", pa.string())),
        *(("scenario_date", pa.date32()), ("pnl", MONEY)),
    ]
)
POSITION_DAYS = pa.schema(
    [
        *(("portfolio", pa.string()), ("session_date", pa.date32()), ("currency", pa.string())),
        *(("symbol", pa.string()), ("is_cash", pa.bool_()), ("market_value", MONEY)),
        ("is_unpriced", pa.bool_()),
    ]
)
BARS = pa.schema(
    [
        *(("source", pa.string()), ("symbol", pa.string()), ("session_date", pa.date32())),
        *(("close", PRICE), ("adj_close", PRICE), ("is_preferred", pa.bool_())),
    ]
)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    variables = {"var_window_days": WINDOW, "risk_days": RISK_DAYS}
    return compiled.compile_models(
        tmp_path_factory.mktemp("risk"), "var_calculations", variables=variables
    )


def money(values: Any) -> list[Decimal]:
    return [Decimal(round(float(value) * 10_000)).scaleb(-4) for value in values]


def losses(pnl: np.ndarray, confidence: int) -> dict[str, tuple[float, float]]:
    """VaR and expected shortfall of both methods, one day; confidence in percent."""
    worst, tail = np.sort(pnl), len(pnl) * (100 - confidence)  # in hundredths of a scenario
    value = -worst[-(-tail // 100) - 1]
    weights = np.clip(tail / 100 - np.arange(len(pnl)), 0, 1)
    shortfall = -(weights @ worst) / weights.sum()
    spread, normal = np.std(pnl, ddof=1), NormalDist()
    z = normal.inv_cdf(confidence / 100)
    return {
        "historical": (max(0.0, value), max(0.0, shortfall, value)),
        "parametric": (z * spread, spread * normal.pdf(z) / (1 - confidence / 100)),
    }


def check_losses(rows: list[dict[str, Any]], pnls: dict[Any, np.ndarray]) -> None:
    """Every row against numpy; `pnls` by portfolio, day and currency."""
    for row in rows:
        pnl = pnls.get((row["portfolio"], row["as_of_date"], row["currency"]), np.array([]))
        assert row["observations"] == len(pnl)
        said = row["value_at_risk"], row["expected_shortfall"]
        if not row["holdings"]:
            assert said == (0.0, 0.0)
        elif len(pnl) < 20:
            assert said == (None, None)
            assert not row["is_reliable"]
        else:
            one_day = losses(pnl, round(row["confidence"] * 100))[row["method"]]
            right = tuple(math.sqrt(row["horizon_days"]) * value for value in one_day)
            assert said == pytest.approx(right, rel=1e-9, abs=1e-3)
            assert row["is_reliable"] == (len(pnl) >= 60 and not row["unpriced_positions"])


@settings(max_examples=30)
@given(SEEDS, st.lists(st.integers(0, 620), min_size=1, max_size=6))
def test_var_and_shortfall_agree_with_numpy_on_any_pnl(models, seed, counts):
    rng = np.random.default_rng(seed)
    holdings, scenarios, pnls = [], [], {}
    for number, count in enumerate([*counts, 500, 100, 20]):
        row = {"portfolio": f"p{number}", "as_of_date": DAY, "currency": "USD"}
        held = {"symbol": "X", "is_cash": False, "market_value": Decimal(1), "is_unpriced": False}
        holdings.append(row | held)
        centre, spread = rng.normal(0, 2), rng.choice([0.0, 1.0, 1e6])
        drawn = rng.standard_t(3, count) * spread + centre
        if rng.random() < 0.3:
            drawn = np.round(drawn / (spread or 1)) * spread  # many equal ones
        values = money(drawn)
        pnls["p" + str(number), DAY, "USD"] = np.array([float(value) for value in values])
        scenarios += [
            row | {"scenario_date": DAY - timedelta(days=n), "pnl": value}
            for n, value in enumerate(values)
        ]
    rows = models.answer(
        "var_calculations",
        {
            "int_risk_holdings": pa.Table.from_pylist(holdings, HOLDINGS),
            "int_portfolio_scenarios": pa.Table.from_pylist(scenarios, SCENARIOS),
        },
    )
    assert len(rows) == 8 * len(holdings)
    check_losses(rows, pnls)
    assert all(r["expected_shortfall"] is None or r["expected_shortfall"] >= r["value_at_risk"]
               for r in rows)  # fmt: skip


def random_bars(rng: np.random.Generator, symbols: str, sessions: int) -> list[dict[str, Any]]:
    """Sessions with holes and long gaps, two sources, adj_close here and there."""
    bars = list[dict[str, Any]]()
    for symbol in symbols:
        has_adjusted = rng.choice([0.0, 0.9, 1.0])
        presence = rng.choice([0.5, 0.97, 1.0])
        for n in np.flatnonzero(rng.random(sessions) < presence):
            day = DAY - timedelta(days=int(sessions - n))
            sources = [source for source in "st" if rng.random() < 0.9] or ["t"]
            for source in sources:
                close, adjusted = money(rng.lognormal(3, 0.3, 2))
                bars.append(
                    {
                        "source": source,
                        "symbol": symbol,
                        "session_date": day,
                        "close": close,
                        "adj_close": adjusted if rng.random() < has_adjusted else None,
                        "is_preferred": source == sources[0],
                    }
                )
    return bars


def returns_of(bars: list[dict[str, Any]]) -> dict[tuple[str, date], float]:
    by_source = defaultdict(dict)
    for bar in bars:
        by_source[bar["symbol"], bar["source"]][bar["session_date"]] = bar
    answer = {}
    for (symbol, _), days in by_source.items():
        ordered = sorted(days)
        for before, day in pairwise(ordered):
            old, new = days[before], days[day]
            if not new["is_preferred"] or (day - before).days > 7:
                continue
            both = old["adj_close"] is not None and new["adj_close"] is not None
            name = "adj_close" if both else "close"
            answer[symbol, day] = float(new[name]) / float(old[name]) - 1
    return answer


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 40))
def test_returns_agree_with_a_loop_over_sessions(models, seed, sessions):
    bars = random_bars(np.random.default_rng(seed), "ABC", sessions)
    table = pa.Table.from_pylist(bars, BARS)
    rows = models.answer("int_daily_returns", {"stg_prices_daily__bars": table})
    said = {(row["symbol"], row["session_date"]): row["simple_return"] for row in rows}
    assert said == pytest.approx(returns_of(bars), rel=1e-9, abs=1e-11)


@settings(max_examples=25)
@given(SEEDS, st.integers(15, 90))
def test_scenarios_and_losses_of_portfolios_and_total_agree_with_numpy(models, seed, sessions):
    rng = np.random.default_rng(seed)
    bars = random_bars(rng, "ABCD", sessions)
    returns = returns_of(bars)
    positions = list[dict[str, Any]]()
    for portfolio in "pq":
        for n in range(6):
            if rng.random() < 0.2:
                continue
            row = {"portfolio": portfolio, "session_date": DAY - timedelta(days=n)}
            for symbol in "ABCD":
                if rng.random() < 0.6:
                    (value,) = money([rng.normal(0, 10_000)])
                    is_unpriced = bool(rng.random() < 0.1)
                    held = {"market_value": None if is_unpriced else value}
                    held |= {"symbol": symbol, "is_unpriced": is_unpriced, "is_cash": False}
                    positions.append(row | {"currency": "EUR" if symbol == "D" else "USD"} | held)
            cash = {"symbol": "USD", "currency": "USD", "is_unpriced": False, "is_cash": True}
            positions.append(row | cash | {"market_value": money([rng.normal(0, 1e6)])[0]})
    given_ = {
        "stg_prices_daily__bars": pa.Table.from_pylist(bars, BARS),
        "int_position_days": pa.Table.from_pylist(positions, POSITION_DAYS),
    }
    scenarios, rows = models.answers(["int_portfolio_scenarios", "var_calculations"], given_)

    wanted, values = simulate(positions, returns)
    said = defaultdict(dict)
    for row in scenarios:
        key = row["portfolio"], row["as_of_date"], row["currency"]
        said[key][row["scenario_date"]] = float(row["pnl"])
    assert set(said) == {key for key, pnl in wanted.items() if pnl}
    for key, pnl in said.items():
        assert pnl == pytest.approx(wanted[key], rel=1e-9, abs=1e-5)
    assert {(r["portfolio"], r["as_of_date"], r["currency"]) for r in rows} == set(values)
    for row in rows:
        key = row["portfolio"], row["as_of_date"], row["currency"]
        assert float(row["portfolio_value"]) == pytest.approx(values[key], abs=1e-4)
    check_losses(rows, {key: np.array(list(pnl.values())) for key, pnl in wanted.items()})


def simulate(positions: list[dict[str, Any]], returns: dict[tuple[str, date], float]) -> Any:
    """Scenario P&L by key and date, and portfolio values by key, with numpy."""
    books: dict[Any, dict[tuple[str, bool], float]] = defaultdict(lambda: defaultdict(float))
    for row in positions:
        for portfolio in (row["portfolio"], "TOTAL"):
            book = books[portfolio, row["session_date"], row["currency"]]
            book[row["symbol"], row["is_cash"]] += float(row["market_value"] or 0)
    wanted, values = {}, {}
    for (portfolio, day, currency), book in books.items():
        if day not in sorted({d for p, d, _ in books if p == portfolio})[-RISK_DAYS:]:
            continue
        values[portfolio, day, currency] = sum(book.values())
        held = {s: v for (s, is_cash), v in book.items() if not is_cash and round(v, 8)}
        dates = sorted({d for s, d in returns if s in held and d <= day})[-WINDOW:]
        matrix = np.array([[returns.get((s, d), np.nan) for s in held] for d in dates])
        matrix = matrix.reshape(len(dates), len(held))
        pnl = matrix @ np.array(list(held.values()))
        whole = {d: float(p) for d, p in zip(dates, pnl, strict=True) if not np.isnan(p)}
        wanted[portfolio, day, currency] = whole
    return wanted, values


@settings(max_examples=20)
@given(SEEDS)
def test_shortfall_is_coherent_where_var_need_not_be(models, seed):
    """Acerbi and Tasche: the total's is at most the sum; twice the book has twice the loss."""
    rng = np.random.default_rng(seed)
    days = [DAY - timedelta(days=n) for n in range(WINDOW)]
    bars = [
        {"source": "s", "symbol": symbol, "session_date": day, "close": close,
         "adj_close": None, "is_preferred": True}
        for symbol in "ABCD"
        for day, close in zip([*days, DAY - timedelta(days=WINDOW)],
                              money(np.exp(rng.standard_t(3, WINDOW + 1) / 9) * 50), strict=True)
    ]  # fmt: skip
    one = [Decimal(int(units)) for units in rng.integers(-10_000, 10_000, 4)]
    books = {"p": one, "twice": [2 * value for value in one], "q": [-one[0], *one[:3]]}
    positions = [
        {"portfolio": portfolio, "session_date": DAY, "currency": "USD", "symbol": symbol,
         "is_cash": False, "market_value": value, "is_unpriced": False}
        for portfolio, book in books.items()
        for symbol, value in zip("ABCD", book, strict=True)
    ]  # fmt: skip
    tables = {
        "stg_prices_daily__bars": pa.Table.from_pylist(bars, BARS),
        "int_position_days": pa.Table.from_pylist(positions, POSITION_DAYS),
    }
    found = defaultdict(dict)
    for row in models.answer("var_calculations", tables):
        assert row["observations"] == WINDOW
        key = row["method"], row["confidence"], row["horizon_days"]
        found[key][row["portfolio"]] = row["value_at_risk"], row["expected_shortfall"]
    for of in found.values():
        assert of["twice"] == pytest.approx([2 * value for value in of["p"]], abs=1e-3)
        shortfalls = {portfolio: shortfall for portfolio, (_, shortfall) in of.items()}
        assert shortfalls.pop("TOTAL") <= sum(shortfalls.values()) + 1e-3


def test_hulls_two_assets_give_his_figures_from_prices_on(models):
    """$10M of Microsoft (2 % a day) and $5M of AT&T (1 %), correlation 0.3: Hull, ch. 22."""
    n = np.arange(WINDOW)
    x, y = np.where(n % 4 < 2, 1.0, -1.0), np.where(n % 2 == 0, 1.0, -1.0)
    exact = math.sqrt((WINDOW - 1) / WINDOW)
    moves = {"MSFT": 0.02 * exact * x, "T": 0.01 * exact * (0.3 * x + math.sqrt(1 - 0.09) * y)}
    bars = []
    for symbol, returns in moves.items():
        closes = 100_000 * np.cumprod(np.concatenate([[1.0], 1 + returns]))
        for k, close in enumerate(money(closes)):
            day = DAY - timedelta(days=WINDOW - k)
            bars.append({"source": "s", "symbol": symbol, "session_date": day, "close": close,
                         "adj_close": None, "is_preferred": True})  # fmt: skip
    values = {"MSFT": Decimal(10_000_000), "T": Decimal(5_000_000)}
    positions = [
        {"portfolio": symbol, "session_date": DAY, "currency": "USD", "symbol": symbol,
         "is_cash": False, "market_value": value, "is_unpriced": False}
        for symbol, value in values.items()
    ]  # fmt: skip
    rows = models.answer(
        "var_calculations",
        {
            "stg_prices_daily__bars": pa.Table.from_pylist(bars, BARS),
            "int_position_days": pa.Table.from_pylist(positions, POSITION_DAYS),
        },
    )
    found = {
        (row["portfolio"], row["horizon_days"]): row["value_at_risk"]
        for row in rows
        if row["method"] == "parametric" and row["confidence"] == Decimal("0.99")
    }
    said = {
        ("MSFT", 1): 465_300,
        ("T", 1): 116_300,
        ("TOTAL", 1): 512_300,
        ("TOTAL", 10): 1_620_100,
    }
    for key, value in said.items():
        assert found[key] == pytest.approx(value, rel=2e-4), key
