"""Alarms, log filters and the dashboard, over everything that the other components made.

Which alarms there are, and why: `alarms` and `catalogue`. Who hears them: `paging`. Not here: what
needs Prefect to notice (deploy/prefect/resources.yaml); these alarms work when Prefect does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws

from components.alarms import (
    LOG_ERRORS,
    Alarm,
    Formula,
    Metric,
    Service,
    api_alarms,
    database_alarms,
    dead_letter_alarms,
    function_alarms,
    load_balancer_alarms,
    log_alarms,
    log_namespace,
    service_alarms,
    stream_alarms,
    stream_metric,
)
from components.catalogue import own_alarms, own_graphs
from components.dashboard import Graph, build_dashboard
from context import Context, Part
from stream.alerts.alert import Priority
from stream.feeds import load_feed

STATISTICS = frozenset({"Average", "Maximum", "Minimum", "SampleCount", "Sum"})
"""Those that CloudWatch takes by name; percentiles are extended ones."""

STREAM_GRAPHS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "records in and out": (("IncomingRecords", "Sum"), ("GetRecords.Records", "Sum")),
    "bytes in and out": (("IncomingBytes", "Sum"), ("GetRecords.Bytes", "Sum")),
    "reads refused": (("ReadProvisionedThroughputExceeded", "Sum"),),
}
"""What the dashboard shows of a stream besides its alarms."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log group that holds lines of our JSON format. `is_vital`: of what moves records."""

    group: pulumi.Input[str]
    is_vital: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """What there is to watch, under the names by which CloudWatch knows it.

    `streams`: stream by feed. `dead_letters`: queue by what it is of. `api`: the HTTP API's id.
    """

    streams: Mapping[str, pulumi.Input[str]]
    services: Mapping[str, Service]
    logs: Mapping[str, Log]
    database: pulumi.Input[str]
    load_balancer: pulumi.Input[str]
    target_group: pulumi.Input[str]
    dead_letters: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    functions: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    api: pulumi.Input[str] | None = None


class Monitoring(Part):
    """Every alarm, tied to the topic of its priority."""

    topic_arns: Mapping[Priority, pulumi.Output[str]]

    def __init__(
        self,
        context: Context,
        topic_arns: Mapping[Priority, pulumi.Output[str]],
        watched: Watched,
    ) -> None:
        super().__init__(context, "monitoring")
        self.topic_arns = topic_arns
        for name, log in watched.logs.items():
            self._count_errors(name, log.group)
        alarms = self._plan(watched)
        made = {alarm.name: self._alarm(alarm) for alarm in alarms}
        body = build_dashboard(
            context.settings.region,
            alarms,
            _graphs(watched),
            {name: alarm.arn for name, alarm in made.items()},
        )
        aws.cloudwatch.Dashboard(
            "dashboard",
            dashboard_name=context.name("platform"),
            dashboard_body=pulumi.Output.json_dumps(body),
            opts=self.below(),
        )
        self.register_outputs({"topic_arns": topic_arns})

    def _plan(self, watched: Watched) -> list[Alarm]:
        settings = self.context.settings
        fed = {producer.feed for producer in settings.producers.values()}
        alarms: list[Alarm] = []
        for feed, stream in watched.streams.items():
            contract = load_feed(feed)
            alarms += stream_alarms(contract, settings.feeds[feed], stream)
            alarms += own_alarms(contract, has_producer=feed in fed)
        for name, service in watched.services.items():
            alarms += service_alarms(name, service)
        for name, log in watched.logs.items():
            alarms += log_alarms(settings, name, is_vital=log.is_vital)
        alarms += database_alarms(settings, watched.database)
        alarms += load_balancer_alarms(watched.load_balancer, watched.target_group)
        for name, queue in watched.dead_letters.items():
            alarms += dead_letter_alarms(name, queue)
        for name, function in watched.functions.items():
            alarms += function_alarms(name, function)
        if watched.api is not None:
            alarms += api_alarms(watched.api)
        return alarms

    def _count_errors(self, name: str, group: pulumi.Input[str]) -> None:
        """Zero is published with every line, so that the alarm goes back by itself."""
        aws.cloudwatch.LogMetricFilter(
            f"{name}-log-errors",
            name="errors",
            log_group_name=group,
            pattern=LOG_ERRORS,
            metric_transformation={
                "name": f"{name}-log-errors",
                "namespace": log_namespace(self.context.settings),
                "value": "1",
                "default_value": "0",
            },
            opts=self.below(),
        )

    def _alarm(self, alarm: Alarm) -> aws.cloudwatch.MetricAlarm:
        topic = self.topic_arns[alarm.priority]
        comparison = "LessThanThreshold" if alarm.is_floor else "GreaterThanThreshold"
        name = f"{self.context.settings.stack}-{alarm.priority}-{alarm.name}"
        return aws.cloudwatch.MetricAlarm(
            alarm.name,
            name=f"headrace-{name}",
            alarm_description=f"{alarm.priority.upper()}: {alarm.means}",
            comparison_operator=comparison,
            threshold=alarm.threshold,
            evaluation_periods=alarm.of,
            datapoints_to_alarm=alarm.at_least,
            treat_missing_data=alarm.missing,
            alarm_actions=[topic],
            ok_actions=[topic],
            opts=self.below(),
            **_measured(alarm),
        )


def _graphs(watched: Watched) -> list[Graph]:
    """What nobody is woken for."""
    graphs = [
        Graph(feed, title, tuple(stream_metric(stream, *series) for series in wanted))
        for feed, stream in watched.streams.items()
        for title, wanted in STREAM_GRAPHS.items()
    ]
    graphs += own_graphs(watched.streams)
    for title in ("CPUUtilization", "MemoryUtilization"):
        series = tuple(
            Metric(
                "AWS/ECS",
                title,
                {"ClusterName": service.cluster, "ServiceName": service.name},
                "Average",
            )
            for service in watched.services.values()
        )
        graphs.append(Graph("services", title, series))
    return graphs


def _measured(alarm: Alarm) -> dict[str, Any]:
    """What the alarm looks at: one series, or what is computed from several."""
    metric = alarm.metric
    if isinstance(metric, Formula):
        result = {"id": "judged", "expression": metric.expression, "return_data": True}
        queries = [_query(id_, series) for id_, series in metric.series.items()]
        return {"metric_queries": [result, *queries]}
    is_plain = metric.statistic in STATISTICS
    return {
        "namespace": metric.namespace,
        "metric_name": metric.name,
        "dimensions": dict(metric.dimensions),
        "period": metric.period_seconds,
        "statistic" if is_plain else "extended_statistic": metric.statistic,
    }


def _query(id_: str, metric: Metric) -> dict[str, Any]:
    return {
        "id": id_,
        "return_data": False,
        "metric": {
            "namespace": metric.namespace,
            "metric_name": metric.name,
            "dimensions": dict(metric.dimensions),
            "period": metric.period_seconds,
            "stat": metric.statistic,
        },
    }
