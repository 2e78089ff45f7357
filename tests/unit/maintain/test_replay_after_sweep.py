"""A replay writes again what compaction and orphan removal took from the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.feeds.contract import Rule
from stream.prove import prove_lake


def with_reason(contract: Any, reason: str) -> Any:
    """Refuses every second trade; the reason changes its quarantine and none of its rows."""
    is_even = Rule(reason, reason, lambda r: pc.equal(pc.bit_wise_and(r["ts_event_ns"], 1), 0))
    return replace(contract, rules=(*contract.rules, is_even))


def replay(small: Any, contract: Any) -> Any:
    return replay_recorded(
        small.settings,
        small.lake,
        contract,
        (0, 2**42),
        BronzeSource(small.lake.store),
        apply=True,
        clock=small.clock,
    )


def test_replay_writes_files_again_that_compaction_and_removal_took_away(worn_lake: Any) -> None:
    small = worn_lake.small
    worn_lake.land()
    worn_lake.land()
    replay(small, with_reason(small.contract, "one"))
    [path] = {item.path for s in list(worn_lake.states().values())[:1] for item in s.silver}
    worn_lake.compact()
    worn_lake.expire()
    worn_lake.pass_hours(100)
    worn_lake.sweep()
    assert path not in worn_lake.paths()

    mended = with_reason(small.contract, "other")
    assert replay(small, mended).commit is not None

    assert path in worn_lake.tables()
    assert prove_lake(small.lake, mended).differences == []
