"""The 13 crash windows, injected for real, on files and on S3: exactly once, or it is a bug."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from crash_play import play_window
from crash_windows import WINDOWS, Window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

BY_NAME = {window.name: window for window in WINDOWS}


def _cases() -> Iterator[Any]:
    """Every window on both backends, a variant on one of them."""
    for number, window in enumerate(WINDOWS):
        for place in ("files", "s3"):
            if not window.is_variant or place == ("files", "s3")[number % 2]:
                yield pytest.param(window, place, id=f"{window.name}-{place}")


@pytest.mark.parametrize(("window", "place"), list(_cases()))
def test_crash_window_loses_and_doubles_nothing(stage: Any, window: Window, place: str) -> None:
    found = play_window(stage, window, place, hit=window.hits[0])
    assert found.is_right, f"{found}\n{found.words}"
    assert bool(found.gaps) == window.has_gap


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("2 PUT done, ack lost", "s3"),
        ("7 zombie commits after another took over", "files"),
    ],
)
def test_split_and_merge_during_a_crash_window_changes_nothing(
    stage: Any, name: str, place: str
) -> None:
    window = BY_NAME[name]
    found = play_window(stage, window, place, hit=window.hits[0], reshards=True)
    assert found.is_right, f"{found}\n{found.words}"
    assert found.ended_shards == 3, "a split closes one shard, a merge two"


@pytest.mark.parametrize(
    ("mutant", "name", "sign"),
    [
        ("commit_before_silver", "6 commit landed, process dies before it knows", "missing"),
        ("commit_again", "7 zombie commits after another took over", "doubled"),
        ("bronze_overwritten", "2 PUT done, ack lost", "bronze_changed"),
    ],
)
def test_planted_bug_is_found(stage: Any, mutant: str, name: str, sign: str) -> None:
    window = BY_NAME[name]
    found = play_window(stage, window, "files", hit=window.hits[0], mutant=mutant)
    assert getattr(found, sign) > 0, f"{found}\n{found.words}"
    assert not found.is_right
