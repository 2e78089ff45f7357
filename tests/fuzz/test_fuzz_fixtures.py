"""What fuzzing has found stays mended, and its oracle holds for each decoder's own examples.

Inputs under tests/fixtures/fuzz/<decoder>/ were found by run.py (and fuzz_one.py, which it starts).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from decoders import decoders
from mutation import mutate

FIXTURES = Path(__file__).parents[1] / "fixtures" / "fuzz"
FOUND = sorted(FIXTURES.glob("*/*"))


@pytest.mark.parametrize("path", FOUND, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_an_input_that_was_a_finding_is_none_any_more(path: Path) -> None:
    decoders()[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", decoders())
def test_the_oracle_holds_for_examples_and_some_changes_of_them(name: str) -> None:
    decoder, rng = decoders()[name], random.Random(7)
    seeds = list(decoder.seeds())
    for seed in rng.sample(seeds, min(2, len(seeds))):
        decoder.check(seed)
        decoder.check(mutate(seed, rng, seeds))


def test_every_folder_of_findings_is_a_decoders() -> None:
    assert {path.parent.name for path in FOUND} <= set(decoders())


@pytest.mark.slow
def test_a_finding_is_reported_and_kept_by_the_command(tmp_path: Path) -> None:
    """The whole command, blindly, on the fastest decoder: no finding, and it says what it did."""
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--seconds", "1"]
    command += ["--decoder", "object-key", "--blind", "--json", "--findings", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)["object-key"]
    assert (done.returncode, report["engine"], report["findings"]) == (0, "blind", {})
    assert report["executions"] > 9
    assert not list(tmp_path.rglob("*.bin"))
