"""The one commit: applied once, by one of many writers, provable and readable afterwards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from stream.errors import (
    CommitUnknownError,
    ConfigError,
    FatalError,
    LedgerGapError,
    StoreUnavailableError,
)
from stream.lake.catalog import LakeTable
from stream.lake.connect import connect_lake
from stream.lake.ledger import Ledger, open_ledger
from stream.slices import ShardPosition, Start


def rival(lake: Any) -> Ledger:
    """Another process' ledger: its own table handle."""
    other = connect_lake(lake.settings)
    return Ledger("trades", other.table(lake.contract), other.store)


def results(lake: Any, count: int) -> list[tuple[Any, Any]]:
    """Processed slices that nobody has committed."""
    slices = [lake.slice([b"x%d" % number]) for number in range(count)]
    return [(result.record, result.files) for result in lake.road.process(slices)]


def test_commit_twice_lands_once(small_lake: Any) -> None:
    work = results(small_lake, 3)
    entry = small_lake.ledger.commit_slices(work)
    assert [record.first for record in entry.slices] == ["1000", "1001", "1002"]
    assert small_lake.ledger.commit_slices(work) is None
    assert rival(small_lake).commit_slices(work) is None
    assert len(small_lake.entries()) == 2


def test_commit_of_an_overlapping_batch_lands_the_rest(small_lake: Any) -> None:
    work = results(small_lake, 4)
    small_lake.ledger.commit_slices(work[:2])
    entry = rival(small_lake).commit_slices(work)
    assert [record.first for record in entry.slices] == ["1002", "1003"]


def test_commit_that_would_skip_records_is_refused(small_lake: Any) -> None:
    work = results(small_lake, 2)
    with pytest.raises(LedgerGapError, match="would be lost"):
        small_lake.ledger.commit_slices(work[1:])
    assert small_lake.ledger.head().number == 1


def test_two_writers_with_the_same_slices_commit_each_once(small_lake: Any, trade: Any) -> None:
    slices = [small_lake.slice([trade(n, at_ns=small_lake.arrival_ns)]) for n in range(8)]
    work = [(result.record, result.files) for result in small_lake.road.process(slices)]
    ledgers = [rival(small_lake) for _ in range(2)]
    errors: list[Exception] = []
    barrier = threading.Barrier(2)

    def write(ledger: Ledger) -> None:
        try:
            barrier.wait()
            for item in work:
                ledger.commit_slices([item])
        except Exception as error:  # noqa: BLE001 - shown by the assert below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    landed = [record.slice_id for entry in small_lake.entries() for record in entry.slices]
    assert landed == [record.slice_id for record, _ in work]
    small_lake.table.refresh()
    assert sum(rows for _, rows in small_lake.table.data_files()) == 8


def test_commit_whose_answer_was_lost_is_read_back(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, real = results(small_lake, 1), LakeTable.append
    calls = []

    def lose_answer(table: LakeTable, *arguments: Any) -> None:
        real(table, *arguments)
        calls.append(1)
        raise StoreUnavailableError("the answer was lost")

    monkeypatch.setattr(LakeTable, "append", lose_answer)
    assert small_lake.ledger.commit_slices(work) is not None
    assert len(calls) == 1
    assert len(small_lake.entries()) == 2


def test_commit_that_never_arrived_is_tried_again(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, real = results(small_lake, 1), LakeTable.append
    calls = []

    def fail_once(table: LakeTable, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StoreUnavailableError("no answer")
        real(table, *arguments)

    monkeypatch.setattr(LakeTable, "append", fail_once)
    assert small_lake.ledger.commit_slices(work) is not None
    assert len(calls) == 2
    assert len(small_lake.entries()) == 2


def test_commit_with_a_silent_catalog_has_an_unknown_outcome(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = results(small_lake, 1)

    def fail(*_: object) -> None:
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(LakeTable, "append", fail)
    monkeypatch.setattr(LakeTable, "refresh", fail)
    with pytest.raises(CommitUnknownError, match="Do not delete"):
        small_lake.ledger.commit_slices(work)


def test_start_pins_each_shard_once(small_lake: Any) -> None:
    [shard] = small_lake.ledger.head().positions
    pinned = small_lake.ledger.head().positions[shard]
    small_lake.ledger.start({shard: ShardPosition(None, start=Start("LATEST"))})
    assert small_lake.ledger.head().positions[shard] == pinned
    small_lake.ledger.start({"other/shard": ShardPosition(None, start=Start("TRIM_HORIZON"))})
    assert set(small_lake.ledger.head().positions) == {shard, "other/shard"}


def test_positions_are_those_of_one_life_of_the_stream(small_lake: Any) -> None:
    small_lake.land_trades(3)
    stream = small_lake.results[0].record.shard.stream
    positions = small_lake.ledger.positions(stream)
    assert positions["shardId-000000000000"].sequence_number == "1002"
    assert small_lake.ledger.positions("another.ffffffff") == {}


def test_entries_after_a_number_are_the_newer_ones(small_lake: Any) -> None:
    for _ in range(3):
        small_lake.land_trades(1)
    assert [entry.number for entry in small_lake.ledger.entries()] == [1, 2, 3, 4]
    assert [entry.number for entry in small_lake.ledger.entries(after=2)] == [3, 4]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_entries_of_a_broken_chain_are_refused(small_lake: Any, damage: str) -> None:
    small_lake.land_trades(1)
    small_lake.land_trades(1)
    path: Path = small_lake.path(small_lake.entries()[-1].previous)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(FatalError, match=damage):
        small_lake.entries()


def test_entry_of_a_lost_race_is_not_part_of_the_ledger(small_lake: Any) -> None:
    small_lake.land_trades(1)
    head = small_lake.ledger.head()
    lost = small_lake.ledger.entry(head, "slices", {})
    small_lake.lake.store.put_once(f"ledger/feed=trades/{3:012d}-{'0' * 16}.json", lost.to_bytes())
    small_lake.land_trades(1)
    assert [len(entry.slices) for entry in small_lake.entries()] == [0, 1, 1]


def test_ledger_of_a_feed_that_never_started_says_so(small_lake: Any) -> None:
    table = small_lake.lake.catalog.open("bars_1m")
    with pytest.raises(ConfigError, match="headrace run"):
        open_ledger("bars_1m", table, small_lake.lake.store)
