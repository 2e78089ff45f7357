"""Dedup equals a set of keys, and a restart at any slice boundary changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.dedup import MINUTE_NS, Dedup
from stream.feeds import load_feed
from stream.keyhash import Hashes, hash_rows
from stream.slices import ShardRef

CONTRACT = load_feed("trades")
SHARD = ShardRef("trades", "s.00000000", "shardId-000000000000")
START_MINUTE = 1_000_000

Message = tuple[int, int]
"""Trade id, minutes before the slice's arrival. The id decides the event's place in its minute:
a redelivered fact has the same id and the same time."""


@dataclass
class Committed:
    """Rows that earlier slices kept, as Silver holds them."""

    kept: list[tuple[int, int, bool]] = field(default_factory=list)

    def read(self, shard: ShardRef, before: str | None, since_ns: int) -> tuple[Hashes, np.ndarray]:
        rows = [row for row in self.kept if row[1] >= since_ns and not row[2]]
        table = rows_of([(number, at) for number, at, _ in rows])
        return hash_rows(table, CONTRACT.key), np.array([at for _, at, _ in rows], np.int64)


def rows_of(events: list[tuple[int, int]]) -> pa.Table:
    """Decoded rows: only what dedup looks at."""
    count = len(events)
    columns = {
        "venue": pa.array(["sim"] * count, pa.string()),
        "symbol": pa.array(["ACME"] * count, pa.string()),
        "trade_id": pa.array([str(number) for number, _ in events], pa.string()),
        "kind": pa.array(["new"] * count, pa.string()),
        "known_at_ns": pa.array([at for _, at in events], pa.int64()),
        "ts_event_ns": pa.array([at for _, at in events], pa.int64()),
    }
    return pa.table(columns)


SLICES = st.lists(
    st.tuples(
        st.integers(-2, 6),  # arrival moves by minutes, at times back
        st.lists(st.tuples(st.integers(0, 25), st.integers(0, 34)), max_size=25),
    ),
    min_size=1,
    max_size=8,
)


def slices_of(steps: list[tuple[int, list[Message]]]) -> list[tuple[int, list[tuple[int, int]]]]:
    """Arrival (ns) and events per slice."""
    minute, slices = START_MINUTE, []
    for step, messages in steps:
        minute += step
        events = [(n, (minute - ago) * MINUTE_NS + n) for n, ago in messages]
        slices.append((minute * MINUTE_NS, events))
    return slices


def expected(slices: list[tuple[int, list[tuple[int, int]]]]) -> list[list[tuple[int, bool]]]:
    """Per slice the row numbers that are kept, and whether each is late: plain sets."""
    seen: set[tuple[int, int]] = set()
    answer = []
    for arrival, events in slices:
        since = arrival - CONTRACT.dedup_minutes * MINUTE_NS
        here: set[tuple[int, int]] = set()
        kept = []
        for row, event in enumerate(events):
            is_late = event[1] < since
            if event in here or (not is_late and event in seen):
                continue
            here.add(event)
            kept.append((row, is_late))
        seen |= {event for event in here if event[1] >= since}
        answer.append(kept)
    return answer


@settings(max_examples=200)
@given(SLICES, st.sets(st.integers(0, 7)))
def test_dedup_equals_a_set_and_survives_restarts(
    steps: list[tuple[int, list[Message]]], restarts: set[int]
) -> None:
    slices, committed = slices_of(steps), Committed()
    dedup = Dedup(CONTRACT, committed)
    for number, ((arrival, events), wanted) in enumerate(
        zip(slices, expected(slices), strict=True)
    ):
        if number in restarts:
            dedup = Dedup(CONTRACT, committed)
        rows = rows_of(events).append_column("row", pa.array(range(len(events)), pa.int64()))
        distinct = dedup.drop_duplicates(SHARD, str(number), arrival, rows)
        found = list(zip(distinct.rows["row"].to_pylist(), distinct.is_late.tolist(), strict=True))
        assert found == wanted
        assert distinct.duplicates == len(events) - len(wanted)
        committed.kept += [(*events[row], is_late) for row, is_late in wanted]


@given(SLICES)
def test_dedup_state_is_bounded_by_the_horizon(steps: list[tuple[int, list[Message]]]) -> None:
    dedup = Dedup(CONTRACT, Committed())
    newest = 0
    for number, (arrival, events) in enumerate(slices_of(steps)):
        newest = max(newest, arrival)
        dedup.drop_duplicates(SHARD, str(number), arrival, rows_of(events))
    window = dedup._shards[SHARD]
    oldest = newest // MINUTE_NS - CONTRACT.dedup_minutes - 6
    assert all(minute >= oldest for minute in window._minutes)
