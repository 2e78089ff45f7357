"""The page of one feed, chosen by the variable `feed`: shards, stages, commits, quality, cost."""

from __future__ import annotations

from stream.dashboards.expressions import (
    THIS_DATAFLOW,
    THIS_FEED,
    WINDOW,
    age,
    freshness_share,
    per_second,
    quantile,
    usd_per_million,
    worst,
)
from stream.dashboards.overview import FEED_UID, OPEN_WORDS
from stream.dashboards.panel import Page, Panel, Query, Row

BY_SHARD, BY_STAGE, BY_REASON = "{{shard}}", "{{stage}}", "{{reason}}"
INSTANCE = "{{instance}}"
IN_SILVER = '{feed="$feed", stage="silver"}'


def one_feed() -> Page:
    """The page, from the catalogue and the alerts as they are."""
    rows = (_now(), _shards(), _stages(), _flow(), _commits(), _quality(), _table(), _cost())
    return Page(
        FEED_UID,
        "headrace: one feed",
        "Everything that one feed's dataflow says of itself.",
        rows,
        is_per_feed=True,
    )


def _number(title: str, unit: str, expression: str, *limits: tuple[float, str]) -> Panel:
    return Panel(title, unit, (Query(expression),), "number", limits=limits, width=4, height=4)


def _now() -> Row:
    return Row(
        "Now",
        (
            _number("Behind the tip", "s", worst("headrace_shard_behind_seconds", THIS_FEED)),
            _number("Age / target", "percentunit", freshness_share(THIS_FEED), (1, "red")),
            _number("Records a second", "cps", per_second("headrace_records_total", THIS_FEED)),
            _number(
                "Retention used",
                "percentunit",
                worst("headrace_retention_used_ratio", THIS_FEED),
                (0.5, "red"),
            ),
            _number("Cost of a million records", "currencyUSD", usd_per_million(THIS_FEED)),
            _number("Running for", "s", age("headrace_start_timestamp_seconds", THIS_FEED)),
            Panel(
                "Market",
                "short",
                (Query(worst("headrace_market_open", THIS_FEED)),),
                "states",
                words=OPEN_WORDS,
                width=12,
                height=5,
            ),
            Panel(
                "Alerts",
                "short",
                (Query('ALERTS{feed="$feed"}', "{{alertname}} {{alertstate}}"),),
                "states",
                words=(("1", "on", "red"),),
                width=12,
                height=5,
            ),
        ),
    )


def _shards() -> Row:
    return Row(
        "Shards",
        (
            Panel(
                "Behind the tip",
                "s",
                (Query(worst("headrace_shard_behind_seconds", THIS_FEED, "shard"), BY_SHARD),),
            ),
            Panel(
                "Waiting records, estimated",
                "short",
                (Query(worst("headrace_shard_backlog_records", THIS_FEED, "shard"), BY_SHARD),),
            ),
            Panel(
                "Since the last answer",
                "s",
                (
                    Query(
                        age("headrace_shard_read_timestamp_seconds", THIS_FEED, "shard"), BY_SHARD
                    ),
                ),
            ),
        ),
    )


def _stages() -> Row:
    buckets = f"sum by (le) (increase(headrace_slice_latency_seconds_bucket{IN_SILVER}[{WINDOW}]))"
    return Row(
        "From arrival to the table",
        (
            Panel(
                "Age of what is durable",
                "s",
                (
                    Query(
                        age("headrace_committed_arrival_timestamp_seconds", THIS_FEED, "stage"),
                        BY_STAGE,
                    ),
                    Query(worst("headrace_freshness_target_seconds", THIS_FEED), "target"),
                ),
            ),
            Panel(
                "Latency of slices: half, and all but one of a hundred",
                "s",
                tuple(
                    Query(
                        quantile(share, "headrace_slice_latency_seconds", THIS_FEED, "stage"),
                        f"{BY_STAGE} p{share * 100:.0f}",
                    )
                    for share in (0.5, 0.99)
                ),
            ),
            Panel(
                "Latency of slices until Silver",
                "s",
                (Query(buckets, "{{le}}"),),
                "heat",
                about="How many slices took how long.",
            ),
            Panel(
                "Delay of the newest event",
                "s",
                (Query(age("headrace_event_watermark_timestamp_seconds", THIS_FEED)),),
            ),
        ),
    )


