"""The catalog and its files: stale reads under a running dataflow, what a commit leaves open."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fault_proxy import FaultProxy

from stream.lake.connect import connect_lake
from stream.settings import load_settings

SCHEMA = pa.schema([pa.field("ts_event", pa.timestamp("us"), nullable=False)])

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_dataflow_whose_catalog_reads_stale_commits_every_slice_once(
    make_rig: Callable[..., Any],
) -> None:
    seed = os.environ.get("FAULT_SEED") or str(time.time_ns() % 1_000_000)
    print(f"\nseed {seed}: rerun with FAULT_SEED={seed}")
    rig = make_rig()
    child = (sys.executable, str(Path(__file__).with_name("stale_child.py")))
    dataflow = rig.run(program=child, STALE_SEED=seed)
    rig.put(6_000, batches=12, pause=0.7)
    rig.wait_for(6_000)

    assert dataflow.stop() == 0
    assert dataflow.words.count("stale: ") >= 3
    assert set(dataflow.exits) <= {1}, dataflow.tail()
    assert "Traceback" not in dataflow.words
    rig.check_exactly_once()


def test_commits_leave_no_connection_behind_and_write_a_file_in_one_request(
    make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    proxy = FaultProxy(rig.environment["AWS_ENDPOINT_URL"])
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        lake = connect_lake(load_settings())
        gc.disable()  # what only a collection frees stays
        handles = []
        for number in range(12):
            table = lake.catalog.open_or_create("seen", SCHEMA, (), {})
            table.append([], {"number": str(number)}, {})
            handles.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    finally:
        gc.enable()
        proxy.close()

    assert handles[-1] <= handles[2] + 1
    sent = dict(proxy.passed)
    assert sent.get("s3:POST", 0) == 0, f"a small file was sent in parts: {sent}"
    assert sent["s3:PUT"] <= 30, sent  # per commit a manifest list and the metadata
