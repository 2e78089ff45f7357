"""Alarms: none is dead, nothing is unwatched, each reaches somebody, thresholds are contracts'."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import pytest

from batch.flows.logs import RunFormatter
from components.alarms import LOG_ERRORS
from components.catalogue import own_alarms
from stream.alerts.rules import ALERTS
from stream.feeds import load_feed, streamed_feeds
from stream.telemetry import CATALOGUE, METRICS, Instruments, JsonFormatter
from stream.telemetry.catalogue import STAGES
from stream.telemetry.emf import EmfLines
from synth import Graph, Resource

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
FILTER = "aws:cloudwatch/logMetricFilter:LogMetricFilter"
STREAM = "aws:kinesis/stream:Stream"
SERVICE = "aws:ecs/service:Service"
CLUSTER = "aws:ecs/cluster:Cluster"
QUEUE = "aws:sqs/queue:Queue"
TOPIC = "aws:sns/topic:Topic"
SUBSCRIPTION = "aws:sns/topicSubscription:TopicSubscription"
SLACK = "aws:chatbot/slackChannelConfiguration:SlackChannelConfiguration"

DIMENSIONS: Mapping[str, tuple[str, str]] = {
    "ApiId": ("aws:apigatewayv2/api:Api", "id"),
    "ClusterName": (CLUSTER, "name"),
    "DBInstanceIdentifier": ("aws:rds/instance:Instance", "identifier"),
    "FunctionName": ("aws:lambda/function:Function", "name"),
    "LoadBalancer": ("aws:lb/loadBalancer:LoadBalancer", "arnSuffix"),
    "QueueName": (QUEUE, "name"),
    "ServiceName": (SERVICE, "name"),
    "StreamName": (STREAM, "name"),
    "TargetGroup": ("aws:lb/targetGroup:TargetGroup", "arnSuffix"),
}
"""Dimension -> the type of resource that it names, and the property that holds the name."""


def metrics_of(alarm: Resource) -> Iterator[Mapping[str, Any]]:
    queries = alarm.inputs.get("metricQueries")
    yield from (
        (query["metric"] for query in queries if "metric" in query) if queries else [alarm.inputs]
    )


def exporting(graph: Graph) -> set[str]:
    """Feeds whose dataflow writes its metrics for CloudWatch, in a stack."""
    containers = [
        json.loads(task.inputs["containerDefinitions"])[0]
        for task in graph.of("aws:ecs/taskDefinition:TaskDefinition")
    ]
    wanted = {"name": "HEADRACE_METRICS_EXPORT", "value": "emf"}
    return {c["command"][1] for c in containers if wanted in c["environment"]}


Series = tuple[str, frozenset[tuple[str, str]]]


@cache
def written(feed: str) -> frozenset[Series]:
    """Series that the exporter writes for a feed: name and dimensions, of every metric there is."""
    live = Instruments()
    for metric in METRICS:
        others = [name for name in metric.labels if name != "feed"]
        for values in product(*(STAGES if name == "stage" else ("a", "b") for name in others)):
            labels = {"feed": feed, **dict(zip(others, values, strict=True))}
            if metric.kind == "counter":
                live.counter(metric.name, **labels).inc()
            elif metric.kind == "gauge":
                live.gauge(metric.name, **labels).set(1)
            else:
                live.histogram(metric.name, **labels).observe(1)
    found: set[Series] = set()
    for line in map(json.loads, EmfLines(live.registry, feed).build(0)):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            (names,) = directive["Dimensions"]
            where = frozenset((name, line[name]) for name in names)
            found |= {(metric["Name"], where) for metric in directive["Metrics"]}
    return frozenset(found)


def dead_alarms(graph: Graph) -> list[str]:
    """Alarms on a series that nothing in the graph will ever write."""
    insights = {
        cluster.inputs["name"]
        for cluster in graph.of(CLUSTER)
        if {"name": "containerInsights", "value": "enabled"} in cluster.inputs["settings"]
    }
    counted = {
        (made["namespace"], made["name"])
        for made in (found.inputs["metricTransformation"] for found in graph.of(FILTER))
    }
    ours = {series for feed in exporting(graph) for series in written(feed)}
    faults = []
    for alarm in graph.of(ALARM):
        for metric in metrics_of(alarm):
            where = metric.get("dimensions") or {}
            if metric["namespace"] == "headrace":
                if (metric["metricName"], frozenset(where.items())) not in ours:
                    faults.append(f"{alarm.name}: nobody publishes {metric['metricName']}")
                continue
            for dimension, value in where.items():
                type_, key = DIMENSIONS[dimension]
                if value not in {r.inputs.get(key, r.outputs.get(key)) for r in graph.of(type_)}:
                    faults.append(f"{alarm.name}: no {type_} whose {key} is {value}")
            namespace = metric["namespace"]
            if namespace == "ECS/ContainerInsights" and where["ClusterName"] not in insights:
                faults.append(f"{alarm.name}: {where['ClusterName']} has no Container Insights")
            if (
                not namespace.startswith(("AWS/", "ECS/"))
                and (namespace, metric["metricName"]) not in counted
            ):
                faults.append(f"{alarm.name}: nobody publishes {metric['metricName']}")
    return faults


def unwatched(graph: Graph) -> list[str]:
    """Streams, services, dead-letter queues, functions and databases without an alarm."""
    watched = {
        (dimension, value)
        for alarm in graph.of(ALARM)
        for metric in metrics_of(alarm)
        for dimension, value in (metric.get("dimensions") or {}).items()
    }
    wanted = {
        (dimension, resource.inputs.get(key, resource.outputs.get(key)))
        for dimension, (type_, key) in DIMENSIONS.items()
        for resource in graph.of(type_)
        if dimension not in {"ClusterName", "QueueName"}
    }
    dead_letters = {
        json.loads(queue.inputs["redrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        for queue in graph.of(QUEUE)
        if "redrivePolicy" in queue.inputs
    }
    return sorted(str(one) for one in (wanted | {("QueueName", d) for d in dead_letters}) - watched)


def unheard(graph: Graph) -> list[str]:
    """Alarms that tell the wrong topic, and topics above P4 that nobody listens to."""
    arns = {topic.name: topic.outputs["arn"] for topic in graph.of(TOPIC)}
    faults = []
    for alarm in graph.of(ALARM):
        priority = alarm.inputs["name"].split("-")[2]
        expected = [arns[f"alerts-{priority}"]]
        if alarm.inputs.get("alarmActions") != expected or alarm.inputs["okActions"] != expected:
            faults.append(f"{alarm.name}: does not tell {priority}")
    listened = {found.inputs["topic"] for found in graph.of(SUBSCRIPTION)}
    for slack in graph.of(SLACK):
        listened |= set(slack.inputs["snsTopicArns"])
    faults += [name for name, arn in arns.items() if arn not in listened and name != "alerts-p4"]
    return faults


def test_no_alarm_looks_at_a_series_that_nobody_writes(graph, graphs):
    assert dead_alarms(graph) == []
    assert dead_alarms(graphs.everything()) == []


@pytest.mark.parametrize(
    ("type_", "name", "inputs"),
    [
        (STREAM, "trades", {"name": "headrace-prod-other"}),
        (CLUSTER, "stream", {"settings": [{"name": "containerInsights", "value": "disabled"}]}),
        (QUEUE, "observer-dead", {"name": "somewhere-else"}),
        (ALARM, "trades-behind", {"dimensions": {"StreamName": "trades"}}),
        (ALARM, "trades-behind", {"namespace": "headrace", "metricName": "headrace_lag_ms"}),
        (ALARM, "trades-gap", {"dimensions": {"feed": "trades", "reason": "retention", "x": "y"}}),
        (ALARM, "trades-gap", {"dimensions": {"feed": "tardes"}}),
        (FILTER, "trades-0-log-errors", {"metricTransformation": {"namespace": "x", "name": "y"}}),
    ],
)
def test_an_alarm_that_would_be_dead_is_found(type_, name, inputs, graphs):
    assert dead_alarms(graphs.broken(graphs.get("prod"), type_, name, **inputs))


def test_everything_that_can_fail_has_an_alarm(graph, graphs):
    assert unwatched(graph) == []
    assert unwatched(graphs.everything()) == []


@pytest.mark.parametrize(
    "name",
    ["quotes-0-short", "prefect-observer-dead-letters", "prefect-away", "prefect-server-short"],
)
def test_what_lost_its_alarm_is_found(name, graphs):
    assert unwatched(graphs.without(graphs.get("prod"), ALARM, name))


def test_every_alarm_tells_the_topic_of_its_priority_and_somebody_listens(graph, graphs):
    assert unheard(graph) == []
    assert unheard(graphs.everything()) == []


def test_an_alarm_without_a_listener_is_found(graphs):
    prod = graphs.get("prod")
    assert unheard(graphs.broken(prod, ALARM, "trades-behind", alarmActions=[]))
    assert unheard(graphs.without(prod, SLACK, "slack"))
    assert unheard(graphs.without(prod, SUBSCRIPTION, "alerts-p1-email"))


@pytest.mark.parametrize("feed", streamed_feeds())
def test_thresholds_of_a_stream_are_those_of_its_contract_and_its_retention(feed, graph):
    contract, stream = load_feed(feed), graph.one(STREAM, feed)
    behind, losing = graph.one(ALARM, f"{feed}-behind"), graph.one(ALARM, f"{feed}-losing")
    assert behind.inputs["threshold"] == contract.freshness_seconds * 1000
    assert losing.inputs["threshold"] == stream.inputs["retentionPeriod"] * 3_600_000 / 2
    assert behind.inputs["threshold"] < losing.inputs["threshold"]
    # Without a reader the series has no points: then silence is the alarm.
    assert behind.inputs["treatMissingData"] == "breaching"
    flood = graph.one(ALARM, f"{feed}-flood")
    assert flood.inputs["threshold"] == contract.volume.max_per_minute


def test_silence_is_an_alarm_only_where_somebody_publishes_and_the_contract_expects_it(graph):
    silent = {alarm.name for alarm in graph.of(ALARM) if alarm.name.endswith("-silent-market")}
    assert silent == {"trades-silent-market"}, "news may be silent, quotes have no producer"


def test_names_are_unique_and_say_the_priority_and_descriptions_fit(graph):
    names = [alarm.inputs["name"] for alarm in graph.of(ALARM)]
    assert len(set(names)) == len(names)
    for alarm in graph.of(ALARM):
        assert re.fullmatch(rf"headrace-{graph.stack}-p[1234]-[a-z0-9-]+", alarm.inputs["name"])
        assert 40 < len(alarm.inputs["alarmDescription"]) <= 1024
        assert alarm.inputs["datapointsToAlarm"] <= alarm.inputs["evaluationPeriods"]


def matches(pattern: str, line: str) -> bool:
    """CloudWatch's JSON patterns, as far as ours goes: `{ ($.a = "x") || ($.b = "y") }`."""
    inside = re.fullmatch(r"\{ (.+) \}", pattern)
    assert inside, f"{pattern}: not a JSON pattern"
    terms = inside[1].split(" || ")
    parsed = [re.fullmatch(r'\(\$\.(\w+) = "([^"]*)"\)', term) for term in terms]
    assert all(parsed), f"{pattern}: a term that this test cannot read"
    found = json.loads(line)
    return any(found.get(term[1]) == term[2] for term in parsed if term)


