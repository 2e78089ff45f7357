"""The dashboard as CloudWatch reads it, generated from the alarms and a few series beside them.

A row per feed and per part: a graph for each alarm with its threshold as a line, then graphs
without one, and the state of every alarm on top, the pressing ones first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.alarms import Alarm, Formula, Metric
from stream.alerts.alert import PRIORITIES

COLUMNS, WIDTH, HEIGHT = 4, 6, 5
"""Graphs a row; the dashboard's grid has 24 columns."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Series that belong to a row and have no alarm of their own."""

    row: str
    title: str
    metrics: tuple[Metric | Formula, ...]


def build_dashboard(
    region: str, alarms: Sequence[Alarm], graphs: Sequence[Graph], arns: Mapping[str, Any]
) -> dict[str, Any]:
    """The dashboard's body. `arns`: of each alarm, by its name."""
    ordered = sorted(alarms, key=lambda alarm: PRIORITIES.index(alarm.priority))
    widgets: list[dict[str, Any]] = [
        {
            "type": "alarm",
            **_place(0, 0, 24, 4),
            "properties": {"title": "Alarms", "alarms": [arns[alarm.name] for alarm in ordered]},
        }
    ]
    top = 4
    for row in dict.fromkeys([*(a.row for a in alarms), *(g.row for g in graphs)]):
        cells = [_alarm_graph(region, a) for a in ordered if a.row == row]
        cells += [_plain_graph(region, g) for g in graphs if g.row == row]
        widgets.append(
            {"type": "text", **_place(0, top, 24, 1), "properties": {"markdown": f"## {row}"}}
        )
        for index, properties in enumerate(cells):
            x, y = index % COLUMNS * WIDTH, top + 1 + index // COLUMNS * HEIGHT
            place = _place(x, y, WIDTH, HEIGHT)
            widgets.append({"type": "metric", **place, "properties": properties})
        top += 1 + -(-len(cells) // COLUMNS) * HEIGHT
    return {"widgets": widgets}


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "width": width, "height": height}


def _series(metric: Metric, **options: Any) -> list[Any]:
    dimensions = [part for pair in metric.dimensions.items() for part in pair]
    shown = {"stat": metric.statistic, "period": metric.period_seconds, **options}
    return [metric.namespace, metric.name, *dimensions, shown]


def _lines(measured: Metric | Formula, label: str) -> list[Any]:
    """A line of a graph: a series, or what is computed from several that are not shown."""
    if isinstance(measured, Metric):
        return [_series(measured)]
    inside = [_series(metric, id=id_, visible=False) for id_, metric in measured.series.items()]
    return [[{"expression": measured.expression, "label": measured.label or label}], *inside]


def _alarm_graph(region: str, alarm: Alarm) -> dict[str, Any]:
    line = {"value": alarm.threshold, "label": alarm.priority.upper()}
    return {
        "title": alarm.name,
        "region": region,
        "view": "timeSeries",
        "metrics": _lines(alarm.metric, alarm.name),
        "annotations": {"horizontal": [line]},
    }


def _plain_graph(region: str, graph: Graph) -> dict[str, Any]:
    return {
        "title": graph.title,
        "region": region,
        "view": "timeSeries",
        "metrics": [line for metric in graph.metrics for line in _lines(metric, graph.title)],
    }
