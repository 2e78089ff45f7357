"""What the simulator says it sent is what the decoder finds: `Truth` can serve as the reference."""

from __future__ import annotations

import pyarrow as pa
import pytest

from stream.decode import decode_records
from stream.feeds import load_feed
from stream.producers.pack import Packer
from stream.producers.simulate import SimulationRule, Simulator
from stream.slices import RECORD_SCHEMA

START = 1_764_000_000_000_000_000
DIRTY = SimulationRule(duplicates=0.02, malformed=0.02, corrections=0.02, late=0.02)


@pytest.mark.parametrize("feed", ["trades", "quotes", "news"])
def test_simulated_feed_decodes_to_the_rows_and_rejects_that_truth_counts(feed):
    contract = load_feed(feed)
    source = Simulator(feed, seed=11, start_ns=START, rule=DIRTY)
    packer = Packer()
    packs = [*packer.add_many(source.take(6_000), 0.0), *packer.flush()]
    arrival = START + 2_000_000_000
    records = pa.record_batch(
        [
            pa.array([pack.data for pack in packs], pa.binary()),
            pa.array([str(n) for n in range(len(packs))]),
            pa.array([0] * len(packs), pa.int32()),
            pa.array([pack.key for pack in packs]),
            pa.array([arrival] * len(packs), pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    decoded = decode_records(contract, records)
    truth = source.truth
    keys = decoded.rows.select(list(contract.key)).group_by(list(contract.key)).aggregate([])
    assert decoded.messages == truth.messages == 6_000
    assert decoded.rejects.num_rows == sum(truth.malformed.values()) > 0
    assert keys.num_rows == truth.rows
    assert decoded.rows.num_rows == truth.rows + truth.duplicate_rows
    if feed == "trades":
        kinds = decoded.rows["kind"].combine_chunks().cast("string").value_counts().to_pylist()
        counts = {kind["values"]: kind["counts"] for kind in kinds}
        assert counts["correct"] == truth.corrections > 0
        assert counts["cancel"] == truth.cancels > 0