def _flow() -> Row:
    bounds = (
        Query(worst("headrace_min_messages_per_minute", THIS_FEED), "least"),
        Query(worst("headrace_max_messages_per_minute", THIS_FEED), "most"),
    )
    messages = f"60 * {per_second('headrace_messages_total', THIS_FEED)}"
    return Row(
        "How much",
        (
            Panel(
                "Messages a minute, within the contract's bounds",
                "short",
                (Query(messages, "messages"), *bounds),
            ),
            Panel(
                "Records, slices and rows",
                "cps",
                tuple(
                    Query(per_second(f"headrace_{what}_total", THIS_FEED), what)
                    for what in ("records", "slices", "silver_rows")
                ),
            ),
            Panel(
                "Payload, and bytes written",
                "Bps",
                (
                    Query(per_second("headrace_payload_bytes_total", THIS_FEED), "payload"),
                    Query(per_second("headrace_bytes_written_total", THIS_FEED, "stage"), BY_STAGE),
                ),
            ),
        ),
    )


def _commits() -> Row:
    return Row(
        "Commits",
        (
            Panel(
                "Commits, and those that lost a race",
                "cps",
                (
                    Query(per_second("headrace_commits_total", THIS_FEED), "commits"),
                    Query(per_second("headrace_commit_conflicts_total", THIS_FEED), "conflicts"),
                ),
            ),
            Panel(
                "Duration of a commit",
                "s",
                tuple(
                    Query(
                        quantile(share, "headrace_commit_seconds", THIS_FEED),
                        f"p{share * 100:.0f}",
                    )
                    for share in (0.5, 0.99)
                ),
            ),
            Panel(
                "Since the last commit, since the last epoch",
                "s",
                (
                    Query(age("headrace_last_commit_timestamp_seconds", THIS_FEED), "commit"),
                    Query(age("headrace_epoch_end_timestamp_seconds", THIS_FEED), "epoch"),
                ),
            ),
        ),
    )


def _quality() -> Row:
    return Row(
        "Quality",
        (
            Panel(
                "Rejects by reason",
                "cps",
                (Query(per_second("headrace_rejected_total", THIS_FEED, "reason"), BY_REASON),),
                is_stacked=True,
            ),
            Panel(
                "Gaps by reason, an hour",
                "short",
                (
                    Query(
                        f"sum by (reason) (increase(headrace_gaps_total{THIS_FEED}[1h]))", BY_REASON
                    ),
                ),
                limits=((1, "red"),),
            ),
            Panel(
                "Duplicates, repeated calls",
                "cps",
                (
                    Query(per_second("headrace_duplicates_total", THIS_FEED), "duplicates"),
                    Query(per_second("headrace_store_retries_total", THIS_FEED), "calls again"),
                ),
            ),
        ),
    )


def _table() -> Row:
    return Row(
        "The table",
        (
            Panel(
                "Snapshots kept",
                "short",
                (Query(worst("headrace_snapshots", THIS_FEED)),),
                limits=((300, "yellow"),),
                width=12,
            ),
            Panel(
                "Small files",
                "short",
                (Query(worst("headrace_small_files", THIS_FEED)),),
                width=12,
            ),
        ),
    )


def _cost() -> Row:
    cost = f"sum by (part) (rate(headrace_cost_usd_total{THIS_FEED}[{WINDOW}])) * 3600"
    return Row(
        "What it takes",
        (
            Panel("Cost of an hour", "currencyUSD", (Query(cost, "{{part}}"),), is_stacked=True),
            Panel(
                "Processor",
                "percentunit",
                (
                    Query(
                        per_second("process_cpu_seconds_total", THIS_DATAFLOW, "instance"), INSTANCE
                    ),
                ),
                about="100 % is one core.",
            ),
            Panel(
                "Memory",
                "bytes",
                (
                    Query(
                        worst("process_resident_memory_bytes", THIS_DATAFLOW, "instance"), INSTANCE
                    ),
                ),
            ),
        ),
    )
