"""Rejects keep reason, bytes and origin; too many of them stop a shard."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decode import REJECT_SCHEMA
from stream.errors import QuarantineLimitError
from stream.feeds.contract import RejectLimit
from stream.lake.store import open_store
from stream.quarantine import RejectWatch, _runs, read_rejects, write_rejects


def rejects(lines: list[tuple[int, int]], reason: str = "malformed_json") -> pa.Table:
    rows = [
        {
            "record_no": record,
            "line_no": line,
            "reason": reason,
            "detail": "d",
            "raw": b"{%d" % line,
        }
        for record, line in lines
    ]
    return pa.Table.from_pylist(rows, schema=REJECT_SCHEMA)


def test_rejects_read_back_with_the_record_they_came_in(small_lake: Any) -> None:
    store, item = open_store("memory://"), small_lake.slice([b"a", b"b", b"c"])
    reference = write_rejects(store, item, rejects([(1, 0), (2, 5)]))
    assert reference is not None
    rows = read_rejects(store.get(reference.path) or b"").to_pylist()
    assert [row["sequence_number"] for row in rows] == ["1001", "1002"]
    assert [row["line_no"] for row in rows] == [0, 5]
    assert {row["slice_id"] for row in rows} == {item.id}
    assert reference.rows == 2


def test_rejects_written_again_are_the_same_object(small_lake: Any) -> None:
    store, item = open_store("memory://"), small_lake.slice([b"a"])
    assert write_rejects(store, item, rejects([(0, 0)])) == write_rejects(
        store, item, rejects([(0, 0)])
    )
    assert len(list(store.list("quarantine/"))) == 1


def test_slice_without_rejects_has_no_object(small_lake: Any) -> None:
    assert write_rejects(open_store("memory://"), small_lake.slice([b"a"]), rejects([])) is None


def check(watch: RejectWatch, item: Any, messages: int, numbers: list[int]) -> None:
    """Let the watch see a slice of one message per record whose numbers were rejected."""
    watch.check(item, messages, np.array(numbers, np.int64), rejects([(n, 0) for n in numbers]))


def test_watch_stops_above_the_share(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=10, run=1_000))
    item = small_lake.slice([b"a"] * 10)
    check(watch, item, 10, [*range(5)])
    with pytest.raises(QuarantineLimitError, match=r"8 of the last 10.*malformed_json"):
        check(watch, item, 10, [*range(8)])


def test_watch_waits_until_it_has_seen_enough(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=100, run=1_000))
    item = small_lake.slice([b"a"] * 10)
    for _ in range(9):
        check(watch, item, 10, [*range(10)])
    with pytest.raises(QuarantineLimitError):
        check(watch, item, 10, [*range(10)])


def test_watch_stops_a_run_of_rejects_over_slices(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=1.0, over_rows=10_000, run=15))
    item = small_lake.slice([b"a"] * 10)
    check(watch, item, 10, [*range(1, 10)])  # 9 at the end
    with pytest.raises(QuarantineLimitError, match="16 messages in a row"):
        check(watch, item, 10, [*range(7)])  # 7 at the beginning


def test_watch_stops_a_run_inside_a_slice(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=1.0, over_rows=10_000, run=3))
    check(watch, small_lake.slice([b"a"] * 10), 10, [0, 1, 2, 4, 5, 6, 8, 9])
    with pytest.raises(QuarantineLimitError, match="4 messages in a row"):
        check(watch, small_lake.slice([b"a"] * 10), 10, [3, 4, 5, 6])


def test_watch_runs_of_two_shards_are_two_runs(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=1.0, over_rows=10_000, run=15))
    for shard in ("shardId-000000000000", "shardId-000000000001"):
        check(watch, small_lake.slice([b"a"] * 10, shard), 10, [*range(10)])


def test_watch_run_ends_with_a_slice_of_good_messages(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=1.0, over_rows=10_000, run=15))
    for numbers in ([*range(10)], [], [*range(10)]):
        check(watch, small_lake.slice([b"a"] * 10), 10, numbers)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), max_size=6))
def test_runs_over_any_slices_are_those_of_the_whole_shard(slices: list[list[bool]]) -> None:
    longest = still_open = 0
    for bad in slices:
        run, still_open = _runs(still_open, len(bad), np.flatnonzero(bad))
        longest = max(longest, run)
    flags = [flag for bad in slices for flag in bad]
    lengths = [len(list(group)) for is_bad, group in groupby(flags) if is_bad]
    assert longest == max(lengths, default=0)
    assert still_open == (lengths[-1] if flags and flags[-1] else 0)


def test_watch_counts_a_message_that_lost_many_rows_once(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=2, run=100))
    numbers = np.array([0], np.int64)
    watch.check(small_lake.slice([b"a"] * 10), 10, numbers, rejects([(0, 0)] * 50))
