"""Every alert as a value, its threshold with the reason for it.

Lag is aware of the calendar by construction: an empty read at the tip advances what counts as
committed, so a closed market is not late; only `silent-market` asks whether it should be open. Ages
come from exported timestamps: `time() - x` grows when the process hangs. Where the target is about
as short as a scrape interval, `timestamp(x) - x` leaves the wait for the scrape out.

Thresholds follow the contract of the feed (`headrace_freshness_target_seconds` and the bounds of
its volume are metrics), so a feed that is added is watched without a line here. Counters may start
anew at any time: only `increase` and `rate` look at them.
"""

from __future__ import annotations

from stream.alerts.alert import Alert, CloudWatch, Series

_ARRIVAL = "headrace_committed_arrival_timestamp_seconds"
_TARGET = Series("target", "headrace_freshness_target_seconds", "Maximum")
_BEHIND = Series("behind", "headrace_shard_behind_seconds", "Maximum")
_MESSAGES = Series("messages", "headrace_messages_total", "Sum")
_LATE = ("shard-lagging", "stale-silver", "late-silver", "silent-market", "event-delay")
"""What follows when records are not read or not committed."""

PAGES = (
    Alert(
        "dataflow-away",
        "p1",
        'up{job="dataflow"} == 0',
        60,
        "{{ $labels.feed }}: the dataflow at {{ $labels.instance }} does not answer",
        "No dataflow runs, or it does not answer. Nothing is lost yet: the stream keeps records "
        "for its retention, and a restart continues at the committed position.",
        CloudWatch(
            (Series("ends", "headrace_epoch_end_timestamp_seconds", "SampleCount"),),
            1,
            is_floor=True,
            of=3,
            at_least=3,
            missing="breaching",
        ),
        silences=("stalled", "shard-unread", "restarts", *_LATE),
    ),
    Alert(
        "stalled",
        "p1",
        "time() - (headrace_epoch_end_timestamp_seconds or headrace_start_timestamp_seconds) > 180",
        60,
        "{{ $labels.feed }}: no epoch has ended for {{ $value | humanizeDuration }}",
        "The process lives but commits nothing. Its watchdog should have ended it after five "
        "epochs (a minute at least). Nothing is lost while the stream keeps the records. With "
        "HEADRACE_EPOCH_SECONDS above 36 the threshold must be five epochs, too.",
        CloudWatch(
            (Series("ends", "headrace_epoch_end_timestamp_seconds", "Maximum"),),
            180,
            "EPOCH(ends) + PERIOD(ends) - ends",
            of=2,
            at_least=2,
        ),
        silences=("shard-unread", "commit-slow", *_LATE),
    ),
    Alert(
        "shard-unread",
        "p1",
        "time() - headrace_shard_read_timestamp_seconds > 120",
        60,
        "{{ $labels.feed }} {{ $labels.shard }}: no answer for {{ $value | humanizeDuration }}",
        "A shard has not been read although its dataflow runs, so its lag is not known either. "
        "Nothing is lost while the stream keeps the records.",
        CloudWatch(
            (Series("reads", "headrace_shard_read_timestamp_seconds", "Minimum"),),
            120,
            "EPOCH(reads) + PERIOD(reads) - reads",
            of=2,
            at_least=2,
        ),
        silences=_LATE,
    ),
    Alert(
        "shard-lagging",
        "p1",
        # Eight targets: two minutes for trades. A shard that catches up needs nobody.
        "headrace_shard_behind_seconds > ignoring (shard) group_left 8 * "
        "headrace_freshness_target_seconds\n"
        "  unless deriv(headrace_shard_behind_seconds[5m]) < -0.2",
        300,
        "{{ $labels.feed }} {{ $labels.shard }}: {{ $value | humanizeDuration }} behind and not "
        "catching up",
        "More arrives than is processed. Queries miss the newest records; nothing is lost until "
        "the lag reaches the stream's retention.",
        CloudWatch(
            (_BEHIND, _TARGET),
            0,
            "IF(DIFF(behind) < -0.2 * PERIOD(behind), 0, behind - 8 * target)",
            of=10,
            at_least=10,
        ),
        silences=("stale-silver", "late-silver", "silent-market", "event-delay"),
    ),
    Alert(
        "data-loss-horizon",
        "p1",
        "headrace_retention_used_ratio > 0.5",
        60,
        "{{ $labels.feed }} {{ $labels.shard }}: {{ $value | humanizePercentage }} of the "
        "retention is used",
        "Half of the time is gone after which the stream deletes records that nobody has read. "
        "Nothing is lost yet; it will be when the other half is gone.",
        CloudWatch(
            (Series("used", "headrace_retention_used_ratio", "Maximum"),), 0.5, of=2, at_least=2
        ),
    ),
    Alert(
        "gap",
        "p1",
        # Six hours, so that a night does not resolve it. A counter that a young process brings
        # along has no increase to see: it found the gap at its start, before the first scrape.
        "increase(headrace_gaps_total[6h]) > 0\n"
        "  or headrace_gaps_total > 0 and ignoring (reason) "
        "time() - headrace_start_timestamp_seconds < 21600",
        0,
        "{{ $labels.feed }}: records were lost before they were read ({{ $labels.reason }})",
        "Data is lost from the stream: records aged out, or a shard was removed, before they were "
        "read. The ledger names the shard and both ends; only the venue can still have them.",
        CloudWatch((Series("gaps", "headrace_gaps_total", "Sum"),), 0, of=1, at_least=1),
    ),
    Alert(
        "stale-silver",
        "p1",
        # Four targets: a minute for trades, so that one slow commit pages nobody. What moves on
        # faster than time catches up and needs nobody.
        f'timestamp({_ARRIVAL}{{stage="silver"}}) - {_ARRIVAL}{{stage="silver"}}\n'
        "  > ignoring (stage) 4 * headrace_freshness_target_seconds\n"
        f'  unless ignoring (stage) deriv({_ARRIVAL}{{stage="silver"}}[5m]) > 1.2',
        300,
        "{{ $labels.feed }}: what arrived in the last {{ $value | humanizeDuration }} is not in "
        "Silver",
        "Records arrive and do not become visible: reading, uploading or committing fails or is "
        "too slow. Nothing is lost while the stream keeps the records.",
        CloudWatch(
            (Series("arrival", _ARRIVAL, "Maximum", {"stage": "silver"}), _TARGET),
            0,
            "IF(DIFF(arrival) > 1.2 * PERIOD(arrival), 0, "
            "EPOCH(arrival) + PERIOD(arrival) - arrival - 4 * target)",
        ),
        silences=("late-silver", "silent-market", "event-delay"),
    ),
)
"""P1: somebody has to get up."""