def line_of(formatter: logging.Formatter, level: int, message: str) -> str:
    record = logging.LogRecord("stream.live", level, __file__, 1, message, (), None)
    return formatter.format(record)


@pytest.mark.parametrize("formatter", [JsonFormatter(), RunFormatter()])
def test_the_log_filter_counts_lines_that_the_runtime_writes_at_error_and_no_other(formatter):
    assert matches(LOG_ERRORS, line_of(formatter, logging.ERROR, "gap"))
    assert matches(LOG_ERRORS, line_of(formatter, logging.CRITICAL, "gap"))
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        assert not matches(LOG_ERRORS, line_of(formatter, level, 'an "ERROR" of the venue'))


def test_the_log_filter_sees_an_error_that_was_raised():
    try:
        raise ValueError("planted")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "lost", (), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line, "a line for CloudWatch is one line"
    assert matches(LOG_ERRORS, line)


def filters_without_json(graph: Graph) -> list[str]:
    """Filters on a log that holds other lines than our JSON."""
    as_json = set()
    for task in graph.of("aws:ecs/taskDefinition:TaskDefinition"):
        for container in json.loads(task.inputs["containerDefinitions"]):
            if {"name": "HEADRACE_LOG_FORMAT", "value": "json"} in container["environment"]:
                as_json.add(container["logConfiguration"]["options"]["awslogs-group"])
    return [f.name for f in graph.of(FILTER) if f.inputs["logGroupName"] not in as_json]


