"""After any replay Silver is what a dataflow with the new decoder would have made of Bronze.

Slices with repeated trades land with one contract; a suffix of them is replayed with another that
refuses other trades. The result must equal a fresh lake whose earlier slices were processed with
the old contract and the later ones with the new: rows, duplicates, quarantine, bars, proof.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.maintain.compact import compact_table
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.bar_keeper import open_bars
from stream.clock import ManualClock
from stream.dedup import Dedup
from stream.feeds import load_feed
from stream.feeds.contract import Contract, RejectLimit, Rule
from stream.flow import Road, RoadCommitter
from stream.lake.connect import connect_lake
from stream.lake.ledger import Ledger
from stream.prove import prove_lake
from stream.query import run_query
from stream.settings import load_settings
from stream.silver import SilverKeys
from stream.slices import RECORD_SCHEMA, ShardPosition, ShardRef, Slice


@pytest.fixture(autouse=True, scope="module")
def _small_batches() -> Iterator[None]:
    """Slices are compared two at a time: what one batch decides must hold in the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch.replay.recorded.BATCH_SLICES", 2)
        yield


T0_MS = 1_764_000_000_000
STREAM = "headrace-trades.00000000"
PARENT, CHILD = "shardId-0", "shardId-1"


def refuses(wanted: int) -> Contract:
    """A contract that refuses trades whose size is `wanted`."""

    def is_bad(rows: Any) -> pa.Array:
        return pc.equal(rows["size"].cast(pa.float64()), float(wanted))

    contract = replace(load_feed("trades"), rejects=RejectLimit(1.0, 10**6, 10**6))
    return replace(contract, rules=(*contract.rules, Rule("bad_value", "refused", is_bad)))


def message(trade: int) -> bytes:
    """A trade; its number decides everything, so a repeated one is a duplicate."""
    return orjson.dumps(
        {
            "venue": "sim",
            "symbol": f"S{trade % 2}",
            "trade_id": str(trade),
            "kind": "new",
            "side": "buy",
            "price": 100 + trade,
            "size": 1 + trade % 3,
            "ts_event_ns": (T0_MS + trade * 7_000) * 1_000_000,
        }
    )


class Lake:
    """A lake of its own in a folder; shard 1 is the child of shard 0."""

    def __init__(self, home: Path) -> None:
        self.settings = load_settings(home=home, lake=f"file://{home}/lake")
        self.lake = connect_lake(self.settings)
        self.clock = ManualClock((T0_MS + 600_000) * 1_000_000)

    def land(self, slices: Sequence[Slice], contracts: Sequence[Contract]) -> None:
        table = self.lake.table(contracts[0])
        ledger = Ledger("trades", table, self.lake.store, self.clock)
        ledger.start({f"{STREAM}/{PARENT}": ShardPosition(None)})
        family = {CHILD: frozenset([PARENT])}
        keys = SilverKeys(
            contracts[0],
            self.lake.table(contracts[0]),
            self.lake.store,
            lambda shard: family.get(shard.shard, frozenset()),
        )
        dedup = Dedup(contracts[0], keys)
        bars = open_bars(self.lake, contracts[0], ledger)
        parents = {CHILD: (PARENT,)}
        committer = RoadCommitter(
            ledger, bars, parents_of=lambda shard: parents.get(shard.shard, ())
        )
        for item, contract in zip(slices, contracts, strict=True):
            road = Road(contract, self.lake.store, table.arrow_schema, dedup, upload_threads=1)
            committer.add(road.process([item]))
            committer.commit()
            road.close()
        committer.finish()

    def replay(self, contract: Contract, from_ms: int) -> Any:
        return replay_recorded(
            self.settings,
            self.lake,
            contract,
            (from_ms, 10**13),
            BronzeSource(self.lake.store),
            apply=True,
            clock=self.clock,
        )

    def compact(self) -> None:
        compact_table(
            self.lake,
            "trades",
            region="us-east-1",
            last_day=date(2100, 1, 1),
            apply=True,
            clock=self.clock,
        )

    def read(self, sql: str) -> list[Any]:
        return run_query(self.settings, sql).to_pylist()


def slices_of(trades: Sequence[Sequence[int]], children: int) -> list[Slice]:
    """One slice per list, two seconds apart; the last `children` belong to the child shard."""
    found: list[Slice] = []
    last: dict[str, str | None] = {}
    for number, ids in enumerate(trades):
        shard = CHILD if number >= len(trades) - children else PARENT
        if shard == CHILD and CHILD not in last:
            found.append(_slice(PARENT, last.get(PARENT), [], number, ends=True))
        item = _slice(shard, last.get(shard), ids, number)
        last[shard] = item.last
        found.append(item)
    return found


def _slice(
    shard: str, prev: str | None, ids: Sequence[int], number: int, *, ends: bool = False
) -> Slice:
    count = len(ids)
    arrival = (T0_MS + 300_000 + number * 2_000) * 1_000_000
    records = pa.record_batch(
        [
            pa.array([message(n) for n in ids], pa.binary()),
            pa.array([str(1_000 * (number + 1) + n) for n in range(count)], pa.string()),
            pa.array([0] * count, pa.int32()),
            pa.array(["k"] * count, pa.string()),
            pa.array([arrival] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    return Slice(ShardRef("trades", STREAM, shard), prev, records, ends_shard=ends)


TRADES = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=2, max_size=6)
VIEWS = (
    "SELECT * FROM trades ORDER BY ALL",
    "SELECT slice_id, reason, raw FROM quarantine ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM bars_1m_current WHERE trades > 0 ORDER BY ALL",
)


CASES = st.tuples(
    TRADES,
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
)
"""Trades by slice, slices of the child, first slice replayed, size refused before and after, and
whether the table is compacted in between."""


@settings(max_examples=3)
@given(CASES)
def test_silver_after_a_replay_is_what_the_new_decoder_makes_of_bronze(case: Any) -> None:
    check_replay(*case)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=40)
@given(CASES)
def test_silver_after_many_replays_is_what_the_new_decoder_makes_of_bronze(case: Any) -> None:
    check_replay(*case)


def check_replay(
    trades: list[list[int]], children: int, start: int, old: int, new: int, compacts: bool
) -> None:
    slices = slices_of(trades, min(children, len(trades) - 1))
    start = min(start, len(trades) - 1)
    from_ms = T0_MS + 300_000 + start * 2_000
    before, after = refuses(old), refuses(new)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        lake, fresh = Lake(Path(one)), Lake(Path(two))
        lake.land(slices, [before] * len(slices))
        bronze = {i.path: lake.lake.store.get(i.path) for i in lake.lake.store.list("bronze/")}
        if compacts:
            lake.compact()
        report = lake.replay(after, from_ms)
        is_late = [item.rows and item.arrival_ns[0] >= from_ms * 1_000_000 for item in slices]
        fresh.land(slices, [after if late else before for late in is_late])
        for view in VIEWS:
            assert lake.read(view) == fresh.read(view), view
        proof = prove_lake(lake.lake, after)
        assert proof.is_equal, str(proof)
        assert (report.commit is None) == (not report.changed_slices)
        assert lake.replay(after, from_ms).changed_slices == 0
        assert bronze == {
            i.path: lake.lake.store.get(i.path) for i in lake.lake.store.list("bronze/")
        }
