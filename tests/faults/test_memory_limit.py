"""A process that gets no more memory ends, and whoever follows it loses and doubles nothing."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MB = 1_000_000
PEAK_MB = 512


def test_dataflow_without_memory_ends_and_its_successor_goes_on(
    make_rig: Callable[..., Any],
) -> None:
    rig = make_rig()
    dataflow = rig.run()
    rig.put(1_000)
    rig.wait_for(1_000)

    limit = int(_status(dataflow.process.pid, "VmSize")) * 1024 - 64 * MB
    resource.prlimit(dataflow.process.pid, resource.RLIMIT_AS, (limit, limit))
    rig.put(60_000)
    dataflow.wait_for_exit()
    rig.wait_for(61_000)

    assert dataflow.stop() == 0
    assert dataflow.exits[0] != 0
    assert "defect" not in dataflow.words, dataflow.tail()
    rig.check_exactly_once()


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
