"""What MongoDB is asked for: wrong options and addresses are named, and no secret with them."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timedelta

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from pydantic import SecretStr

from batch.extracts import ExtractRequest
from batch.extracts.mongo import MongoExtractor
from batch.extracts.mongo_query import read_options, to_line
from stream.errors import ConfigError

PASSWORD = "hunter2"
T0 = datetime(2026, 1, 5, 9, 30)  # noqa: DTZ001 - BSON's dates are UTC, naive


def test_time_that_python_has_no_date_for_is_kept():
    options = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
    document = bson.decode(bson.encode({"settles": DatetimeMS(10**15)}), options)
    assert to_line(document) == b'{"settles":{"$date":{"$numberLong":"1000000000000000"}}}'


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://user:{PASSWORD}@host:notaport/",
        f"http://user:{PASSWORD}@host/",
        f"mongodb://user:{PASSWORD}/@host",
        f"mongodb://u@x:{PASSWORD}@host/",
        f"mongodb://user:{PASSWORD}@host/?w=many&ssl=perhaps",
        "",
    ],
)
def test_wrong_uri_is_refused_without_showing_it(uri, caplog):
    caplog.set_level(logging.DEBUG)
    extractor = MongoExtractor(SecretStr(uri), "books")
    with pytest.raises(ConfigError, match="the URI cannot be used") as raised:
        list(extractor.extract(ExtractRequest("transactions")))
    shown = [str(raised.value), repr(extractor), repr(raised.value.__cause__), caplog.text]
    assert PASSWORD not in "".join(shown)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"curser": "_id"}, "no option 'curser'"),
        ({"cursor": "when"}, "cursor: found 'when', expected one of updated_at, _id"),
        ({"limit": "0"}, "limit: found '0'"),
        ({"limit": "many"}, "limit: found 'many'"),
        ({"after": "{}"}, "after: found '{}', expected the position"),
        ({"after": "nonsense"}, "an object with updated_at and _id"),
        ({"after": '{"_id":{"$oid":"x"}}', "cursor": "_id"}, "an object with _id"),
        ({"after": '{"updated_at":"x","_id":1}'}, "after: found"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError) as error:
        read_options(options)
    assert said in str(error.value)


def test_foreign_data_set_and_database_are_refused():
    with pytest.raises(ConfigError, match="no data set 'users'; there are transactions, positions"):
        MongoExtractor(SecretStr("mongodb://h"), "books").feed_of("users")
    with pytest.raises(ConfigError, match=r"database 'a\.b'"):
        MongoExtractor(SecretStr("mongodb://h"), "a.b")


def test_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(ConfigError, match=r"headrace\[mongo\]"):
        MongoExtractor(SecretStr("mongodb://h"), "books")


def test_position_is_read_back_as_it_was_written():
    at = T0 + timedelta(milliseconds=7)
    position = to_line({"updated_at": at, "_id": ObjectId("6925f2a0c3d1e4b5a6978812")}).decode()
    _, after, _ = read_options({"after": position})
    assert after == {"updated_at": at, "_id": ObjectId("6925f2a0c3d1e4b5a6978812")}
