"""Where crash windows are played: an emulator, and per case a stream under load and its own lake.

The dataflow is `headrace run trades` as a process of its own; a failpoint in it makes it die or
stall. The lake lies in a folder or in a bucket of the emulator, the stream always in the emulator.
"""

from __future__ import annotations

import itertools
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from crash_nursery import Child, Nursery

from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import Entry
from stream.lake.ledger import Ledger
from stream.producers.simulate import Simulator
from stream.settings import Settings, child_environment
from stream.sources import ShardInfo
from stream.sources.kinesis import KinesisReader

FEED = "trades"
PACK = 10
STEP_MESSAGES = 120
STEP_SECONDS = 0.06
LEAST_STEPS = 14
FULL_STEPS = 28
"""So many at full rate; then ever more slowly: a busy machine brings a window about late."""
LATE_SECONDS = (0.3, 5.0)
RATE = 1_000
"""Messages per second of event time: slower than they are published, so none is of the future."""
PATIENCE_SECONDS = 300.0
AGE_SECONDS = 25 * 3_600
Line = tuple[str, bytes]


class Stage:
    """An emulator and a nursery; cases come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nursery = Nursery()
        port = _free_port()
        binary = Path(sys.executable).with_name("roto-server")
        place = ("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "aws"))
        self._server = subprocess.Popen(
            [str(binary), *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for(port)
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._numbers = itertools.count()

    @property
    def stream_records(self) -> Path:
        """The emulator's records, a SQLite database: retention is played on it."""
        return self.folder / "aws" / "kinesis.db"

    def open_case(self, place: str, *, seed: int, mutant: str | None = None) -> Case:
        """A fresh lake, in "files" or in "s3", and a fresh stream. The variables must be set."""
        number = next(self._numbers)
        folder = self.folder / f"case-{number}"
        folder.mkdir()
        bucket = f"crash-{number}"
        settings = Settings(
            home=folder / "home",
            lake=f"file://{folder}/lake" if place == "files" else f"s3://{bucket}",
            stream_prefix=f"crash-{number}-",
            aws="account",
            window_ms=200,
            grace_ms=100,
            epoch_seconds=0.3,
            poll_ms=30,
            list_shards_seconds=0.3,
            lanes=8,
        )
        clients = (boto3.client("kinesis"), boto3.client("s3"))
        if place == "s3":
            clients[1].create_bucket(Bucket=bucket)
        return Case(self, folder, settings, clients[0], seed, mutant)

    def close(self) -> None:
        self.nursery.close()
        self._server.kill()
        self._server.wait(10)


