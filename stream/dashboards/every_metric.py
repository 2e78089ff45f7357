"""The page of everything: a panel per metric of the catalogue, in its order.

A new metric is here as soon as it is in the catalogue. For reading thoroughly, not for a wall.
"""

from __future__ import annotations

from itertools import groupby

from stream.dashboards.expressions import THIS_DATAFLOW, THIS_FEED, age, per_second, quantile, worst
from stream.dashboards.panel import Page, Panel, Query, Row
from stream.telemetry.catalogue import CATALOGUE, Metric

UID = "headrace-metrics"
TIMESTAMP = "seconds since 1970"

UNITS = {
    "USD": "currencyUSD",
    "bytes": "bytes",
    "ratio": "percentunit",
    "seconds": "s",
    TIMESTAMP: "s",
}
"""Grafana's unit of a gauge or of a histogram's bounds; others are plain numbers."""

RATES = {"bytes": "Bps", "seconds": "percentunit", "USD": "currencyUSD"}
"""Grafana's unit of a counter's increase a second; others are counts a second."""

TITLES = {
    "counter": "Counters, a second",
    "gauge": "Gauges; timestamps as their age",
    "histogram": "Histograms: half, and all but one of a hundred",
}


def every_metric() -> Page:
    """The page, from the catalogue as it is."""
    by_kind = groupby(sorted(CATALOGUE, key=lambda metric: metric.kind), lambda m: m.kind)
    rows = tuple(Row(TITLES[kind], tuple(map(_panel, metrics))) for kind, metrics in by_kind)
    return Page(
        UID,
        "headrace: every metric",
        "Each metric of the catalogue for one feed, with its meaning and what to do.",
        rows,
        is_per_feed=True,
    )


def _panel(metric: Metric) -> Panel:
    queries = _queries(metric)
    if metric.kind == "counter":
        return Panel(metric.name, RATES.get(metric.unit, "cps"), queries, width=6)
    return Panel(metric.name, UNITS.get(metric.unit, "short"), queries, width=6)


def _queries(metric: Metric) -> tuple[Query, ...]:
    if not metric.labels:
        of_process = per_second if metric.kind == "counter" else worst
        return (Query(of_process(metric.name, THIS_DATAFLOW, "instance"), "{{instance}}"),)
    others = [label for label in metric.labels if label != "feed"]
    by = ", ".join(others) or "feed"
    legend = " ".join(f"{{{{{label}}}}}" for label in others or ["feed"])
    if metric.kind == "histogram":
        return tuple(
            Query(
                quantile(share, metric.name, THIS_FEED, ", ".join(others)),
                f"{legend} p{share * 100:.0f}",
            )
            for share in (0.5, 0.99)
        )
    if metric.kind == "counter":
        return (Query(per_second(metric.name, THIS_FEED, by), legend),)
    ask = age if metric.unit == TIMESTAMP else worst
    return (Query(ask(metric.name, THIS_FEED, by), legend),)
