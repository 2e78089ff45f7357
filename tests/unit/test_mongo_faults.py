"""A MongoDB that breaks off, refuses or stays silent: read on, said, or given up; nothing lost."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import mongomock
import pytest
from bson import ObjectId
from pydantic import SecretStr
from pymongo.errors import AutoReconnect, CursorNotFound, OperationFailure

from batch.extracts import ExtractRequest
from batch.extracts.mongo import MongoExtractor
from stream.clock import ManualClock
from stream.errors import ConfigError, RetryableError

NOW_NS = 1_768_000_000_000_000_000  # 2026-01-09
T0 = datetime(2026, 1, 5, 9, 30)  # noqa: DTZ001 - BSON's dates are UTC, naive
PASSWORD = "hunter2"


@dataclass
class Flaky:
    """A collection whose cursor breaks after some documents, again and again."""

    inner: Any
    error: Exception
    every: int
    breaks: int = 10**9

    def find(self, query: Any) -> Any:
        return _FlakyCursor(self, self.inner.find(query))


class _FlakyCursor:
    def __init__(self, owner: Flaky, cursor: Any) -> None:
        self._owner, self._cursor, self._left = owner, cursor, owner.every

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> _FlakyCursor:
            self._cursor = getattr(self._cursor, name)(*args)
            return self

        return call

    def __iter__(self) -> _FlakyCursor:
        return self

    def __next__(self) -> Any:
        if not self._left and self._owner.breaks:
            self._owner.breaks -= 1
            raise self._owner.error
        self._left -= 1
        return next(self._cursor)


@pytest.fixture
def books() -> Any:
    return mongomock.MongoClient()["books"]["transactions"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_NS)


def document(number: int) -> dict[str, Any]:
    return {"_id": ObjectId(f"{number:024x}"), "updated_at": T0 + timedelta(seconds=number // 3)}


def extract(books: Any, clock: ManualClock, error: Exception, every: int) -> list[str]:
    """Ids in order, through a cursor that breaks after `every` documents."""
    extractor = MongoExtractor(
        SecretStr("mongodb://h"), "books", clock=clock, connect=lambda _: books.database.client
    )
    extractor._collection = lambda client, name: Flaky(books, error, every)  # type: ignore[method-assign]
    parts = list(extractor.extract(ExtractRequest("transactions")))
    lines = [line for part in parts for line in gzip.decompress(part.data).splitlines()]
    return [json.loads(line)["_id"]["$oid"] for line in lines]


@pytest.mark.parametrize("error", [AutoReconnect("gone"), CursorNotFound("lost", 43)])
def test_broken_connection_goes_on_behind_the_last_document(books, clock, error):
    books.insert_many([document(i) for i in range(100)])
    assert extract(books, clock, error, 7) == [f"{i:024x}" for i in range(100)]


def test_server_that_never_answers_is_given_up_after_some_attempts(books, clock):
    books.insert_one(document(1))
    with pytest.raises(RetryableError, match="did not answer 5 times in a row") as raised:
        extract(books, clock, AutoReconnect(PASSWORD), 0)
    assert clock.now_ns() - NOW_NS == (2 + 4 + 8 + 16) * 10**9
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [(18, "access refused"), (13, "access refused"), (292, "Create one on"), (2, "refused the")],
)
def test_refusal_is_not_repeated_and_says_what_to_do(books, clock, code, said):
    books.insert_one(document(1))
    with pytest.raises(ConfigError, match=said) as raised:
        extract(books, clock, OperationFailure(f"no {PASSWORD}", code), 0)
    assert clock.now_ns() == NOW_NS
    assert PASSWORD not in str(raised.value)