QUALITY = (
    Alert(
        "silent-market",
        "p2",
        # The floor of the contract, counted over ten minutes in which the market was always open.
        # A process younger than that has not counted long enough.
        "sum by (feed) (increase(headrace_messages_total[10m]))\n"
        "  < 10 * max by (feed) (headrace_min_messages_per_minute)\n"
        "  and max by (feed) (min_over_time(headrace_market_open[10m])) == 1\n"
        "  and time() - max by (feed) (headrace_start_timestamp_seconds) > 600",
        300,
        "{{ $labels.feed }}: {{ $value | humanize }} messages in ten minutes of an open market",
        "The market is open and less arrives than the contract's least: the producer, the network "
        "or the venue. What was not published is not in the stream and cannot be replayed.",
        CloudWatch(
            (
                _MESSAGES,
                Series("least", "headrace_min_messages_per_minute", "Maximum"),
                Series("open", "headrace_market_open", "Minimum"),
            ),
            0,
            "IF(open == 1, 5 * least - messages, 0)",
            period_seconds=300,
            of=3,
            at_least=3,
        ),
        silences=("event-delay",),
    ),
    Alert(
        "late-silver",
        "p2",
        # 15 s, the target of trades, is a bound of the buckets: nothing is interpolated there.
        "histogram_quantile(0.95, sum by (feed, le) "
        '(rate(headrace_slice_latency_seconds_bucket{stage="silver"}[10m])))\n'
        "  > max by (feed) (headrace_freshness_target_seconds)",
        600,
        "{{ $labels.feed }}: 5 % of the slices take {{ $value | humanizeDuration }} or more to "
        "Silver",
        "The freshness that the contract promises is missed for a twentieth of the slices. Nothing "
        "is lost; readers see it late.",
        CloudWatch(
            (
                Series("latency", "headrace_slice_latency_seconds", "p95", {"stage": "silver"}),
                _TARGET,
            ),
            0,
            "latency - target",
            of=10,
            at_least=10,
        ),
    ),
    Alert(
        "rejects",
        "p2",
        # One in a hundred, and more than ten: a single bad message of a quiet feed wakes nobody.
        "sum by (feed) (increase(headrace_rejected_total[15m]))\n"
        "  > 0.01 * sum by (feed) (increase(headrace_messages_total[15m]))\n"
        "  and sum by (feed) (increase(headrace_rejected_total[15m])) > 10",
        60,
        "{{ $labels.feed }}: {{ $value | humanize }} messages rejected in 15 minutes, over 1 %",
        "More than one message of a hundred breaks the contract. Nothing is lost: they are in "
        "quarantine with their bytes and land once after a decoder fix. Until then Silver lacks "
        "them.",
        CloudWatch(
            (Series("rejected", "headrace_rejected_total", "Sum"), _MESSAGES),
            0,
            "IF(rejected > 10, rejected - 0.01 * messages, 0)",
            period_seconds=900,
            of=1,
            at_least=1,
        ),
    ),
    Alert(
        "restarts",
        "p2",
        "changes(headrace_start_timestamp_seconds[15m]) > 3",
        0,
        "{{ $labels.feed }}: the dataflow started anew {{ $value }} times in 15 minutes",
        "The dataflow ends and is started again in a loop. Nothing is lost and nothing is doubled; "
        "what is committed between two ends stays. If it makes no headway, it pages by its lag.",
        CloudWatch(
            (Series("starts", "headrace_start_timestamp_seconds", "Maximum"),),
            0,
            "IF(DIFF(starts) > 0, 1, 0)",
            of=15,
            at_least=4,
        ),
    ),
)
"""P2: what arrives, or what readers get, is worse than promised."""

