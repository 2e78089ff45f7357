"""The whole dataflow through a proxy that fails as S3 and Kinesis do: exactly once, or a bug."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy, Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SLOW, HALF, LOSE, RESET = Fault("slow", seconds=1.5), Fault("half"), Fault("lose"), Fault("reset")
S500, S503, THROTTLE = Fault("refuse", 500), Fault("refuse", 503), Fault("refuse", 429)
ANY = (S500, S503, THROTTLE, SLOW, HALF, LOSE, RESET)
PLAN = {"s3": ANY, "kinesis": ANY}
FIRST = {
    "s3:PUT": (LOSE, S503, HALF, RESET),
    "s3:GET": (HALF, S500, LOSE),
    "s3:LIST": (S503, HALF, LOSE),
    "s3:HEAD": (S503, RESET),
    "kinesis:GetRecords": (HALF, LOSE, THROTTLE, S500, SLOW),
    "kinesis:GetShardIterator": (THROTTLE, HALF),
    "kinesis:ListShards": (S503, HALF, LOSE),
}


@pytest.fixture
def proxy(make_rig: Callable[..., Any]) -> Iterator[tuple[Any, FaultProxy]]:
    """A rig whose dataflow sees the emulator only through a proxy."""
    rig = make_rig()
    found = FaultProxy(rig.environment["AWS_ENDPOINT_URL"])
    yield rig, found
    for running in rig.running:
        running.process.kill()
    found.close()


def test_dataflow_through_failing_services_keeps_every_row_once(
    proxy: tuple[Any, FaultProxy],
) -> None:
    rig, faults = proxy
    seed = int(os.environ.get("FAULT_SEED") or time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with FAULT_SEED={seed}")
    faults.plan = Plan(seed, PLAN, share=0.12, first=FIRST)
    dataflow = rig.run(AWS_ENDPOINT_URL=faults.url)
    rig.put(8_000, batches=16, pause=0.6)
    under_faults = rig.bronze_hashes()
    rig.wait_for(8_000)
    faults.plan = None
    rig.put(1_000)
    rig.wait_for(9_000)

    assert dataflow.stop() == 0
    print(f"{dict(faults.fired)}\n{dict(faults.passed)}\nexits {dataflow.exits}")
    after = rig.bronze_hashes()
    assert {path: after[path] for path in under_faults} == under_faults, "Bronze changed"
    rig.check_exactly_once()
    check_words(dataflow)
    for operation, kinds in FIRST.items():
        for kind in kinds:
            if operation != "s3:HEAD":
                assert faults.fired[f"{operation} {kind}"], f"{operation} {kind} never happened"


def check_words(dataflow: Any) -> None:
    """Whatever ended was retryable, and said so without a traceback or a panic."""
    assert set(dataflow.exits) <= {1}, dataflow.tail()
    assert len(dataflow.exits) <= 12, dataflow.tail()
    for sign in ("Traceback", "panicked", "unexpected", "defect of headrace"):
        assert sign not in dataflow.words, dataflow.tail()
    last = [line for line in dataflow.words.splitlines() if re.match(r"\S*headrace: ", line)]
    assert len(last) >= len(dataflow.exits), "each end says why"
