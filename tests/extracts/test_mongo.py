"""Documents leave MongoDB exactly and once: whatever breaks, whoever writes meanwhile.

Runs against mongomock and, where one is installed, a real server: `mongod`, or SecantusDB's
`secantusd-py`, which speaks the same protocol.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import mongomock
import pymongo
import pytest
from bson import Decimal128, Int64, ObjectId, json_util
from pydantic import SecretStr

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.extracts.mongo import MongoExtractor, highest_of
from stream.clock import ManualClock
from stream.errors import ConfigError, RetryableError
from stream.lake.store import Store, open_store
from stream.sources.extract import Manifest, find_manifest, read_part
from stream.sources.extract_formats import payloads_of

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - BSON's dates are UTC, naive
T0 = EPOCH + timedelta(days=20_458, hours=9, minutes=30)  # 2026-01-05
NOW_NS = 1_768_000_000_000_000_000  # 2026-01-09, after every document's time
PASSWORD = "hunter2"


def transaction(number: int, at: datetime | None = None, **kwargs: Any) -> dict[str, Any]:
    at = at or T0 + timedelta(seconds=number // 3)  # three at the same moment
    return {
        "_id": ObjectId(f"{int((T0 - EPOCH).total_seconds()) + number:08x}{number:016x}"),
        "portfolio": "growth-7",
        "kind": "buy",
        "symbol": "ACME",
        "quantity": Decimal128("1.50"),
        "price": Decimal128("100.10"),
        "currency": "USD",
        "executed_at": at,
        "updated_at": at,
    } | kwargs


@dataclass
class Database:
    """A database and how extractors reach it."""

    uri: str
    client: Any
    connect: Callable[[str], Any] | None
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_NS))

    @property
    def books(self) -> Any:
        return self.client["books"]["transactions"]

    def extractor(self, **kwargs: Any) -> MongoExtractor:
        kwargs = {"part_documents": 100, "batch_documents": 7, "connect": self.connect} | kwargs
        return MongoExtractor(SecretStr(self.uri), "books", clock=self.clock, **kwargs)

    def extract(self, **options: str) -> list[Part]:
        return list(self.extractor().extract(ExtractRequest("transactions", options=options)))

    def land(self, store: Store, run_id: str, **options: str) -> Manifest:
        request = ExtractRequest("transactions", options=options)
        return land_extract(store, self.extractor(), request, run_id, clock=self.clock)


def _server_command(port: int, folder: Path) -> list[str] | None:
    beside = Path(sys.executable).with_name("secantusd-py")
    server = shutil.which("secantusd-py") or (str(beside) if beside.exists() else None)
    if server:
        where = ["--storage-path", str(folder), "--cache-size", "128M", "--sync-on-commit"]
        return [server, "--host", "127.0.0.1", "--port", str(port), *where]
    if server := shutil.which("mongod"):
        return [server, "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(folder)]
    return None


@dataclass
class Server:
    """A real server that can be killed and started again on the same data."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def start(self, *options: str) -> None:
        command = _server_command(self.port, self.folder)
        if command is None:
            pytest.skip("no MongoDB-wire server is installed; `make mongo` brings one, as CI does")
        self.folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )
        with pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=30_000) as client:
            client.admin.command("ping")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(_free_port(), tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server
    server.kill()


class MockClient:
    """mongomock as the extractor asks for it; it knows no codec options."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get_database(self, name: str) -> MockClient:
        return MockClient(self._client[name])

    def get_collection(self, name: str, **_: Any) -> Any:
        return self._client[name]

    def close(self) -> None:
        """The database lives on."""


def _mock() -> Database:
    client = mongomock.MongoClient()
    uri = f"mongodb://user:{PASSWORD}@db.example/"
    return Database(uri, client, lambda _: MockClient(client))


@pytest.fixture(params=["mongomock", "server"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "mongomock":
        yield _mock()
        return
    real = request.getfixturevalue("server")
    with pymongo.MongoClient(real.uri) as client:
        client.drop_database("books")
        yield Database(real.uri, client, None)


@pytest.fixture
def mock() -> Database:
    return _mock()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/lake")


def lines(parts: list[Part]) -> list[bytes]:
    return [line for part in parts for line in gzip.decompress(part.data).splitlines()]


def landed(store: Store, *run_ids: str) -> list[dict[str, Any]]:
    found = []
    for run_id in run_ids:
        manifest = find_manifest(store, run_id)
        for part in manifest.parts:
            payloads = payloads_of(read_part(store, part), part, manifest.mapping)
            found += [json.loads(line) for line in payloads.to_pylist()]
    return found


def ids(documents: list[dict[str, Any]]) -> list[str]:
    return [document["_id"]["$oid"] for document in documents]


def test_documents_land_exactly_in_cursor_order(database, store):
    documents = [transaction(i) for i in range(250)]
    database.books.insert_many(documents[::-1])
    manifest = database.land(store, "run-1")
    assert [part.rows for part in manifest.parts] == [100, 100, 50]
    assert manifest.feed == "transactions"
    expected = [
        json.loads(json_util.dumps(d, json_options=json_util.CANONICAL_JSON_OPTIONS))
        for d in documents
    ]
    assert landed(store, "run-1") == expected


def test_every_type_and_digit_is_kept_on_one_line(database):
    odd = {
        "decimal": Decimal128("1.500"),
        "tiny": Decimal128("1E-30"),
        "long": Int64(5),
        "int": 5,
        "double": 0.1,
        "nan": float("nan"),
        "text": 'é\n"\\\u2028',
        "none": None,
        "list": [1, {"a": True}],
    }
    database.books.insert_one(transaction(1, odd=odd))
    (line,) = lines(database.extract())
    found = json.loads(line)["odd"]
    assert found["decimal"] == {"$numberDecimal": "1.500"}
    assert found["tiny"] == {"$numberDecimal": "1E-30"}
    assert (found["long"], found["int"]) == ({"$numberLong": "5"}, {"$numberInt": "5"})
    assert (found["double"], found["nan"]) == ({"$numberDouble": "0.1"}, {"$numberDouble": "NaN"})
    assert found["text"] == 'é\n"\\\u2028'
    assert "é".encode() in line
    assert b"\n" not in line


@pytest.mark.parametrize("cursor", ["updated_at", "_id"])
def test_runs_one_after_another_hold_every_document_once(database, store, cursor):
    database.books.insert_many([transaction(i) for i in range(120)])
    first = database.land(store, "run-1", cursor=cursor)
    later = [transaction(i) for i in range(120, 250)]
    database.books.insert_many(later)
    second = database.land(store, "run-2", cursor=cursor, after=highest_of(first))
    third = database.land(store, "run-3", cursor=cursor, after=highest_of(second))
    assert ids(landed(store, "run-1", "run-2", "run-3")) == [
        str(transaction(i)["_id"]) for i in range(250)
    ]
    assert third.rows == 0
    assert highest_of(third) == highest_of(second)


def test_update_is_read_again_as_a_new_version(database, store):
    database.books.insert_many([transaction(i) for i in range(10)])
    first = database.land(store, "run-1")
    at = T0 + timedelta(hours=1)
    change = {"price": Decimal128("2"), "updated_at": at}
    database.books.update_one({"_id": transaction(4)["_id"]}, {"$set": change})
    database.land(store, "run-2", after=highest_of(first))
    (version,) = landed(store, "run-2")
    assert version["price"] == {"$numberDecimal": "2"}


def test_documents_of_one_moment_are_neither_lost_nor_doubled_by_a_limit(database, store):
    database.books.insert_many([transaction(i, T0) for i in range(30)])
    after: dict[str, str] = {}
    for number in range(5):
        manifest = database.land(store, f"run-{number}", limit="7", **after)
        after = {"after": highest_of(manifest) or ""}
    runs = [f"run-{number}" for number in range(5)]
    assert [find_manifest(store, run).rows for run in runs] == [7, 7, 7, 7, 2]
    assert ids(landed(store, *runs)) == [str(transaction(i)["_id"]) for i in range(30)]


def test_write_of_this_moment_waits_for_the_next_run(database, store):
    now = EPOCH + timedelta(seconds=NOW_NS // 10**9)
    database.books.insert_many([transaction(1), transaction(2, now - timedelta(seconds=30))])
    first = database.land(store, "run-1")
    # Visible only now, with an earlier time than what the first run could have read.
    database.books.insert_one(transaction(3, now - timedelta(seconds=31)))
    database.clock.sleep(60)
    database.land(store, "run-2", after=highest_of(first))
    assert ids(landed(store, "run-1", "run-2")) == [str(transaction(i)["_id"]) for i in (1, 3, 2)]


def test_days_and_symbols_choose_documents(database):
    days = [EPOCH + timedelta(days=20_453 + day) for day in (3, 4, 5, 6)]
    database.books.insert_many([transaction(i, day) for i, day in enumerate(days)])
    database.books.insert_one(transaction(9, days[2], symbol="FOO"))
    request = ExtractRequest("transactions", date(2026, 1, 4), date(2026, 1, 5), ("ACME",))
    found = [json.loads(line) for line in lines(list(database.extractor().extract(request)))]
    assert ids(found) == [str(transaction(i)["_id"]) for i in (1, 2)]


def test_empty_collection_gives_nothing(database, store):
    assert database.extract() == []
    assert highest_of(database.land(store, "run-1")) is None


@pytest.mark.parametrize("size", [1, 500, 1 << 20])
def test_parts_are_bounded_in_bytes(database, size):
    database.books.insert_many([transaction(i) for i in range(50)])
    extractor = database.extractor(part_bytes=size)
    parts = list(extractor.extract(ExtractRequest("transactions")))
    assert [part.rows for part in parts] == {1: [1] * 50, 500: [2] * 25, 1 << 20: [50]}[size]
    assert len(lines(parts)) == 50


def test_same_documents_make_the_same_bytes(database):
    database.books.insert_many([transaction(i) for i in range(50)])
    assert database.extract() == database.extract()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"updated_at": None}, "updated_at is NoneType and datetime"),
        ({"updated_at": "2026-01-05"}, "expected a date in every document"),
        ({"_id": "t-1"}, "_id is ObjectId and str, expected one type"),
    ],
)
def test_document_that_would_never_be_read_is_said(mock, wrong, said):
    mock.books.insert_many([transaction(1), transaction(2, **wrong)])
    if wrong == {"updated_at": "2026-01-05"}:
        mock.books.delete_one({"_id": transaction(1)["_id"]})
    with pytest.raises(ConfigError) as error:
        mock.extract()
    text = str(error.value).replace("DatetimeMS", "datetime")
    assert said in text
    assert "cursor=" in text


def test_text_ids_are_read_up_to_the_newest_and_hold_no_day(database):
    database.books.insert_many([transaction(i, _id=f"t-{i:03}") for i in range(20)])
    found = [json.loads(line)["_id"] for line in lines(database.extract(cursor="_id"))]
    assert found == [f"t-{i:03}" for i in range(20)]
    request = ExtractRequest("transactions", date(2026, 1, 5), options={"cursor": "_id"})
    with pytest.raises(ConfigError, match="is a str and holds no time"):
        list(database.extractor().extract(request))


@pytest.mark.slow
def test_server_that_is_not_there_is_a_retryable_error():
    uri = f"mongodb://user:{PASSWORD}@127.0.0.1:{_free_port()}/"
    clock = ManualClock(NOW_NS)
    extractor = MongoExtractor(SecretStr(uri), "books", clock=clock, server_seconds=0.05)
    with pytest.raises(RetryableError, match="ServerSelectionTimeoutError") as raised:
        list(extractor.extract(ExtractRequest("transactions")))
    assert PASSWORD not in str(raised.value)


def test_manifest_and_parts_hold_no_secret(mock, store, tmp_path):
    mock.books.insert_one(transaction(1))
    mock.land(store, "run-1")
    for path in (tmp_path / "lake").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        assert PASSWORD.encode() not in text
        assert b"db.example" not in text


CHILD = """
    import sys
    from pydantic import SecretStr
    from batch.extracts import ExtractRequest
    from batch.extracts.landing import land_extract
    from batch.extracts.mongo import MongoExtractor
    from stream.lake.store import open_store

    uri, lake, run_id = sys.argv[1:]
    extractor = MongoExtractor(SecretStr(uri), "books", part_documents=50, batch_documents=10)
    said = lambda part: print(part.rows, flush=True)
    land_extract(open_store(lake), extractor, ExtractRequest("transactions"), run_id, progress=said)
"""


@pytest.mark.slow
def test_extract_that_was_killed_half_way_loses_and_doubles_nothing(server, store, tmp_path):
    with pymongo.MongoClient(server.uri) as client:
        client.drop_database("books")
        books = client["books"]["transactions"]
        books.insert_many([transaction(i) for i in range(5_000)])
        arguments = [server.uri, f"file://{tmp_path}/lake", "run-1"]
        command = [sys.executable, "-c", textwrap.dedent(CHILD), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout is not None
            for _ in range(20):
                assert child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        with pytest.raises(ConfigError, match="no extract 'run-1'"):
            find_manifest(store, "run-1")
        books.insert_one(transaction(5_000))
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert ids(landed(store, "run-1")) == [str(transaction(i)["_id"]) for i in range(5_001)]


@pytest.mark.slow
def test_server_that_dies_half_way_is_read_on_when_it_is_back(tmp_path, store):
    server = Server(_free_port(), tmp_path / "data")
    server.start()
    try:
        with pymongo.MongoClient(server.uri) as client:
            client["books"]["transactions"].insert_many([transaction(i) for i in range(1_000)])
            time.sleep(1)
        parts = MongoExtractor(
            SecretStr(server.uri), "books", part_documents=100, batch_documents=50
        ).extract(ExtractRequest("transactions"))
        found = [next(parts) for _ in range(3)]
        server.kill()
        server.start()
        found += list(parts)
    finally:
        server.kill()
    documents = [json.loads(line) for line in lines(found)]
    assert ids(documents) == [str(transaction(i)["_id"]) for i in range(1_000)]


@pytest.mark.slow
def test_wrong_password_is_refused_without_showing_it(tmp_path):
    server = Server(_free_port(), tmp_path / "data")
    server.start()
    try:
        with pymongo.MongoClient(server.uri) as client:
            client["books"]["transactions"].insert_one(transaction(1))
            client.admin.command("createUser", "reader", pwd="right", roles=["readAnyDatabase"])
            time.sleep(1)
        server.kill()
        server.start("--auth")
        address = f"127.0.0.1:{server.port}/?directConnection=true"
        right = MongoExtractor(SecretStr(f"mongodb://reader:right@{address}"), "books")
        assert len(list(right.extract(ExtractRequest("transactions")))) == 1
        wrong = MongoExtractor(SecretStr(f"mongodb://reader:{PASSWORD}@{address}"), "books")
        with pytest.raises(ConfigError, match="access refused") as raised:
            list(wrong.extract(ExtractRequest("transactions")))
        without = MongoExtractor(SecretStr(f"mongodb://{address}"), "books")
        with pytest.raises(ConfigError, match="access refused"):
            list(without.extract(ExtractRequest("transactions")))
    finally:
        server.kill()
    assert PASSWORD not in str(raised.value)
