"""Whatever a kill leaves of the file of samples: no crash, bounded, and nothing invented."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.clock import ManualClock
from stream.watch.commits import CommitFacts, ShardFacts
from stream.watch.history import History, Sample
from stream.watch.ledger_history import lag_points
from stream.watch.state import Commit

T0 = 1_764_000_000_000


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 200), min_size=6, max_size=6),
    noise=st.binary(max_size=40),
)
def test_history_survives_kills_at_any_byte(
    counts: list[int], cuts: list[int], noise: bytes
) -> None:
    """Each life of a writer appends samples; then a kill tears bytes off the end of the file."""
    clock = ManualClock((T0 + 10**9) * 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        at, written = T0, set()
        for count, cut in zip(counts, cuts, strict=False):
            ring = History(Path(folder), kept=20, max_bytes=3_000, clock=clock)
            for _ in range(count):
                at += 1_000
                ring.add("trades", Sample(at, at % 1_000_003))
                written.add(Sample(at, at % 1_000_003))
            path = ring.path("trades")
            path.write_bytes(path.read_bytes()[: -cut or None] + noise)
        ring = History(Path(folder), kept=20, max_bytes=3_000, clock=clock)
        ring.add("trades", Sample(at + 5_000, 7))
        found = ring.read("trades")
        assert set(found) <= written | {Sample(at + 5_000, 7)}
        assert found[-1] == Sample(at + 5_000, 7)
        assert [s.at_ms for s in found] == sorted({s.at_ms for s in found})
        assert ring.path("trades").stat().st_size <= 3_000 + 200


def _facts(number: int, committed_ms: int, arrival_ms: tuple[int, int]) -> CommitFacts:
    commit = Commit(number, "slices", committed_ms, 1, 1, 1, 0, 0, "")
    return CommitFacts(commit, 1, 1, {"a": ShardFacts(1, arrival_ms)}, ())


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 30_000), st.integers(0, 9_000), st.integers(0, 9_000)),
        min_size=1,
        max_size=12,
    ),
    first=st.integers(0, 60_000),
    length=st.integers(1, 200_000),
)
def test_lag_from_the_ledger_is_that_of_the_records(
    steps: list[tuple[int, int, int]], first: int, length: int
) -> None:
    """The line equals, wherever it bends, now minus the oldest arrival that was not committed."""
    facts, arrivals, at = [], [], 0
    for number, (quiet, span, delay) in enumerate(steps):
        low, high = at + quiet, at + quiet + span
        at = high
        committed = max(high + delay, facts[-1].committed_ms + 1 if facts else 0)
        arrivals.append((low, committed))
        facts.append(_facts(number + 1, committed, (low, high)))
    points = list(lag_points("a", facts, first, first + length))
    times = [time for time, _ in points]
    assert times == sorted(times)
    for time, lag in points:
        assert first <= time <= first + length
        before = {time - low for low, done in arrivals if low <= time <= done}
        after = {time - low for low, done in arrivals if low <= time < done}
        assert lag in {max(before, default=0), max(after, default=0)}