@dataclass
class Case:
    """One stream, one lake, the messages for it, and the processes that were started on them."""

    stage: Stage
    folder: Path
    settings: Settings
    kinesis: Any
    seed: int
    mutant: str | None = None
    children: list[Child] = field(default_factory=list)
    published: list[Line] = field(default_factory=list)
    arrivals_ns: list[int] = field(default_factory=list)
    """Of each published message, about."""
    messages: dict[bytes, list[bytes]] = field(default_factory=dict)
    """The messages of each record, by its bytes: a message may hold line breaks of its own."""
    records: int = 0
    loads: list[Load] = field(default_factory=list)
    behind_seconds: int = 0
    simulator: Simulator = field(init=False)
    _lake: Lake | None = None
    _entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulate(self.seed)
        self.create_stream()

    def simulate(self, seed: int) -> None:
        """Where messages come from, from now on. A minute ends after the first thousand."""
        start = int(time.time()) // 60 * 60 - 61 - self.behind_seconds
        self.simulator = Simulator(FEED, seed=seed, start_ns=start * 10**9, rate=RATE)

    @property
    def stream(self) -> str:
        return self.settings.stream_name(FEED)

    def create_stream(self) -> None:
        self.kinesis.create_stream(StreamName=self.stream, ShardCount=2)
        wait_until(lambda: self._status() == "ACTIVE", "the stream is not active")

    def recreate_stream(self) -> None:
        """Delete the stream with all that it holds, and create another of the same name."""
        self.kinesis.delete_stream(StreamName=self.stream)
        names = lambda: self.kinesis.list_streams()["StreamNames"]  # noqa: E731
        wait_until(lambda: self.stream not in names(), "the stream is not deleted")
        self.create_stream()

    def age_records(self) -> None:
        """From now on it is 25 hours before: for processes, events and arrivals; 48 are kept."""
        self.behind_seconds = AGE_SECONDS
        self.simulate(self.seed)
        self.kinesis.increase_stream_retention_period(
            StreamName=self.stream, RetentionPeriodHours=48
        )
        self._edit_records(
            f'CREATE TRIGGER "aged {self.stream}" AFTER INSERT ON records'
            f" WHEN NEW.stream_arn = '{self._summary()['StreamARN']}' BEGIN"
            f" UPDATE records SET arrived = arrived - {AGE_SECONDS}"
            " WHERE (stream_arn, shard_id, sequence)"
            " = (NEW.stream_arn, NEW.shard_id, NEW.sequence); END"
        )

    def expire_records(self) -> None:
        """It is now, and 24 hours are kept: what arrived before is gone."""
        self.behind_seconds = 0
        self.simulate(self.seed + 1_000_000)  # old events would be beyond the dedup's horizon
        self.kinesis.decrease_stream_retention_period(
            StreamName=self.stream, RetentionPeriodHours=24
        )
        self._edit_records(f'DROP TRIGGER "aged {self.stream}"')

    def _edit_records(self, statement: str) -> None:
        with closing(sqlite3.connect(self.stage.stream_records, timeout=30)) as database, database:
            database.execute(statement)

    def _summary(self) -> dict[str, Any]:
        answer = self.kinesis.describe_stream_summary(StreamName=self.stream)
        summary: dict[str, Any] = answer["StreamDescriptionSummary"]
        return summary

    def _status(self) -> str:
        return str(self._summary()["StreamStatus"])

    def load(self, *, reshards: bool = False) -> Load:
        """Publish messages in the background until `Load.finish`."""
        load = Load(self, reshards=reshards)
        self.loads.append(load)
        load.thread.start()
        return load

    def start(self, rules: str | None = None, *arguments: str) -> Child:
        """Start `headrace run trades`, or another verb, with failpoints armed."""
        settings = self.settings.model_copy(update={"failpoints": rules})
        child = self.stage.nursery.start(
            arguments or ("run", FEED),
            child_environment(settings),
            self.folder / f"{len(self.children):02d}.log",
            self.mutant,
            self.behind_seconds,
        )
        self.children.append(child)
        return child

    @property
    def living(self) -> list[Child]:
        return [child for child in self.children if child.poll() is None]

    def wait(self, is_so: Callable[[], object], what: str) -> None:
        """Wait for a condition; fail with the last words of every process."""
        try:
            wait_until(is_so, what)
        except TimeoutError as error:
            for child in self.living:
                child.send(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(f"{error}\n{self.words()}") from None

    def wait_fired(self, child: Child, sign: str) -> None:
        """Wait until a failpoint fired; a process that ended without it missed its window."""

        def is_fired() -> bool:
            has_ended = child.poll() is not None  # before its words: they are whole then
            fired = f"failpoint {sign}" in child.words()
            assert fired or not has_ended, f"ended without {sign}\n{self.words()}"
            return fired

        self.wait(is_fired, f"{sign} did not fire")

    def wait_killed(self, child: Child, sign: str) -> None:
        """Wait for a death by a failpoint."""
        self.wait_fired(child, sign)
        assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL, child.words()

    def wait_stopped(self, child: Child, sign: str) -> None:
        self.wait_fired(child, sign)
        self.wait(lambda: child.is_stopped, f"{sign}: not stopped")

    def run(self, rules: str | None, *arguments: str) -> str:
        """Run a verb to its end; returns what it said. Its exit code must be 0."""
        child = self.start(rules, *arguments)
        assert child.wait(PATIENCE_SECONDS) == 0, child.words()
        return child.words()

    def words(self) -> str:
        """The last words of every process."""
        said = [f"--- {c.log.name} ({c.poll()})\n{c.words()[-3000:]}" for c in self.children[-3:]]
        return "\n".join(said)

    @property
    def lake(self) -> Lake:
        self._lake = self._lake or connect_lake(self.settings)
        return self._lake

    @property
    def ledger(self) -> Ledger:
        return self.lake.ledger(FEED)[1]

    def entries(self) -> list[Entry]:
        """Every entry of the ledger; each is read once."""
        if FEED in self.lake.catalog.names():
            table = self.lake.catalog.open(FEED)
            ledger = Ledger(FEED, table, self.lake.store)
            self._entries += ledger.entries(after=len(self._entries))
        return self._entries

    def committed_records(self) -> int:
        return sum(record.rows for entry in self.entries() for record in entry.slices)

    def open_shards(self) -> list[ShardInfo]:
        shards = [s for s in KinesisReader(self.stream).list_shards() if not s.is_closed]
        return sorted(shards, key=lambda s: s.first_hash_key)

    def closed_shards(self) -> list[str]:
        """As the ledger names them."""
        reader = KinesisReader(self.stream)
        closed = [s.shard for s in reader.list_shards() if s.is_closed]
        return [f"{reader.identity}/{shard}" for shard in closed]

    def close(self) -> None:
        for load in self.loads:
            load.stop.set()  # at the latest
        for child in self.living:
            child.send(signal.SIGKILL)
        for child in self.children:
            child.wait(20)
        for load in self.loads:
            load.thread.join(20)


class Load:
    """Puts messages into the case's stream at a rate; splits and merges shards on the way."""

    def __init__(self, case: Case, *, reshards: bool) -> None:
        self._case, self._reshards = case, reshards
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Publish the least that a case needs, then no more. Raises: what publishing raised."""
        self.stop.set()
        self.thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._put_all()
        except BaseException as error:
            self.error = error
            raise

    def _put_all(self) -> None:
        due, late = time.monotonic(), LATE_SECONDS[0]
        for number in itertools.count():
            late = late if number < FULL_STEPS else min(late * 1.3, LATE_SECONDS[1])
            due += STEP_SECONDS if number < FULL_STEPS else late
            if self.stop.wait(max(0.0, due - time.monotonic())) and number >= LEAST_STEPS:
                return
            self._put(self._case.simulator.take(STEP_MESSAGES))
            if self._reshards and number == LEAST_STEPS // 3:
                self._split()
            if self._reshards and number == LEAST_STEPS * 2 // 3:
                self._merge()

    def _put(self, lines: list[Line]) -> None:
        packed = [(key, b"\n".join(some), some) for key, some in pack(lines)]
        self._case.messages |= {data: some for _, data, some in packed}
        self._case.published += lines
        self._case.arrivals_ns += [time.time_ns() - self._case.behind_seconds * 10**9] * len(lines)
        self._case.records += len(packed)
        records = [{"PartitionKey": key, "Data": data} for key, data, _ in packed]
        _put(self._case.kinesis, self._case.stream, records)

    def _split(self) -> None:
        shard = self._case.open_shards()[0]
        middle = (shard.first_hash_key + shard.last_hash_key + 1) // 2
        self._case.kinesis.split_shard(
            StreamName=self._case.stream,
            ShardToSplit=shard.shard,
            NewStartingHashKey=str(middle),
        )

    def _merge(self) -> None:
        one, two = self._case.open_shards()[:2]
        self._case.kinesis.merge_shards(
            StreamName=self._case.stream,
            ShardToMerge=one.shard,
            AdjacentShardToMerge=two.shard,
        )


def pack(lines: Sequence[Line]) -> list[tuple[str, list[bytes]]]:
    """Partition key and messages per record: ten of one key at most, in order per key."""
    packs: dict[str, list[bytes]] = {}
    records = []
    for key, line in lines:
        packs.setdefault(key, []).append(line)
        if len(packs[key]) == PACK:
            records.append((key, packs.pop(key)))
    return records + list(packs.items())


def _put(client: Any, stream: str, records: list[dict[str, Any]]) -> None:
    while records:
        answer = client.put_records(StreamName=stream, Records=records)
        results = zip(records, answer["Records"], strict=True)
        records = [record for record, result in results if "ErrorCode" in result]


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Wait for a condition, generously."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port}")
