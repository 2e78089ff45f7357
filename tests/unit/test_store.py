"""Objects: created once by exactly one writer, listed, read in order, errors in one line."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stream.errors import ConfigError, StoreUnavailableError
from stream.lake.store import Store, open_store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/lake" if request.param == "file" else "memory://")


def test_put_once_creates_and_then_leaves_the_object_alone(store: Store) -> None:
    assert store.put_once("a/b", b"one")
    assert not store.put_once("a/b", b"two")
    assert store.get("a/b") == b"one"


def test_put_once_by_many_at_once_has_one_winner(store: Store) -> None:
    for number in range(20):
        path = f"race/{number}"
        with ThreadPoolExecutor(8) as pool:
            won = list(
                pool.map(lambda writer, path=path: store.put_once(path, b"%d" % writer), range(8))
            )
        assert sum(won) == 1
        assert store.get(path) == b"%d" % won.index(True)


def test_get_of_a_missing_object_is_none(store: Store) -> None:
    assert store.get("nothing") is None
    assert not store.exists("nothing")


def test_get_many_keeps_the_order_of_the_paths(store: Store) -> None:
    paths = [f"many/{number}" for number in range(100)]
    for path in paths[::2]:
        store.put(path, path.encode())
    found = list(store.get_many(paths, threads=3))
    assert found == [p.encode() if i % 2 == 0 else None for i, p in enumerate(paths)]


def test_list_shows_what_is_below_a_folder(store: Store) -> None:
    for path in ("x/1", "x/y/2", "xx/3"):
        store.put(path, b"abc")
    assert sorted((info.path, info.bytes) for info in store.list("x/")) == [
        ("x/1", 3),
        ("x/y/2", 3),
    ]
    assert list(store.list("nowhere/")) == []


def test_find_shows_what_the_listing_shows(store: Store) -> None:
    store.put("a/b", b"abc")
    assert [store.find("a/b")] == list(store.list("a/"))
    assert store.find("nothing") is None


def test_put_makes_an_object_young_again(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/lake")
    store.put("a", b"x")
    os.utime(tmp_path / "lake" / "a", (1_000, 1_000))
    assert [info.last_modified_ms for info in store.list("")] == [1_000_000]
    store.put("a", b"x")
    assert store.find("a").last_modified_ms > 1_000_000


def test_uri_and_relative_are_inverse(store: Store) -> None:
    assert store.relative(store.uri("a/b.parquet")) == "a/b.parquet"


def test_delete_removes(store: Store) -> None:
    store.put("gone", b"")
    assert store.exists("gone")
    store.delete("gone")
    assert not store.exists("gone")
    store.delete("gone")  # as on S3: nothing to do


def test_open_of_another_scheme_says_what_is_expected() -> None:
    with pytest.raises(ConfigError, match="s3://bucket"):
        open_store("ftp://somewhere")


def test_open_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot create"):
        open_store(f"file://{tmp_path}/file/lake")


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        ("No space left on device (os error 28)", StoreUnavailableError, "disk is full"),
        ("Read-only file system (os error 30)", ConfigError, "read-only"),
        ("NoSuchBucket", ConfigError, "headrace up"),
        ("connection refused", StoreUnavailableError, "connection refused"),
    ],
)
def test_errors_are_one_line_with_advice(
    store: Store, text: str, kind: type[Exception], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(text)

    monkeypatch.setattr("obstore.put", fail)
    with pytest.raises(kind, match=advice) as caught:
        store.put("a", b"")
    assert "\n" not in str(caught.value)
