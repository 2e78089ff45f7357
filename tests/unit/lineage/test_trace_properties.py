"""For any messages: every row of Silver traces to bytes that decode to it, and every line of Bronze
is found forward exactly once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.slices import Slice

LINES = st.one_of(
    st.tuples(st.integers(0, 12), st.integers(-4, 1), st.sampled_from(["new", "correct"])),
    st.sampled_from([b"{broken", b"", b" ", b"\xff", b'{"type":"heartbeat","product_id":"A"}']),
    st.binary(max_size=12),
)
PAYLOADS = st.lists(
    st.tuples(st.lists(LINES, min_size=1, max_size=4), st.sampled_from([b"\n", b"\r\n"])),
    min_size=1,
    max_size=8,
)
SLICES = st.lists(PAYLOADS, min_size=1, max_size=3)
QUICK = [HealthCheck.function_scoped_fixture]


def payload(trade: Callable[..., bytes], drawn: Any, at_ns: int) -> bytes:
    lines, end = drawn
    made = [
        line
        if isinstance(line, bytes)
        else trade(line[0], at_ns=at_ns + line[1] * 10**10, kind=line[2], known_at_ns=at_ns)
        for line in lines
    ]
    return bytes(end.join(made))


def messages_of(item: Slice) -> list[bytes]:
    """Every line that is not blank; a record without any counts as one."""
    found = []
    for data in item.records["payload"].to_pylist():
        lines = [line for line in data.split(b"\n") if line.strip(b" \t\r")]
        found += [line.removesuffix(b"\r") for line in lines] or [data]
    return found


def check(traced: Any, slices: list[Slice]) -> None:
    rows = traced.rows("SELECT slice_id, sequence_number, line_no FROM trades ORDER BY ALL")
    silver = Counter((r["slice_id"], r["sequence_number"], r["line_no"]) for r in rows)
    for item in slices:
        found = traced.ask(item.id)
        assert found.is_whole, found.broken
        assert [record.message for record in found.records] == messages_of(item)
        places = [(r.slice_id, r.sequence_number, r.line_no) for r in found.records]
        assert len(set(places)) == len(places)
        is_row = {p for p, r in zip(places, found.records, strict=True) if r.verdict == "equal"}
        assert is_row == {place for place in silver if place[0] == item.id}
    if rows:
        every = traced.ask("trades", "venue=sim", traces_all=True)
        assert every.is_whole, every.broken
        assert len(every.records) == len(rows)


def run(trace_in: Any, drawn: list[Any], *, wears: bool) -> None:
    with tempfile.TemporaryDirectory() as home:
        traced = trace_in(Path(home))
        slices = []
        for some in drawn:
            made = [payload(traced.trade, one, traced.small.arrival_ns) for one in some]
            slices.append(traced.small.slice(made))
            traced.small.land(slices[-1])
        check(traced, slices)
        if wears:
            traced.compact()
            check(traced, slices)


@settings(max_examples=2, suppress_health_check=QUICK)
@given(SLICES)
def test_every_row_traces_back_and_every_line_forward_once(trace_in: Any, drawn: list[Any]) -> None:
    run(trace_in, drawn, wears=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=10, suppress_health_check=QUICK)
@given(SLICES)
def test_every_row_traces_back_after_compaction_too(trace_in: Any, drawn: list[Any]) -> None:
    run(trace_in, drawn, wears=True)
