"""Metric lines for CloudWatch: the format's limits on every line, and what the numbers mean.

The limits are those of the specification of the embedded metric format (CloudWatch user guide).
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from stream.clock import ManualClock
from stream.telemetry import Instruments
from stream.telemetry.catalogue import METRICS, Metric
from stream.telemetry.emf import EmfExporter, EmfLines

NOW_MS = 1_764_000_000_000
UNITS = {"Seconds", "Bytes", "Count", "None", "Percent", "Milliseconds"}


def check_line(line: dict[str, Any]) -> None:
    """Raises AssertionError for what CloudWatch would refuse or cut."""
    assert len(json.dumps(line)) < 256_000
    metadata = line["_aws"]
    assert metadata.keys() == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(metadata["Timestamp"], int)
    assert metadata["Timestamp"] == NOW_MS
    for directive in metadata["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 1024
        assert len(directive["Metrics"]) <= 100
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            for name in dimensions:
                assert 1 <= len(name) <= 250
                assert isinstance(line[name], str)
                assert 1 <= len(line[name]) <= 1024
        for metric in directive["Metrics"]:
            assert metric["Unit"] in UNITS
            values = line[metric["Name"]]
            values = values if isinstance(values, list) else [values]
            assert 1 <= len(values) <= 100
            assert all(isinstance(v, int | float) and abs(v) < 2**360 for v in values)
    named = {m["Name"] for d in metadata["CloudWatchMetrics"] for m in d["Metrics"]}
    dimensions = {n for d in metadata["CloudWatchMetrics"] for ds in d["Dimensions"] for n in ds}
    assert line.keys() == {"_aws"} | named | dimensions, "nothing that is not declared"
    assert line["feed"] == "trades"


def read(lines: EmfLines) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in lines.build(NOW_MS)]
    for line in found:
        check_line(line)
    return found


def value(found: list[dict[str, Any]], name: str, **labels: str) -> Any:
    """The value of a series with exactly these dimensions."""
    wanted = {"feed", *labels}
    for line in found:
        dimensions = set(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0])
        if dimensions == wanted and all(line[k] == v for k, v in labels.items()) and name in line:
            return line[name]
    return None


def fill(live: Instruments, metric: Metric, amount: float) -> None:
    labels = {name: "trades" if name == "feed" else f"{name}-1" for name in metric.labels}
    if metric.kind == "counter":
        live.counter(metric.name, **labels).inc(amount)
    elif metric.kind == "gauge":
        live.gauge(metric.name, **labels).set(amount)
    else:
        live.histogram(metric.name, **labels).observe(amount)


def test_every_line_of_the_whole_catalogue_keeps_the_limits():
    live = Instruments()
    lines = EmfLines(live.registry, "trades", per_shard=True)
    for metric in METRICS:
        fill(live, metric, 3)
    found = read(lines)
    exported = {name for line in found for name in line}
    assert {metric.name for metric in METRICS} <= exported
    assert "process_resident_memory_bytes" in exported
    series = sum(len(line["_aws"]["CloudWatchMetrics"][0]["Metrics"]) for line in found)
    assert series < 60, "each costs money by the month"


def test_counter_is_what_was_added_since_the_last_line():
    live = Instruments()
    lines = EmfLines(live.registry, "trades")
    counter = live.counter("headrace_records_total", feed="trades")
    counter.inc(5)
    assert value(read(lines), "headrace_records_total") == 5
    assert value(read(lines), "headrace_records_total") == 0
    counter.inc(2)
    assert value(read(lines), "headrace_records_total") == 2


def test_labelled_counter_has_a_sum_and_a_series_only_where_it_grew():
    live = Instruments()
    lines = EmfLines(live.registry, "trades")
    live.counter("headrace_rejected_total", feed="trades", reason="bad_time").inc(3)
    live.counter("headrace_rejected_total", feed="trades", reason="bad_value")
    found = read(lines)
    assert value(found, "headrace_rejected_total") == 3
    assert value(found, "headrace_rejected_total", reason="bad_time") == 3
    assert value(found, "headrace_rejected_total", reason="bad_value") is None
    assert value(read(lines), "headrace_rejected_total", reason="bad_time") is None


@pytest.mark.parametrize("per_shard", [False, True])
def test_shards_are_folded_into_the_worst_one(per_shard):
    live = Instruments()
    for shard, behind in (("a", 7.0), ("b", 90.0)):
        live.gauge("headrace_shard_behind_seconds", feed="trades", shard=shard).set(behind)
        read_at = live.gauge("headrace_shard_read_timestamp_seconds", feed="trades", shard=shard)
        read_at.set(1_000 - behind)
    found = read(EmfLines(live.registry, "trades", per_shard))
    assert value(found, "headrace_shard_behind_seconds") == 90
    assert value(found, "headrace_shard_read_timestamp_seconds") == 910, "the oldest"
    assert value(found, "headrace_shard_behind_seconds", shard="a") == (7 if per_shard else None)


def test_histogram_gives_one_bucket_bound_per_new_observation():
    live = Instruments()
    lines = EmfLines(live.registry, "trades")
    commit = live.histogram("headrace_commit_seconds", feed="trades")
    for seconds in (0.004, 0.3, 99.0):
        commit.observe(seconds)
    assert value(read(lines), "headrace_commit_seconds") == [0.01, 0.5, 30]
    assert value(read(lines), "headrace_commit_seconds") is None
    for _ in range(5_000):
        commit.observe(0.02)
    assert value(read(lines), "headrace_commit_seconds") == [0.025] * 100


def test_gauge_without_a_number_is_left_out():
    live = Instruments()
    live.gauge("headrace_snapshots", feed="trades").set(float("nan"))
    assert value(read(EmfLines(live.registry, "trades")), "headrace_snapshots") is None


def test_exporter_goes_on_after_a_pipe_that_broke_and_writes_a_last_time():
    written: list[str] = []
    asked = threading.Event()

    def write(text: str) -> None:
        written.append(text)
        if len(written) == 1:
            raise BrokenPipeError
        asked.set()

    exporter = EmfExporter(
        Instruments().registry,
        "trades",
        refresh=lambda: None,
        seconds=0.01,
        write=write,
        clock=ManualClock(NOW_MS * 1_000_000),
    )
    exporter.start()
    assert asked.wait(5)
    exporter.stop()
    assert len(written) > 2
    for text in written:
        assert text.endswith("\n")
        for line in text.splitlines():
            check_line(json.loads(line))
