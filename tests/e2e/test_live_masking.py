"""The live dataflow of a feed with personal data: masked at once, and under one key."""

from __future__ import annotations

import io
import time
from typing import Any

import orjson
import pyarrow.parquet as pq

from batch.actions import replay
from stream.errors import ConfigError
from stream.lake.connect import connect_lake
from stream.lake.pii_key import FILE, PiiKey, pin_key, read_pii_key
from stream.masking import Masker
from stream.sources.memory import MemoryStream

OLD = "the old key of a live lake, 32 characters and more"
NEW = "the new key of a live lake, 32 characters and more"
ALL = (0, 10**13)


def put(stream: MemoryStream, first: int, count: int) -> None:
    for number in range(first, first + count):
        story = {
            "source": "wire",
            "story_id": str(number),
            "title": f"Story {number}",
            "publisher": f"Ada {number % 3}",
            "ts_published_ns": time.time_ns() - 10**9,
        }
        stream.put(orjson.dumps(story), str(number))


def publishers(bed: Any) -> set[str]:
    return {row["publisher"] for row in bed.query("SELECT DISTINCT publisher FROM news")}


def hashes(key: PiiKey) -> set[str]:
    return {Masker(key).hash_text(f"Ada {number}") for number in range(3)}


def test_live_rows_are_masked_with_the_local_key_and_bronze_is_not(bed: Any) -> None:
    stream = MemoryStream("headrace-news", 2)
    put(stream, 0, 30)
    for committed in (30, 20):  # a restart finds the same key
        running = bed.run(stream, "news")
        running.wait_for(committed)
        running.end()
        put(stream, 30, 20)
    assert publishers(bed) == hashes(read_pii_key(bed.settings()))
    assert (bed.home / FILE).is_file()
    assert bed.count("news") == 50
    kept = [pq.read_table(io.BytesIO(data))["payload"] for data in bed.bronze().values()]
    assert sum(b"Ada " in payload.as_py() for column in kept for payload in column) == 50
    bed.check_equal("news")
    assert replay(bed.settings(), "news", *ALL).changed_slices == 0


def test_live_start_with_another_key_is_refused(bed: Any) -> None:
    stream = MemoryStream("headrace-news")
    put(stream, 0, 10)
    running = bed.run(stream, "news", pii_key=OLD)
    running.wait_for(10)
    running.end()
    refused = bed.run(stream, "news", pii_key=NEW)
    refused.join()
    assert isinstance(refused.error, ConfigError)
    assert PiiKey.of(OLD).fingerprint in str(refused.error)
    assert bed.count("news") == 10


def test_live_dataflow_with_the_old_key_ends_when_the_key_is_rotated(bed: Any) -> None:
    """Nothing is lost, no row has the old key after the change, and a replay mends those before."""
    stream = MemoryStream("headrace-news")
    put(stream, 0, 10)
    old = bed.run(stream, "news", pii_key=OLD)
    old.wait_for(10)
    replaces = PiiKey.of(OLD).fingerprint
    pin_key(connect_lake(bed.settings()).catalog.open("news"), PiiKey.of(NEW, replaces))
    put(stream, 10, 10)
    old.join()
    assert isinstance(old.error, ConfigError), old.error
    assert "would not join" in str(old.error)
    assert publishers(bed) == hashes(PiiKey.of(OLD))

    new = bed.run(stream, "news", pii_key=NEW)
    put(stream, 20, 10)
    new.wait_for(20)
    new.end()
    assert bed.count("news") == 30
    assert publishers(bed) == hashes(PiiKey.of(OLD)) | hashes(PiiKey.of(NEW))
    bed.check_equal("news")

    settings = bed.settings(pii_key=NEW)
    assert replay(settings, "news", *ALL, apply=True).changed_slices > 0
    assert publishers(bed) == hashes(PiiKey.of(NEW))
    assert replay(settings, "news", *ALL).changed_slices == 0
    bed.check_equal("news")