COST = (
    Alert(
        "cost-high",
        "p3",
        # The same hour a week ago follows the week of markets; yesterday's, until there is one.
        "sum by (feed) (increase(headrace_cost_usd_total[1h])) > 2 * (\n"
        "    sum by (feed) (increase(headrace_cost_usd_total[1h] offset 7d))\n"
        "    or sum by (feed) (increase(headrace_cost_usd_total[1h] offset 1d))\n"
        "  )\n"
        "  and sum by (feed) (increase(headrace_cost_usd_total[1h])) > 0.05",
        900,
        '{{ $labels.feed }}: {{ printf "%.2f" $value }} USD in the last hour, over twice the usual',
        "The feed costs more than twice what it cost in this hour a week ago (or a day, in the "
        "first week), at list prices. No data is concerned.",
        not_in_cloudwatch="AWS Budgets and Cost Anomaly Detection watch the real bill (infra).",
    ),
    Alert(
        "volume-flood",
        "p3",
        "60 * sum by (feed) (rate(headrace_messages_total[10m]))\n"
        "  > max by (feed) (headrace_max_messages_per_minute)",
        600,
        "{{ $labels.feed }}: {{ $value | humanize }} messages a minute, above the contract's bound",
        "More arrives than the contract expects: a producer repeats, a venue has a new channel, or "
        "a market is wild. Nothing is lost; requests, storage and shards cost money.",
        CloudWatch(
            (_MESSAGES, Series("most", "headrace_max_messages_per_minute", "Maximum")),
            0,
            "messages - most",
            of=15,
            at_least=15,
        ),
    ),
)
"""P3: somebody should look at the bill."""

