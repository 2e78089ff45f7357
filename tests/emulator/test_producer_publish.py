"""Producers against the embedded Kinesis: everything arrives, in order, and errors are clear."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections import defaultdict
from pathlib import Path

import boto3
import pytest

from stream.errors import ConfigError
from stream.producers.outbox import PublishRule
from stream.producers.pack import Pack
from stream.producers.produce import Request, Target, open_spool, produce, publish_batches
from stream.producers.replay_file import simulate
from stream.producers.simulate import Simulator

pytestmark = pytest.mark.enable_socket
START = 1_764_000_000_000_000_000
REGION = "us-east-1"


@pytest.fixture
def stream(roto: str, request: pytest.FixtureRequest) -> str:
    name = f"produce-{request.node.name.replace('[', '-').rstrip(']')}"[:120]
    boto3.client("kinesis", region_name=REGION).create_stream(StreamName=name, ShardCount=3)
    return name


def read_all(stream: str) -> dict[str, list[bytes]]:
    """Messages per partition key, in shard order."""
    client = boto3.client("kinesis", region_name=REGION)
    found = defaultdict(list)
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        cursor = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            answer = client.get_records(ShardIterator=cursor)
            for record in answer["Records"]:
                found[record["PartitionKey"]] += record["Data"].split(b"\n")
            cursor = answer["NextShardIterator"]
            if not answer["Records"] and not answer["MillisBehindLatest"]:
                break
    return dict(found)


def expected(pairs: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for key, line in pairs:
        found[key].append(line)
    return dict(found)


@pytest.mark.parametrize("feed", ["trades", "quotes", "news"])
def test_produce_simulated_feed_arrives_whole_and_in_order_per_key(stream, feed):
    seen = []
    report = produce(
        Target(stream, REGION),
        Request(feed, rate=None, count=8_000, seed=5, start_ns=START),
        progress=seen.append,
    )
    twin = Simulator(feed, seed=5, start_ns=START)
    assert read_all(stream) == expected(twin.take(8_000))
    assert report.truth == twin.truth
    assert report.figures.receipt.messages == 8_000
    assert report.figures.receipt.retried_records == 0
    assert seen[-1] == report.figures


def test_produce_rate_is_kept(stream):
    request = Request("trades", rate=1_000, seconds=1.5)
    figures = produce(Target(stream, REGION), request).figures
    assert 1_000 < figures.receipt.messages <= 1_600
    assert figures.receipt.messages == figures.read_messages


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_produce_file_publishes_lines_as_they_are(stream, tmp_path, suffix):
    lines = [
        b'{"venue":"sim","symbol":"A","trade_id":"1"}',
        b"not json \xff",
        b'{ "type": "match", "product_id": "BTC-USD" }',
        b"x" * 2_000_000,
        b"y" * 1_048_000,
        b'{"venue":"sim","symbol":"A","trade_id":"2"}',
    ]
    path = tmp_path / f"lines{suffix}"
    data = b"\r\n".join(lines)
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    report = produce(Target(stream, REGION), Request("trades", "file", rate=None, path=path))
    found = read_all(stream)
    assert sorted(line for group in found.values() for line in group) == sorted(
        line for line in lines if len(line) < 1_048_320
    )
    assert report.figures.oversized_messages == 1
    assert any(group == [lines[0], lines[5]] for group in found.values())


def test_produce_cut_gzip_publishes_what_is_whole_and_says_so(stream, tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b"%06d\n" % n for n in range(50_000)))[:-2_000])
    with pytest.raises(ConfigError, match=r"cut.jsonl.gz: cannot be read after line \d+"):
        produce(Target(stream, REGION), Request("trades", "file", rate=None, path=path))


def test_produce_missing_stream_is_one_clear_line(roto):
    with pytest.raises(ConfigError, match="stream nowhere does not exist"):
        produce(Target("nowhere", REGION), Request("trades", count=10))


def test_produce_stop_flushes_and_reports(stream):
    stop = threading.Event()

    def progress(figures):
        if figures.read_messages > 500:
            stop.set()

    report = produce(
        Target(stream, REGION), Request("trades", rate=2_000), stop=stop, progress=progress
    )
    assert report.figures.receipt.messages == report.figures.read_messages == report.truth.messages
    assert sum(map(len, read_all(stream).values())) == report.truth.messages


@pytest.mark.slow
def test_produce_stream_away_spools_and_the_next_start_sends_first(roto, stream, tmp_path):
    away = Target(stream, REGION, "http://127.0.0.1:9", tmp_path)
    rule = PublishRule(spool_after_seconds=0.1, backoff_seconds=0.01, max_backoff_seconds=0.05)
    simulator = Simulator("trades", seed=3, start_ns=START)
    stop = threading.Event()

    async def first():
        batches = simulate(simulator, rate=2_000, count=2_000)
        return await publish_batches(
            away, batches, stop=stop, seconds=0.5, publish_rule=rule, progress=stop_when_spooled
        )

    def stop_when_spooled(figures):
        if figures.receipt.spooled_messages:
            stop.set()

    figures = asyncio.run(first())
    assert figures.receipt.messages == figures.receipt.unsent_messages == 0
    spool = open_spool(away)
    assert sum(pack.messages for pack in spool.read(10**9)) == figures.read_messages > 0
    spool.append(Pack("sim:0", b"last", 1))
    spool.close()

    async def second():
        batches = simulate(simulator, count=1_000)
        return await publish_batches(Target(stream, REGION, None, Path(tmp_path)), batches)

    receipt = asyncio.run(second()).receipt
    assert receipt.messages == figures.read_messages + 1 + 1_000
    pairs = Simulator("trades", seed=3, start_ns=START).take(figures.read_messages + 1_000)
    pairs.insert(figures.read_messages, ("sim:0", b"last"))
    assert read_all(stream) == expected(pairs)