def test_filters_read_only_logs_of_containers_that_write_json(graph, graphs):
    assert graph.of(FILTER)
    assert filters_without_json(graph) == []
    server = "/headrace/prod/prefect-server"
    planted = graphs.broken(graphs.get("prod"), FILTER, "trades-0-log-errors", logGroupName=server)
    assert filters_without_json(planted) == ["trades-0-log-errors"]


def test_no_dataflow_that_does_not_export_has_an_alarm_on_its_metrics(graphs):
    prod, type_ = graphs.get("prod"), "aws:ecs/taskDefinition:TaskDefinition"
    assert exporting(prod) == set(streamed_feeds())
    (container,) = json.loads(prod.one(type_, "trades-0").inputs["containerDefinitions"])
    container["environment"] = [
        pair for pair in container["environment"] if pair["name"] != "HEADRACE_METRICS_EXPORT"
    ]
    mute = graphs.broken(prod, type_, "trades-0", containerDefinitions=json.dumps([container]))
    assert "trades-gap: nobody publishes headrace_gaps_total" in dead_alarms(mute)


@pytest.mark.parametrize("feed", streamed_feeds())
def test_every_alert_that_cloudwatch_can_judge_is_an_alarm_of_every_feed(feed, graph):
    for alert in ALERTS:
        made = [a for a in graph.of(ALARM) if a.name == f"{feed}-{alert.name}"]
        assert bool(alert.not_in_cloudwatch) is (alert.cloudwatch is None), alert.name
        if alert.cloudwatch is None:
            assert made == []
        elif made:
            (alarm,) = made
            assert alarm.inputs["name"].split("-")[2] == alert.priority
            assert alert.runbook in alarm.inputs["alarmDescription"]
            assert alarm.inputs["threshold"] == alert.cloudwatch.threshold
        else:
            assert alert.name == "silent-market", f"{feed} has no {alert.name}"


