"""The live dataflow of one feed, start to end: counts, restarts, reshards, new lives, gaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stream.errors import ConfigError
from stream.lake.connect import connect_lake
from stream.producers.simulate import Simulator
from stream.sources.memory import MemoryStream

RETENTION_MS = 8_000
"""Longer than a dataflow takes to start on a busy machine: else more is lost than a test means."""
Plant = Callable[[int], Callable[[], None]]


def simulator(seed: int = 1) -> Simulator:
    return Simulator("trades", seed=seed, start_ns=time.time_ns() - 10 * 10**9, rate=5_000)


def put(stream: MemoryStream, source: Simulator, messages: int) -> None:
    for key, line in source.take(messages):
        stream.put(line, key)


class Load:
    """Puts messages in a thread, so that a dataflow is never idle."""

    def __init__(self, stream: MemoryStream, source: Simulator, batches: int, size: int) -> None:
        self._work = (stream, source, batches, size)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        stream, source, batches, size = self._work
        for _ in range(batches):
            put(stream, source, size)
            time.sleep(0.05)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def check_truth(bed: Any, source: Simulator) -> Any:
    """The lake holds what the simulator handed out: each row once, each reject, each duplicate."""
    proof = bed.check_equal()
    truth = source.truth
    assert proof.totals.messages == proof.totals.records == truth.messages
    assert bed.count() == proof.totals.silver_rows == truth.rows
    assert proof.totals.duplicates == truth.duplicate_rows
    assert proof.totals.quarantined == bed.count("quarantine") == truth.malformed.total()
    return proof


def test_live_counts_equal_what_the_simulator_handed_out(bed: Any) -> None:
    stream, source = MemoryStream("headrace-trades", 2), simulator()
    running = bed.run(stream)
    Load(stream, source, 20, 400).join()
    running.wait_for(8_000)

    tally = running.end()

    check_truth(bed, source)
    assert (tally.messages, tally.silver_rows) == (8_000, source.truth.rows)
    assert sum(tally.rejected.values()) == source.truth.malformed.total() > 0
    assert len(bed.query("SELECT * FROM ledger_commits")) == tally.commits + 1  # and the start


def test_live_stop_commits_what_was_cut_and_the_rest_comes_with_the_next_start(bed: Any) -> None:
    stream, source = MemoryStream("headrace-trades", 2), simulator()
    load = Load(stream, source, 30, 200)
    committed = 0
    for _ in range(3):
        running = bed.run(stream)
        running.wait_for(1)
        committed += running.end().messages
    load.join()
    running = bed.run(stream)
    running.wait_for(6_000 - committed)
    running.end()

    check_truth(bed, source)


def test_live_restart_with_other_slice_settings_adopts_what_bronze_holds(
    bed: Any, crash_at_commit: Plant
) -> None:
    stream, source = MemoryStream("headrace-trades", 2), simulator()
    repair = crash_at_commit(3)
    crashed = bed.run(stream, window_ms=200, slice_max_rows=150)
    load = Load(stream, source, 30, 200)
    crashed.join()
    assert "commit 3" in str(crashed.error)
    sealed = bed.bronze()
    known = {row["bronze"] for row in bed.query("SELECT bronze FROM ledger_slices")}
    pending = {path for path in sealed if f"bronze/{path}" not in known}
    assert pending, "slices reached Bronze and were not committed"
    repair()

    load.join()
    running = bed.run(stream, window_ms=1_100, slice_max_rows=50_000, grace_ms=50)
    running.wait_for(6_000 - crashed.tally.messages)
    running.end()

    after = bed.bronze()
    assert {path: after[path] for path in sealed} == sealed, "sealed objects stay as they are"
    committed = {row["bronze"] for row in bed.query("SELECT bronze FROM ledger_slices")}
    assert {f"bronze/{path}" for path in after} == committed, "each was adopted, none is orphaned"
    check_truth(bed, source)


@pytest.mark.slow
def test_live_split_and_merge_under_load_keep_every_row_and_their_order(bed: Any) -> None:
    stream, source = MemoryStream("headrace-trades", 2), simulator()
    running = bed.run(stream)
    load = Load(stream, source, 60, 150)
    time.sleep(0.5)
    low, high = stream.split_shard("shardId-000000000000")
    time.sleep(0.7)
    merged = stream.merge_shards(high, "shardId-000000000001")
    time.sleep(0.5)
    stream.split_shard(merged)
    load.join()
    running.wait_for(9_000)
    running.end()

    check_truth(bed, source)
    positions = connect_lake(bed.settings()).ledger("trades")[1].head().positions
    ended = {name.rpartition("/")[2] for name, p in positions.items() if p.is_ended}
    assert ended == {"shardId-000000000000", "shardId-000000000001", high, merged}
    assert low not in ended
    first, last = (
        {
            row["shard"]: row["commit"]
            for row in bed.query(
                f"SELECT shard, {end}(commit) AS commit FROM ledger_slices GROUP BY 1"
            )
        }
        for end in ("min", "max")
    )
    for child, parent in ((low, "shardId-000000000000"), (merged, high)):
        assert last[parent] < first[child], "a child is read when its parent is applied"


def test_live_recreated_stream_is_another_life_and_both_are_kept(bed: Any) -> None:
    old, source = MemoryStream("headrace-trades", 1), simulator()
    put(old, source, 2_000)
    running = bed.run(old)
    running.wait_for(2_000)
    running.end()
    time.sleep(0.01)

    new = MemoryStream("headrace-trades", 1)
    assert new.created_ms > old.created_ms
    put(new, source, 2_000)
    running = bed.run(new)
    running.wait_for(2_000)
    running.end()

    check_truth(bed, source)
    lives = bed.query("SELECT stream, sum(records)::INT AS n FROM ledger_slices GROUP BY 1")
    assert sorted(life["n"] for life in lives) == [2_000, 2_000]
    assert all(life["stream"].startswith("headrace-trades") for life in lives)
    numbers = bed.query("SELECT count(DISTINCT first) AS n, count(*) AS slices FROM ledger_slices")
    assert numbers[0]["n"] < numbers[0]["slices"], "sequence numbers repeat, objects do not"


def test_live_latest_is_pinned_so_that_a_crash_before_the_first_commit_loses_nothing(
    bed: Any, crash_at_commit: Plant
) -> None:
    stream, before, source = MemoryStream("headrace-trades", 1), simulator(1), simulator(2)
    put(stream, before, 500)
    time.sleep(0.05)
    repair = crash_at_commit(1)
    crashed = bed.run(stream, start="LATEST")
    wait_for_pin(bed)
    put(stream, source, 1_000)
    crashed.join()
    assert "commit 1" in str(crashed.error)
    repair()
    put(stream, source, 1_000)
    time.sleep(0.05)

    running = bed.run(stream, start="LATEST")
    running.wait_for(2_000)
    running.end()

    check_truth(bed, source)


def wait_for_pin(bed: Any) -> None:
    for _ in range(500):
        if bed.runs[-1].error is not None:
            raise bed.runs[-1].error
        try:
            if connect_lake(bed.settings()).ledger("trades")[1].head().number == 1:
                time.sleep(0.05)  # the pinned time is over when something is put
                return
        except ConfigError:
            pass  # no table yet
        time.sleep(0.02)
    raise AssertionError("the start was not pinned")


def test_live_retention_gap_is_named_in_the_ledger_and_in_the_proof(bed: Any) -> None:
    stream = MemoryStream("headrace-trades", 1, retention_ms=RETENTION_MS)
    source, lost = simulator(1), simulator(2)
    put(stream, source, 1_000)
    running = bed.run(stream)
    running.wait_for(1_000)
    running.end()
    put(stream, lost, 300)
    time.sleep(RETENTION_MS / 1000 + 0.2)
    put(stream, source, 1_000)

    running = bed.run(stream)
    running.wait_for(1_000)
    running.end()

    check_gap(bed, source, "shardId-000000000000")


@pytest.mark.slow
def test_live_shard_that_retention_removed_unread_is_a_named_gap_once(bed: Any) -> None:
    stream = MemoryStream("headrace-trades", 1, retention_ms=RETENTION_MS)
    source, lost = simulator(1), simulator(2)
    put(stream, source, 1_000)
    running = bed.run(stream)
    running.wait_for(1_000)
    running.end()
    put(stream, lost, 300)
    stream.split_shard("shardId-000000000000")
    time.sleep(RETENTION_MS / 1000 + 0.2)
    put(stream, source, 1_000)
    assert "shardId-000000000000" not in [info.shard for info in stream.list_shards()]

    running = bed.run(stream)
    running.wait_for(1_000)
    running.end()
    running = bed.run(stream)
    put(stream, source, 200)
    running.wait_for(200)
    running.end()

    # What the children held in the meantime cannot be known: each is named as well, once.
    children = ["shardId-000000000001", "shardId-000000000002"]
    check_gap(bed, source, "shardId-000000000000", doubtful=children)


def check_gap(bed: Any, source: Simulator, shard: str, doubtful: Sequence[str] = ()) -> None:
    proof = check_truth(bed, source)
    gaps = {
        gap["shard"].rpartition("/")[2]: gap
        for gap in bed.query("SELECT shard, after, reason FROM gaps")
    }
    assert sorted(gaps) == sorted([shard, *doubtful])
    assert gaps[shard]["after"] is not None
    assert "retention" in gaps[shard]["reason"]
    assert all("may be lost" in gaps[child]["reason"] for child in doubtful)
    notes = [str(note) for note in proof.notes if note.kind == "gap"]
    assert len(notes) == len(gaps)
    assert all(any(name in note for note in notes) for name in gaps)


@pytest.mark.parametrize("feed", ["quotes", "news"])
def test_live_other_feeds_run_the_same_road(bed: Any, feed: str) -> None:
    stream = MemoryStream(f"headrace-{feed}", 1)
    source = Simulator(feed, seed=4, start_ns=time.time_ns() - 10 * 10**9, rate=500)
    put(stream, source, 1_000)

    running = bed.run(stream, feed=feed)
    running.wait_for(1_000)
    running.end()

    proof = bed.check_equal(feed)
    assert proof.totals.messages == source.truth.messages == 1_000
    assert bed.count(feed) == source.truth.rows
