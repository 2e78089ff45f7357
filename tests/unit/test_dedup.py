"""What a restart, a reshard and a late message mean for duplicates, over the whole road."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.dedup import KeyWindow

MINUTE_NS = 60_000_000_000


def counts(lake: Any) -> list[tuple[int, int]]:
    return [(r.record.silver_rows, r.record.duplicates) for r in lake.results]


def test_redelivered_trade_is_dropped_within_and_across_slices(small_lake: Any, trade: Any) -> None:
    at = small_lake.arrival_ns
    small_lake.land(small_lake.slice([trade(1, at_ns=at), trade(1, at_ns=at), trade(2, at_ns=at)]))
    small_lake.land(small_lake.slice([trade(2, at_ns=at), trade(3, at_ns=at)]))
    assert counts(small_lake) == [(2, 1), (1, 1)]


def test_correction_of_a_trade_is_no_duplicate(small_lake: Any, trade: Any) -> None:
    at = small_lake.arrival_ns
    small_lake.land(
        small_lake.slice(
            [
                trade(1, at_ns=at),
                trade(1, at_ns=at, kind="correct", known_at_ns=at + 1),
                trade(1, at_ns=at, kind="correct", known_at_ns=at + 2),
            ]
        )
    )
    assert counts(small_lake) == [(3, 0)]


def test_message_beyond_the_horizon_is_kept_and_marked_late(small_lake: Any, trade: Any) -> None:
    at = small_lake.arrival_ns - 31 * MINUTE_NS
    for _ in range(2):
        small_lake.land(small_lake.slice([trade(1, at_ns=at)]))
    assert counts(small_lake) == [(1, 0), (1, 0)]


def test_restarted_process_drops_what_the_other_one_landed(
    small_lake: Any, trade: Any, open_lake: Any
) -> None:
    at = small_lake.arrival_ns
    small_lake.land(small_lake.slice([trade(1, at_ns=at)]))
    again = small_lake.slice([trade(1, at_ns=at), trade(2, at_ns=at)])
    restarted = open_lake(small_lake.settings.home)
    restarted.land(again)
    assert counts(restarted) == [(1, 1)]


def test_window_forgets_whole_minutes() -> None:
    window = KeyWindow(0)
    window.add_new(np.array([1, 2], np.uint64), np.array([0, 5 * MINUTE_NS], np.int64))
    assert len(window) == 2
    window.forget_before(5 * MINUTE_NS)
    assert len(window) == 1
    window.forget_before(0)
    assert window.since_ns == 5 * MINUTE_NS
