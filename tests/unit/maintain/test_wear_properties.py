"""Whatever commits, replays, rewrites and crashes come in whatever order: maintenance loses no row,
deletes nothing that is needed or young, and in the end leaves no garbage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.bars import TABLE as BARS_TABLE
from stream.lake.catalog_maintenance import References
from stream.lake.entries import Entry
from stream.prove import prove_lake

GRACE_HOURS = 72

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("land"), st.integers(1, 6)),
        st.tuples(st.just("compact"), st.tuples(st.integers(0, 4), st.integers(2, 6))),
        st.tuples(st.just("replay"), st.tuples(st.integers(0, 9), st.booleans())),
        st.tuples(st.just("litter"), st.none()),
        st.tuples(st.just("expire"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.sampled_from([1, 30, 71, 73, 200])),
        st.tuples(st.just("sweep"), st.sampled_from(["trades", BARS_TABLE])),
    ),
    max_size=16,
)


class Run:
    """A lake, and what must be true of it after each step."""

    def __init__(self, worn: Any) -> None:
        self.worn = worn
        self.rows: Counter[tuple[str, str]] = Counter()
        self.litter: set[str] = set()
        self.do("land", 3)

    def do(self, step: str, argument: Any) -> None:
        getattr(self, f"_{step}")(argument)
        assert self.worn.rows() == self.rows
        self.worn.check_references()

    def _land(self, count: int) -> None:
        before = len(self.worn.small.results)
        self.worn.land(count)
        for result in self.worn.small.results[before:]:
            self.rows += Counter(
                key for key in self.worn.rows() if key[0] == result.record.slice_id
            )
        assert sum(self.rows.values()) == sum(
            result.record.silver_rows for result in self.worn.small.results
        )

    def _compact(self, part: tuple[int, int]) -> None:
        self.worn.compact(*part)

    def _replay(self, what: tuple[int, bool]) -> None:
        number, is_reversed = what
        self.worn.replay(number % len(self.worn.states()), is_reversed=is_reversed)

    def _litter(self, _: None) -> None:
        self.litter |= set(self.worn.drop_litter())

    def _expire(self, keep_last: int) -> None:
        self.worn.expire(keep_last=keep_last)

    def _pass(self, hours: int) -> None:
        self.worn.pass_hours(hours)

    def _sweep(self, table: str) -> None:
        self.worn.stamp()
        before_ms = self.worn.small.clock.now_ns() // 1_000_000 - GRACE_HOURS * 3_600_000
        before = {info.path: info for info in self.worn.store.list("")}
        removed_ms = last_removed(self.worn.small.entries())
        report = self.worn.sweep(table)
        deleted = before.keys() - self.worn.paths()
        assert deleted == {orphan.path for orphan in report.orphans}
        assert all(before[path].last_modified_ms <= before_ms for path in deleted)
        assert all(removed_ms.get(path, 0) <= before_ms for path in deleted)
        assert not any(path.startswith(("bronze/", "closed/")) for path in deleted)
        assert report.bytes_before - report.bytes_after == sum(before[p].bytes for p in deleted)

    def end(self) -> None:
        """Enough time, one expiry, one sweep: what is left is what is named."""
        self.do("pass", 2 * GRACE_HOURS)
        self.do("expire", 1)
        self.do("sweep", "trades")
        self.do("sweep", "trades")
        assert not self.litter & self.worn.paths()
        lake = self.worn.small.lake
        named = References(lake.catalog.open("trades")).read()
        left = {lake.store.uri(path) for path in self.worn.paths(self.worn.table_folder)}
        assert left == named
        assert len(self.worn.paths("ledger/")) == self.worn.small.ledger.head().number
        proof = prove_lake(lake, self.worn.small.contract, threads=2)
        assert proof.differences == []
        assert proof.totals.silver_rows == sum(self.rows.values())


def last_removed(entries: list[Entry]) -> dict[str, int]:
    """When each data file last left the table."""
    return {
        path: entry.committed_ms
        for entry in entries
        for rewrite in entry.rewrites
        for path in rewrite.removed
    }


def check(open_worn_lake: Any, home: Path, steps: list[tuple[str, Any]]) -> None:
    run = Run(open_worn_lake(home))
    for step, argument in steps:
        run.do(step, argument)
    run.end()


def test_a_lake_worn_in_every_way_is_whole_and_clean_in_the_end(
    open_worn_lake: Callable[[Path], Any], tmp_path: Path
) -> None:
    steps = [
        ("land", 4),
        ("compact", (0, 2)),
        ("litter", None),
        ("pass", 73),
        ("replay", (0, True)),
        ("sweep", "trades"),
        ("land", 5),
        ("replay", (0, False)),
        ("expire", 2),
        ("pass", 73),
        ("replay", (0, True)),
        ("sweep", "trades"),
        ("compact", (0, 6)),
        ("sweep", BARS_TABLE),
    ]
    check(open_worn_lake, tmp_path, steps)


@pytest.mark.slow
def test_rows_survive_any_wear_and_garbage_does_not(
    open_worn_lake: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(STEPS)
    def wear(steps: list[tuple[str, Any]]) -> None:
        check(open_worn_lake, tmp_path_factory.mktemp("worn"), steps)

    wear()
