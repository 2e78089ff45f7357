"""What every object store must do, run over memory, a folder and S3 (emulated).

Then what a call says when the store is not there: each in one line, in bounded time.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stream.errors import ConfigError, StoreUnavailableError
from stream.lake import store as store_module
from stream.lake.store import Store, create_bucket, open_store

_spec = importlib.util.spec_from_file_location(
    "emulator_fixtures", Path(__file__).parents[1] / "emulator" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
roto_url, roto = _fixtures.roto_url, _fixtures.roto
_NAMES = itertools.count()
NOBODY = 65534


@pytest.fixture(params=["memory", "file", "s3", "s3-with-prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return open_store("memory://")
    if request.param == "file":
        return open_store(f"file://{tmp_path}/lake")
    url = request.getfixturevalue("roto")
    uri = f"s3://stores-{os.getpid()}-{next(_NAMES)}"
    create_bucket(uri, region="us-east-1", endpoint=url)
    return open_store(uri + ("/a/b" if "prefix" in request.param else ""), endpoint=url)


def test_store_put_once_by_sixteen_at_once_has_exactly_one_winner(store: Store) -> None:
    for number in range(10):
        path = f"race/{number}"
        gate = threading.Barrier(16)

        def write(writer: int, path: str = path, gate: threading.Barrier = gate) -> bool:
            gate.wait(10)
            return store.put_once(path, b"%d" % writer)

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(write, range(16)))
        assert sum(won) == 1
        assert store.get(path) == b"%d" % won.index(True)


def test_store_put_once_leaves_an_object_alone_and_put_replaces_it(store: Store) -> None:
    assert store.put_once("a/b", b"one")
    assert not store.put_once("a/b", b"two")
    assert store.get("a/b") == b"one"

    store.put("a/b", b"three")

    assert store.get("a/b") == b"three"


@pytest.mark.parametrize("size", [0, 1, 9_000_000])
def test_store_object_of_any_size_comes_back_whole(store: Store, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert store.put_once("sized", data)
    assert store.get("sized") == data
    assert [info.bytes for info in store.list("")] == [size]


def test_store_get_of_a_missing_object_is_none(store: Store) -> None:
    assert store.get("nothing/here") is None
    assert not store.exists("nothing/here")


def test_store_get_many_keeps_order_and_names_missing_ones(store: Store) -> None:
    paths = [f"many/{number:03d}" for number in range(100)]
    for path in paths[::3]:
        store.put(path, path.encode())

    found = list(store.get_many(paths, threads=3))

    assert found == [p.encode() if i % 3 == 0 else None for i, p in enumerate(paths)]


def test_store_list_shows_what_is_below_a_folder_and_only_that(store: Store) -> None:
    for path in ("x/1", "x/y/2", "xx/3", "z"):
        store.put(path, b"abc")

    assert sorted((i.path, i.bytes) for i in store.list("x/")) == [("x/1", 3), ("x/y/2", 3)]
    assert sorted(i.path for i in store.list("")) == ["x/1", "x/y/2", "xx/3", "z"]
    assert list(store.list("nowhere/")) == []


def test_store_list_of_more_than_a_page_shows_all(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"page/{n:04d}", b""), range(1_100)))

    assert [i.path for i in sorted(store.list("page/"), key=lambda i: i.path)] == [
        f"page/{n:04d}" for n in range(1_100)
    ]


@pytest.mark.parametrize("path", ["a", "a/b.parquet", "hour=2026-11-23T14/k=v.arrow"])
def test_store_uri_and_relative_are_inverse(store: Store, path: str) -> None:
    assert store.relative(store.uri(path)) == path
    store.put(path, b"x")
    assert store.get(store.relative(store.uri(path))) == b"x"
    assert [info.path for info in store.list("")] == [path]


def test_store_delete_removes(store: Store) -> None:
    store.put("gone", b"x")
    store.delete("gone")
    assert not store.exists("gone")
    store.delete("gone")


def test_store_tells_when_an_object_was_written_last(store: Store) -> None:
    began_ms = time.time_ns() // 1_000_000
    store.put("aged", b"x")
    [listed] = store.list("")
    assert listed == store.find("aged")
    assert abs(listed.last_modified_ms - began_ms) < 5_000  # S3 tells whole seconds
    time.sleep(1.1)

    store.put("aged", b"x")

    assert store.find("aged").last_modified_ms > listed.last_modified_ms
    assert store.find("nothing") is None


CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("a/b"),
    "put": lambda store: store.put("a/b", b"x"),
    "put_once": lambda store: store.put_once("a/b", b"x"),
    "list": lambda store: list(store.list("a/")),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@every_call
def test_store_without_its_bucket_says_so(roto: str, call: Callable[[Store], object]) -> None:
    store = open_store("s3://nobody-made-this", endpoint=roto)
    with pytest.raises(ConfigError, match=r"nobody-made-this.*bucket does not exist.*headrace up"):
        call(store)


def test_create_bucket_twice_is_the_same_as_once(roto: str) -> None:
    for _ in range(2):
        create_bucket("s3://twice", region="us-east-1", endpoint=roto)
    assert open_store("s3://twice", endpoint=roto).put_once("a", b"")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-print-me")


@every_call
@pytest.mark.usefixtures("credentials")
def test_store_whose_endpoint_is_gone_gives_up_soon(call: Callable[[Store], object]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()

    with pytest.raises(StoreUnavailableError) as caught:
        call(open_store("s3://lake", endpoint=f"http://127.0.0.1:{port}"))

    assert time.monotonic() - began < 30
    _check_one_line(caught.value, f"127.0.0.1:{port}")


@every_call
@pytest.mark.usefixtures("credentials")
def test_store_that_never_answers_is_given_up_in_bounded_time(
    call: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_module.REQUEST_SECONDS + store_module.RETRY_SECONDS <= 60
    monkeypatch.setattr(store_module, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        store = open_store("s3://lake", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()

        with pytest.raises(StoreUnavailableError) as caught:
            call(store)

    assert time.monotonic() - began < 3.5
    _check_one_line(caught.value, "s3://lake/a")


class _Refusing(BaseHTTPRequestHandler):
    """Answers everything with the server's status and S3 error code."""

    def do_GET(self) -> None:
        status, code = self.server.answer  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@every_call
