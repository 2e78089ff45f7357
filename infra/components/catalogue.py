"""Our own metrics in CloudWatch: alarms of `stream.alerts`, graphs of the catalogue.

The dataflows write their registry as EMF lines (`HEADRACE_METRICS_EXPORT=emf`) into their logs;
CloudWatch makes series of them in namespace "headrace", by feed and, where a metric has one, by
stage. A counter is there as its increase since the line before, so `Sum` of a period is what
happened in it; of the shards of a feed only the worst is sent. Thresholds, and why: the alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from components.alarms import Alarm, Formula, Metric
from components.dashboard import Graph
from stream.alerts.alert import Alert, CloudWatch, Series
from stream.alerts.rules import ALERTS
from stream.feeds.contract import Contract
from stream.telemetry import CATALOGUE
from stream.telemetry import Metric as Known
from stream.telemetry.catalogue import STAGES, WRITTEN_STAGES
from stream.telemetry.emf import NAMESPACE

ROW = "dataflows"
"""Of the dashboard: what the dataflows say of themselves."""

NEEDS_PRODUCER = "silent-market"
"""Asks why nothing is published: idle where the stack publishes nothing."""

TIMESTAMP = "seconds since 1970"
STATISTICS: Mapping[str, str] = {"counter": "Sum", "gauge": "Maximum", "histogram": "p99"}
"""What a graph shows of a metric, by kind."""


def own_alarms(contract: Contract, *, has_producer: bool) -> tuple[Alarm, ...]:
    """The alarms of one feed on what its dataflow says.

    `has_producer`: whether this stack publishes to the feed; if not, its silence says nothing.
    """
    is_expected = has_producer and contract.volume.min_per_minute > 0
    return tuple(
        _alarm(contract.feed, alert, alert.cloudwatch)
        for alert in ALERTS
        if alert.cloudwatch is not None and (is_expected or alert.name != NEEDS_PRODUCER)
    )


def own_graphs(feeds: Iterable[str]) -> list[Graph]:
    """A graph per metric of the catalogue, with a line per feed and stage; timestamps as ages."""
    return [Graph(ROW, metric.name, tuple(_lines(metric, list(feeds)))) for metric in CATALOGUE]


def _alarm(feed: str, alert: Alert, form: CloudWatch) -> Alarm:
    series = {one.id: _series(feed, one, form.period_seconds) for one in form.series}
    (first, *_) = series.values()
    return Alarm(
        f"{feed}-{alert.name}",
        alert.priority,
        feed,
        f"{alert.means} What to do: {alert.runbook}",
        first if form.expression is None else Formula(form.expression, series),
        form.threshold,
        is_floor=form.is_floor,
        of=form.of,
        at_least=form.at_least,
        missing=form.missing,
    )


def _series(feed: str, series: Series, period_seconds: int) -> Metric:
    where = {"feed": feed, **series.labels}
    return Metric(NAMESPACE, series.metric, where, series.statistic, period_seconds)


def _lines(metric: Known, feeds: list[str]) -> Iterator[Metric | Formula]:
    for index, where in enumerate(_places(metric, feeds)):
        if metric.unit == TIMESTAMP:
            # A data point carries the time at which its period began.
            id_, series = f"t{index}", Metric(NAMESPACE, metric.name, where, "Minimum")
            age = f"EPOCH({id_}) + PERIOD({id_}) - {id_}"
            yield Formula(age, {id_: series}, label=" ".join(where.values()))
        else:
            yield Metric(NAMESPACE, metric.name, where, STATISTICS[metric.kind])


def _places(metric: Known, feeds: list[str]) -> Iterator[dict[str, str]]:
    """Dimensions of each series of a metric."""
    if "stage" not in metric.labels:
        yield from ({"feed": feed} for feed in feeds)
        return
    stages = WRITTEN_STAGES if metric.unit == "bytes" else STAGES
    yield from ({"feed": feed, "stage": stage} for feed in feeds for stage in stages)
