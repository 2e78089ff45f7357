"""The pump: cursors move only past what is stored, stops are clean, oversize is named."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from stream.errors import StoreUnavailableError
from stream.producers.outbox import PublishRule
from stream.producers.pack import Packer, PackRule
from stream.producers.publish import Publisher
from stream.producers.pump import MAX_MESSAGE_BYTES, Pump
from stream.producers.spool import Spool

pytestmark = pytest.mark.enable_socket
RULE = PublishRule(backoff_seconds=0.001, spool_after_seconds=0.05, close_seconds=0.1)


class Stream:
    def __init__(self, is_away=False):
        self.is_away = is_away
        self.stored = []

    async def send(self, packs):
        await asyncio.sleep(0.005)
        if self.is_away:
            raise StoreUnavailableError("away")
        self.stored += [line for pack in packs for line in pack.data.split(b"\n")]
        return [None] * len(packs)


async def batches(*groups, then_wait=False):
    for group in groups:
        yield [("k", line) for line in group]
        await asyncio.sleep(0.01)
    if then_wait:
        await asyncio.sleep(3_600)


def pump(stream, source, spool=None, **options):
    packer = Packer(PackRule(linger_seconds=0.01))
    machine = Pump(
        Publisher(stream, rule=RULE, spool=spool), packer, "s", stop_flush_seconds=0.3, **options
    )
    return asyncio.run(asyncio.wait_for(machine.run(source), 20))


def test_pump_source_that_ends_is_published_whole():
    stream = Stream()
    figures = pump(stream, batches([b"1", b"2"], [], [b"3"]))
    assert stream.stored == [b"1", b"2", b"3"]
    assert figures.read_messages == figures.receipt.messages == 3


def test_pump_settled_is_told_only_when_everything_yielded_is_stored():
    stream = Stream()
    yielded: list[bytes] = []
    calls: list[int] = []

    async def source():
        for n in range(20):
            yielded.append(b"%d" % n)
            yield [("k", b"%d" % n)]
            await asyncio.sleep(0.003)

    def settled():
        assert stream.stored == yielded
        calls.append(len(yielded))

    pump(stream, source(), on_settled=settled)
    assert calls[-1] == 20


def test_pump_settled_is_not_told_while_the_stream_is_away():
    stream, stop, told = Stream(is_away=True), threading.Event(), []
    threading.Timer(0.2, stop.set).start()
    figures = pump(
        stream, batches([b"1"], then_wait=True), stop=stop, on_settled=lambda: told.append(1)
    )
    assert told == []
    assert figures.receipt.unsent_messages == 1


def test_pump_stopped_while_away_puts_the_rest_into_the_spool(tmp_path):
    stream, stop = Stream(is_away=True), threading.Event()
    spool = Spool(tmp_path, max_bytes=1_000_000)
    threading.Timer(0.1, stop.set).start()
    groups = [[b"%d" % n] for n in range(200)]
    figures = pump(stream, batches(*groups), spool, stop=stop)
    kept = [line for pack in spool.read(10**6) for line in pack.data.split(b"\n")]
    assert kept == [b"%d" % n for n in range(figures.read_messages)]
    assert figures.receipt.unsent_messages == 0
    spool.close()


def test_pump_time_over_ends_a_silent_source():
    assert pump(Stream(), batches(then_wait=True), seconds=0.1).read_messages == 0


def test_pump_error_in_the_source_publishes_what_came_before():
    async def source():
        yield [("k", b"1")]
        raise ValueError("broken source")

    stream = Stream()
    with pytest.raises(ValueError, match="broken source"):
        pump(stream, source())
    assert stream.stored == [b"1"]


def test_pump_oversized_message_is_named_and_the_others_go_on(caplog):
    stream = Stream()
    with caplog.at_level(logging.ERROR):
        figures = pump(stream, batches([b"a", b"x" * (MAX_MESSAGE_BYTES + 1), b"b"]))
    assert stream.stored == [b"a", b"b"]
    assert figures.oversized_messages == 1
    assert "NOT published" in caplog.text


def test_pump_stopped_at_any_moment_publishes_every_batch_that_was_yielded():
    for delay in range(12):
        stream, stop, yielded = Stream(), threading.Event(), []

        async def source(stop=stop, yielded=yielded, delay=delay):
            for n in range(1_000):
                if n == delay:
                    stop.set()
                yielded.append(b"%d" % n)
                yield [("k", b"%d" % n)]

        figures = pump(stream, source(), stop=stop)
        assert stream.stored == yielded
        assert figures.read_messages == len(yielded) >= delay
