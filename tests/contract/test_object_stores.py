"""What every object store must do, run over memory, a folder and S3 (emulated), in one place and
with folders that lie elsewhere.

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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stream.errors import ConfigError, StoreUnavailableError
from stream.lake import store as store_module
from stream.lake.layout import ZONES
from stream.lake.places import Places
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


KINDS = ("memory", "file", "s3", "s3-with-prefix")
ELSEWHERE = ("race", "many", "page", "x", "nothing", "hour=2026-11-23T14")
"""Folders of the tests below that a zoned store keeps in a second place."""


def new_root(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty bucket or folder."""
    name = f"stores-{os.getpid()}-{next(_NAMES)}"
    if not kind.startswith("s3"):
        return f"memory://{name}" if kind == "memory" else f"file://{tmp_path}/{name}"
    endpoint = request.getfixturevalue("roto")
    create_bucket(f"s3://{name}", region="us-east-1", endpoint=endpoint)
    return f"s3://{name}" + ("/a/b" if "prefix" in kind else "")


def open_at(root: str, **zones: str) -> Store:
    return open_store(root, zones=zones, endpoint=os.environ.get("AWS_ENDPOINT_URL"))


@pytest.fixture(params=[*KINDS, *(f"{kind}-zoned" for kind in KINDS)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind = request.param.removesuffix("-zoned")
    home = open_at(new_root(kind, request, tmp_path))
    if kind == request.param:
        return home
    other = open_at(new_root(kind, request, tmp_path)).places.home
    return Store(Places(home.places.home, dict.fromkeys(ELSEWHERE, other)))


@dataclass
class Zoned:
    """A lake whose zones lie elsewhere, and each place as a store of its own."""

    store: Store
    at: dict[str, Store]

    def keys(self) -> dict[str, list[str]]:
        """What each place holds."""
        return {zone: sorted(i.path for i in own.list("")) for zone, own in self.at.items()}


@pytest.fixture(params=KINDS)
def zoned(request: pytest.FixtureRequest, tmp_path: Path) -> Zoned:
    names = ("lake", "bronze", "gold", "artifacts")
    lake, *zones = (new_root(request.param, request, tmp_path) for _ in names)
    store = open_at(lake, **dict(zip(names[1:], zones, strict=True)))
    places = {ZONES[folder]: place for folder, place in store.places.folders.items()}
    own = {zone: Store(Places(place)) for zone, place in places.items()}
    return Zoned(store, {"lake": Store(Places(store.places.home)), **own})


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


EVERYWHERE = {
    "lake": ["bronzed/a", "ledger/feed=a/1.json", "silver/entity=a/x.parquet"],
    "bronze": ["bronze/source=a/x.parquet"],
    "gold": ["gold/ledger/commits/x.parquet", "gold/target=local/builds/1.json"],
    "artifacts": ["athena-results/x.csv", "dbt-artifacts/local/manifest.json"],
}
PATHS = sorted(path for paths in EVERYWHERE.values() for path in paths)


def test_zoned_store_keeps_each_key_in_its_zone_alone(zoned: Zoned, tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(b"file")
    for path in PATHS[::2]:
        assert zoned.store.put_once(path, path.encode())
        assert not zoned.store.put_once(path, b"again")
    for path in PATHS[1::2]:
        zoned.store.put_file(path, tmp_path / "object")

    assert zoned.keys() == EVERYWHERE
    assert sorted(info.path for info in zoned.store.list("")) == PATHS
    for zone, paths in EVERYWHERE.items():
        for path in paths:
            assert zoned.store.uri(path) == zoned.at[zone].uri(path)
            assert zoned.store.get(path) == zoned.at[zone].get(path) is not None
            assert zoned.store.find(path) == zoned.at[zone].find(path) is not None
            zoned.store.delete(path)
    assert not any(zoned.keys().values())


def test_zoned_store_lists_every_folder_once_and_only_where_it_belongs(zoned: Zoned) -> None:
    for path in PATHS:
        zoned.store.put(path, b"")
    for own in zoned.at.values():  # what lies beside its zone is nobody's
        for folder in ("bronze", "gold", "silver", "dbt-artifacts"):
            if own.root != zoned.store.places.of(folder).root:
                own.put(f"{folder}/beside", b"")

    assert zoned.store.list_folders("") == tuple(sorted({p.split("/")[0] for p in PATHS}))
    assert zoned.store.list_folders("gold/") == ("ledger", "target=local")
    assert zoned.store.list_folders("bronze/") == ("source=a",)
    assert [info.path for info in zoned.store.list("bronze/")] == EVERYWHERE["bronze"]
    assert sorted(info.path for info in zoned.store.list("")) == PATHS
    assert zoned.store.get("bronze/beside") is None


def test_zoned_store_says_what_was_left_behind_in_the_lake(zoned: Zoned) -> None:
    for path in PATHS:
        zoned.store.put(path, b"")
    assert zoned.store.find_strays() == {}
    for path in ("bronze/source=a/old", "dbt-artifacts/old", "athena-results/old"):
        zoned.at["lake"].put(path, b"")

    root = zoned.store.root
    assert zoned.store.find_strays() == {
        "bronze": f"{root}/bronze/source=a/old",
        "dbt-artifacts": f"{root}/dbt-artifacts/old",
    }, "results of statements are nothing that could be missed"
    assert zoned.at["lake"].find_strays() == {}, "a lake without zones looks for everything there"


def test_zones_at_the_root_of_the_lake_are_one_store(tmp_path: Path) -> None:
    root = f"file://{tmp_path}/lake"
    store = open_at(root, bronze=root, gold=f"{root}/", artifacts=f"file://{tmp_path}/other")
    for path in PATHS:
        store.put(path, b"")
    found = {path: (tmp_path / "lake" / path).is_file() for path in PATHS}
    assert found == {path: path not in EVERYWHERE["artifacts"] for path in PATHS}
    assert sorted(info.path for info in store.list("")) == PATHS
    assert store.places.roots == (root, f"file://{tmp_path}/other")


def test_zone_whose_bucket_is_missing_is_named_by_its_own_address(roto: str) -> None:
    create_bucket("s3://zones-lake", region="us-east-1", endpoint=roto)
    store = open_at("s3://zones-lake", bronze="s3://nobody-made-bronze")
    assert store.put_once("silver/a", b"x")
    for call in (lambda: store.put_once("bronze/a", b"x"), lambda: list(store.list("bronze/"))):
        with pytest.raises(ConfigError, match=r"s3://nobody-made-bronze/bronze/.*does not exist"):
            call()


def test_zone_in_a_read_only_folder_is_named_by_its_own_setting(bound_folder: Path) -> None:
    store = open_at(f"file://{bound_folder}/lake", gold=f"file://{bound_folder}/gold")
    (bound_folder / "gold").chmod(0o555)
    assert store.put_once("silver/a", b"x")
    with pytest.raises(ConfigError, match=rf"{bound_folder}/gold/gold/a: permission denied"):
        store.put_once("gold/a", b"x")
    bound_folder.chmod(0o555)
    with pytest.raises(ConfigError, match=r"cannot create .* another HEADRACE_BRONZE_LAKE"):
        open_at(f"file://{bound_folder}/lake", bronze=f"file://{bound_folder}/bronze")


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
    assert store_module.RESEND_SECONDS < store_module.REQUEST_SECONDS
    monkeypatch.setattr(store_module, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 1)
    monkeypatch.setattr(store_module, "RESEND_SECONDS", 0)  # as a first try outlasts it there
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
