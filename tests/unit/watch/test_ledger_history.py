"""Lag, freshness and throughput from the ledger: the right commits, the right numbers."""

from __future__ import annotations

from typing import Any

import pytest

from stream.errors import ConfigError, FatalError
from stream.lake.entries import GapRecord
from stream.lake.layout import LedgerKey
from stream.slices import ShardRef
from stream.watch.ledger_history import Delay, FeedHistory, read_history

T0 = 1_764_000_000_000
SHARD = "shardId-000000000000"


@pytest.fixture
def road(small_lake: Any) -> Any:
    """Seven commits: records arrive at every even second, a commit follows eight seconds later."""
    for _ in range(7):
        item = small_lake.slice([b"bad", *[_trade(small_lake, n) for n in range(9)]])
        small_lake.clock.sleep(8)
        small_lake.land(item)
        small_lake.arrival_ns = small_lake.clock.now_ns()
    return small_lake


def _trade(lake: Any, number: int) -> bytes:
    at = lake.arrival_ns
    return (
        b'{"venue":"sim","symbol":"A","trade_id":"%d","kind":"new","side":"buy","price":1,"size":1,'
        b'"ts_event_ns":%d}' % (at + number, at)
    )


def history(lake: Any, from_s: float, to_s: float) -> FeedHistory:
    at = [T0 + int(second * 1_000) for second in (from_s, to_s)]
    return read_history(lake.lake, "trades", *at)


def test_history_of_the_whole_ledger_has_every_commit(road: Any) -> None:
    found = history(road, 0, 1_000)
    assert len(found.delays) == 7
    assert found.delays[0] == Delay(T0 + 10_000, newest_ms=7_991, oldest_ms=8_000)
    assert [event.count for event in found.rejects] == [1] * 7
    assert max(lag for _, lag in found.lags[0].points) == 8_000
    assert found.rates[1].records_per_s == pytest.approx(1.0)


def test_history_of_a_range_is_the_part_of_the_whole(road: Any) -> None:
    whole = history(road, 0, 1_000)
    for first in (0, 9.999, 10, 10.001, 35, 65, 69.9, 70, 500):
        for length in (0.002, 10, 45, 500):
            part = history(road, first, first + length)
            inside = [d for d in whole.delays if part.from_ms <= d.at_ms < part.to_ms]
            assert list(part.delays) == inside
            assert part.is_empty == (not inside)
            for line in part.lags:
                assert all(part.from_ms <= at <= part.to_ms for at, _ in line.points)


def test_history_of_a_range_long_ago_reads_only_its_commits(
    road: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    get = type(road.lake.store).get
    monkeypatch.setattr(
        type(road.lake.store), "get", lambda self, path: read.append(path) or get(self, path)
    )
    monkeypatch.setattr("stream.watch.ledger_history.AFTER", 1)
    history(road, 0, 15)
    assert len([path for path in read if path.startswith("ledger/")]) <= 12


def test_history_follows_the_chain_past_what_a_loser_wrote(road: Any) -> None:
    for number in (3, 8):  # 8 is the head: another writer lost the race for it
        entry = road.entries()[number - 1]
        data = entry.to_bytes().replace(b'"rows":10', b'"rows":99')
        road.lake.store.put_once(LedgerKey("trades", number, "0" * 64).path, data)
    assert {rate.records_per_s for rate in history(road, 0, 1_000).rates[1:]} == {1.0}


def test_history_of_a_ledger_with_a_hole_says_so(road: Any) -> None:
    path = road.entries()[4].previous
    road.lake.store.delete(path)
    with pytest.raises(FatalError, match="ledger entry 4 of trades is missing"):
        history(road, 0, 1_000)


def test_history_marks_gaps(road: Any) -> None:
    reference = ShardRef("trades", "headrace-trades.00000000", SHARD)
    road.ledger.commit_slices([], [GapRecord(reference, "1", "9", "retention")])
    [gap] = history(road, 0, 1_000).gaps
    assert gap.text == f"{SHARD}: retention after 1"


def test_history_of_an_empty_range_is_refused(small_lake: Any) -> None:
    with pytest.raises(ConfigError, match="the range is empty"):
        history(small_lake, 10, 10)


def test_history_of_a_feed_that_was_never_started_is_refused(small_lake: Any) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_history(small_lake.lake, "quotes", T0, T0 + 1)
