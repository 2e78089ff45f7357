"""What must hold of a feed's decoder for any bytes at all: the oracle of its fuzzing.

An input is a few payloads joined by the byte 0x1e. The first two are repeated, as a venue repeats
its messages: only then does the columnar way learn their structure, and only then is there
anything to compare. Then three ways of decoding must agree to the last digit: with templates
learned from these bytes, with those of an earlier slice, and every message on its own.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from stream.decode import Decoded, decode_records
from stream.decode.plan import plan_of
from stream.feeds import load_feed
from stream.feeds.contract import REASONS, Contract
from stream.slices import RECORD_SCHEMA

FIXTURES = Path(__file__).parents[1] / "fixtures" / "feeds"
BETWEEN = b"\x1e"
COPIES = 52
"""Of the first payload; a template is learned from 48 messages on."""
MORE_COPIES = 12
MAX_PAYLOADS = 24
ARRIVAL_NS = 1_764_000_000_000_000_000


def check_feed(feed: str, data: bytes) -> None:
    """Raises AssertionError, or whatever the decoder raised: it may raise nothing."""
    contract = load_feed(feed)
    records = records_of(data)
    templates = plan_of(contract).templates
    templates.clear()
    cold = decode_records(contract, records)
    warm = decode_records(contract, records)
    strict = decode_records(contract, records, strict_only=True)
    assert_same(cold, strict)
    assert_same(warm, strict)
    assert_nothing_lost(contract, records, cold)


def records_of(data: bytes) -> pa.RecordBatch:
    """The slice that an input stands for."""
    given = data.split(BETWEEN)[:MAX_PAYLOADS]
    payloads = [given[0]] * COPIES + given[1:] + given[1:2] * MORE_COPIES
    count = len(payloads)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array([None] * count, pa.string()),
            pa.array([ARRIVAL_NS + n for n in range(count)], pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


def assert_same(found: Decoded, reference: Decoded) -> None:
    """Equal rows, rejects and counts, whichever way they were read."""
    found.rows.validate(full=True)
    assert found.rows.schema == reference.rows.schema
    assert found.rows.equals(reference.rows), _difference(found.rows, reference.rows)
    assert found.rejects.equals(reference.rejects), _difference(found.rejects, reference.rejects)
    assert found.ignored == reference.ignored
    assert found.messages == reference.messages
    assert found.rejected.tolist() == reference.rejected.tolist()


def assert_nothing_lost(contract: Contract, records: pa.RecordBatch, found: Decoded) -> None:
    """Each message is rows, rejects with a known reason and its exact bytes, or counted."""
    reasons = set(REASONS) | {rule.reason for rule in contract.rules}
    assert set(found.rejects["reason"].to_pylist()) <= reasons
    places = {
        place
        for table in (found.rows, found.rejects)
        for place in zip(
            *(table[name].to_pylist() for name in ("record_no", "line_no")), strict=True
        )
    }
    assert len(places) + sum(found.ignored.values()) == found.messages
    payloads = records["payload"].to_pylist()
    for record, raw in zip(
        *(found.rejects[n].to_pylist() for n in ("record_no", "raw")), strict=True
    ):
        assert raw in payloads[record]


def feed_seeds(feed: str) -> list[bytes]:
    """The messages of a feed's own fixtures, alone and next to each other."""
    cases = [
        json.loads(line)
        for name in ("accepted", "rejected")
        for line in (FIXTURES / feed / f"{name}.jsonl").read_text().splitlines()
    ]
    lines = [str(case["raw"]).encode() for case in cases if "raw" in case]
    pairs = [BETWEEN.join(pair) for pair in pairwise(lines)]
    return [*lines, *pairs]


def _difference(found: pa.Table, reference: pa.Table) -> str:
    for left, right in zip(found.to_pylist(), reference.to_pylist(), strict=False):
        if left != right:
            return f"columnar {left}\n  strict {right}"
    return f"{found.num_rows} rows by columns, {reference.num_rows} strictly"
