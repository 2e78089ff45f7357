"""Every decoder that reads bytes from outside: its check, what to begin with, what it consists of.

A new feed is found by itself; a new format of anything else gets a line in `decoders`.
"""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import file_checks as files
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from feed_checks import check_feed, feed_seeds

from stream.feeds import load_feeds
from stream.lake.entries import Entry, ObjectRef, SliceRecord
from stream.slices import ShardPosition, ShardRef


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder. `check` raises for a finding; `seeds`: inputs that it reads.

    `is_slice`: an input is a slice of many payloads. It costs 20 ms, and ten times that when each
    branch is watched, so it is fuzzed blindly, two dozen changed payloads at a time.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    is_slice: bool = False


@cache
def decoders() -> dict[str, Decoder]:
    """All of them, by name."""
    feeds = [
        Decoder(feed, partial(check_feed, feed), partial(feed_seeds, feed), is_slice=True)
        for feed in sorted(load_feeds())
    ]
    others = [
        Decoder("kpl-record", files.check_aggregated, _aggregated_seeds),
        Decoder("get-records", files.check_get_records, _answer_seeds),
        Decoder("json-part", files.check_json_part, _json_seeds),
        Decoder("jsonl-part", files.check_jsonl_part, _json_seeds),
        Decoder("gzip-part", files.check_gzip_part, _gzip_seeds),
        Decoder("csv-part", files.check_csv_part, _csv_seeds),
        Decoder("parquet-part", files.check_parquet_part, _parquet_seeds),
        Decoder("ledger-entry", files.check_entry, _entry_seeds),
        Decoder("object-key", files.check_keys, _key_seeds),
        Decoder("rss", files.check_rss, _rss_seeds),
        Decoder("venue-message", files.check_venues, partial(feed_seeds, "trades")),
    ]
    return {decoder.name: decoder for decoder in (*feeds, *others)}


def _aggregated_seeds() -> list[bytes]:
    key, data = b"\x0a\x01k", b"\x1a\x07\x08\x00\x1a\x03abc"
    return [key + data, key + data * 3, key + b"\x12\x01h" + data, files.seal(key + data)]


def _answer_seeds() -> list[bytes]:
    record = {
        "SequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "ApproximateArrivalTimestamp": 1764000000.123,
        "Data": base64.b64encode(b'{"venue":"sim"}').decode(),
        "PartitionKey": "k",
    }
    sealed = {**record, "Data": base64.b64encode(_aggregated_seeds()[3]).decode()}
    without_key = {k: v for k, v in record.items() if k != "PartitionKey"}
    answers = [
        {"Records": [], "MillisBehindLatest": 0},
        {"Records": [record, without_key], "NextShardIterator": "AAA", "MillisBehindLatest": 5},
        {"Records": [record, sealed], "NextShardIterator": None},
        {"__type": "InternalFailure", "message": "oops"},
    ]
    return [orjson.dumps(answer) for answer in answers]


def _json_seeds() -> list[bytes]:
    return [
        b'[{"a":1},{"a":"x,]"},\n {"b":[1,2]}]', b'{"a":1}', b"[]", b'[1.50, "\\"", null]',
        b'\xef\xbb\xbf[{"a":"\xc3\xa9"}]\n', b'{"a":1}\n{"a":2}\r\n\n{"a":3}',
    ]  # fmt: skip


def _gzip_seeds() -> list[bytes]:
    one = gzip.compress(b'{"a":1}\n{"a":2}\n', mtime=0)
    return [one, one + one, one + b"\0" * 8, b'{"a":1}\n{"a":2}\n']


def _csv_seeds() -> list[bytes]:
    return [b"a,b\n1,2\n3,4\n", b"a;b\n", b'b,a\r\n"x ""y""",2\r\n,\r\n', b"\xef\xbb\xbfa\n1\n\n2"]


def _parquet_seeds() -> list[bytes]:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": ["x", None, "z"], "b": ["1", "2", "3"]}), out)
    return [out.getvalue()]


def _entry_seeds() -> list[bytes]:
    shard = ShardRef("trades", "ticks.0a1b2c3d", "shardId-000000000000")
    item = ObjectRef("bronze/x.parquet", "00" * 32, 10, 2)
    record = SliceRecord(shard, None, "1", "9", 2, 10, (1, 2), bronze=item, silver=(item,))
    positions = {str(shard): ShardPosition("9", arrival_ms=5)}
    entry = Entry("trades", 1, None, "slices", 1_764_000_000_000, positions, (record,))
    return [entry.to_bytes(), orjson.dumps({str(shard): {"sequence_number": None, "is_ended": False, "arrival_ms": 0, "start": {"at": "TRIM_HORIZON"}}})]  # fmt: skip # noqa: E501


def _key_seeds() -> list[bytes]:
    day, digest = "year=2026/month=11/day=23", "0123456789abcdef"
    shard = f"ticks.0a1b2c3d-shardId-000000000001-{'0' * 55}1"
    return [
        text.encode()
        for text in (
            f"bronze/source=trades/{day}/hour=09/{shard}.parquet",
            f"silver/entity=trades/{day}/rewritten-{digest}.parquet",
            f"quarantine/source=trades/{day}/{shard}-{digest}.parquet",
            f"bronze/source=fmp/{day}/hour=16/run_id=r-1/1795449600000_000001.json",
            "bronze/source=fmp/manifest/r-1.json",
            f"ledger/feed=trades/000000000012-{digest}.json",
            "closed/feed=trades/ticks.0a1b2c3d/shardId-000000000001.json",
            "gold/target=prod/builds/00000012.json",
            "dbt-artifacts/prod/builds/00000012/manifest.json",
        )
    ]


def _rss_seeds() -> list[bytes]:
    return [
        b"<rss><channel><item><guid>1</guid><title>a &amp; <b>c</b></title></item></channel></rss>",
        b'<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><item><link>x</link>'
        b"<category>p</category><category>q</category></item><item/></channel></rss>",
        b'<!DOCTYPE x [<!ENTITY e "y">]><rss>&e;</rss>',
    ]
