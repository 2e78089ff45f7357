"""A real emulator, a real stream under load, and dataflow processes that can be killed."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from stream.lake.store import Store, create_bucket, open_store
from stream.settings import Settings, load_settings
from stream.sources import ShardInfo
from stream.sources.kinesis import KinesisReader
from stream.sources.kinesis_streams import create_stream, merge_shards, split_shard

FAST = {
    "HEADRACE_WINDOW_MS": "500",
    "HEADRACE_GRACE_MS": "200",
    "HEADRACE_EPOCH_SECONDS": "0.5",
    "HEADRACE_POLL_MS": "50",
    "HEADRACE_LIST_SHARDS_SECONDS": "0.5",
    "HEADRACE_LANES": "16",
}


@dataclass
class Platform:
    """An emulator with a lake bucket, and the environment that points at it."""

    home: Path
    environment: dict[str, str]
    settings: Settings
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return open_store(self.settings.lake, endpoint=self.environment["AWS_ENDPOINT_URL"])

    def run_feed(self, feed: str) -> subprocess.Popen[bytes]:
        """Start `headrace run FEED` as its own process."""
        with (self.home / f"{feed}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "headrace"), "run", feed],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def has_started(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a process reads its stream."""
        log = self.home / f"trades-{self.processes.index(process)}.log"
        return b"opened in lane" in log.read_bytes()

    def log_tail(self) -> str:
        """The last words of every process: for a failure's message."""
        logs = sorted(self.home.glob("*.log"), key=lambda p: p.stat().st_mtime)[-3:]
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in logs)

    def bronze_hashes(self, known: dict[str, str]) -> dict[str, str]:
        """sha256 of every Bronze object, those in `known` read again."""
        store = self.store
        paths = [info.path for info in store.list("bronze/")]
        found = {
            path: hashlib.sha256(data or b"").hexdigest()
            for path, data in zip(paths, store.get_many(paths), strict=True)
        }
        missing = set(known) - set(found)
        assert not missing, f"Bronze objects disappeared: {sorted(missing)[:3]}"
        return found


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    port = _free_port()
    server = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "roto-server"),
            *("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(tmp_path / "aws")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    variables = {
        **FAST,
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HEADRACE_AWS": "account",
        "HEADRACE_HOME": str(tmp_path / "home"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _wait_for(port)
    found = Platform(tmp_path, {**os.environ, **variables}, load_settings())
    create_bucket(found.settings.lake, region="us-east-1", endpoint=url)
    try:
        yield found
    finally:
        for process in [*found.processes, server]:
            process.kill()
            process.wait(10)


@pytest.fixture
def start_load(platform: Platform) -> Callable[..., Load]:
    """Start publishing messages; the caller joins it."""

    def start(feed: str, lines: list[tuple[str, bytes]], seconds: float) -> Load:
        load = Load(platform, feed, lines, seconds)
        load.start()
        return load

    return start


class Load:
    """Puts messages into a stream at a rate, splits and merges shards on the way."""

    def __init__(
        self, platform: Platform, feed: str, lines: list[tuple[str, bytes]], seconds: float
    ) -> None:
        self._platform, self._feed, self._lines, self._seconds = platform, feed, lines, seconds
        self._name = platform.settings.stream_name(feed)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        create_stream(self._name, 2)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._put_all()
        except BaseException as error:
            self.error = error
            raise

    def _put_all(self) -> None:
        client = boto3.client("kinesis")
        records = _pack(self._lines, 25)
        began = time.monotonic()
        for at in range(0, len(records), 200):
            due = began + self._seconds * at / len(records)
            time.sleep(max(0.0, due - time.monotonic()))
            _put(client, self._name, records[at : at + 200])
            if at // 200 == len(records) // 600:
                shard = _open_shards(self._name)[0]
                split_shard(self._name, shard)
            if at // 200 == len(records) // 300:
                one, two = _open_shards(self._name)[:2]
                merge_shards(self._name, one.shard, two.shard)


def _put(client: Any, stream: str, records: list[dict[str, Any]]) -> None:
    while records:
        answer = client.put_records(StreamName=stream, Records=records)
        records = [
            record
            for record, result in zip(records, answer["Records"], strict=True)
            if "ErrorCode" in result
        ]


def _open_shards(name: str) -> list[ShardInfo]:
    shards = [s for s in KinesisReader(name).list_shards() if not s.is_closed]
    return sorted(shards, key=lambda s: s.first_hash_key)


def _pack(lines: list[tuple[str, bytes]], size: int) -> list[dict[str, Any]]:
    """One record per `size` messages of one partition key, in order per key."""
    packs: dict[str, list[bytes]] = {}
    records = []
    for key, line in lines:
        pack = packs.setdefault(key, [])
        pack.append(line)
        if len(pack) == size:
            records.append({"Data": b"\n".join(packs.pop(key)), "PartitionKey": key})
    records += [{"Data": b"\n".join(pack), "PartitionKey": key} for key, pack in packs.items()]
    return records


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port}")
