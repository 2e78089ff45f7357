"""What wakes whom, and when: every alarm as a value, its threshold derived and its reason said.

P1 pages: data is being lost, or will be unless a person acts. P2 is read within working hours: a
part does not work, nothing is lost yet. P3 is an e-mail, P4 shows on the dashboard alone. Only
metrics that AWS publishes by itself, or that a log filter of `monitoring` makes; those of our own
catalogue are in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pulumi

from settings import FeedSettings, StackSettings
from stream.alerts.alert import Priority
from stream.feeds.contract import Contract

HOUR_MS = 3_600_000
GIB = 1024**3
INSIGHTS = "ECS/ContainerInsights"


@dataclass(frozen=True, slots=True)
class Metric:
    """One time series of CloudWatch. `statistic`: Sum, Minimum, Maximum, Average or p99."""

    namespace: str
    name: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: str
    period_seconds: int = 60


@dataclass(frozen=True, slots=True)
class Formula:
    """CloudWatch's metric math over series, by the ids that the expression uses.

    `label`: of the line in a graph.
    """

    expression: str
    series: Mapping[str, Metric]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Goes off when `metric` is beyond `threshold` for long enough.

    `row`: where the dashboard shows it. `of`, `at_least`: so many of the last `of` periods.
    `missing`: what no data means; "breaching" where a dead part publishes nothing.
    """

    name: str
    priority: Priority
    row: str
    means: str
    metric: Metric | Formula
    threshold: float
    is_floor: bool = False
    of: int = 5
    at_least: int = 5
    missing: Literal["breaching", "notBreaching", "ignore"] = "notBreaching"


def stream_metric(stream: pulumi.Input[str], name: str, statistic: str) -> Metric:
    """A metric that Kinesis publishes per stream."""
    return Metric("AWS/Kinesis", name, {"StreamName": stream}, statistic)


def stream_alarms(
    contract: Contract, feed: FeedSettings, stream: pulumi.Input[str]
) -> tuple[Alarm, ...]:
    """The alarms of one feed's stream, true whatever its dataflow says of itself; thresholds are
    its contract's.
    """
    name, volume = contract.feed, contract.volume
    age = stream_metric(stream, "GetRecords.IteratorAgeMilliseconds", "Maximum")
    return (
        Alarm(
            f"{name}-behind",
            "p1",
            name,
            f"Unread records are older than {contract.freshness_seconds} s, the target of the "
            "contract, or nobody reads: the metric exists only while somebody does. Look at the "
            "feed's services, then at its throughput; give them more CPU if all are busy.",
            age,
            contract.freshness_seconds * 1000,
            missing="breaching",
        ),
        Alarm(
            f"{name}-losing",
            "p1",
            name,
            f"Half of the stream's {feed.retention_hours} h are used up: records are lost when "
            "the other half is. Raise the stream's retention first, then mend the dataflow.",
            age,
            feed.retention_hours * HOUR_MS / 2,
            of=1,
            at_least=1,
            missing="ignore",
        ),
        Alarm(
            f"{name}-throttled",
            "p2",
            name,
            "Producers are refused: they retry, then spool on disk. Split shards.",
            stream_metric(stream, "WriteProvisionedThroughputExceeded", "Sum"),
            0,
            at_least=3,
        ),
        Alarm(
            f"{name}-flood",
            "p3",
            name,
            f"More records than the {volume.max_per_minute} rows a minute of the contract "
            f"({volume.reason}). A record holds a row at least. Look at the producers.",
            stream_metric(stream, "IncomingRecords", "Sum"),
            volume.max_per_minute,
        ),
    )


@dataclass(frozen=True, slots=True)
class Service:
    """An ECS service. `is_vital`: records are lost while it is away."""

    cluster: pulumi.Input[str]
    name: pulumi.Input[str]
    is_vital: bool


def service_alarms(name: str, service: Service) -> tuple[Alarm, ...]:
    """Tasks are missing. Container Insights publishes both counts, also of a service without any.

    Five minutes: a deployment, or a task that Spot takes away, is over by then.
    """
    where = {"ClusterName": service.cluster, "ServiceName": service.name}
    return (
        Alarm(
            f"{name}-short",
            "p1" if service.is_vital else "p2",
            "services",
            "Fewer tasks run than are wanted, for five minutes. Read the service's events and "
            "the last lines of the task that stopped.",
            Formula(
                "wanted - running",
                {
                    "wanted": Metric(INSIGHTS, "DesiredTaskCount", where, "Average"),
                    "running": Metric(INSIGHTS, "RunningTaskCount", where, "Average"),
                },
            ),
            0,
            missing="breaching",
        ),
    )