def test_silence_of_a_feed_nobody_publishes_to_or_that_may_be_silent_is_no_alarm():
    contract = load_feed("trades")
    named = {a.name for a in own_alarms(contract, has_producer=True)}
    assert named - {a.name for a in own_alarms(contract, has_producer=False)} == {
        "trades-silent-market"
    }
    quiet = replace(contract, volume=replace(contract.volume, min_per_minute=0))
    assert "trades-silent-market" not in {a.name for a in own_alarms(quiet, has_producer=True)}


MATH = {"DIFF", "EPOCH", "FILL", "IF", "MAX", "MIN", "PERIOD", "RATE", "SUM"}
"""Functions of CloudWatch's metric math that give one series (AWS, "Using metric math")."""


def formula_faults(alarm: Resource) -> list[str]:
    """Metric math that CloudWatch refuses: ids, periods and what is returned."""
    queries = alarm.inputs.get("metricQueries") or []
    returned = [query for query in queries if query.get("returnData")]
    series = [query for query in queries if "metric" in query]
    used = {
        word
        for query in returned
        for word in re.findall(r"\b[a-z]\w*", query.get("expression", ""))
    }
    functions = {
        word
        for query in returned
        for word in re.findall(r"\b[A-Z_]+(?=\()", query.get("expression", ""))
    }
    checks = {
        "one result": len(returned) == 1,
        "ids begin small": all(re.fullmatch(r"[a-z]\w*", query["id"]) for query in queries),
        "ids differ": len({query["id"] for query in queries}) == len(queries),
        "all used, none missing": used == {query["id"] for query in series},
        "known functions": functions <= MATH,
        "one period": len({query["metric"]["period"] for query in series}) == 1,
    }
    return [f"{alarm.name}: {what}" for what, is_so in checks.items() if queries and not is_so]


