"""The page for all feeds: is anything wrong, and where.

From top to bottom: what fires and a line per feed; then lag and freshness, throughput, quality,
cost; then what each alert means. A feed's own page is `one_feed`.
"""

from __future__ import annotations

from stream.alerts.alert import PRIORITIES
from stream.alerts.rules import ALERTS
from stream.dashboards.expressions import (
    DATAFLOWS,
    age,
    freshness_share,
    per_second,
    usd_per_million,
    worst,
)
from stream.dashboards.panel import Page, Panel, Query, Row

UID = "headrace-overview"
FEED_UID = "headrace-feed"
"""Of the page of one feed."""

OPEN_WORDS = (("0", "closed", "text"), ("1", "open", "green"))


def overview() -> Page:
    """The page, from the catalogue and the alerts as they are."""
    return Page(
        UID,
        "headrace: all feeds",
        "Whether anything is wrong, and with which feed.",
        (_now(), _late(), _flow(), _quality(), _cost(), _meanings()),
    )


def _firing() -> tuple[Panel, ...]:
    return tuple(
        Panel(
            f"{priority.upper()} firing",
            "short",
            (Query(f'count(ALERTS{{alertstate="firing", priority="{priority}"}}) or vector(0)'),),
            "number",
            limits=((1, colour),),
            width=3,
            height=4,
        )
        for priority, colour in zip(PRIORITIES, ("red", "orange", "yellow", "blue"), strict=True)
    )


def _now() -> Row:
    return Row(
        "Now",
        (
            *_firing(),
            Panel(
                "Processes answering",
                "short",
                (Query(f"sum(up{DATAFLOWS})"),),
                "number",
                width=4,
                height=4,
            ),
            Panel(
                "Records a second",
                "cps",
                (Query("sum(rate(headrace_records_total[$__rate_interval]))"),),
                "number",
                width=4,
                height=4,
            ),
            Panel(
                "Cost of a million records",
                "currencyUSD",
                (Query(usd_per_million(by="")),),
                "number",
                about="List prices, over the last hour.",
                width=4,
                height=4,
            ),
            Panel(
                "Every feed",
                "short",
                (
                    Query(worst("headrace_shard_behind_seconds"), "behind", "s"),
                    Query(freshness_share(), "age / target", "percentunit"),
                    Query(per_second("headrace_records_total"), "records", "cps"),
                    Query(worst("headrace_market_open"), "market open"),
                    Query(
                        'count by (feed) (ALERTS{alertstate="firing"})',
                        "alerts firing",
                    ),
                ),
                "table",
                about="A line per feed. Age / target above 100 %: Silver is staler than promised.",
                width=14,
                height=8,
                to=(("feed", f"/d/{FEED_UID}?var-feed=${{__value.text}}"),),
            ),
            Panel(
                "Firing",
                "short",
                (Query('ALERTS{alertstate="firing"}', "firing"),),
                "table",
                about="An alert's name leads to its runbook.",
                width=10,
                height=8,
                to=(("alertname", "${runbooks}/${__value.text}.md"),),
            ),
        ),
    )


def _late() -> Row:
    return Row(
        "How late",
        (
            Panel(
                "Behind the tip, worst shard",
                "s",
                (Query(worst("headrace_shard_behind_seconds")),),
            ),
            Panel(
                "Freshness of Silver, share of the target",
                "percentunit",
                (Query(freshness_share()),),
                about="Age of what Silver shows over the contract's target; stale above 100 %.",
                limits=((1, "red"),),
            ),
            Panel(
                "Retention used, worst shard",
                "percentunit",
                (Query(worst("headrace_retention_used_ratio")),),
                about="At 100 % records are lost before they are read.",
                limits=((0.5, "red"),),
            ),
            Panel(
                "Since the last epoch",
                "s",
                (Query(age("headrace_epoch_end_timestamp_seconds")),),
            ),
            Panel(
                "Since the last commit",
                "s",
                (Query(age("headrace_last_commit_timestamp_seconds")),),
            ),
            Panel(
                "Markets",
                "short",
                (Query(worst("headrace_market_open")),),
                "states",
                words=OPEN_WORDS,
            ),
        ),
    )


def _flow() -> Row:
    return Row(
        "How much",
        (
            Panel("Records", "cps", (Query(per_second("headrace_records_total")),)),
            Panel("Payload", "Bps", (Query(per_second("headrace_payload_bytes_total")),)),
            Panel("Rows in Silver", "cps", (Query(per_second("headrace_silver_rows_total")),)),
        ),
    )


def _quality() -> Row:
    return Row(
        "How good",
        (
            Panel("Rejects", "cps", (Query(per_second("headrace_rejected_total")),)),
            Panel(
                "Gaps in the last hour",
                "short",
                (Query("sum by (feed) (increase(headrace_gaps_total[1h]))"),),
                about="Each is a run of records that is lost here.",
                limits=((1, "red"),),
            ),
            Panel("Duplicates", "cps", (Query(per_second("headrace_duplicates_total")),)),
        ),
    )


def _cost() -> Row:
    return Row(
        "What it takes",
        (
            Panel(
                "Cost of a million records",
                "currencyUSD",
                (Query(usd_per_million()),),
                about="List prices, over the last hour.",
            ),
            Panel(
                "Processor",
                "percentunit",
                (Query(per_second("process_cpu_seconds_total", DATAFLOWS)),),
                about="100 % is one core.",
            ),
            Panel(
                "Memory",
                "bytes",
                (Query(worst("process_resident_memory_bytes", DATAFLOWS)),),
            ),
        ),
    )


def _meanings() -> Row:
    """What each alert means, and its runbook."""
    lines = ["| | alert | means |", "|---|---|---|"]
    lines += [
        f"| {alert.priority.upper()} | [{alert.name}](${{runbooks}}/{alert.name}.md) "
        f"| {alert.means} |"
        for alert in sorted(ALERTS, key=lambda alert: (alert.priority, alert.name))
    ]
    return Row(
        "Alerts and runbooks",
        (
            Panel(
                "Alerts",
                "",
                kind="text",
                about="Generated from stream/alerts/rules.py.",
                text="\n".join(lines),
                width=24,
                height=14,
            ),
        ),
    )
