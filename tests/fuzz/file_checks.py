"""What must hold of the other decoders for any bytes: wire formats, files, our own documents.

Each check gives its input to one decoder and lets pass only the errors that its docstring names;
what it accepts is compared with a second, slower way to the same result.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from contextlib import suppress
from hashlib import md5
from typing import Any

import botocore.session
import orjson
import pyarrow as pa
from botocore.parsers import JSONParser, ResponseParserError

from stream.errors import FatalError
from stream.lake.entries import POSITIONS, Entry, Head
from stream.lake.layout import (
    BronzeKey,
    ClosedShardKey,
    DbtArtifactKey,
    ExtractManifestKey,
    ExtractPartKey,
    GoldBuildKey,
    LedgerKey,
    QuarantineKey,
    SilverKey,
)
from stream.producers.answer import UnreadableAnswerError
from stream.producers.rss import FIELDS, MAX_ITEMS, parse_rss
from stream.producers.venue_protocol import VENUES
from stream.sources.aggregation import AGGREGATED, MAX_KEY_CHARACTERS, split_aggregated
from stream.sources.extract_formats import items_of
from stream.sources.kinesis_parser import build_records, parse_get_records, parse_timestamp

MAPPING = {
    "fields": {
        "a": {"column": "a", "as": "text"},
        "b": {"column": "b", "as": "text", "optional": True},
    }
}
KEYS: tuple[Any, ...] = (
    BronzeKey, SilverKey, QuarantineKey, ExtractPartKey, ExtractManifestKey, LedgerKey,
    ClosedShardKey, GoldBuildKey, DbtArtifactKey,
)  # fmt: skip


def check_aggregated(data: bytes) -> None:
    """KPL records: as given, and once more with the right magic and checksum around them."""
    for payload in (data, seal(data)):
        found = split_aggregated(payload)
        if found is None:
            continue
        assert found, "an aggregated record without user records would vanish"
        for user, key in found:
            assert user in payload
            assert len(key) <= MAX_KEY_CHARACTERS
        rows = build_records([payload, b"x"], ["1", "2"], ["k", None], [1.5, 1.5])
        assert rows["payload"].to_pylist() == [*(user for user, _ in found), b"x"]
        assert rows["sub_sequence"].to_pylist() == [*range(len(found)), 0]


def seal(body: bytes) -> bytes:
    """A protobuf message as the Kinesis Producer Library wraps it."""
    return AGGREGATED + body + md5(body, usedforsecurity=False).digest()


def check_get_records(data: bytes) -> None:
    """A GetRecords answer: whatever botocore's own parser reads, we read the same."""
    parsed = None
    with suppress(ValueError, KeyError, TypeError, ResponseParserError):
        parsed = parse_get_records(data)
    if parsed is None:
        return
    batch = parsed["Records"]
    batch.validate(full=True)
    raw = orjson.loads(data)["Records"]
    if any(base64.b64decode(r["Data"]).startswith(AGGREGATED) for r in raw):
        return
    try:
        shipped = _shipped_parser().parse(
            {"status_code": 200, "headers": {}, "body": data}, _shape()
        )
    except Exception:  # noqa: BLE001 - stricter than ours, in its own ways: nothing to compare
        return
    found = shipped.get("Records") or []
    assert batch["payload"].to_pylist() == [r.get("Data") for r in found]
    assert batch["sequence_number"].to_pylist() == [r.get("SequenceNumber") for r in found]
    assert batch["partition_key"].to_pylist() == [r.get("PartitionKey") for r in found]


def _shipped_parser() -> JSONParser:
    return JSONParser(timestamp_parser=parse_timestamp)


def _shape() -> Any:
    if not _SHAPE:
        loader = botocore.session.get_session().get_service_model("kinesis")
        _SHAPE.append(loader.operation_model("GetRecords").output_shape)
    return _SHAPE[0]


_SHAPE: list[Any] = []


def check_json_part(data: bytes) -> None:
    """A part of JSON: elements in their own digits on one line each, or damage."""
    items = _items(data, "json")
    if items is None:
        return
    try:
        whole = json.loads(data.decode("utf-8-sig"), parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return  # an element is the decoder's to judge, not the reader's
    expected = whole if isinstance(whole, list) else [whole]
    found = [json.loads(item, parse_float=str, parse_int=str) for item in items]
    assert repr(found) == repr(expected)


def check_jsonl_part(data: bytes) -> None:
    """A part of lines: every line that is not blank, exactly."""
    items = _items(data, "jsonl")
    assert items is not None, "lines are never damage"
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert items == [line for line in lines if line.strip(b" \t\r")]


def check_gzip_part(data: bytes) -> None:
    """A packed part: what gzip unpacks, or damage; also what is packed here and cut."""
    packed = gzip.compress(data, 1, mtime=0)
    assert _items(packed, "jsonl.gz") == _items(data, "jsonl")
    assert _items(packed[: max(len(packed) - 1 - len(data) % 9, 0)], "jsonl.gz") is None
    _items(data, "jsonl.gz")


def check_csv_part(data: bytes) -> None:
    """A part of CSV: the rows that Python's csv reads, or damage."""
    items = _items(data, "csv")
    if items is None:
        return
    for item in items:
        row = orjson.loads(item)
        assert set(row) <= {"a", "b"}
    text = data.decode("utf-8-sig", errors="replace")  # of columns that nobody asked for
    if '"' in text or "\r" in text or "\0" in text:
        return  # quoting at odd places is read in more than one way
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    names = rows[0]
    assert [orjson.loads(item).get("a") for item in items] == [
        row[names.index("a")] or None for row in rows[1:]
    ]


def check_parquet_part(data: bytes) -> None:
    """A part of Parquet: its rows, or damage; never a crash of the library."""
    _items(data, "parquet")


def _items(data: bytes, suffix: str) -> list[bytes] | None:
    try:
        found = items_of("part", data, suffix, MAPPING)
    except FatalError:
        return None
    assert isinstance(found, pa.Array)
    found.validate(full=True)
    items: list[bytes] = found.to_pylist()
    assert not any(item is None or b"\n" in item for item in items)
    return items


def check_entry(data: bytes) -> None:
    """A ledger entry: read back and written again it stays what it was."""
    with suppress(ValueError, KeyError, TypeError):
        entry = Entry.from_bytes(data)
        assert Entry.from_bytes(entry.to_bytes()) == entry
    with suppress(ValueError, KeyError, TypeError):
        head = Head.of({POSITIONS: data.decode()})
        assert Head.of(head.properties()).positions == head.positions


def check_keys(data: bytes) -> None:
    """An object's key: what is read back is written as it was."""
    path = data.decode(errors="replace")
    for kind in KEYS:
        with suppress(ValueError):
            assert kind.parse(path).path == path


def check_rss(data: bytes) -> None:
    """An RSS document: flat items, or unreadable."""
    with suppress(UnreadableAnswerError):
        items = parse_rss(data)
        assert len(items) <= MAX_ITEMS
        assert all(set(item) == set(FIELDS) for item in items)


def check_venues(data: bytes) -> None:
    """A venue's message: classified, whatever it is."""
    for venue in VENUES.values():
        assert venue.read(data).kind in {"data", "control", "error"}
