"""The road under seeded faults: a few seeds always, a thousand in the slow stage, and mutants."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from mutants import MUTANTS
from simulation import FailedSeedError, simulate

SEEDS = 1_000
MUTANT_SEEDS = 300
CPU_SECONDS = 240.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A run logs some hundred warnings, all of them meant."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", [2, 3, 6, 7, 22, 26])
def test_seed_keeps_every_invariant(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.records > 20
    assert outcome.commits > 1


def test_same_seed_is_the_same_run_and_another_seed_another() -> None:
    first, again, other = simulate(11), simulate(11), simulate(12)
    assert first == again
    assert first.hash != other.hash


def test_failing_seed_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS["bronze_overwritten"](monkeypatch)
    with pytest.raises(FailedSeedError, match=r"written with put(.|\n)*simulation/replay.py 2"):
        simulate(2)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("part", range(4))
def test_a_thousand_seeds_keep_every_invariant(part: int) -> None:
    failed, faults, gaps = [], Counter[str](), 0
    began = time.process_time()
    for seed in range(part, SEEDS, 4):
        try:
            outcome = simulate(seed)
        except FailedSeedError as error:
            failed.append(str(error))
        else:
            faults.update(outcome.faults)
            gaps += outcome.gaps
    spent = time.process_time() - began
    print(f"{SEEDS // 4} seeds in {spent:.0f} CPU-s, {gaps} gaps, faults {dict(faults)}")
    assert not failed, "\n\n".join(failed[:5])
    assert min(faults[kind] for kind in ("refused", "lost", "slow", "stale", "expired")) > 100
    assert gaps > 10, "retention took records in some runs"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(MUTANT_SEEDS):
        try:
            simulate(seed)
        except FailedSeedError as error:
            print(f"{name}: seed {seed}: {str(error).splitlines()[0][:200]}")
            return
    pytest.fail(f"{MUTANT_SEEDS} seeds did not notice {name}: {MUTANTS[name].__doc__}")