@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (401, "InvalidToken")])
def test_store_without_permission_says_so(
    refusing: ThreadingHTTPServer, call: Callable[[Store], object], status: int, code: str
) -> None:
    refusing.answer = (status, code)  # type: ignore[attr-defined]
    store = open_store("s3://lake", endpoint=f"http://127.0.0.1:{refusing.server_port}")
    with pytest.raises(ConfigError, match="permission denied") as caught:
        call(store)
    _check_one_line(caught.value, "s3://lake/a")


@every_call
@pytest.mark.usefixtures("credentials")
def test_store_that_is_overloaded_is_given_up_after_retries(
    refusing: ThreadingHTTPServer, call: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 1)
    refusing.answer = (503, "SlowDown")  # type: ignore[attr-defined]
    store = open_store("s3://lake", endpoint=f"http://127.0.0.1:{refusing.server_port}")
    with pytest.raises(StoreUnavailableError) as caught:
        call(store)
    _check_one_line(caught.value, "s3://lake/a")


@pytest.fixture
def bound_folder() -> Iterator[Path]:
    """A folder whose modes bind us: root, whom no mode binds, is nobody during the test."""
    folder, was_root = Path(tempfile.mkdtemp(prefix="headrace-test-")), os.geteuid() == 0
    if was_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize("verb", ["put", "put_once"])
def test_store_in_a_read_only_folder_says_so(bound_folder: Path, verb: str) -> None:
    store = open_store(f"file://{bound_folder}/lake")
    (bound_folder / "lake").chmod(0o555)
    with pytest.raises(ConfigError, match="permission denied"):
        CALLS[verb](store)


def test_store_below_a_read_only_folder_is_refused(bound_folder: Path) -> None:
    bound_folder.chmod(0o555)
    with pytest.raises(ConfigError, match="cannot create"):
        open_store(f"file://{bound_folder}/lake")


def _check_one_line(error: Exception, where: str) -> None:
    text = str(error)
    assert where in text
    assert "\n" not in text
    assert "do-not-print-me" not in text
