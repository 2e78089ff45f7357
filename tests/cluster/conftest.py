"""An emulator, a stream under load that splits and merges on the way, and clusters to break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stream.decode import decode_records
from stream.feeds import load_feed
from stream.heartbeat import Pulse, read_parts
from stream.lake.connect import connect_lake
from stream.lake.store import create_bucket
from stream.producers.simulate import Simulator
from stream.prove import prove
from stream.query import run_query
from stream.settings import Settings, load_settings
from stream.slices import RECORD_SCHEMA
from stream.sources.kinesis import KinesisReader
from stream.sources.kinesis_streams import create_stream, merge_shards, split_shard

BIN = Path(sys.executable).parent
FEED = "trades"
RATE = 200
PATIENCE_SECONDS = 240
"""Generous: these tests wait for what happens, on machines that have other work to do."""
FAST = {
    "HEADRACE_WINDOW_MS": "1000",
    "HEADRACE_GRACE_MS": "200",
    "HEADRACE_EPOCH_SECONDS": "1",
    "HEADRACE_POLL_MS": "200",
    "HEADRACE_LIST_SHARDS_SECONDS": "1",
    "HEADRACE_LANES": "16",
    "HEADRACE_STALL_SECONDS": "15",
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "HEADRACE_AWS": "account",
}


def wait_until(condition: Callable[[], Any], what: str, words: Callable[[], str] = str) -> Any:
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.25)  # looking costs what the cluster needs
    raise AssertionError(f"not within {PATIENCE_SECONDS} s: {what}\n{words()}")


@dataclass
class Platform:
    """An emulator with a lake bucket, and the environment that points at it."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *arguments: str, before: Sequence[str] = (), **env: str) -> Running:
        """Start `headrace run trades ...`."""
        log = self.folder / f"run-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*before, str(BIN / "headrace"), "run", FEED, *arguments],
                env={**self.environment, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return Running(process, log, self)

    def stop_all(self, *running: Running) -> list[int]:
        """SIGTERM to each at once, as ECS does; their exit codes."""
        for one in running:
            one.process.send_signal(signal.SIGTERM)
        return [one.process.wait(60) for one in running]

    def rows(self) -> int:
        """Rows of Silver as committed."""
        lake = connect_lake(self.settings)
        if FEED not in lake.catalog.names():
            return 0
        return sum(rows for _, rows in lake.catalog.open(FEED).data_files())

    def commits(self) -> int:
        """Entries of the ledger."""
        lake = connect_lake(self.settings)
        if FEED not in lake.catalog.names():
            return 0
        return lake.ledger(FEED)[1].head().number

    def parents(self) -> dict[str, tuple[str, ...]]:
        """By shard, as the ledger recorded them."""
        _, ledger = connect_lake(self.settings).ledger(FEED)
        return {s: names for entry in ledger.entries() for s, names in entry.parents.items()}

    def ended_shards(self) -> int:
        _, ledger = connect_lake(self.settings).ledger(FEED)
        return sum(position.is_ended for position in ledger.head().positions.values())

    def check_all(self, expected: pa.Table) -> None:
        """Every row once, and the ledger proves it."""
        columns = ", ".join(load_feed(FEED).key)
        found = run_query(self.settings, f"SELECT {columns} FROM {FEED}")
        with duckdb.connect() as sql:
            sql.register("found", found)
            sql.register("expected", expected)
            missing, extra = (
                sql.execute(f"SELECT count(*) FROM (FROM {a} EXCEPT ALL FROM {b})").fetchall()
                for a, b in (("expected", "found"), ("found", "expected"))
            )
        assert (missing, extra) == ([(0,)], [(0,)]), "missing and doubled rows"
        proof = prove(self.settings, FEED)
        assert proof.is_equal, proof.differences


@dataclass
class Running:
    """A `headrace run`: a gang, or one process of a cluster."""

    process: subprocess.Popen[bytes]
    log: Path
    platform: Platform

    def words(self) -> str:
        """What it logged last."""
        return self.log.read_text(errors="replace")[-3000:]

    def members(
        self, count: int, but: Sequence[int] = (), readers: int | None = None
    ) -> list[Pulse]:
        """The pulses of `count` processes, none of the pids `but`, all running, and so many of
        them (None: all) reading shards.
        """

        def found() -> list[Pulse]:
            assert self.process.poll() is None, f"ended by itself\n{self.words()}"
            parts = read_parts(self.platform.settings.home, FEED)
            is_whole = len(parts) == count and all(_runs(p.pid, but) for p in parts)
            reading = sum(bool(part.shards) for part in parts)
            return parts if is_whole and reading >= (readers or count) else []

        return list(wait_until(found, f"{count} processes that read shards", self.words))

    def says(self, words: str) -> None:
        """Wait for words in its log."""
        wait_until(lambda: words in self.log.read_text(errors="replace"), words, self.words)

    def commits_again(self) -> None:
        """Wait for a commit that is not there yet."""
        before = self.platform.commits()
        wait_until(lambda: self.platform.commits() > before, "another commit", self.words)

    def has_rows(self, count: int) -> None:
        """Wait for all rows."""
        rows = self.platform.rows
        wait_until(
            lambda: rows() >= count, f"{count} rows", lambda: f"found {rows()}\n{self.words()}"
        )

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _runs(pid: int, but: Sequence[int]) -> bool:
    return pid not in but and Path(f"/proc/{pid}").exists()


@pytest.fixture
def host() -> str:
    """Where the emulator listens."""
    return "127.0.0.1"


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> Iterator[Platform]:
    port = free_port(host)
    server = subprocess.Popen(
        [
            str(BIN / "roto-server"),
            *("--host", host, "--port", str(port), "--data-dir", str(tmp_path / "aws")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://{host}:{port}"
    variables = {**FAST, "AWS_ENDPOINT_URL": url, "HEADRACE_HOME": str(tmp_path / "home")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = Platform(tmp_path, load_settings(), dict(os.environ))
    try:
        wait_until(lambda: _answers(host, port), f"{url} answers")
        create_bucket(found.settings.lake, region="us-east-1", endpoint=url)
        yield found
    finally:
        for process in [*found.started, server]:
            process.kill()
            process.wait(10)


class Load:
    """Puts simulated trades into a new stream of two shards, from a thread, until it is told to
    finish: whatever a test waits for, there is more to read.
    """

    def __init__(self, platform: Platform) -> None:
        start_ns = time.time_ns() - 120 * 10**9
        self._simulator = Simulator(FEED, seed=7, start_ns=start_ns, rate=RATE)
        self._lines: list[tuple[str, bytes]] = []
        self._name = platform.settings.stream_name(FEED)
        self._error: BaseException | None = None
        self._finished = threading.Event()
        create_stream(self._name, 2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def split(self) -> None:
        """Split the first open shard."""
        split_shard(self._name, self._open_shards()[0])

    def merge(self) -> None:
        """Merge the first two."""
        one, two = self._open_shards()[:2]
        merge_shards(self._name, one.shard, two.shard)

    def finish(self) -> pa.Table:
        """End it; what Silver must hold: each distinct valid row's key."""
        self.end()
        if self._error is not None:
            raise self._error
        return _expected(self._lines)

    def end(self) -> None:
        """Publish no more."""
        self._finished.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            client = boto3.client("kinesis")
            while not self._finished.wait(0.25):
                lines = self._simulator.take(RATE // 4)
                self._lines += lines
                _put(client, self._name, _pack(lines, 25))
        except BaseException as error:
            self._error = error
            raise

    def _open_shards(self) -> list[Any]:
        shards = [s for s in KinesisReader(self._name).list_shards() if not s.is_closed]
        return sorted(shards, key=lambda s: s.first_hash_key)


def _put(client: Any, stream: str, records: list[dict[str, Any]]) -> None:
    while records:
        answer = client.put_records(StreamName=stream, Records=records)
        results = zip(records, answer["Records"], strict=True)
        records = [record for record, result in results if "ErrorCode" in result]


def _pack(lines: list[tuple[str, bytes]], size: int) -> list[dict[str, Any]]:
    """One record per `size` messages of one partition key, in order per key."""
    packs: dict[str, list[bytes]] = {}
    records = []
    for key, line in lines:
        pack = packs.setdefault(key, [])
        pack.append(line)
        if len(pack) == size:
            records.append({"Data": b"\n".join(packs.pop(key)), "PartitionKey": key})
    return records + [{"Data": b"\n".join(p), "PartitionKey": key} for key, p in packs.items()]


def _expected(lines: list[tuple[str, bytes]]) -> pa.Table:
    count = len(lines)
    columns = [
        pa.array([line for _, line in lines], pa.binary()),
        pa.array([str(n) for n in range(count)]),
        pa.array(np.zeros(count, np.int32)),
        pa.array([key for key, _ in lines]),
        pa.array(np.full(count, time.time_ns())),
    ]
    contract = load_feed(FEED)
    records = pa.record_batch(columns, schema=RECORD_SCHEMA)
    rows = decode_records(contract, records, strict_only=True).rows
    with duckdb.connect() as sql:
        sql.register("rows", rows)
        return sql.execute(f"SELECT DISTINCT {', '.join(contract.key)} FROM rows").to_arrow_table()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.fixture
def addresses() -> str:
    """Two of them on loopback, free by now."""
    return ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))


@pytest.fixture
def load(platform: Platform) -> Iterator[Load]:
    """A stream with somebody who publishes."""
    found = Load(platform)
    yield found
    found.end()
