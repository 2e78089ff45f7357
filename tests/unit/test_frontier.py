"""Up to when everything that arrived is durable, and how many records wait: estimates that hold."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.maintain.compact import SMALL_SHARE, TARGET_BYTES
from stream.clock import SYSTEM_CLOCK, ManualClock
from stream.errors import StoreUnavailableError
from stream.lake.catalog_maintenance import SMALL_FILE_BYTES
from stream.observe.table_watch import TableWatch
from stream.slices import RECORD_SCHEMA
from stream.sources import ReadResult
from stream.sources.fetcher import estimate_backlog
from stream.telemetry.frontier import Reached, ReadState, frontier_ms

STARTED = 500
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("shards", "reached", "expected"),
    [
        ([], {}, None),
        ([ReadState("a", None, None)], {}, STARTED),  # never read: as old as the process
        ([ReadState("a", None, 900)], {}, 900),  # an empty shard, read at its tip
        ([ReadState("a", "9", 900)], {}, STARTED),  # read, and nothing of it durable
        ([ReadState("a", "9", 900)], {"a": Reached("9", 700)}, 900),
        ([ReadState("a", "9", 600)], {"a": Reached("9", 700)}, 700),  # never back
        ([ReadState("a", "9", 900)], {"a": Reached("8", 700)}, 700),
        ([ReadState("a", "9", None)], {"a": Reached("9", 700)}, 700),  # not at its tip yet
        (
            [ReadState("a", "9", 900), ReadState("b", "5", 950)],
            {"a": Reached("9", 1), "b": Reached("4", 640)},
            640,
        ),
        (
            [ReadState("a", "9", 900), ReadState("b", "5", None, is_ended=True)],
            {"a": Reached("9", 1), "b": Reached("5", 2)},
            900,
        ),
        ([ReadState("b", "5", None, is_ended=True)], {"b": Reached("4", 640)}, 640),
    ],
)
def test_frontier_is_what_the_slowest_shard_has_durable(shards, reached, expected):
    assert frontier_ms(shards, reached, STARTED) == expected


STATES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.none() | st.integers(0, 2_000)),
    min_size=1,
    max_size=5,
)


@given(STATES)
def test_frontier_never_claims_what_was_read_and_is_not_durable(states):
    """Record n of a shard arrives at n * 100; a tip at t means that all up to t was read."""
    shards, reached = [], {}
    for number, (seen, drawn, tip) in enumerate(states):
        read_ms = None if tip is None else min(tip, (seen + 1) * 100 - 1)
        shards.append(ReadState(str(number), str(seen), read_ms))
        durable = min(seen, drawn)
        reached[str(number)] = Reached(str(durable), durable * 100)
    found = frontier_ms(shards, reached, started_ms=0)
    for seen, drawn, _ in states:
        first_missing = (min(seen, drawn) + 1) * 100
        assert found < first_missing


def answer(rows: int, behind_ms: int, per_second: float = 1_000) -> ReadResult:
    arrivals = (np.arange(rows) / per_second * 1e9).astype(np.int64)
    records = pa.record_batch(
        [
            pa.array([b"x"] * rows, pa.binary()),
            pa.array([str(n) for n in range(rows)], pa.string()),
            pa.array(np.zeros(rows, np.int32)),
            pa.array(["k"] * rows, pa.string()),
            pa.array(arrivals),
        ],
        schema=RECORD_SCHEMA,
    )
    return ReadResult(records, "next", behind_ms)


def test_backlog_is_the_rate_of_arrival_times_the_distance():
    assert estimate_backlog(answer(1_000, behind_ms=60_000)) == pytest.approx(60_000, rel=0.01)
    assert estimate_backlog(answer(1_000, behind_ms=0), before=7) == 0
    assert estimate_backlog(answer(0, behind_ms=60_000), before=7) == 7
    assert estimate_backlog(answer(5, behind_ms=60_000, per_second=1e9), before=7) == 7


def test_small_file_is_what_compaction_would_merge():
    assert SMALL_FILE_BYTES == TARGET_BYTES * SMALL_SHARE


class Stream:
    """What the watch asks of a reader."""

    is_away = False

    @property
    def retention_ms(self) -> int:
        if self.is_away:
            raise StoreUnavailableError("nobody answers")
        return DAY_MS


def test_table_watch_counts_small_files_of_past_days(small_lake):
    small_lake.land_trades()
    small_lake.land_trades()
    today_ns = small_lake.arrival_ns
    for at_ns, small in ((today_ns, 0), (today_ns + 2 * DAY_MS * 1_000_000, 2)):
        watch = TableWatch(small_lake.table, Stream(), 60.0, ManualClock(at_ns))
        assert watch.facts() == {"snapshots": 3}, "before the first look"
        watch.look()
        assert watch.facts() == {"snapshots": 3, "small_files": small}
        assert watch.retention_ms == DAY_MS


def test_table_watch_survives_a_service_that_is_away(small_lake):
    stream, looked = Stream(), threading.Event()
    stream.is_away = True
    watch = TableWatch(small_lake.table, stream, 0.01, SYSTEM_CLOCK)
    watch.start()
    stream.is_away = False
    deadline = time.monotonic() + 5
    while "small_files" not in watch.facts() and time.monotonic() < deadline:
        looked.wait(0.01)
    watch.stop()
    assert "small_files" in watch.facts()
