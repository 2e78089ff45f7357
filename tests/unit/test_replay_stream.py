"""Replay from the stream: Bronze is mended byte for byte, and retention is said, not guessed."""

from __future__ import annotations

from typing import Any

import pytest

from batch.replay.from_stream import StreamSource
from batch.replay.recorded import replay_recorded
from stream.dedup import Dedup
from stream.errors import ConfigError, ImmutableObjectError, PositionExpiredError
from stream.flow import Road, RoadCommitter
from stream.lake.ledger import Ledger
from stream.prove import prove_lake
from stream.silver import SilverKeys
from stream.slices import ShardPosition, ShardRef, Slicer, Start
from stream.sources.memory import MemoryReader, MemoryStream


class Streamed:
    """A lake filled from a memory stream, slice by slice, as the lanes would."""

    def __init__(self, small_lake: Any, trade: Any) -> None:
        self.base, self.trade = small_lake, trade
        self.stream = MemoryStream("headrace-trades", 1, small_lake.clock, retention_ms=60_000)
        self.reader = MemoryReader(self.stream)
        self.shard = ShardRef(
            "trades", str(self.reader.identity), self.stream.list_shards()[0].shard
        )
        table = small_lake.lake.table(small_lake.contract)
        self.ledger = Ledger("trades", table, small_lake.lake.store, small_lake.clock)
        self.ledger.start({str(self.shard): ShardPosition(None, start=Start("TRIM_HORIZON"))})
        keys = SilverKeys(small_lake.contract, table, small_lake.lake.store, lambda _: frozenset())
        self.road = Road(
            small_lake.contract,
            small_lake.lake.store,
            table.arrow_schema,
            Dedup(small_lake.contract, keys),
        )
        self.slicer = Slicer(self.shard, None, small_lake.settings.slice_rule)
        self.committer = RoadCommitter(self.ledger)
        self.cursor = self.reader.open_shard(self.shard.shard, Start("TRIM_HORIZON"))
        self.next_id = 0

    def land(self, slices: int) -> None:
        """Publish and commit slices, one arrival window each."""
        for _ in range(slices + 1):
            for _ in range(10):
                self.next_id += 1
                at = self.base.clock.now_ns()
                self.stream.put(self.trade(self.next_id, at_ns=at), "sim:0")
            self.base.clock.sleep(2)
        answer = self.reader.read(self.shard.shard, self.cursor)
        self.cursor = answer.cursor or ""
        self.committer.add(self.road.process(self.slicer.push(answer.records)))
        self.committer.commit()

    def replay(self, *, apply: bool = True) -> Any:
        return replay_recorded(
            self.base.settings,
            self.base.lake,
            self.base.contract,
            (0, 10**13),
            StreamSource(self.reader, self.base.clock),
            apply=apply,
            clock=self.base.clock,
        )

    def bronze(self) -> list[Any]:
        return sorted(info.path for info in self.base.lake.store.list("bronze/"))


@pytest.fixture
def streamed(small_lake: Any, trade: Any) -> Any:
    made = Streamed(small_lake, trade)
    yield made
    made.road.close()


def test_replay_from_the_stream_finds_the_same_bytes(streamed: Any) -> None:
    streamed.land(5)
    report = streamed.replay()
    assert (report.slices, report.changed_slices, report.restored) == (5, 0, 0)


def test_missing_bronze_object_is_written_again_with_the_same_bytes(streamed: Any) -> None:
    streamed.land(5)
    path = streamed.base.path(streamed.bronze()[2])
    data = path.read_bytes()
    path.unlink()
    assert not prove_lake(streamed.base.lake, streamed.base.contract).is_equal
    dry = streamed.replay(apply=False)
    assert dry.restored == 1
    assert not path.exists()
    assert streamed.replay().restored == 1
    assert path.read_bytes() == data
    assert prove_lake(streamed.base.lake, streamed.base.contract).is_equal


def test_changed_bronze_object_is_refused(streamed: Any, trade: Any) -> None:
    streamed.land(3)
    first, second = (streamed.base.path(path) for path in streamed.bronze()[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(ImmutableObjectError, match="exists with different records"):
        streamed.replay()


def test_range_past_retention_says_so_and_names_the_way_out(streamed: Any) -> None:
    streamed.land(5)
    streamed.base.clock.sleep(65)
    streamed.stream.trim()
    with pytest.raises(PositionExpiredError, match=r"no longer holds.*--source bronze"):
        streamed.replay()


def test_slices_of_another_life_of_the_stream_are_refused(streamed: Any) -> None:
    streamed.land(3)
    streamed.base.clock.sleep(1)
    again = MemoryStream("headrace-trades", 1, streamed.base.clock)
    source = StreamSource(MemoryReader(again), streamed.base.clock)
    with pytest.raises(ConfigError, match=r"another life of the stream.*--source bronze"):
        replay_recorded(
            streamed.base.settings,
            streamed.base.lake,
            streamed.base.contract,
            (0, 10**13),
            source,
            clock=streamed.base.clock,
        )


def test_expired_cursor_is_opened_again(streamed: Any) -> None:
    streamed.land(3)
    read, calls = streamed.reader.read, []

    def expires_once(shard: str, cursor: str, limit: int = 10_000) -> Any:
        calls.append(cursor)
        if len(calls) == 1:
            streamed.base.clock.sleep(301)
            streamed.stream.retention_ms = 10**9
        return read(shard, cursor, limit)

    streamed.reader.read = expires_once
    streamed.stream.retention_ms = 10**9
    assert streamed.replay().changed_slices == 0
    assert len(calls) > 1
