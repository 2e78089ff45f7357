"""An API over a small lake on the local disk, asked without a network: events in, answers out."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from stream.serving.app import Api
from stream.serving.local import open_local_api
from stream.settings import Settings, load_settings


def _small_lake_module() -> Any:
    """The lake of tests/unit: one builder for both folders."""
    path = Path(__file__).parents[1] / "unit" / "conftest.py"
    spec = importlib.util.spec_from_file_location("small_lake_of_unit_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SMALL = _small_lake_module()


@dataclass
class Answer:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: dict[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        return self.body["data"]


@dataclass
class Caller:
    """Asks an API as somebody who has its token."""

    api: Api
    token: str

    def get(self, path: str, method: str = "GET", **parameters: Any) -> Answer:
        """`from_` is `from`; `headers` are headers; `query` replaces the parameters as they are."""
        headers = {"authorization": f"Bearer {self.token}", **parameters.pop("headers", {})}
        query = parameters.pop("query", None)
        given = {name.rstrip("_"): value for name, value in parameters.items() if value is not None}
        event = make_event(path, query if query is not None else urlencode(given), headers, method)
        return read_answer(self.api.handle(event))

    def pages(self, path: str, **parameters: Any) -> list[list[dict[str, Any]]]:
        """Every page of a query."""
        found, cursor = [], None
        while True:
            answer = self.get(path, **parameters, cursor=cursor)
            found.append(answer.rows)
            cursor = answer.body["next_cursor"]
            if cursor is None:
                return found


def make_event(
    path: str, query: str = "", headers: Mapping[str, str] | None = None, method: str = "GET"
) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": dict(headers or {}),
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
        "isBase64Encoded": False,
    }


def read_answer(raw: dict[str, Any]) -> Answer:
    media = raw["headers"].get("Content-Type", "")
    body = json.loads(raw["body"]) if "json" in str(media) and raw["body"] else raw["body"]
    return Answer(raw["statusCode"], raw["headers"], body, raw)


@pytest.fixture
def small_lake(tmp_path: Path) -> Iterator[Any]:
    """An empty lake that trades can be landed in."""
    lake = SMALL.open_small_lake(tmp_path)
    yield lake
    lake.road.close()


@pytest.fixture
def trade() -> Callable[..., bytes]:
    return SMALL.trade


@pytest.fixture
def open_api() -> Iterator[Callable[..., Caller]]:
    """Open the API of a home; overrides are settings."""
    opened: list[Api] = []

    def opener(settings: Settings, **overrides: Any) -> Caller:
        known = {"home": settings.home, "lake": settings.lake, "api_requests_per_second": 100_000}
        merged = load_settings(**{**known, **overrides})
        opened.append(open_local_api(merged))
        return Caller(opened[-1], (settings.home / "api-token").read_text().strip())

    yield opener
    for api in opened:
        api.close()


@pytest.fixture
def caller(small_lake: Any, open_api: Callable[..., Caller]) -> Caller:
    """Asks the API of the small lake."""
    return open_api(small_lake.settings)
