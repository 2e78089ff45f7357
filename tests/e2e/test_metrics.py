"""A real run emits every metric of the catalogue, and says the truth while it hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream.flow import Begun
from stream.observe import Observation, observe
from stream.producers.simulate import Simulator
from stream.sources.memory import MemoryStream
from stream.telemetry import CATALOGUE, METRICS, find_metric
from stream.telemetry.catalogue import STAGES

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
QUICK_EXPORT = {"metrics_export": "emf", "metrics_export_seconds": 0.2, "table_watch_seconds": 0.2}


class Seen:
    """An observation and the lines that it wrote."""

    def __init__(self, bed: Any, **options: Any) -> None:
        self.written: list[str] = []
        settings = bed.settings(**{**QUICK_EXPORT, **options})
        found = observe(settings, "trades", write=self.written.append)
        assert found is not None
        assert found.metrics is not None
        self.observer: Observation = found
        self.metrics = found.metrics

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for text in list(self.written) for line in text.splitlines()]

    def series(self) -> Series:
        self.metrics.refresh()
        text = self.metrics.instruments.render().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.series().get((name, frozenset({"feed": "trades", **labels}.items())))

    def wait(self, is_true: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 15
        while not is_true():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def seen(bed: Any) -> Iterator[Seen]:
    found = Seen(bed)
    yield found
    found.observer.close()


def filled(messages: int, shards: int = 2) -> tuple[MemoryStream, Simulator]:
    stream = MemoryStream("headrace-trades", shards)
    source = Simulator("trades", seed=1, start_ns=time.time_ns() - 10 * 10**9, rate=5_000)
    for key, line in source.take(messages):
        stream.put(line, key)
    return stream, source


def test_run_emits_every_metric_of_the_catalogue_and_no_other(bed: Any, seen: Seen) -> None:
    stream, source = filled(8_000)
    began = time.time()
    running = bed.run(stream, observer=seen.observer)
    running.wait_for(8_000)
    seen.wait(lambda: seen.value("headrace_small_files") is not None)
    for stage in STAGES:  # an empty read at the tip moves each on
        name = "headrace_committed_arrival_timestamp_seconds"
        seen.wait(lambda n=name, s=stage: (seen.value(n, stage=s) or 0) > began + 1)
    series = seen.series()
    ours = {metric.name for metric in METRICS}
    seen.wait(lambda: ours <= {name for line in seen.lines for name in line})
    running.end()

    names = {found.name for name, _ in series if (found := find_metric(name))}
    assert {metric.name for metric in CATALOGUE} <= names
    strays = {name for name, _ in series if not find_metric(name)}
    assert all(name.startswith("process_") for name in strays)
    check_values(seen, source, began)


def check_values(seen: Seen, source: Simulator, began: float) -> None:
    truth = source.truth
    assert seen.value("headrace_messages_total") == truth.messages
    assert seen.value("headrace_silver_rows_total") == truth.rows
    assert seen.value("headrace_duplicates_total") == truth.duplicate_rows
    series = seen.series()
    rejected = sum(v for (name, _), v in series.items() if name == "headrace_rejected_total")
    assert rejected == truth.malformed.total() > 0
    for stage in ("bronze", "silver", "quarantine"):
        assert (seen.value("headrace_bytes_written_total", stage=stage) or 0) > 0
    slices = seen.value("headrace_slices_total")
    for stage in ("bronze", "silver"):
        assert seen.value("headrace_slice_latency_seconds_count", stage=stage) == slices
    assert seen.value("headrace_commit_seconds_count") == seen.value("headrace_commits_total")
    assert seen.value("headrace_market_open") == 1
    assert (seen.value("headrace_snapshots") or 0) > 1
    assert began - 60 < (seen.value("headrace_event_watermark_timestamp_seconds") or 0)
    for part in ("compute", "requests", "stream"):
        assert 0 < (seen.value("headrace_cost_usd_total", part=part) or 0) < 0.1
    shard = "shardId-000000000001"
    assert seen.value("headrace_shard_behind_seconds", shard=shard) == 0
    assert seen.value("headrace_retention_used_ratio", shard=shard) == 0


def test_hanging_dataflow_goes_on_exporting_times_that_grow_old(
    bed: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, source = filled(500, shards=1)
    running = bed.run(stream, observer=seen.observer)
    running.wait_for(500)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: Observation) -> Begun:
        hangs.set()
        goes_on.wait(20)
        return Begun(time.time_ns())

    monkeypatch.setattr(Observation, "begin_commit", hang)
    for key, line in source.take(100):
        stream.put(line, key)
    assert hangs.wait(10)
    time.sleep(1.2)  # the pulse that knows of it
    ended = seen.value("headrace_epoch_end_timestamp_seconds")
    before = len(seen.written)
    seen.wait(lambda: len(seen.written) > before + 5)
    later = seen.value("headrace_epoch_end_timestamp_seconds")
    monkeypatch.undo()
    goes_on.set()
    running.end()

    assert ended == pytest.approx(later, abs=0.05)
    assert time.time() - (later or 0) > 1


def test_slow_stage_holds_its_frontier_back(bed: Any, seen: Seen) -> None:
    """Read and cut, but not committed: Bronze has it, Silver does not."""
    stream, _ = filled(1_000, shards=1)
    running = bed.run(stream, observer=seen.observer, epoch_seconds=30.0)
    name = "headrace_committed_arrival_timestamp_seconds"
    started = time.time()
    seen.wait(lambda: (seen.value(name, stage="bronze") or 0) > started + 0.5)
    silver = seen.value(name, stage="silver")
    running.end()

    assert silver is not None
    assert silver <= started + 0.2
