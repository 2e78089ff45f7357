"""The types of an alert: its rule for Prometheus, and the same judgement in CloudWatch's terms.

An alert is about one feed: its expression gives series with the label `feed`. It is data, so that
rules, alarms, runbooks and tests come from one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Priority = Literal["p1", "p2", "p3", "p4"]
PRIORITIES: tuple[Priority, ...] = ("p1", "p2", "p3", "p4")
HEARD_BY: Mapping[Priority, str] = {
    "p1": "PagerDuty",
    "p2": "Slack",
    "p3": "e-mail",
    "p4": "dashboard",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One series in namespace "headrace". `id`: its name in the expression.

    `statistic`: Sum (of a counter's increases), Maximum, Minimum, SampleCount, or p95 and the like.
    `labels`: dimensions besides `feed`.
    """

    id: str
    metric: str
    statistic: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CloudWatch:
    """An alarm per feed: `expression` (metric math over the ids; None: the one series) is above
    `threshold`, or below it if `is_floor`, in `at_least` of the last `of` periods.

    `missing`: what no data means. Ages are `EPOCH(x) + PERIOD(x) - x`: a data point carries the
    time at which its period began.
    """

    series: tuple[Series, ...]
    threshold: float
    expression: str | None = None
    is_floor: bool = False
    period_seconds: int = 60
    of: int = 5
    at_least: int = 5
    missing: Literal["breaching", "notBreaching", "ignore"] = "notBreaching"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    `name` in kebab case names its runbook, too. `expression` (PromQL) must hold for `for_seconds`.
    `says`: one line for the person who is called, a template over the labels and the value of the
    series. `means`: what it is and whether data is lost. `silences`: alerts of the same feed that
    follow from this one and are not sent while it fires. `cloudwatch`: the same for CloudWatch;
    where AWS cannot do it or does it better, None and `not_in_cloudwatch` says why.
    """

    name: str
    priority: Priority
    expression: str
    for_seconds: int
    says: str
    means: str
    cloudwatch: CloudWatch | None = None
    not_in_cloudwatch: str = ""
    silences: tuple[str, ...] = ()

    @property
    def runbook(self) -> str:
        """Where it says what to do: a path in the source tree."""
        return f"deploy/runbooks/{self.name}.md"
