"""Lag is measured from the committed position; freshness from what a query can see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream.clock import ManualClock, parse_time_ms
from stream.errors import ConfigError
from stream.lag import LagReport, _table_lag, feed_lag, read_lag
from stream.lake.entries import GapRecord, Head, SliceRecord
from stream.slices import ShardPosition, ShardRef
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


FRIDAY_CLOSE_MS = parse_time_ms("2026-11-27T18:00")
"""13:00 in New York: the day after Thanksgiving ends early."""


def _head(arrival_ms: int) -> Head:
    return Head(1, "", {"s": ShardPosition("1", arrival_ms=arrival_ms)})


@pytest.mark.parametrize(
    ("now", "trading_ms", "is_open", "is_silent"),
    [
        ("2026-11-27T18:00:00", 60_000, False, False),
        ("2026-11-29T15:00:00", 60_000, False, False),
        ("2026-11-30T14:30:00", 60_000, True, False),
        ("2026-11-30T14:38:59", 599_000, True, False),
        ("2026-11-30T14:39:00", 600_000, True, True),
    ],
)
def test_closed_market_is_not_lag_and_a_silent_open_one_is(
    behind: Behind, now: str, trading_ms: int, is_open: bool, is_silent: bool
) -> None:
    contract = replace(behind.lake.contract, calendar="XNYS")
    head = _head(FRIDAY_CLOSE_MS - 60_000)
    table = _table_lag(contract, head, None, 1, parse_time_ms(now))
    assert table.freshness_ms == parse_time_ms(now) - FRIDAY_CLOSE_MS + 60_000
    assert (table.trading_ms, table.is_market_open) == (trading_ms, is_open)
    assert table.is_silent is is_silent


def test_feed_that_expects_nothing_is_never_silent(behind: Behind) -> None:
    volume = replace(behind.lake.contract.volume, min_per_minute=0)
    contract = replace(behind.lake.contract, volume=volume)
    assert not _table_lag(contract, _head(1), None, 1, 10**12).is_silent


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
