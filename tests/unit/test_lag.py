"""Lag is measured from the committed position; freshness from what a query can see."""

from __future__ import annotations

from typing import Any

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError
from stream.lag import LagReport, feed_lag, read_lag
from stream.lake.entries import GapRecord, SliceRecord
from stream.slices import ShardRef
from stream.sources.memory import MemoryReader, MemoryStream

T0_NS = 1_764_000_000_000_000_000


class Behind:
    """A stream, its reader, and a ledger that has committed a part of it."""

    def __init__(self, lake: Any) -> None:
        self.lake = lake
        self.clock = ManualClock(T0_NS)
        self.stream = MemoryStream("headrace-trades", shards=1, clock=self.clock)
        self.reader = MemoryReader(self.stream)
        self.shard = self.stream.list_shards()[0].shard
        self.reference = ShardRef("trades", str(self.reader.identity), self.shard)

    def put(self, count: int) -> list[str]:
        """Records one second apart; their sequence numbers."""
        numbers = []
        for _ in range(count):
            numbers.append(self.stream.put(b"tick", "key")[1])
            self.clock.sleep(1)
        return numbers

    def commit(self, first: str, last: str, *, prev: str | None = None, ends: bool = False) -> None:
        """What a dataflow would have committed."""
        record = SliceRecord(
            self.reference, prev, first, last, 1, 4, (T0_NS, T0_NS + 1_000_000_000), ends
        )
        self.lake.ledger.commit_slices([(record, [])])

    def lag(self) -> LagReport:
        return feed_lag(self.lake.lake, self.lake.contract, self.reader, clock=self.clock)


@pytest.fixture
def behind(small_lake: Any) -> Behind:
    return Behind(small_lake)


def test_lag_counts_the_records_behind_the_committed_position(behind: Behind) -> None:
    numbers = behind.put(10)
    behind.commit(numbers[0], numbers[3])
    [shard] = behind.lag().shards
    assert (shard.committed, shard.backlog, shard.is_capped) == (numbers[3], 6, False)
    assert shard.behind_ms == 6_000
    assert shard.unread_since_ms == T0_NS // 1_000_000 + 4_000
    assert (shard.state, shard.backlog_text) == ("behind", "6")


def test_lag_at_the_tip_is_zero(behind: Behind) -> None:
    numbers = behind.put(3)
    behind.commit(numbers[0], numbers[2])
    [shard] = behind.lag().shards
    assert (shard.behind_ms, shard.tip_ms, shard.backlog) == (0, 0, 0)
    assert shard.state == "at the tip"


def test_lag_of_a_shard_that_was_never_read_counts_from_its_start(behind: Behind) -> None:
    behind.put(2)
    [shard] = behind.lag().shards
    assert (shard.committed, shard.backlog, shard.state) == (None, 2, "not started")


def test_lag_beyond_the_cap_is_a_lower_bound(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.lag.CAP", 5)
    behind.put(9)
    [shard] = behind.lag().shards
    assert (shard.is_capped, shard.backlog_text) == (True, "6+")


def test_lag_looks_past_empty_answers(behind: Behind) -> None:
    behind.reader = MemoryReader(behind.stream, is_empty_at_first=True)
    behind.put(3)
    [shard] = behind.lag().shards
    assert shard.backlog == 3


def test_lag_of_an_ended_shard_reads_nothing(behind: Behind) -> None:
    numbers = behind.put(1)
    behind.commit(numbers[0], numbers[0], ends=True)
    behind.stream.split_shard(behind.shard)
    shards = {shard.shard: shard for shard in behind.lag().shards}
    assert shards[behind.shard].state == "ended"
    assert len(shards) == 3


def test_freshness_is_the_age_of_the_newest_committed_arrival(behind: Behind) -> None:
    numbers = behind.put(20)
    behind.commit(numbers[0], numbers[1])
    [table] = behind.lag().tables
    assert table.freshness_ms == 19_000
    assert table.is_fresh is (table.target_ms >= 19_000)
    assert table.commit == 2
    assert table.last_commit_age_ms == 20_000
    assert table.snapshots == 2


def test_freshness_before_the_first_commit_is_unknown(behind: Behind) -> None:
    [table] = behind.lag().tables
    assert (table.freshness_ms, table.is_fresh) == (None, False)


def test_gap_of_the_last_commit_is_named(behind: Behind) -> None:
    behind.lake.ledger.commit_slices([], [GapRecord(behind.reference, "1", "5", "retention")])
    [table] = behind.lag().tables
    assert "retention" in table.gaps[0]


def test_lag_by_settings_is_json_and_leaves_out_feeds_never_started(behind: Behind) -> None:
    behind.put(1)

    def opener(*_: object) -> MemoryReader:
        return behind.reader

    report = read_lag(
        behind.lake.settings, ["trades", "news"], open_reader=opener, clock=behind.clock
    )
    assert [table["feed"] for table in report.to_json()["tables"]] == ["trades"]
    with pytest.raises(ConfigError, match="headrace run"):
        read_lag(behind.lake.settings, ["news"], open_reader=opener)
