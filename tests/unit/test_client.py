"""The client against the real API: over a socket, on a lake that the road has filled."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pytest

from stream.client import connect
from stream.client.lake import Lake
from stream.client.pages import Pages
from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError
from stream.serving.keys import TOKEN_FILE
from stream.serving.local import open_local_api
from stream.serving.server import to_event

DAY = date(2025, 11, 24)


class InProcess(httpx.BaseTransport):
    """The API itself, without a socket between."""

    def __init__(self, handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._handle = handle

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        scope = {
            "path": request.url.path,
            "query_string": request.url.query,
            "method": request.method,
            "headers": request.headers.raw,
        }
        answer = self._handle(to_event(scope, has_body=False))
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        return httpx.Response(answer["statusCode"], headers=answer["headers"], content=content)


@pytest.fixture
def ask(small_lake: Any) -> Iterator[Callable[..., Lake]]:
    """Connects to the API of a lake of 2,500 trades."""
    for _ in range(5):
        small_lake.land_trades(500)
    api = open_local_api(small_lake.settings)
    right = (small_lake.settings.home / TOKEN_FILE).read_text()
    yield lambda token=right: Lake(Pages("http://api", token, transport=InProcess(api.handle)))
    api.close()


def test_all_pages_arrive_once_as_exact_arrow_pandas_and_polars(ask, monkeypatch):
    monkeypatch.setattr("stream.client.lake.PAGE_ROWS", 400)
    with ask() as lake:
        trades = lake.trades("ACME", DAY)
    assert len(trades) == 2_500
    assert len(set(trades.arrow["trade_id"].to_pylist())) == 2_500
    times = trades.arrow["ts_event_ns"].to_pylist()
    assert times == sorted(times)
    assert trades.arrow["price"][0].as_py() == Decimal("100.5")
    assert trades.as_of["table"] == "trades"
    assert trades.to_pandas()["price"].iloc[0] == Decimal("100.5")
    assert trades.to_polars().equals(pl.DataFrame(trades))
    assert trades.to_polars().schema["price"] == pl.Decimal(18, 8)


def test_limit_gives_the_first_rows_over_as_many_pages_as_it_takes(ask, monkeypatch):
    monkeypatch.setattr("stream.client.lake.PAGE_ROWS", 400)
    with ask() as lake:
        everything = lake.trades("ACME", DAY).to_pylist()
        assert lake.trades("ACME", DAY, limit=1_001).to_pylist() == everything[:1_001]
        assert lake.trades("ACME", DAY, limit=7).to_pylist() == everything[:7]
        with pytest.raises(ConfigError, match="limit is 0"):
            lake.trades("ACME", DAY, limit=0)


def test_ranges_bars_and_status_are_those_of_the_lake(ask):
    with ask() as lake:
        start = datetime(2025, 11, 24, 16, 0, tzinfo=UTC)
        some = lake.trades("ACME", start=start, end="2025-11-24T16:00:05")
        assert 0 < len(some) < 2_500
        bars = lake.bars("ACME", day=DAY).to_pylist()
        assert sum(bar["trades"] for bar in bars) == 2_500
        assert [row["feed"] for row in lake.freshness()] == ["trades"]
        assert {row["feed"] for row in lake.feeds()} >= {"trades", "quotes", "news"}
    with pytest.raises(ConfigError, match="not both"):
        lake.trades("ACME", DAY, start=start)


def test_question_that_the_api_refuses_is_refused_in_its_words(ask):
    with ask() as lake:
        with pytest.raises(ConfigError, match="symbol"):
            lake.trades("x' OR 1=1 --", DAY)
        with pytest.raises(ConfigError, match=r"/v1/bars: .*interval"):
            lake.bars("ACME", "2m")  # type: ignore[arg-type]
    with ask("wrong") as lake, pytest.raises(ConfigError, match=r"(?i)token"):
        lake.trades("ACME", DAY)


def test_nobody_there_and_no_token_say_what_to_do(small_lake, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(small_lake.settings.home))
    assert not (small_lake.settings.home / TOKEN_FILE).exists()
    with pytest.raises(ConfigError, match="headrace api"):
        connect()

    def nobody(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    lake = Lake(Pages("http://api", "token", transport=httpx.MockTransport(nobody)))
    with pytest.raises(StoreUnavailableError, match="no answer from http://api: refused"):
        lake.feeds()


def busy(times: int, status: int, headers: dict[str, str]) -> tuple[Lake, ManualClock, list[str]]:
    """A lake whose API refuses so many times first: nothing real does so on demand."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        if len(asked) <= times:
            problem = {"title": "Too many requests", "detail": "Ask later."}
            return httpx.Response(status, json=problem, headers=headers)
        return httpx.Response(200, json={"data": ["ok"]})

    clock = ManualClock()
    pages = Pages("http://api", "token", transport=httpx.MockTransport(answer), clock=clock)
    return Lake(pages), clock, asked


@pytest.mark.parametrize(
    ("status", "headers", "waited"),
    [(429, {"Retry-After": "3"}, 6.0), (503, {}, 1.5), (429, {"Retry-After": "900"}, 60.0)],
)
def test_busy_api_is_asked_again_after_the_time_it_names(status, headers, waited):
    lake, clock, asked = busy(2, status, headers)
    assert lake.feeds() == ["ok"]
    assert (len(asked), clock.monotonic()) == (3, waited)


@pytest.mark.parametrize(("status", "error"), [(429, ThrottledError), (503, StoreUnavailableError)])
def test_api_that_stays_busy_is_left_alone_after_five_tries(status, error):
    lake, _, asked = busy(9, status, {})
    with pytest.raises(error, match=r"Ask later\. \(asked 5 times\)"):
        lake.feeds()
    assert len(asked) == 5


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect_is_not_followed_with_the_token(status):
    lake, _, asked = busy(1, status, {"Location": "http://elsewhere/"})
    with pytest.raises(ConfigError):
        lake.feeds()
    assert len(asked) == 1
