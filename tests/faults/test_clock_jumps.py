"""The machine's clock is stepped forward and back by hours while the dataflow runs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HOUR_NS = 3_600_000_000_000
SHIM = Path(__file__).with_name("clock_shim.c")


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """The library that moves a process' clock."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the clock of a process cannot be moved")
    library = tmp_path / "clock_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
    return library


def test_dataflow_goes_on_when_the_clock_jumps(
    make_rig: Callable[..., Any], shim: Path, tmp_path: Path
) -> None:
    rig, offset = make_rig(), tmp_path / "offset"
    offset.write_bytes(struct.pack("q", 0))
    # Bytewax wakes an input by the wall clock: after a step back the watchdog starts it again.
    stall = {"HEADRACE_STALL_SECONDS": "10"} if "stall_seconds" in Settings.model_fields else {}
    dataflow = rig.run(LD_PRELOAD=str(shim), CLOCK_OFFSET_FILE=str(offset), **stall)
    rig.put(1_000)
    rig.wait_for(1_000)

    for number, hours in enumerate((2, -3, 0), 2):
        with offset.open("r+b") as file:  # in place: the process has it mapped
            file.write(struct.pack("q", hours * HOUR_NS))
        rig.put(1_000)
        rig.wait_for(number * 1_000)

    assert dataflow.stop() == 0, dataflow.tail()
    assert set(dataflow.exits) <= {1}, dataflow.tail()
    rig.check_exactly_once()
