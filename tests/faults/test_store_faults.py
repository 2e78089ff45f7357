"""The store against S3 that loses answers, sends half of them, refuses and is late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_proxy import Fault, FaultProxy, Plan

from stream.errors import StoreUnavailableError
from stream.lake.store import Store, create_bucket, open_store
from stream.local.roto import Roto

LOSE, HALF, RESET, SLOW_DOWN = Fault("lose"), Fault("half"), Fault("reset"), Fault("refuse", 503)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    roto = Roto(tmp_path_factory.mktemp("aws"))
    try:
        yield roto.start()
    finally:
        roto.stop()


@pytest.fixture
def proxy(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    create_bucket("s3://lake", region="us-east-1", endpoint=emulator)
    found = FaultProxy(emulator)
    yield found
    found.close()


@pytest.fixture
def store(proxy: FaultProxy) -> Store:
    return open_store("s3://lake", endpoint=proxy.url)


def test_put_once_whose_answer_is_lost_counts_as_created(
    store: Store, proxy: FaultProxy, request: pytest.FixtureRequest
) -> None:
    path = f"bronze/{request.node.name}"
    proxy.plan = Plan(1, {}, first={"s3:PUT": (LOSE,)})

    assert store.put_once(path, b"ours")
    assert store.get(path) == b"ours"
    assert proxy.fired["s3:PUT lose"] == 1


@pytest.mark.parametrize("fault", [LOSE, RESET, HALF, SLOW_DOWN], ids=str)
def test_put_once_after_another_writer_is_refused_whatever_fails(
    store: Store, proxy: FaultProxy, fault: Fault, request: pytest.FixtureRequest
) -> None:
    path = f"bronze/{request.node.name}"
    assert store.put_once(path, b"theirs")
    proxy.plan = Plan(1, {}, first={"s3:PUT": (None, fault)})

    assert not store.put_once(path, b"ours")
    assert store.get(path) == b"theirs"
    assert proxy.fired[f"s3:PUT {fault}"] == 1


def test_put_once_sends_again_until_it_has_an_answer(
    store: Store, proxy: FaultProxy, request: pytest.FixtureRequest
) -> None:
    path = f"bronze/{request.node.name}"
    proxy.plan = Plan(1, {}, first={"s3:PUT": (RESET, SLOW_DOWN, RESET, LOSE)})

    assert store.put_once(path, b"ours")
    assert proxy.fired.total() == 4


@pytest.mark.parametrize("size", [1, 100_000])
def test_get_of_half_answers_comes_back_whole(
    store: Store, proxy: FaultProxy, size: int, request: pytest.FixtureRequest
) -> None:
    path, data = f"bronze/{request.node.name}", bytes(range(256)) * (size // 256 + 1)
    store.put(path, data)
    proxy.plan = Plan(1, {}, first={"s3:GET": (HALF, LOSE, HALF, SLOW_DOWN)})

    assert store.get(path) == data
    assert proxy.fired["s3:GET half"] == 2


def test_list_of_half_answers_names_every_object(store: Store, proxy: FaultProxy) -> None:
    paths = [f"silver/many/{number}" for number in range(20)]
    for path in paths:
        store.put(path, b"x")
    proxy.plan = Plan(1, {}, first={"s3:LIST": (HALF, SLOW_DOWN, LOSE)})

    assert sorted(info.path for info in store.list("silver/many/")) == sorted(paths)


def test_store_that_only_refuses_is_named_with_the_object(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.lake.store.RESEND_SECONDS", 0.0)
    proxy.outage = {"s3": RESET}

    with pytest.raises(StoreUnavailableError, match=r"cannot write s3://lake/bronze/gone"):
        store.put_once("bronze/gone", b"ours")
