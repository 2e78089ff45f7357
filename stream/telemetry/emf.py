"""The registry as CloudWatch's embedded metric format: JSON lines on stdout, from a thread.

CloudWatch Logs turns each line into metrics of namespace `headrace`; no agent is needed. A series
costs money by the month, so shards are folded into the worst one (the largest value, of times the
oldest) unless `per_shard`. What every line holds, by the kind of its metrics:

    gauge        its value; dimension feed, and stage where the catalogue has it
    counter      what was added since the last line (the statistic is Sum); dimension feed for the
                 sum over the other labels, and feed with the label (reason, stage, part) if it grew
    histogram    the upper bounds of the buckets that its new observations fell into, at most 100
                 values: percentiles are right to the bucket, SampleCount only below 100 a line

Limits of the format that `tests/unit/test_emf.py` checks on every line: 100 metrics a directive,
30 dimensions, 100 values a metric, times in ms.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.telemetry.catalogue import CATALOGUE, Metric

log = logging.getLogger(__name__)

NAMESPACE = "headrace"
MAX_METRICS = 100
MAX_VALUES = 100
UNITS = {"seconds": "Seconds", "bytes": "Bytes", "USD": "None", "ratio": "None"}
FOLDED = "shard"

Dimensions = tuple[tuple[str, str], ...]
Values = float | list[float]


@dataclass(slots=True)
class EmfLines:
    """Turns the registry into lines; remembers what was said, for the increases."""

    registry: CollectorRegistry
    feed: str
    per_shard: bool = False
    _said: dict[tuple[str, Dimensions], float] = field(default_factory=dict)

    def build(self, at_ms: int) -> list[str]:
        """The lines of now."""
        found = {family.name: family for family in self.registry.collect()}
        groups: dict[Dimensions, dict[str, tuple[str, Values]]] = defaultdict(dict)
        for metric in CATALOGUE:
            family = found.get(metric.name.removesuffix("_total"))
            if family is not None:
                unit = UNITS.get(metric.unit, "None" if metric.kind == "gauge" else "Count")
                for labels, value in self._values(metric, family):
                    groups[labels][metric.name] = (unit, value)
        return [
            line
            for labels, metrics in groups.items()
            for line in _lines((("feed", self.feed), *labels), metrics, at_ms)
        ]

    def _values(self, metric: Metric, family: Family) -> Iterator[tuple[Dimensions, Values]]:
        if metric.kind == "counter":
            yield from self._increases(metric, family)
        elif metric.kind == "histogram":
            yield from self._observations(metric, family)
        else:
            series = [(_labels(s.labels), s.value) for s in family.samples]
            if FOLDED in metric.labels:
                if series:
                    worst = min if "timestamp" in metric.name else max
                    yield (), worst(value for _, value in series)
                if not self.per_shard:
                    return
            yield from series

    def _increases(self, metric: Metric, family: Family) -> Iterator[tuple[Dimensions, Values]]:
        total = 0.0
        for sample in family.samples:
            if sample.name == metric.name:
                labels = _labels(sample.labels)
                growth = self._growth(metric.name, labels, sample.value)
                total += growth
                if labels and growth:
                    yield labels, growth
        yield (), total

    def _observations(self, metric: Metric, family: Family) -> Iterator[tuple[Dimensions, Values]]:
        by_series: dict[Dimensions, list[tuple[float, float]]] = defaultdict(list)
        for sample in family.samples:
            if sample.name == f"{metric.name}_bucket":
                bound = float(sample.labels["le"])
                rest = {name: v for name, v in sample.labels.items() if name != "le"}
                by_series[_labels(rest)].append((bound, sample.value))
        for labels, buckets in by_series.items():
            counts, below = [], 0.0
            for bound, cumulative in buckets:
                key = (*labels, ("le", str(bound)))
                growth = self._growth(metric.name, key, cumulative)
                counts.append((min(bound, metric.buckets[-1]), growth - below))
                below = growth
            if values := _spread(counts):
                yield labels, values

    def _growth(self, name: str, labels: Dimensions, value: float) -> float:
        before = self._said.get((name, labels), 0.0)
        self._said[name, labels] = value
        return value - before


class EmfExporter:
    """Writes lines every so often until it is stopped, whatever the dataflow does."""

    def __init__(
        self,
        registry: CollectorRegistry,
        feed: str,
        *,
        refresh: Callable[[], object],
        seconds: float,
        per_shard: bool = False,
        write: Callable[[str], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`refresh`: called before each reading. `write`: takes whole lines; None: stdout."""
        self._lines = EmfLines(registry, feed, per_shard)
        self._refresh, self._seconds, self._clock = refresh, seconds, clock
        self._write = write or _to_stdout
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def start(self) -> None:
        """Begin; the first lines come after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopped.set()
        self._thread.join(2)
        self.export()

    def export(self) -> None:
        """Write the lines of now, in one piece."""
        self._refresh()
        lines = self._lines.build(now_ms(self._clock))
        self._write("".join(f"{line}\n" for line in lines))

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.export()
            except OSError as error:  # stdout is a full disk or a closed pipe
                log.debug("EMF lines: %s", error)


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _labels(labels: Mapping[str, str]) -> Dimensions:
    return tuple((name, value) for name, value in labels.items() if name != "feed")


def _spread(counts: Iterable[tuple[float, float]]) -> list[float]:
    """One value per observation, at most `MAX_VALUES`; more are thinned out evenly.

    >>> _spread([(1.0, 2), (5.0, 1)])
    [1.0, 1.0, 5.0]
    >>> values = _spread([(1.0, 900), (5.0, 100)])
    >>> len(values), values.count(5.0)
    (100, 10)
    """
    found = [(bound, count) for bound, count in counts if count > 0]
    total = sum(count for _, count in found)
    wanted = min(MAX_VALUES, int(total))
    values: list[float] = []
    done = 0.0
    for bound, count in found:
        done += count
        values += [bound] * (round(done * wanted / total) - len(values))
    return values


def _lines(
    labels: Dimensions, metrics: Mapping[str, tuple[str, Values]], at_ms: int
) -> Iterator[str]:
    named = [(n, unit, v) for n, (unit, v) in metrics.items() if _is_finite(v)]
    for start in range(0, len(named), MAX_METRICS):
        part = named[start : start + MAX_METRICS]
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [[name for name, _ in labels]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit, _ in part],
        }
        line: dict[str, Any] = {
            "_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [directive]},
            **dict(labels),
            **{name: value for name, _, value in part},
        }
        yield json.dumps(line)


def _is_finite(value: Values) -> bool:
    return isinstance(value, list) or math.isfinite(value)
