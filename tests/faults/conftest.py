"""A real emulator behind a proxy that fails, and a supervised dataflow that goes through it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stream.decode import decode_records
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.lake.connect import connect_lake
from stream.lake.store import Store, create_bucket, open_store
from stream.local.roto import Roto
from stream.producers.simulate import Simulator
from stream.prove import prove, render_proof
from stream.query import run_query
from stream.settings import Settings, load_settings
from stream.slices import RECORD_SCHEMA
from stream.sources.kinesis_streams import create_stream

sys.path.insert(0, str(Path(__file__).parent))  # the proxy is a module of these tests

FEED = "trades"
QUICK = {
    "HEADRACE_WINDOW_MS": "500",
    "HEADRACE_GRACE_MS": "200",
    "HEADRACE_EPOCH_SECONDS": "1",
    "HEADRACE_POLL_MS": "50",
    "HEADRACE_LIST_SHARDS_SECONDS": "1",
    "HEADRACE_LANES": "8",
}
HEADRACE = (sys.executable, "-m", "stream.cli")
PATIENCE_SECONDS = 180.0


class Supervised:
    """`headrace run trades`, started again when it ends, as the platform's supervisor does."""

    def __init__(
        self, folder: Path, environment: dict[str, str], program: tuple[str, ...] = HEADRACE
    ) -> None:
        self._folder, self._environment, self._program = folder, environment, program
        self.exits: list[int] = []
        self.log = folder / "dataflow.log"
        self._stopping = threading.Event()
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._program, "run", FEED],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _watch(self) -> None:
        while not self._stopping.is_set():
            code = self.process.poll()
            if code is None:
                time.sleep(0.1)
                continue
            self.exits.append(code)
            self._stopping.wait(0.5)
            if not self._stopping.is_set():
                self.process = self._start()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._stopping.set()
        self._thread.join(10)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)

    def wait_for_exit(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has ended once more than before."""
        before, deadline = len(self.exits), time.monotonic() + seconds
        while len(self.exits) == before:
            assert time.monotonic() < deadline, f"it did not end\n{self.tail()}"
            time.sleep(0.05)

    @property
    def last_error(self) -> str:
        """What its last end was about."""
        found = [line for line in self.words.splitlines() if line.startswith("headrace: ")]
        return found[-1] if found else ""

    @property
    def words(self) -> str:
        """Everything that it said."""
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        """The last words, exits and their reasons: for a failure's message."""
        reasons = [line for line in self.words.splitlines() if line.startswith("headrace: ")]
        return "\n".join([f"exits {self.exits}", *reasons, self.words[-3000:]])


@dataclass
class Rig:
    """A lake, a stream with messages, and what runs on them."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    running: list[Supervised] = field(default_factory=list)
    lines: list[tuple[str, bytes]] = field(default_factory=list)
    _source: Simulator = field(
        default_factory=lambda: Simulator(
            FEED, seed=7, start_ns=time.time_ns() - 60 * 10**9, rate=2_000
        )
    )

    @property
    def store(self) -> Store:
        return open_store(self.settings.lake, endpoint=self.environment["AWS_ENDPOINT_URL"])

    def run(self, *, program: tuple[str, ...] = HEADRACE, **variables: str) -> Supervised:
        """Start the dataflow; `variables` override the environment."""
        found = Supervised(self.folder, {**self.environment, **variables}, program)
        self.running.append(found)
        return found

    def put(self, messages: int, batches: int = 1, pause: float = 0.0) -> None:
        """Publish messages, straight into the emulator."""
        client = boto3.client("kinesis", endpoint_url=self.environment["AWS_ENDPOINT_URL"])
        stream = self.settings.stream_name(FEED)
        for _ in range(batches):
            lines = self._source.take(messages // batches)
            self.lines += lines
            records = _pack(lines)
            for at in range(0, len(records), 500):
                answer = client.put_records(StreamName=stream, Records=records[at : at + 500])
                assert not answer["FailedRecordCount"]
            time.sleep(pause)

    def committed(self) -> int:
        """Messages that the ledger's head leads to."""
        _, ledger = connect_lake(self.settings).ledger(FEED)
        return sum(record.messages for entry in ledger.entries() for record in entry.slices)

    def wait_for(self, messages: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Until so many messages are committed, in all."""
        deadline = time.monotonic() + seconds
        while (found := self._committed_or_none()) < messages:
            words = self.running[-1].tail() if self.running else ""
            assert time.monotonic() < deadline, f"{found} of {messages} committed\n{words}"
            time.sleep(0.5)

    def _committed_or_none(self) -> int:
        try:
            return self.committed()
        except ConfigError:
            return 0  # no table yet

    def bronze_hashes(self) -> dict[str, str]:
        """sha256 of every Bronze object."""
        store = self.store
        paths = [info.path for info in store.list("bronze/")]
        return {
            path: hashlib.sha256(data or b"").hexdigest()
            for path, data in zip(paths, store.get_many(paths), strict=True)
        }

    def check_exactly_once(self) -> None:
        """Silver holds each distinct valid message once; the proof says equal."""
        contract = load_feed(FEED)
        expected = _expected(self.lines)
        key = ", ".join(contract.key)
        found = run_query(self.settings, f"SELECT {key} FROM {FEED}")
        with duckdb.connect() as sql:
            sql.register("found", found)
            sql.register("expected", expected.select(list(contract.key)))
            missing = sql.sql("SELECT count(*) FROM (FROM expected EXCEPT ALL FROM found)")
            extra = sql.sql("SELECT count(*) FROM (FROM found EXCEPT ALL FROM expected)")
            counts = (missing.fetchall()[0][0], extra.fetchall()[0][0])
        assert counts == (0, 0), f"missing and extra rows: {counts}"
        proof = prove(self.settings, FEED, deep=True)
        assert proof.is_equal, render_proof(proof)


@pytest.fixture
def make_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rig]]:
    """Build a rig on an emulator of its own; `lake`: another root than a bucket of it."""
    emulator = Roto(tmp_path)
    made: list[Rig] = []

    def make(*, lake: str | None = None, home: Path | None = None, shards: int = 2) -> Rig:
        url = emulator.start()
        variables = {
            **QUICK,
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "HEADRACE_AWS": "account",
            "HEADRACE_HOME": str(home or tmp_path / "home"),
            **({"HEADRACE_LAKE": lake} if lake else {}),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        create_bucket(settings.lake, region="us-east-1", endpoint=url)
        create_stream(settings.stream_name(FEED), shards)
        made.append(Rig(tmp_path, settings, {**os.environ, **variables}))
        return made[-1]

    try:
        yield make
    finally:
        for running in (r for rig in made for r in rig.running):
            running.process.kill()
            running.stop()
        emulator.stop()


def _pack(lines: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """One record per 10 messages of one key, in order per key."""
    packs: dict[str, list[bytes]] = {}
    records = []
    for key, line in lines:
        pack = packs.setdefault(key, [])
        pack.append(line)
        if len(pack) == 10:
            records.append({"Data": b"\n".join(packs.pop(key)), "PartitionKey": key})
    records += [{"Data": b"\n".join(pack), "PartitionKey": key} for key, pack in packs.items()]
    return records


def _expected(lines: list[tuple[str, bytes]]) -> pa.Table:
    """Distinct valid rows of everything that was published, by the per-record decoder."""
    count = len(lines)
    records = pa.record_batch(
        [
            pa.array([line for _, line in lines], pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array([key for key, _ in lines]),
            pa.array(np.full(count, time.time_ns())),
        ],
        schema=RECORD_SCHEMA,
    )
    contract = load_feed(FEED)
    rows = decode_records(contract, records, strict_only=True).rows
    with duckdb.connect() as sql:
        sql.register("rows", rows)
        key = ", ".join(contract.key)
        return sql.execute(
            "SELECT * FROM rows QUALIFY"
            f" row_number() OVER (PARTITION BY {key} ORDER BY record_no) = 1"
        ).to_arrow_table()
