"""Rejects keep reason, bytes and origin; too many of them stop a shard."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stream.decode import REJECT_SCHEMA
from stream.errors import QuarantineLimitError
from stream.feeds.contract import RejectLimit
from stream.lake.store import open_store
from stream.quarantine import RejectWatch, read_rejects, write_rejects


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


def test_watch_stops_above_the_share(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=10, run=1_000))
    item = small_lake.slice([b"a"] * 10)
    watch.check(item, 10, rejects([(n, 0) for n in range(5)]))
    with pytest.raises(QuarantineLimitError, match=r"8 of the last 10.*malformed_json"):
        watch.check(item, 10, rejects([(n, 0) for n in range(8)]))


def test_watch_waits_until_it_has_seen_enough(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=100, run=1_000))
    item = small_lake.slice([b"a"] * 10)
    for _ in range(9):
        watch.check(item, 10, rejects([(n, 0) for n in range(10)]))
    with pytest.raises(QuarantineLimitError):
        watch.check(item, 10, rejects([(n, 0) for n in range(10)]))


def test_watch_stops_a_run_of_rejects_over_slices(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=1.0, over_rows=10_000, run=15))
    item = small_lake.slice([b"a"] * 10)
    watch.check(item, 10, rejects([(n, 0) for n in range(10)]))
    with pytest.raises(QuarantineLimitError, match="20 messages in a row"):
        watch.check(item, 10, rejects([(n, 0) for n in range(10)]))


def test_watch_counts_a_message_that_lost_many_rows_once(small_lake: Any) -> None:
    watch = RejectWatch(RejectLimit(share=0.5, over_rows=2, run=100))
    watch.check(small_lake.slice([b"a"] * 10), 10, rejects([(0, 0)] * 50))
