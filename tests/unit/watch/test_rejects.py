"""What lies in quarantine, as a person sees it: counts, meanings, samples; never personal data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from stream.feeds.contract import Column, Pii
from stream.redrive import redrive
from stream.watch.rejects import RAW_CHARACTERS, SAMPLES, Rejects
from stream.watch.state import Reject


def read(lake: Any) -> dict[str, Reject]:
    rejects = Rejects(lake.contract, lake.lake.store)
    rejects.add(lake.entries())
    return {reject.reason: reject for reject in rejects.read()}


def test_rejects_are_counted_explained_and_shown_newest_first(small_lake: Any) -> None:
    for number in range(SAMPLES + 2):
        small_lake.land(small_lake.slice([b"bad %d" % number]))
    found = read(small_lake)["malformed_json"]
    assert (found.count, found.meaning) == (SAMPLES + 2, "the message is not one JSON value")
    assert [sample.raw for sample in found.samples] == ["bad 4", "bad 3", "bad 2"]
    assert found.samples[0].slice_id == small_lake.entries()[-1].slices[0].slice_id


def test_reject_samples_are_short_and_printable(small_lake: Any) -> None:
    small_lake.land(small_lake.slice([b"x" * 5_000, b"\xff\xfe", "é".encode() * 400]))
    for reject in read(small_lake).values():
        for sample in reject.samples:
            assert len(sample.raw) <= RAW_CHARACTERS
            sample.raw.encode()


def test_rejects_that_were_redriven_are_gone(small_lake: Any, trade: Any) -> None:
    strange = trade(1).replace(b'"sim"', b'"nowhere"')
    small_lake.land(small_lake.slice([strange, b"bad", b"bad", trade(2)]))
    contract = replace(small_lake.contract, rules=())
    redrive(small_lake.lake, contract, dry_run=False, clock=small_lake.clock)
    assert {reason: reject.count for reason, reject in read(small_lake).items()} == {
        "malformed_json": 2
    }


def test_rejects_older_than_what_was_read_do_not_disturb(small_lake: Any, trade: Any) -> None:
    strange = trade(1).replace(b'"sim"', b'"nowhere"')
    small_lake.land(small_lake.slice([strange]))
    contract = replace(small_lake.contract, rules=())
    redrive(small_lake.lake, contract, dry_run=False, clock=small_lake.clock)
    rejects = Rejects(small_lake.contract, small_lake.lake.store)
    rejects.add(small_lake.entries()[-1:])
    assert rejects.read() == ()


def test_rejects_of_a_feed_with_personal_data_are_counted_and_never_read(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_lake.land(small_lake.slice([b"Jane Doe, 12 Main Street"]))
    entries = small_lake.entries()
    column = Column("holder", pa.string(), "Who", pii=Pii("hash", "a name"))
    contract = replace(small_lake.contract, columns=(*small_lake.contract.columns, column))

    def get(_: Any, path: str) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(type(small_lake.lake.store), "get", get)
    rejects = Rejects(contract, small_lake.lake.store)
    rejects.add(entries)
    [found] = rejects.read()
    assert (found.reason, found.count, found.samples) == ("malformed_json", 1, ())
    assert "personal data (holder)" in found.withheld