def test_metric_math_uses_each_series_and_returns_one(graph, graphs):
    assert [fault for alarm in graph.of(ALARM) for fault in formula_faults(alarm)] == []
    prod = graphs.get("prod")
    queries = prod.one(ALARM, "trades-stale-silver").inputs["metricQueries"]
    for planted in (queries[1:], queries[:-1], [*queries, queries[-1]]):
        broken = graphs.broken(prod, ALARM, "trades-stale-silver", metricQueries=planted)
        assert formula_faults(broken.one(ALARM, "trades-stale-silver"))


def test_an_alarm_can_be_judged_in_the_time_that_cloudwatch_looks_back(graph):
    for alarm in graph.of(ALARM):
        periods = [metric.get("period") for metric in metrics_of(alarm)]
        assert alarm.inputs["evaluationPeriods"] * max(periods) <= 86_400, alarm.name


def test_the_dashboard_shows_every_metric_of_the_catalogue_where_it_is_written(graphs):
    graph = graphs.get("prod")
    body = json.loads(graph.of("aws:cloudwatch/dashboard:Dashboard")[0].inputs["dashboardBody"])
    drawn = {w["properties"]["title"]: w for w in body["widgets"] if w["type"] == "metric"}
    ours = {series for feed in streamed_feeds() for series in written(feed)}
    for metric in CATALOGUE:
        lines = [
            line for line in drawn[metric.name]["properties"]["metrics"] if line[0] == "headrace"
        ]
        assert lines, metric.name
        for _, name, *dimensions, _ in lines:
            where = frozenset(zip(dimensions[::2], dimensions[1::2], strict=True))
            # The exporter was given the stages of the road; only bytes have another set.
            assert name == metric.name
            assert (name, where) in ours or metric.unit == "bytes", (name, where)
        assert {"trades", "quotes", "news"} <= {line[3] for line in lines}


def dashboard_faults(graph: Graph) -> list[str]:
    """Widgets that overlap or leave the grid, alarms that are not shown."""
    (dashboard,) = graph.of("aws:cloudwatch/dashboard:Dashboard")
    widgets = json.loads(dashboard.inputs["dashboardBody"])["widgets"]
    taken: set[tuple[int, int]] = set()
    faults = [f"{len(widgets)} widgets: CloudWatch takes 500"] if len(widgets) > 500 else []
    for widget in widgets:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        if cells & taken or any(x > 23 for x, _ in cells):
            faults.append(f"{widget['properties']}: overlaps or leaves the grid")
        taken |= cells
    shown = {w["properties"]["title"] for w in widgets if w["type"] == "metric"}
    (states,) = (w for w in widgets if w["type"] == "alarm")
    for alarm in graph.of(ALARM):
        if alarm.name not in shown or alarm.outputs["arn"] not in states["properties"]["alarms"]:
            faults.append(f"{alarm.name}: not shown")
    return faults


def test_the_dashboard_shows_every_alarm_once_and_fits_its_grid(graph, graphs):
    assert dashboard_faults(graph) == []
    assert dashboard_faults(graphs.everything()) == []


def test_a_dashboard_that_forgets_an_alarm_or_overlaps_is_found(graphs):
    prod, type_ = graphs.get("prod"), "aws:cloudwatch/dashboard:Dashboard"
    body = json.loads(prod.one(type_, "dashboard").inputs["dashboardBody"])
    fewer = {
        "widgets": [w for w in body["widgets"] if w["properties"].get("title") != "trades-behind"]
    }
    moved = {"widgets": [{**widget, "x": 20} for widget in body["widgets"]]}
    for planted in (fewer, moved):
        text = json.dumps(planted)
        assert dashboard_faults(graphs.broken(prod, type_, "dashboard", dashboardBody=text))
