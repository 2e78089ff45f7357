"""Alarms on the metrics of our own catalogue (`stream.telemetry.METRICS`), once they are exported.

The dataflows serve them to Prometheus; nothing sends them to CloudWatch yet, and an alarm on a
series that nobody writes never goes off. An exporter adds the names that it sends to `EXPORTED`:
the alarms follow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from components.alarms import Alarm, Metric
from stream.feeds.contract import Contract
from stream.telemetry import METRICS

EXPORTED: frozenset[str] = frozenset()
"""Names of the catalogue that reach CloudWatch today: none."""

NAMESPACE = "headrace"


def _stale(contract: Contract, metric: Metric, action: str) -> Alarm:
    return Alarm(
        f"{contract.feed}-stale",
        "p1",
        contract.feed,
        f"Commits hold records older than {contract.freshness_seconds} s. {action}",
        metric,
        contract.freshness_seconds * 1000,
        missing="breaching",
    )


def _rejects(contract: Contract, metric: Metric, action: str) -> Alarm:
    return Alarm(
        f"{contract.feed}-rejects",
        "p2",
        contract.feed,
        f"Messages were put into quarantine in three of five minutes. {action}",
        metric,
        0,
        at_least=3,
    )


def _too_many_rows(contract: Contract, metric: Metric, action: str) -> Alarm:
    volume = contract.volume
    return Alarm(
        f"{contract.feed}-many-rows",
        "p3",
        contract.feed,
        f"More than {volume.max_per_minute} rows a minute ({volume.reason}). {action}",
        metric,
        volume.max_per_minute,
    )


RULES: Mapping[str, tuple[str, Callable[[Contract, Metric, str], Alarm]]] = {
    "headrace_freshness_ms": ("Maximum", _stale),
    "headrace_rejected_total": ("Sum", _rejects),
    "headrace_silver_rows_total": ("Sum", _too_many_rows),
}
"""Statistic and alarm by metric. Counters are expected as their increase per minute."""


def catalogue_alarms(contract: Contract, exported: Collection[str] = EXPORTED) -> tuple[Alarm, ...]:
    """The alarms of one feed on those metrics of ours that are `exported`.

    Raises: KeyError for a name that the catalogue does not have.
    """
    known = {metric.name: metric for metric in METRICS}
    alarms = []
    for name in sorted(exported):
        metric = known[name]
        if name in RULES:
            statistic, build = RULES[name]
            series = Metric(NAMESPACE, name, {"feed": contract.feed}, statistic)
            alarms.append(build(contract, series, metric.action))
    return tuple(alarms)
