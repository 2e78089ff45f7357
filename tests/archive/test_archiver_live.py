"""The archiver with the real client library: two workers, kill -9, a split, then the road.

Needs .venv/kcl (`make kcl`) and node: of the emulators only kinesis-local closes
shards as the library wants it; its lease table and the lake are in the embedded one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from stream.bronze import read_bronze
from stream.errors import ConfigError
from stream.lake.connect import connect_lake
from stream.lake.store import create_bucket
from stream.local import sdk_environment
from stream.producers.simulate import Simulator
from stream.prove import prove, render_proof
from stream.settings import Settings
from stream.sources.kinesis import KinesisReader, create_stream, split_shard

ROOT = Path(__file__).parents[2]
KCL = ROOT / ".venv" / "kcl"
MOCK = KCL / "node" / "node_modules" / "kinesis-local" / "main.js"
PACKAGES = next(KCL.glob("lib/python*/site-packages/kcl_rs"), KCL / "no kcl_rs").parent
TABLE, STREAM = "headrace-archive-trades", "headrace-trades"


def _missing() -> str:
    needs = {"kcl_rs": (PACKAGES / "kcl_rs").is_dir(), "kinesis-local": MOCK.is_file()}
    absent = [name for name, is_there in needs.items() if not is_there]
    if absent:
        return f"{' and '.join(absent)} not in .venv/kcl; `make kcl` installs them"
    return "" if shutil.which("node") else "no `node` on the PATH for kinesis-local"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(_missing()), reason=_missing() or "all there"),
]


class Stage:
    """The emulators, a stream of four shards, and what was put into it."""

    def __init__(self, home: Path, url: str, env: dict[str, str]) -> None:
        self.home, self.env, self.url = home, env, url
        self.settings = Settings(home=home)
        self.store = connect_lake(self.settings).store
        self.kinesis, self.dynamodb = boto3.client("kinesis"), boto3.client("dynamodb")
        self.records = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self._rows: dict[str, int] = {}

    def put(self, records: int) -> None:
        lines = Simulator("trades", seed=self.records, start_ns=time.time_ns(), rate=500).take(
            records
        )
        for start in range(0, records, 500):
            batch = [
                {"Data": line, "PartitionKey": f"k{n % 97}"}
                for n, (_, line) in enumerate(lines[start : start + 500])
            ]
            answer = self.kinesis.put_records(StreamName=STREAM, Records=batch)
            assert not answer["FailedRecordCount"]
        self.records += records

    def start(self, verb: str, log: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stream.cli", verb, "trades", *options]
        with (self.home / log).open("ab") as output:
            process = subprocess.Popen(
                command, env=self.env, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def objects(self) -> dict[str, bytes]:
        return {i.path: self.store.get(i.path) or b"" for i in self.store.list("bronze/")}

    def archived(self) -> int:
        for info in self.store.list("bronze/"):
            if info.path not in self._rows:
                data = self.store.get(info.path) or b""
                self._rows[info.path] = read_bronze(data, info.path).num_rows
        return sum(self._rows.values())

    def leases(self) -> dict[str, tuple[str, str]]:
        """Per shard, who owns it and its checkpoint."""
        items = self.dynamodb.scan(TableName=TABLE)["Items"]
        return {
            item["leaseKey"]["S"]: (
                item.get("leaseOwner", {}).get("S", ""),
                item["checkpoint"]["S"],
            )
            for item in items
            if "checkpoint" in item
        }

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 240) -> float:
        began = time.monotonic()
        while not done():
            spent = time.monotonic() - began
            assert spent < seconds, f"{what}: not within {seconds:.0f} s; logs in {self.home}"
            time.sleep(1)
        return time.monotonic() - began


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    roto, plain, tls = (_free_port() for _ in range(3))
    commands = [
        [
            *(str(Path(sys.executable).with_name("roto-server")), "--ephemeral"),
            *("--host", "127.0.0.1", "--port", str(roto)),
        ],
        ["node", str(MOCK)],
    ]
    mock = {"KINESIS_MOCK_PLAIN_PORT": str(plain), "KINESIS_MOCK_TLS_PORT": str(tls)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    servers = [
        subprocess.Popen(c, env={**os.environ, **mock}, cwd=MOCK.parent, **quiet) for c in commands
    ]
    aws = {
        **sdk_environment(f"http://127.0.0.1:{roto}", "us-east-1"),
        "AWS_ENDPOINT_URL_KINESIS": f"http://127.0.0.1:{plain}",
    }
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    env = {**os.environ, **aws, "HEADRACE_HOME": str(tmp_path), "PYTHONPATH": str(PACKAGES)}
    found: Stage | None = None
    try:
        for port in (roto, plain):
            _wait_for(port)
        create_bucket("s3://headrace-lake", region="us-east-1", endpoint=aws["AWS_ENDPOINT_URL"])
        create_stream(STREAM, 4)
        found = Stage(tmp_path, aws["AWS_ENDPOINT_URL"], env)
        yield found
    finally:
        for process in [*(found.processes if found else []), *servers]:
            process.kill()
            process.wait()


def test_workers_that_are_killed_and_a_split_leave_bronze_as_the_road_wants_it(
    stage: Stage,
) -> None:
    stage.put(1_000)
    workers = {n: stage.start("archive", f"{n}.log", "--worker", n) for n in ("one", "two")}
    cold = stage.wait("both start", lambda: stage.archived() >= stage.records)

    split_shard(STREAM, KinesisReader(STREAM).list_shards()[0])
    stage.put(500)
    owners = [owner for owner, _ in stage.leases().values()]
    victim = max(workers, key=owners.count)
    workers[victim].kill()
    stage.put(500)
    taken = stage.wait("take-over and split", lambda: stage.archived() >= stage.records)
    survivor = workers["two" if victim == "one" else "one"]
    survivor.terminate()
    assert survivor.wait(60) == 0
    _check_checkpoints(stage)
    print(f"\ncold start {cold:.0f} s, take-over of {owners.count(victim)} shards {taken:.0f} s")

    before = stage.objects()
    assert stage.archived() == stage.records
    children = {path.split("-shardId-")[1][:12] for path in before} - {f"{n:012}" for n in range(4)}
    assert len(children) == 2, "the split's children were not archived"
    road = stage.start("run", "road.log")
    stage.wait("the road", lambda: road.poll() is not None or _committed(stage) >= stage.records)
    road.terminate()
    assert road.wait(60) == 0, (stage.home / "road.log").read_text()[-2_000:]
    proof = prove(stage.settings, "trades")
    assert proof.is_equal, render_proof(proof)
    assert _committed(stage) == stage.records
    assert stage.objects() == before, "the road cut or wrote otherwise"


def _check_checkpoints(stage: Stage) -> None:
    """Each stands at the end of a Bronze object, or at a shard's end or beginning."""
    ends = {
        read_bronze(data, path)["sequence_number"][-1].as_py()
        for path, data in stage.objects().items()
    }
    kept = {checkpoint for _, checkpoint in stage.leases().values()}
    assert kept <= ends | {"SHARD_END", "TRIM_HORIZON"}


def _committed(stage: Stage) -> int:
    """Records in the road's ledger."""
    try:
        _, ledger = connect_lake(stage.settings).ledger("trades")
    except ConfigError:  # it has not begun
        return 0
    return sum(item.rows for entry in ledger.entries() for item in entry.slices)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")
