"""Lanes against a stream that throttles, expires iterators, fails and drops connections.

The faults come from a proxy in front of the emulator, so they arrive as the real wire errors.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stream.slices import ShardPosition, ShardRef, SliceRule
from stream.sources.kinesis import KinesisReader
from stream.sources.kinesis_client import make_client
from stream.sources.lanes import Lanes

MICROBURST = Path(sys.executable).with_name("microburst")
RULES: list[dict[str, Any]] = [
    {"operation": "GetRecords", "times": 3, "error": {"code": "ExpiredIteratorException"}},
    {"operation": "GetRecords", "times": 2, "error": {"code": "InternalFailure", "status": 500}},
    {"operation": "GetRecords", "times": 2, "reset": True},
    {
        "operation": "GetRecords",
        "sequence": {"fail": 1, "pass": 2},
        "times": 5,
        "error": {"code": "ProvisionedThroughputExceededException"},
    },
    {"operation": "GetShardIterator", "times": 1, "error": {"code": "LimitExceededException"}},
    {"operation": "ListShards", "times": 1, "error": {"code": "LimitExceededException"}},
]


class Nothing:
    """No committed position, nothing sealed."""

    def read(self) -> Mapping[str, ShardPosition]:
        return {}

    def find(self, shard: ShardRef, first: str, ts_arrival_ns: int) -> pa.RecordBatch | None:
        return None


@pytest.fixture
def faults(roto: str) -> Iterator[str]:
    """A proxy that passes everything on until it is given rules."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(MICROBURST), "--upstream", roto, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def control(url: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"{url}/_microburst/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method="GET" if body is None else "PATCH",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_lanes_through_faults_read_every_record_once_and_in_order(
    new_stream: Callable[[int], KinesisReader], faults: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, total = new_stream(2).identity.name, 2_000
    client = make_client("us-east-1")
    for start in range(0, total, 500):
        client.put_records(
            StreamName=name,
            Records=[
                {"Data": str(i).encode(), "PartitionKey": str(i)} for i in range(start, start + 500)
            ],
        )
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults)
    reader = KinesisReader(name)
    assert reader.identity.name == name
    control(faults, "rules", [{"service": "kinesis", **rule} for rule in RULES])
    lanes = Lanes(
        "trades",
        reader,
        Nothing(),
        Nothing(),
        SliceRule(window_ms=200, max_rows=90),
        poll_ms=20,
        grace_ms=50,
        reads_per_second=50.0,
        list_shards_seconds=0.5,
    )
    lanes.start()
    read: dict[str, list[int]] = {}
    deadline = time.monotonic() + 60
    try:
        while sum(map(len, read.values())) < total:
            assert time.monotonic() < deadline, lanes.status()
            items = [item for lane in range(64) if (item := lanes.poll(lane)) is not None]
            for item in items:
                numbers = [int(p) for p in item.records["payload"].to_pylist()]
                read.setdefault(item.shard.shard, []).extend(numbers)
            if not items:
                time.sleep(0.01)
    finally:
        lanes.stop()

    assert sorted(n for numbers in read.values() for n in numbers) == list(range(total))
    assert all(numbers == sorted(numbers) for numbers in read.values())
    assert all(rule["fired_count"] for rule in control(faults, "rules"))