PERFORMANCE = (
    Alert(
        "event-delay",
        "p4",
        # Only while rows arrive: a closed or silent market has no newer event.
        "timestamp(headrace_event_watermark_timestamp_seconds)"
        " - headrace_event_watermark_timestamp_seconds\n"
        "  > 20 * headrace_freshness_target_seconds\n"
        "  and on (feed) sum by (feed) (increase(headrace_silver_rows_total[5m])) > 0",
        600,
        "{{ $labels.feed }}: rows arrive, the newest event is {{ $value | humanizeDuration }} old",
        "Rows arrive, but none with a recent event time: the venue or the producer is late, or a "
        "clock is wrong. Nothing is lost; bars of the last minutes are incomplete.",
        CloudWatch(
            (
                Series("event", "headrace_event_watermark_timestamp_seconds", "Maximum"),
                Series("rows", "headrace_silver_rows_total", "Sum"),
                _TARGET,
            ),
            0,
            "IF(rows > 0, EPOCH(event) + PERIOD(event) - event - 20 * target, 0)",
            of=10,
            at_least=10,
        ),
    ),
    Alert(
        "duplicates-high",
        "p4",
        "sum by (feed) (increase(headrace_duplicates_total[1h]))\n"
        "  > 0.2 * sum by (feed) (increase(headrace_messages_total[1h]))\n"
        "  and sum by (feed) (increase(headrace_duplicates_total[1h])) > 100",
        900,
        "{{ $labels.feed }}: {{ $value | humanize }} duplicates in an hour, over 20 %",
        "A fifth of what arrives was there before: two producers of one venue, or one that "
        "repeats. Each row is in Silver once; the stream is paid for twice.",
        CloudWatch(
            (Series("duplicates", "headrace_duplicates_total", "Sum"), _MESSAGES),
            0,
            "IF(duplicates > 100, duplicates - 0.2 * messages, 0)",
            period_seconds=3600,
            of=1,
            at_least=1,
        ),
    ),
    Alert(
        "commit-conflicts",
        "p4",
        "increase(headrace_commit_conflicts_total[15m]) > 10",
        900,
        "{{ $labels.feed }}: {{ $value | humanize }} commits lost their race in 15 minutes",
        "Another writer commits to the same table all the time: usually a second dataflow of the "
        "feed. Nothing is lost or doubled; each lost race costs a commit's time.",
        CloudWatch(
            (Series("conflicts", "headrace_commit_conflicts_total", "Sum"),),
            10,
            period_seconds=900,
            of=2,
            at_least=2,
        ),
    ),
    Alert(
        "commit-slow",
        "p4",
        # Half of the commit interval: beyond the whole of it, commits set the pace.
        "histogram_quantile(0.95, sum by (feed, le) "
        "(rate(headrace_commit_seconds_bucket[15m]))) > 5",
        900,
        "{{ $labels.feed }}: 5 % of the commits take {{ $value | humanizeDuration }} or more",
        "Commits take half of the interval between them. Nothing is lost; freshness suffers next.",
        CloudWatch((Series("commit", "headrace_commit_seconds", "p95"),), 5, of=15, at_least=15),
    ),
    Alert(
        "small-files",
        "p4",
        # Compaction runs every night: a number that has not fallen for 36 h says that it does not.
        "headrace_small_files > 1000\n"
        "  and resets(headrace_small_files[36h]) == 0\n"
        "  and headrace_small_files offset 36h > 0",
        3600,
        "{{ $labels.feed }}: {{ $value | humanize }} small files, not compacted for 36 hours",
        "Compaction does not run or cannot publish. Nothing is wrong with the data; each query "
        "opens more files than it should.",
        not_in_cloudwatch="Whether a number fell in 36 hours cannot be said; see the dashboard.",
    ),
    Alert(
        "snapshots-many",
        "p4",
        # Expiry leaves 540 at most with a commit every ten seconds, 1,080 if it keeps two hours.
        "headrace_snapshots > 1500",
        3600,
        "{{ $labels.feed }}: {{ $value | humanize }} snapshots are retained",
        "Expiry does not run. Nothing is wrong with the data; each commit takes up to 0.02 ms "
        "longer per snapshot, and deleted rows stay in storage.",
        CloudWatch(
            (Series("snapshots", "headrace_snapshots", "Maximum"),),
            1500,
            period_seconds=300,
            of=12,
            at_least=12,
        ),
    ),
    Alert(
        "memory-high",
        "p4",
        # Four fifths of the gigabyte that docker-compose.yml gives a dataflow.
        'process_resident_memory_bytes{job="dataflow"} > 0.8 * 1024 ^ 3',
        900,
        "{{ $labels.feed }}: the dataflow holds {{ $value | humanize1024 }}B of memory",
        "The dataflow comes near the memory that its container has; beyond it the kernel ends it. "
        "Nothing would be lost: a restart continues at the committed position.",
        not_in_cloudwatch="ECS publishes MemoryUtilization of the service; see the dashboard.",
    ),
)
"""P4: it still works, and less well than it could."""

ALERTS: tuple[Alert, ...] = (*PAGES, *QUALITY, *COST, *PERFORMANCE)
"""Every alert. A new one is a value here, its tests and its runbook: tests name what is missing."""
