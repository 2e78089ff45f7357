"""The publisher: order per key, only failed records again, spool, back-pressure, clear ends."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError, PipelineError, StoreUnavailableError, ThrottledError
from stream.producers.outbox import PublishRule
from stream.producers.pack import Pack
from stream.producers.publish import Publisher
from stream.producers.spool import Spool

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair

FAST = PublishRule(backoff_seconds=0.001, max_backoff_seconds=0.004, spool_after_seconds=0.02)


class FakeStream:
    """Stores records; its plan says per call what goes wrong. Checks the one-in-flight rule."""

    def __init__(self, plan=(), seed=0):
        self.plan = list(plan)
        self.stored: list[Pack] = []
        self.calls: list[list[Pack]] = []
        self.in_flight: set[str] = set()
        self.is_away = False
        self.random = random.Random(seed)

    async def send(self, packs):
        keys = [pack.key for pack in packs]
        assert len(set(keys)) == len(keys), "two records of one key in a call"
        assert not self.in_flight & set(keys), "two records of one key in flight"
        assert len(packs) <= 500
        assert sum(pack.size for pack in packs) <= 1_000_000 or len(packs) == 1
        self.in_flight |= set(keys)
        self.calls.append(list(packs))
        await asyncio.sleep(self.random.random() * 0.002)
        self.in_flight -= set(keys)
        if self.is_away:
            raise StoreUnavailableError("away")
        what = self.plan.pop(0) if self.plan else "ok"
        if what == "throttled":
            raise ThrottledError("slow down")
        if what == "away":
            raise StoreUnavailableError("away")
        if what == "unknown":  # stored, but the answer got lost
            self.stored += packs
            raise StoreUnavailableError("timeout")
        codes = [
            "InternalFailure" if what == "part" and self.random.random() < 0.5 else None
            for _ in packs
        ]
        self.stored += [pack for pack, code in zip(packs, codes, strict=True) if code is None]
        return codes

    def lines(self, key):
        return [line for pack in self.stored if pack.key == key for line in pack.data.split(b"\n")]


def packs_of(count, keys=3, size=0):
    return [Pack(f"k{n % keys}", b"%d" % n + b"." * size, 1) for n in range(count)]


async def publish(stream, packs, *, rule=FAST, spool=None, yields=0.1):
    turns = random.Random(1)
    async with Publisher(stream, rule=rule, spool=spool, jitter=random.Random(1)) as publisher:
        for pack in packs:
            await publisher.put(pack)
            if turns.random() < yields:
                await asyncio.sleep(0)
    return publisher.receipt


def firsts(lines):
    return list(dict.fromkeys(lines))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["ok", "part", "throttled", "away", "unknown"]), max_size=15),
    st.integers(1, 80),
    st.integers(1, 6),
    st.booleans(),
)
def test_publisher_any_failures_stores_all_at_least_once_in_order_per_key(
    plan, count, keys, with_spool
):
    stream = FakeStream(plan)
    packs = packs_of(count, keys)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), max_bytes=100_000) if with_spool else None
        receipt = asyncio.run(publish(stream, packs, spool=spool))
        if spool is not None:
            assert spool.is_empty
            spool.close()
    for n in range(keys):
        expected = [pack.data for pack in packs if pack.key == f"k{n}"]
        assert firsts(stream.lines(f"k{n}")) == expected
    assert receipt.messages >= count
    assert receipt.unsent_messages == 0
    if "unknown" not in plan:
        assert receipt.messages == count == sum(pack.messages for pack in stream.stored)


def test_publisher_partial_failure_sends_failed_records_alone_again():
    stream = FakeStream(["part"], seed=3)
    receipt = asyncio.run(publish(stream, packs_of(6, keys=6), yields=0))
    first, later = stream.calls[0], stream.calls[1:]
    again = sorted(pack.key for call in later for pack in call)  # in one call or more: jitter
    kept = [pack.key for pack in stream.stored[: 6 - len(again)]]
    assert again == sorted({pack.key for pack in first} - set(kept))
    assert 0 < len(again) < 6
    assert receipt.retried_records == len(again)
    assert receipt.messages == receipt.records == 6


def test_publisher_waiting_packs_of_a_key_are_merged():
    stream = FakeStream()
    receipt = asyncio.run(publish(stream, packs_of(1_000, keys=1)))
    assert receipt.messages == 1_000
    assert receipt.records < 50


def test_publisher_merge_respects_the_record_limit_and_messages_with_newlines():
    stream = FakeStream()
    rule = PublishRule(max_record_bytes=100)
    packs = [Pack("k", b"x" * 30, 1) for _ in range(20)] + [Pack("k", b"a\nb", 1)] * 2
    asyncio.run(publish(stream, packs, rule=rule))
    assert all(len(pack.data) <= 100 for pack in stream.stored)
    assert [pack.data for pack in stream.stored[-2:]] == [b"a\nb", b"a\nb"]


def test_publisher_call_limits_are_kept():
    stream = FakeStream()
    asyncio.run(publish(stream, packs_of(1_300, keys=1_300), yields=0))
    assert max(map(len, stream.calls)) == 500
    big = FakeStream()
    asyncio.run(publish(big, packs_of(12, keys=12, size=300_000), yields=0))
    assert max(map(len, big.calls)) == 3


def test_publisher_full_memory_holds_the_source_back():
    stream = FakeStream()
    rule = PublishRule(max_pending_bytes=1_000, backoff_seconds=0.001)

    async def scenario():
        stream.is_away = True
        async with Publisher(stream, rule=rule) as publisher:
            puts = asyncio.create_task(put_all(publisher))
            await asyncio.sleep(0.05)
            assert publisher.pending_bytes <= 1_000
            assert not puts.done()
            stream.is_away = False
            await puts
        return publisher.receipt

    async def put_all(publisher):
        for pack in packs_of(50, size=90):
            await publisher.put(pack)

    assert asyncio.run(scenario()).messages == 50


def test_publisher_stream_away_spools_and_drains_before_newer_packs(tmp_path):
    stream = FakeStream()
    spool = Spool(tmp_path, max_bytes=1_000_000)

    async def scenario():
        stream.is_away = True
        async with Publisher(stream, rule=FAST, spool=spool) as publisher:
            for pack in packs_of(30):
                await publisher.put(pack)
            for _ in range(200):
                await asyncio.sleep(0.01)
                if not spool.is_empty:
                    break
            assert not spool.is_empty
            for pack in packs_of(60)[30:]:
                await publisher.put(pack)
            stream.is_away = False
        return publisher.receipt

    receipt = asyncio.run(scenario())
    assert receipt.spooled_messages == 60
    assert receipt.messages == 60
    assert spool.is_empty
    for n in range(3):
        assert stream.lines(f"k{n}") == [pack.data for pack in packs_of(60) if pack.key == f"k{n}"]
    spool.close()


def test_publisher_spool_too_small_holds_back_and_loses_nothing(tmp_path, caplog):
    stream = FakeStream()
    spool = Spool(tmp_path, max_bytes=600)

    async def scenario():
        stream.is_away = True
        async with Publisher(stream, rule=FAST, spool=spool) as publisher:
            puts = asyncio.create_task(put_all(publisher))
            await asyncio.sleep(0.3)
            assert not puts.done()
            stream.is_away = False
            await puts
        return publisher.receipt

    async def put_all(publisher):
        for pack in packs_of(100, size=20):
            await publisher.put(pack)
            await asyncio.sleep(0.0005)

    with caplog.at_level(logging.ERROR):
        receipt = asyncio.run(scenario())
    assert receipt.messages == 100
    assert "held back" in caplog.text
    for n in range(3):
        expected = [pack.data for pack in packs_of(100, size=20) if pack.key == f"k{n}"]
        assert stream.lines(f"k{n}") == expected
    spool.close()


def test_publisher_full_disk_keeps_the_back_off_and_the_log_quiet(tmp_path, caplog, monkeypatch):
    stream = FakeStream()
    spool = Spool(tmp_path, max_bytes=100_000)
    monkeypatch.setattr(spool, "append", lambda pack: False)
    rule = PublishRule(backoff_seconds=0.05, max_backoff_seconds=0.1, spool_after_seconds=0.02)

    async def scenario():
        stream.is_away = True
        async with Publisher(stream, rule=rule, spool=spool) as publisher:
            for pack in packs_of(30):
                await publisher.put(pack)
            await asyncio.sleep(0.6)
            assert len(stream.calls) < 60
            stream.is_away = False
        return publisher.receipt

    with caplog.at_level(logging.INFO):
        assert asyncio.run(scenario()).messages == 30
    assert len(caplog.records) < 10
    for n in range(3):
        assert stream.lines(f"k{n}") == [pack.data for pack in packs_of(30) if pack.key == f"k{n}"]
    spool.close()


def test_publisher_closed_while_away_leaves_the_rest_for_the_next_start(tmp_path):
    stream = FakeStream()

    async def first():
        stream.is_away = True
        async with Publisher(stream, rule=FAST, spool=spool) as publisher:
            for pack in packs_of(20):
                await publisher.put(pack)
            await publisher.close(flush_seconds=0.005)
        return publisher.receipt

    spool = Spool(tmp_path, max_bytes=100_000)
    assert asyncio.run(first()).unsent_messages == 0
    spool.close()
    stream.is_away = False
    spool = Spool(tmp_path, max_bytes=100_000)
    asyncio.run(publish(stream, packs_of(30)[20:], spool=spool))
    for n in range(3):
        assert stream.lines(f"k{n}") == [pack.data for pack in packs_of(30) if pack.key == f"k{n}"]
    spool.close()


def test_publisher_closed_without_spool_names_what_was_not_sent(caplog):
    stream = FakeStream()
    stream.is_away = True

    async def scenario():
        publisher = Publisher(stream, rule=FAST)
        async with publisher:
            await publisher.put(Pack("k", b"a\nb", 2))
            await publisher.close(flush_seconds=0.01)
        return publisher.receipt

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(scenario()).unsent_messages == 2
    assert "2 messages were not sent" in caplog.text


class Refusing:
    def __init__(self, error):
        self.error = error

    async def send(self, packs):
        raise self.error


def test_publisher_config_error_reaches_the_caller_and_spools_the_rest(tmp_path):
    spool = Spool(tmp_path, max_bytes=100_000)
    with pytest.raises(ConfigError, match="no stream"):
        asyncio.run(publish(Refusing(ConfigError("no stream")), packs_of(10), spool=spool))
    assert sum(pack.messages for pack in spool.read(10_000)) == 10
    spool.close()


def test_publisher_defect_in_the_sender_stops_instead_of_hanging():
    with pytest.raises(PipelineError, match="sending stopped: KeyError"):
        asyncio.run(publish(Refusing(KeyError("bug")), packs_of(10)))


def test_publisher_hung_call_is_cut_off_at_close_and_spooled(tmp_path):
    class Hanging:
        async def send(self, packs):
            await asyncio.sleep(60)

    spool = Spool(tmp_path, max_bytes=100_000)
    rule = PublishRule(close_seconds=0.05)

    async def scenario():
        async with Publisher(Hanging(), rule=rule, spool=spool) as publisher:
            await publisher.put(Pack("k", b"a", 1))
            await publisher.close(flush_seconds=0.05)

    asyncio.run(asyncio.wait_for(scenario(), 5))
    assert spool.read(100) == [Pack("k", b"a", 1)]
    spool.close()