def database_alarms(settings: StackSettings, database: pulumi.Input[str]) -> tuple[Alarm, ...]:
    """Prefect's database: it stops when its storage is full."""
    where = {"DBInstanceIdentifier": database}
    return (
        Alarm(
            "database-full",
            "p1",
            "prefect",
            "Less than a fifth of the database's storage is free, or it says nothing. Raise "
            "storage_gib; then look at what Prefect keeps.",
            Metric("AWS/RDS", "FreeStorageSpace", where, "Minimum"),
            settings.prefect.storage_gib * GIB / 5,
            is_floor=True,
            of=15,
            at_least=15,
            missing="breaching",
        ),
        Alarm(
            "database-busy",
            "p3",
            "prefect",
            "The database's processors were busy for half an hour: a larger instance_class, or "
            "fewer runs at once.",
            Metric("AWS/RDS", "CPUUtilization", where, "Average", 300),
            90,
            of=6,
            at_least=6,
        ),
    )


def load_balancer_alarms(
    balancer: pulumi.Input[str], target_group: pulumi.Input[str]
) -> tuple[Alarm, ...]:
    """Prefect's API fails or is away: runs are not started, or not known to have ended."""
    where = {"LoadBalancer": balancer}
    return (
        Alarm(
            "prefect-errors",
            "p2",
            "prefect",
            "Prefect's API failed ten times in five minutes. Streams go on; runs may not start.",
            Metric("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", where, "Sum", 300),
            9,
            of=1,
            at_least=1,
        ),
        Alarm(
            "prefect-away",
            "p2",
            "prefect",
            "Prefect's API has not answered its health check for five minutes.",
            Metric(
                "AWS/ApplicationELB",
                "HealthyHostCount",
                {**where, "TargetGroup": target_group},
                "Minimum",
            ),
            1,
            is_floor=True,
            missing="breaching",
        ),
    )


def dead_letter_alarms(name: str, queue: pulumi.Input[str]) -> tuple[Alarm, ...]:
    """A message was given up. P2, not P1: the queue keeps it for a fortnight, no data is in it."""
    return (
        Alarm(
            f"{name}-dead-letters",
            "p2",
            "events",
            "Messages were tried five times and set aside. Read one, mend the cause, then start "
            "a redrive of the queue: handling a message twice changes nothing.",
            Metric(
                "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": queue}, "Maximum"
            ),
            0,
            of=1,
            at_least=1,
        ),
    )


def function_alarms(name: str, function: pulumi.Input[str]) -> tuple[Alarm, ...]:
    """A Lambda function fails or has too little concurrency."""
    where = {"FunctionName": function}
    return (
        Alarm(
            f"{name}-fails",
            "p2",
            "events",
            "The function raised in three of five minutes: read its log.",
            Metric("AWS/Lambda", "Errors", where, "Sum"),
            0,
            at_least=3,
        ),
        Alarm(
            f"{name}-crowded",
            "p3",
            "events",
            "Calls are refused: all reserved concurrency is in use.",
            Metric("AWS/Lambda", "Throttles", where, "Sum"),
            0,
        ),
    )


def api_alarms(api: pulumi.Input[str]) -> tuple[Alarm, ...]:
    """The HTTP API answers with errors, or late."""
    where = {"ApiId": api}
    return (
        Alarm(
            "api-errors",
            "p2",
            "api",
            "Five answers in five minutes were errors of ours: read the function's log.",
            Metric("AWS/ApiGateway", "5xx", where, "Sum", 300),
            4,
            of=1,
            at_least=1,
        ),
        Alarm(
            "api-slow",
            "p3",
            "api",
            "One answer of a hundred took more than five seconds for a quarter of an hour.",
            Metric("AWS/ApiGateway", "Latency", where, "p99", 300),
            5_000,
            of=3,
            at_least=3,
        ),
    )


LOG_ERRORS = '{ ($.level = "ERROR") || ($.level = "CRITICAL") }'
"""Lines of the runtime's JSON format at the levels that mean: data was lost or a person is
needed (`stream.telemetry`). By field: the word in a message is no error."""


def log_namespace(settings: StackSettings) -> str:
    """Where the metrics lie that log filters make."""
    return f"headrace/{settings.stack}"


def log_alarms(settings: StackSettings, name: str, *, is_vital: bool) -> tuple[Alarm, ...]:
    """An ERROR in a log group; `monitoring` makes the filter that counts them."""
    return (
        Alarm(
            f"{name}-log-errors",
            "p1" if is_vital else "p2",
            "logs",
            f"A line at level ERROR in the log of {name}: data was lost or a person is needed. "
            "The line says which and what to do.",
            Metric(log_namespace(settings), f"{name}-log-errors", {}, "Sum"),
            0,
            of=1,
            at_least=1,
        ),
    )
