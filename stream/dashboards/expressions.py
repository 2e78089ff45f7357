"""The PromQL that more than one page asks with, and what is worth marking in it.

Every expression is a sum or a maximum over what one feed's process says; `where` narrows it, as
`{feed="$feed"}`. Ages come from timestamps (`time() - x`), so that they grow when a process hangs.
"""

from __future__ import annotations

WINDOW = "$__rate_interval"
"""Grafana's: at least four scrapes, more when the range of the page is long."""

THIS_FEED = '{feed="$feed"}'

DATAFLOWS = '{job="dataflow"}'
THIS_DATAFLOW = '{job="dataflow", feed="$feed"}'
"""Of what a process says as such: the target that is scraped knows its feed, the series does not
(deploy/prometheus/prometheus.yml).
"""


def per_second(counter: str, where: str = "", by: str = "feed") -> str:
    """A counter's increase per second.

    >>> per_second("headrace_commits_total")
    'sum by (feed) (rate(headrace_commits_total[$__rate_interval]))'
    """
    return f"sum by ({by}) (rate({counter}{where}[{WINDOW}]))"


def worst(gauge: str, where: str = "", by: str = "feed") -> str:
    """The largest of a feed's series, over its shards."""
    return f"max by ({by}) ({gauge}{where})"


def age(timestamp: str, where: str = "", by: str = "feed") -> str:
    """Seconds since the oldest of the timestamps."""
    return f"time() - min by ({by}) ({timestamp}{where})"


def quantile(share: float, histogram: str, where: str = "", by: str = "") -> str:
    """A quantile of a histogram, over all processes of a feed."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({histogram}_bucket{where}[{WINDOW}]))"
    return f"histogram_quantile({share}, {buckets})"


def freshness_share(where: str = "") -> str:
    """Age of what Silver shows as a share of the contract's target: above 1 it is stale."""
    arrival = "headrace_committed_arrival_timestamp_seconds"
    matcher = where.replace("}", ', stage="silver"}') if where else '{stage="silver"}'
    target = f"max by (feed) (headrace_freshness_target_seconds{where})"
    return f"({age(arrival, matcher)}) / {target}"


def usd_per_million(where: str = "", by: str = "feed") -> str:
    """List price of a million records, over the last hour."""
    cost = f"sum by ({by}) (increase(headrace_cost_usd_total{where}[1h]))"
    records = f"sum by ({by}) (increase(headrace_records_total{where}[1h]))"
    return f"1e6 * {cost} / ({records} > 0)"
