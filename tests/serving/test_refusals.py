"""What the API refuses, and that every refusal is a problem document which says what to do."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.serving.local import open_local_api
from stream.serving.statements import Statement
from stream.settings import load_settings

DAY = "2025-11-24"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An API over a lake without tables; enough for whatever is refused before rows are read."""
    home = tmp_path_factory.mktemp("refusals")
    settings = load_settings(
        home=home, lake=f"file://{home}/lake", api_requests_per_second=1_000_000
    )
    api = open_local_api(settings)
    token = (home / "api-token").read_text().strip()

    def asker(
        query: str, path: str = "/v1/trades", method: str = "GET", **changes: Any
    ) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token}", **changes.pop("headers", {})}
        return api.handle(
            {
                "version": "2.0",
                "rawPath": path,
                "rawQueryString": query,
                "headers": headers,
                "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
                "isBase64Encoded": False,
                **changes,
            }
        )

    yield asker
    api.close()


def problem(answer: dict[str, Any]) -> tuple[int, str]:
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    body = json.loads(answer["body"])
    assert body.keys() == {"type", "title", "status", "detail"}
    assert body["status"] == answer["statusCode"]
    assert "Traceback" not in answer["body"]
    assert 'File "' not in answer["body"]
    return answer["statusCode"], body["detail"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "symbol: "),
        ("symbol=acme", "symbol: "),
        ("symbol=ACME%27%20OR%201%3D1--", "symbol: "),
        ("symbol=A%22%3B%20DROP%20TABLE%20trades", "symbol: "),
        ("symbol=ACME%0A", "symbol: "),
        ("symbol=ACME&symbol=B", "more than once"),
        ("symbol=ACME,B", "comma"),
        ("symbl=ACME", "Did you mean 'symbol'?"),
        ("symbol=ACME&limit=0", "limit: "),
        ("symbol=ACME&limit=10001", "limit: "),
        ("symbol=ACME&limit=99999999999999999999999999", "limit: "),
        ("symbol=ACME&limit=ten", "limit: "),
        ("symbol=ACME&venue=sin", "Did you mean 'sim'?"),
        ("symbol=ACME&day=2025-11-31", "there is no such moment"),
        ("symbol=ACME&day=%D9%A2025-11-24", "day: "),
        ("symbol=ACME&from=2025-11-24T25:00", "there is no such moment"),
        ("symbol=ACME&from=yesterday", "from: "),
        ("symbol=ACME&day=2025-11-24&from=2025-11-24", "not both"),
        ("symbol=ACME&known_at=now", "known_at: "),
        ("symbol=ACME&cursor=x", "cursor: "),
    ],
)
def test_parameter_that_is_wrong_is_named(ask, query, words):
    status, detail = problem(ask(query))
    assert (status, words in detail) == (422, True), detail


def test_range_that_is_empty_or_too_wide_is_refused(caller, small_lake):
    small_lake.land_trades(1)
    for query, words in (
        ("from=2025-11-24&to=2025-11-24", "before"),
        ("from=2025-11-24&to=2025-11-23", "before"),
        ("from=2020-01-01&to=2025-11-23", "366 days"),
    ):
        answer = caller.get("/v1/trades", query=f"symbol=ACME&{query}")
        assert (answer.status, words in answer.body["detail"]) == (422, True)


def test_token_that_is_missing_or_wrong_is_refused_and_open_paths_need_none(ask):
    for header in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer \xff"):
        answer = ask("symbol=ACME", headers={"authorization": header})
        assert problem(answer)[0] == 401
        assert answer["headers"]["WWW-Authenticate"] == "Bearer"
    for path in ("/v1/health", "/openapi.json"):
        assert ask("", path=path, headers={"authorization": ""})["statusCode"] == 200


def test_path_method_body_and_sizes_are_bounded(ask):
    assert problem(ask("", path="/v1/trade"))[0] == 404
    assert problem(ask("", path="/v1/../etc/passwd"))[0] == 404
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = ask("symbol=ACME", method=method)
        assert problem(answer)[0] == 405
        assert answer["headers"]["Allow"] == "GET, HEAD"
    assert problem(ask("symbol=ACME", body="{}"))[0] == 413
    assert problem(ask("symbol=" + "A" * 5_000))[0] == 414
    assert problem(ask("symbol=ACME", headers={"x": "a" * 20_000}))[0] == 431


def test_head_is_get_without_its_body(ask):
    answer = ask("", path="/v1/feeds", method="HEAD")
    assert (answer["statusCode"], answer["body"]) == (200, "")


def test_every_answer_forbids_guessing_its_type_and_sharing_it(ask):
    for answer in (ask("", path="/v1/feeds"), ask("", path="/nothing"), ask("symbol=x")):
        assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
        assert answer["headers"]["Cache-Control"].startswith("private")


@given(value=st.text(max_size=60), name=st.sampled_from(["symbol", "day", "cursor", "venue", "x"]))
def test_whatever_is_sent_is_answered_below_500(ask, value, name):
    answer = ask(urlencode({name: value}))
    assert answer["statusCode"] in {400, 404, 422}, answer["body"]


def test_fault_of_ours_is_logged_and_answered_without_its_story(ask, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("stream.serving.status.Status.feeds", fail)
    answer = ask("", path="/v1/feeds")
    assert problem(answer)[0] == 500
    assert "secret inside" not in answer["body"]
    assert "secret inside" in caplog.text


def test_log_shows_neither_token_nor_cursor_nor_what_was_sent(ask, caplog):
    caplog.set_level(logging.INFO)
    cursor = "Y3Vyc29y." + "A" * 43
    ask(f"symbol=ACME&day={DAY}&cursor={cursor}")
    ask("symbol=ACME", path="/v1/%0Aforged")
    assert "GET /v1/trades" in caplog.text
    assert "Bearer" not in caplog.text
    assert cursor not in caplog.text
    assert "forged" not in caplog.text


def test_caller_that_asks_too_often_is_told_when_to_come_back(small_lake, open_api):
    caller = open_api(small_lake.settings, api_requests_per_second=1)
    found = [caller.get("/v1/feeds") for _ in range(3)]
    assert [answer.status for answer in found] == [200, 200, 429]
    assert found[-1].headers["Retry-After"] == "1"


def test_query_that_takes_too_long_is_stopped(small_lake, open_api, monkeypatch):
    small_lake.land_trades(10)
    caller = open_api(small_lake.settings, api_query_seconds=0.1)
    endless = Statement("SELECT count(*) FROM range(1000000000000) t(a) WHERE a % 7 = ?", (3,))
    monkeypatch.setattr("stream.serving.duckdb_rows.DuckdbRows._select_silver",
                        lambda rows, *_: rows._run(rows._connect(), endless))  # fmt: skip
    answer = caller.get("/v1/trades", symbol="ACME", day=DAY)
    assert (answer.status, answer.body["type"]) == (504, "urn:headrace:problem:query-timeout")


def test_lake_that_is_away_is_said_with_advice(tmp_path):
    settings = load_settings(home=tmp_path)  # a platform that does not run
    api = open_local_api(settings)
    token = (tmp_path / "api-token").read_text().strip()
    event = {
        "rawPath": "/v1/trades",
        "rawQueryString": "symbol=ACME",
        "headers": {"authorization": f"Bearer {token}"},
        "requestContext": {"http": {"method": "GET", "path": "/v1/trades"}, "stage": "$default"},
    }
    answer = api.handle(event)
    api.close()
    status, detail = problem(answer)
    assert (status, "headrace up" in detail) == (503, True)
    assert answer["headers"]["Retry-After"] == "5"
