"""The catalogue of metrics: the one place that says which exist, what they mean, what to do.

Rules, alarms and dashboards may only name what stands here (tests compare), the instruments are
built from it, and `deploy/metrics.md` is generated from it. Base units are seconds and bytes.
Timestamps are exported, never ages: `time() - x` grows when a process hangs, an exported age would
freeze. Every series has the label `feed`; the other labels have few values (a shard, a stage, a
reason code), never a symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

STAGES = ("bronze", "silver", "bars")
"""Where records become durable, in the order of the road."""
WRITTEN_STAGES = ("bronze", "silver", "quarantine")
COST_PARTS = ("compute", "requests", "stream")
GAP_REASONS = ("retention", "shard_removed")
"""Records that aged out before they were read, and a shard that left the stream unread."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue. `action` is what a person does when it looks wrong.

    `buckets`: upper bounds of a histogram's buckets, in its unit.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    action: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, unit: str, meaning: str, action: str, *labels: str) -> Metric:
    return Metric(f"headrace_{name}_total", "counter", unit, ("feed", *labels), meaning, action)


def _gauge(name: str, unit: str, meaning: str, action: str, *labels: str) -> Metric:
    return Metric(f"headrace_{name}", "gauge", unit, ("feed", *labels), meaning, action)


_COUNTERS = (
    _counter(
        "messages",
        "messages",
        "Messages committed: decoded, ignored and rejected",
        "Several per record when producers pack them; compare with what producers report.",
    ),
    _counter(
        "records",
        "records",
        "Kinesis records committed",
        "Flat while producers publish: look at headrace_shard_behind_seconds and the log.",
    ),
    _counter(
        "payload_bytes",
        "bytes",
        "Payload committed",
        "Compare with the stream's IncomingBytes.",
    ),
    _counter(
        "slices",
        "slices",
        "Slices committed",
        "Many with few records each: raise HEADRACE_WINDOW_MS, each slice costs requests.",
    ),
    _counter(
        "silver_rows",
        "rows",
        "Rows committed to Silver",
        "Outside the contract's volume bounds: look at the producer first.",
    ),
    _counter(
        "duplicates",
        "rows",
        "Rows dropped as duplicates",
        "A jump is normal after a producer's restart; a lasting one is a producer that repeats.",
    ),
    _counter(
        "rejected",
        "messages",
        "Messages put into quarantine, by reason code",
        'headrace query "SELECT * FROM quarantine", fix the decoder, headrace redrive.',
        "reason",
    ),
    _counter(
        "gaps",
        "gaps",
        "Runs of records that were lost before they were read (retention, shard_removed)",
        'headrace query "SELECT * FROM gaps" names them; ask the venue for the records.',
        "reason",
    ),
    _counter(
        "commits",
        "commits",
        "Commits of this process",
        "None for several epochs: the dataflow stalls; /healthz fails as well.",
    ),
    _counter(
        "commit_conflicts",
        "commits",
        "Commits that lost to another writer and were planned anew",
        "Some are normal (maintenance, replay). Steady: two dataflows of one feed; stop one.",
    ),
    _counter(
        "bytes_written",
        "bytes",
        "Bytes of durable objects, compressed as they lie there",
        "Compare with headrace_payload_bytes_total; a jump of quarantine means rejects.",
        "stage",
    ),
    _counter(
        "store_retries",
        "calls",
        "Calls to the stream, store or catalog that failed for a passing reason and were repeated "
        "(not those that the S3 client repeats inside itself)",
        "Throttling: another reader shares the shard, or too many small requests. See the log.",
    ),
    _counter(
        "cost_usd",
        "USD",
        "List price of what this process used: its task's time, its requests, its stream's shards",
        "Divide by headrace_records_total; prices are settings. High: too many shards, "
        "or slices so small that requests cost more than data.",
        "part",
    ),
)

