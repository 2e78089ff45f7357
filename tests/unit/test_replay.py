"""Processing the same records again writes the same bytes under the same names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.prove import prove_lake
from stream.slices import Slice

PAYLOADS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.integers(0, 30), st.integers(-200, 2)),
        st.lists(st.tuples(st.integers(0, 30), st.integers(-200, 2)), min_size=2, max_size=4),
    ),
    max_size=20,
)
FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def payloads_of(drawn: list[Any], trade: Callable[..., bytes], at_ns: int) -> list[bytes]:
    """Garbage, single trades and packed trades, minutes around the arrival."""

    def one(event: tuple[int, int]) -> bytes:
        return trade(event[0], at_ns=at_ns + event[1] * 10_000_000_000)

    return [
        item
        if isinstance(item, bytes)
        else one(item)
        if isinstance(item, tuple)
        else b"\n".join(map(one, item))
        for item in drawn
    ]


def objects(folder: Path) -> dict[str, bytes]:
    """Everything that slices wrote, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("bronze", "silver", "quarantine")
        for path in (folder / "lake" / kind).rglob("*.parquet")
        if "entity=bars" not in str(path)
    }


@pytest.mark.slow
@FEW
@given(st.lists(PAYLOADS, min_size=1, max_size=4), st.data())
def test_replay_in_another_lake_and_other_batches_writes_the_same_bytes(
    open_lake: Any, trade: Any, drawn: list[Any], data: Any
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = open_lake(Path(one)), open_lake(Path(two))
        slices: list[Slice] = []
        for some in drawn:
            payloads = payloads_of(some, trade, first.arrival_ns)
            slices += [first.slice(payloads)] if payloads else []
        if not slices:
            return
        for item in slices:
            first.land(item)
        cut = data.draw(st.integers(0, len(slices)))
        for some in (slices[:cut], slices[cut:]):
            if some:
                second.land(*some)
        assert objects(Path(one)) == objects(Path(two))
        records = [result.record for result in first.results]
        assert records == [result.record for result in second.results]
        assert prove_lake(first.lake, first.contract, threads=1, deep=True).differences == []


@FEW
@given(st.lists(PAYLOADS.filter(bool), min_size=1, max_size=3), st.integers(0, 2))
def test_restart_after_any_slice_rewrites_nothing_and_lands_the_rest(
    open_lake: Any, trade: Any, drawn: list[Any], committed: int
) -> None:
    with tempfile.TemporaryDirectory() as home:
        first = open_lake(Path(home))
        slices = [first.slice(payloads_of(some, trade, first.arrival_ns)) for some in drawn]
        for item in slices[:committed]:
            first.land(item)
        before = {}
        if slices[committed:]:
            first.road.process(slices[committed:])  # durable, never committed: a crash
            before = objects(Path(home))
        restarted = open_lake(Path(home))
        restarted.land(*slices[committed:])
        restarted.bars.catch_up()
        if before:
            assert objects(Path(home)) == before
        proof = prove_lake(restarted.lake, restarted.contract, threads=1)
        assert proof.differences == []
        assert proof.totals.records == sum(item.rows for item in slices)
