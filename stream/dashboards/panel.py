"""A panel as a value: what it asks, in which unit, and what its metrics mean.

The meaning is the catalogue's (`stream.telemetry.catalogue`), the way out is the runbook of each
alert about one of its metrics (`stream.alerts.rules`): neither is typed again here.
Not here: the JSON of Grafana (`grafana`), which panels there are (`overview`, `one_feed`,
`every_metric`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stream.alerts.alert import Alert
from stream.alerts.rules import ALERTS
from stream.telemetry.catalogue import find_metric

Kind = Literal["lines", "number", "table", "heat", "states", "text"]

COLUMNS = 24
"""Of Grafana's grid."""

OF_PROMETHEUS = {
    "ALERTS": "Alerts that Prometheus evaluates, firing or about to",
    "up": "Whether the last scrape was answered",
}
"""Series that Prometheus writes itself."""

_WORD = re.compile(r'"[^"]*"|\b[a-zA-Z_][a-zA-Z0-9_]*\b')


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the name of each of its series, in Grafana's `{{label}}` form.

    In a table the name is the column's, and `unit` is its unit.
    """

    expression: str
    legend: str = "{{feed}}"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `unit`: Grafana's id ("s", "percentunit"). `limits`: from such a value on, such a
    colour. `words`: colour and text by value, of "states". `text`: Markdown, of "text" alone.
    `width` of `COLUMNS`, `height` in Grafana's rows of 30 pixels. `to`: where the cells of a
    column lead, by its name.
    """

    title: str
    unit: str
    queries: tuple[Query, ...] = ()
    kind: Kind = "lines"
    about: str = ""
    limits: tuple[tuple[float, str], ...] = ()
    words: tuple[tuple[str, str, str], ...] = ()
    text: str = ""
    width: int = 8
    height: int = 7
    is_stacked: bool = False
    to: tuple[tuple[str, str], ...] = ()

    def description(self) -> str:
        """What a reader is told: what is drawn, then what each metric means and what to do."""
        told = [self.about] if self.about else []
        return "\n\n".join([*told, *map(_explain, metrics_of(self.queries))])

    def alerts(self) -> list[Alert]:
        """Alerts about a metric of this panel, the pressing ones first."""
        shown = set(metrics_of(self.queries))
        watching = [alert for alert in ALERTS if _subject(alert) in shown]
        return sorted(watching, key=lambda alert: (alert.priority, alert.name))


@dataclass(frozen=True, slots=True)
class Row:
    """A headline and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard. `is_per_feed`: has the variable `feed`, which its expressions use."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]
    is_per_feed: bool = False

    def panels(self) -> list[Panel]:
        """All panels, from top to bottom."""
        return [panel for row in self.rows for panel in row.panels]


def metrics_of(queries: Iterable[Query]) -> list[str]:
    """Names of metrics in the expressions, in order, each once; parts of a histogram are its name.

    >>> metrics_of([Query('rate(headrace_commit_seconds_bucket{feed="up"}[5m]) / up')])
    ['headrace_commit_seconds', 'up']
    """
    found: dict[str, None] = {}
    for query in queries:
        for word in _WORD.findall(query.expression):
            if word.startswith(("headrace_", "process_")) or word in OF_PROMETHEUS:
                metric = find_metric(word)
                found[metric.name if metric else word] = None
    return list(found)


def _subject(alert: Alert) -> str:
    """The metric that an alert is about: the first that its expression names. Those after it are
    what that one is compared with.
    """
    return metrics_of([Query(alert.expression)])[0]


def _explain(name: str) -> str:
    """Raises: KeyError for a metric that nobody has."""
    metric = find_metric(name)
    if metric is None:
        return f"**{name}**: {OF_PROMETHEUS[name]}."
    return f"**{name}**: {metric.meaning}. {metric.action}"