_GAUGES = (
    _gauge(
        "shard_behind_seconds",
        "seconds",
        "Distance of the reader from the tip of its shard, as the service last said "
        "(MillisBehindLatest); 0 is the tip",
        "Growing on one shard: a hot key, split it. On all: too little CPU, a larger task.",
        "shard",
    ),
    _gauge(
        "shard_read_timestamp_seconds",
        "seconds since 1970",
        "When the shard was last read with an answer",
        "Old while the process lives: the service does not answer, or the byte credit is used up.",
        "shard",
    ),
    _gauge(
        "shard_backlog_records",
        "records",
        "Records between the reader and the tip: an estimate (distance times the rate of arrival "
        "of the last records), and what is read but not yet cut",
        "Divide by the rate of headrace_records_total: the time to catch up.",
        "shard",
    ),
    _gauge(
        "retention_used_ratio",
        "ratio",
        "Distance from the tip over the stream's retention; at 1 records are lost",
        "Above 0.5: raise the stream's retention first, then find out why the reader is slow.",
        "shard",
    ),
    _gauge(
        "committed_arrival_timestamp_seconds",
        "seconds since 1970",
        "What arrived up to then is durable in the stage (bronze, silver, bars): the slowest shard "
        "counts, an empty read at the tip advances it",
        "Old: compare the stages; bronze old too means reading or uploading, else committing.",
        "stage",
    ),
    _gauge(
        "event_watermark_timestamp_seconds",
        "seconds since 1970",
        "Newest event time in committed rows",
        "Old while arrivals are fresh: the venue or the producer is late, or its clock is wrong.",
    ),
    _gauge(
        "last_commit_timestamp_seconds",
        "seconds since 1970",
        "When this process last committed; its start before the first commit",
        "Old while records arrive: the dataflow stalls. Nothing to commit makes no commit.",
    ),
    _gauge(
        "epoch_end_timestamp_seconds",
        "seconds since 1970",
        "When an epoch last ended; also without records one ends every HEADRACE_EPOCH_SECONDS",
        "Old: the dataflow hangs; the watchdog ends it after five epochs (a minute at least).",
    ),
    _gauge(
        "freshness_target_seconds",
        "seconds",
        "The contract's target of freshness",
        "A constant to compare with; change it in the feed's contract.",
    ),
    _gauge(
        "min_messages_per_minute",
        "rows a minute",
        "The contract's lower bound of volume while the market is open; above 0 it is never silent",
        "A constant to compare with; change it in the feed's contract.",
    ),
    _gauge(
        "max_messages_per_minute",
        "rows a minute",
        "The contract's upper bound of volume",
        "A constant to compare with; change it in the feed's contract.",
    ),
    _gauge(
        "market_open",
        "1 or 0",
        "Whether the market of the feed's calendar is open now",
        "Wrong on a holiday: update exchange-calendars, or the contract's calendar.",
    ),
    _gauge(
        "snapshots",
        "snapshots",
        "Snapshots that the feed's table retains; a commit's cost grows with them",
        "Above 300: expiry does not run; headrace expire-snapshots.",
    ),
    _gauge(
        "small_files",
        "files",
        "Data files in the table's current snapshot that compaction would merge: small ones of "
        "days before today",
        "More than a day's worth: compaction does not run; headrace compact.",
    ),
    _gauge(
        "start_timestamp_seconds",
        "seconds since 1970",
        "When this process began to run the feed",
        "Changes often: it restarts in a loop; read the last lines of its log.",
    ),
)

_HISTOGRAMS = (
    Metric(
        "headrace_slice_latency_seconds",
        "histogram",
        "seconds",
        ("feed", "stage"),
        "From a slice's last arrival until it is durable in Bronze, until Silver shows it",
        "Bronze high: reading or uploading. Silver alone: HEADRACE_EPOCH_SECONDS, or slow commits.",
        (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 900, 3600, 14400),
    ),
    Metric(
        "headrace_commit_seconds",
        "histogram",
        "seconds",
        ("feed",),
        "Duration of one commit: ledger entry and Iceberg transaction, lost races included",
        "Grows with headrace_snapshots (expire) and with conflicts; else the catalog is slow.",
        (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
)

METRICS: tuple[Metric, ...] = (*_COUNTERS, *_GAUGES, *_HISTOGRAMS)
"""Ours. A new metric is a line here and an update where the thing happens."""

PROCESS_METRICS: tuple[Metric, ...] = (
    Metric(
        "process_cpu_seconds_total",
        "counter",
        "seconds",
        (),
        "CPU time of the process (prometheus_client's own)",
        "Near one core: one worker is full; fewer, larger records cost less.",
    ),
    Metric(
        "process_resident_memory_bytes",
        "gauge",
        "bytes",
        (),
        "Memory of the process (prometheus_client's own)",
        "Near the task's memory: lower HEADRACE_EPOCH_MAX_BYTES, or give it more.",
    ),
)
"""What the client library adds about the process, as far as rules and dashboards use it."""

CATALOGUE: tuple[Metric, ...] = (*METRICS, *PROCESS_METRICS)

_BY_NAME = {metric.name: metric for metric in CATALOGUE}


def find_metric(series: str) -> Metric | None:
    """The metric that a series' name belongs to; a histogram's have the usual suffixes.

    >>> find_metric("headrace_commit_seconds_bucket").name
    'headrace_commit_seconds'
    >>> find_metric("headrace_records") is None
    True
    """
    if series in _BY_NAME:
        return _BY_NAME[series]
    for suffix in ("_bucket", "_sum", "_count"):
        metric = _BY_NAME.get(series.removesuffix(suffix)) if series.endswith(suffix) else None
        if metric is not None and metric.kind == "histogram":
            return metric
    return None
