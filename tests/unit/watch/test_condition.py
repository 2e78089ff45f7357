"""A feed's condition: which sign wins, and that the sentence says what to do."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from stream.watch.condition import Signs, judge
from stream.watch.state import Condition

WELL = Signs(
    "trades",
    is_started=True,
    process="running",
    is_alive=True,
    pulse_age_ms=400,
    epoch_age_ms=3_000,
    commit_age_ms=3_000,
    behind_ms=2_000,
    target_ms=15_000,
    min_per_minute=1,
    quiet_open_ms=2_000,
    records_per_s=250.0,
)

ORDER: list[tuple[Condition, dict[str, Any]]] = [
    ("dead", {"is_alive": False}),
    ("stalled", {"away": "AWS at http://127.0.0.1:1 does not answer"}),
    ("lagging", {"behind_ms": 15_001}),
    ("silent", {"records_per_s": 0.0, "quiet_open_ms": 600_000}),
]
"""Each sign alone, the one that wins first."""


def test_condition_of_a_feed_that_commits_is_live() -> None:
    assert judge(WELL) == ("live", "250 records/s committed over the last minute")


@pytest.mark.parametrize(("expected", "sign"), ORDER)
def test_condition_of_one_bad_sign_is_its_own(expected: Condition, sign: dict[str, Any]) -> None:
    condition, why = judge(replace(WELL, **sign))
    assert condition == expected
    assert why


@pytest.mark.parametrize(
    "chosen",
    [c for n in range(2, len(ORDER) + 1) for c in itertools.combinations(range(len(ORDER)), n)],
)
def test_condition_of_several_bad_signs_is_the_first_in_order(chosen: tuple[int, ...]) -> None:
    signs = WELL
    for number in chosen:
        signs = replace(signs, **ORDER[number][1])
    assert judge(signs)[0] == ORDER[chosen[0]][0]


@pytest.mark.parametrize(
    ("signs", "expected", "says"),
    [
        ({"is_started": False, "process": None, "is_alive": None}, "never started", "headrace up"),
        ({"process": None, "is_alive": None}, "stopped", "headrace up trades"),
        ({"process": "failed", "is_alive": None, "last_line": "no key"}, "dead", "no key"),
        ({"process": "waiting", "is_alive": False}, "dead", "the supervisor starts it again"),
        ({"process": None, "is_alive": False}, "dead", "headrace run trades"),
        ({"process": None, "is_alive": True}, "live", "records/s"),  # started by hand
        ({"process": "running", "is_alive": None, "pulse_age_ms": None}, "live", "records/s"),
        ({"pulse_age_ms": 5_001}, "stalled", "suspended"),
        ({"epoch_age_ms": 60_001}, "stalled", "no epoch has ended"),
        ({"behind_ms": 15_000}, "live", "records/s"),  # the target itself is met
        ({"behind_ms": None}, "live", "records/s"),
        ({"records_per_s": 0.0, "quiet_open_ms": 599_999}, "idle", "is committed"),
        ({"records_per_s": 0.0, "quiet_open_ms": None}, "idle", "nothing has arrived yet"),
        ({"records_per_s": 0.0, "min_per_minute": 0, "quiet_open_ms": 10**9}, "idle", "committed"),
        ({"records_per_s": 0.0, "is_open": False, "quiet_open_ms": 10**9}, "idle", "closed"),
        ({"is_started": None, "records_per_s": None}, "idle", "not been read"),
        ({"has_stream": False, "process": None, "is_alive": None}, "idle", "backfill"),
        ({"has_stream": False, "is_started": False}, "never started", "backfill"),
    ],
)
def test_condition_of_signs(signs: dict[str, Any], expected: Condition, says: str) -> None:
    condition, why = judge(replace(WELL, **signs))
    assert (condition, says in why) == (expected, True), why


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ({}, "live"),
        ({"behind_ms": 20_000}, "lagging"),
        ({"behind_ms": 20_000, "commit_age_ms": 60_001}, "stalled"),
        ({"commit_age_ms": 60_001}, "live"),  # nothing waits: nothing had to be committed
        ({"is_started": False}, "never started"),
    ],
)
def test_condition_of_a_dataflow_elsewhere_is_told_by_its_commits(
    signs: dict[str, Any], expected: Condition
) -> None:
    remote = replace(WELL, is_remote=True, process=None, is_alive=None, pulse_age_ms=None)
    assert judge(replace(remote, **signs))[0] == expected
