"""One dataflow's metrics: what its commits did and what its pulse says, put into the instruments.

Counters of records advance at commits, so they never count what a crash takes back. Everything
that describes the present (lag, frontiers, epochs, cost) is read from the pulse when someone asks:
it is written by a thread of its own, so it tells the truth about a dataflow that hangs.
Not here: the catalogue and the exporters (`telemetry`), what writes the pulse (`live`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.cluster import ALONE, Cluster
from stream.feeds import load_feed
from stream.feeds.contract import REASONS
from stream.flow import Tally
from stream.heartbeat import Pulse, read_part, read_pulse
from stream.lake.entries import Entry, SliceRecord
from stream.observe.cost import CostMeter, Prices
from stream.sessions import market_state
from stream.telemetry import Instruments
from stream.telemetry.catalogue import COST_PARTS, GAP_REASONS, WRITTEN_STAGES

COUNTED = {
    "headrace_records_total": "records",
    "headrace_messages_total": "messages",
    "headrace_payload_bytes_total": "payload_bytes",
    "headrace_slices_total": "slices",
    "headrace_silver_rows_total": "silver_rows",
    "headrace_duplicates_total": "duplicates",
    "headrace_commits_total": "commits",
    "headrace_commit_conflicts_total": "conflicts",
}
COUNTED_BY = {
    "headrace_rejected_total": ("rejected", "reason"),
    "headrace_gaps_total": ("gaps", "reason"),
    "headrace_bytes_written_total": ("bytes_written", "stage"),
}
SHARD_GAUGES = (
    "headrace_shard_behind_seconds",
    "headrace_shard_read_timestamp_seconds",
    "headrace_shard_backlog_records",
    "headrace_retention_used_ratio",
)
STALE_PULSE_SECONDS = 15.0


@dataclass(slots=True)
class _Seen:
    """What the instruments include already."""

    tally: Tally = field(default_factory=Tally)
    retries: int = 0
    cost: Mapping[str, float] = field(default_factory=dict)


class FeedMetrics:
    """Keeps one feed's instruments up to date. Updates from any thread.

    Process 0 of a cluster on one machine speaks for all of it, but for the latency of slices until
    Bronze, which it knows of its own. Across hosts each speaks for its own shards, and no one but
    process 0 of commits.
    """

    def __init__(
        self,
        feed: str,
        home: Path,
        stall_seconds: float,
        clock: Clock = SYSTEM_CLOCK,
        prices: Prices | None = None,
        *,
        cluster: Cluster = ALONE,
    ) -> None:
        """`stall_seconds`: without the end of an epoch, then the dataflow is not healthy."""
        self.instruments = Instruments()
        self._feed, self._home, self._clock = feed, home, clock
        self._contract = load_feed(feed)
        self._limit_seconds, self._cluster = stall_seconds, cluster
        self._meter = CostMeter(prices or Prices(0, 0, 0, 0))
        self._lock = threading.Lock()
        self._seen = _Seen()
        self._latency = {
            stage: self.instruments.histogram(
                "headrace_slice_latency_seconds", feed=feed, stage=stage
            )
            for stage in ("bronze", "silver")
        }
        self._commit_seconds = self.instruments.histogram("headrace_commit_seconds", feed=feed)
        self._begin()

    def on_durable(self, record: SliceRecord, at_ns: int) -> None:
        """A slice is durable in Bronze."""
        if record.rows:
            self._latency["bronze"].observe(_latency(record, at_ns))

    def on_entry(self, entry: Entry, seconds: float, at_ns: int) -> None:
        """A commit landed; it took `seconds`."""
        self._commit_seconds.observe(seconds)
        for record in entry.slices:
            if record.rows:
                self._latency["silver"].observe(_latency(record, at_ns))

    def on_commit(self, tally: Tally) -> None:
        """Count what was committed since the last call."""
        with self._lock:
            self._count(tally)

    def refresh(self) -> Pulse | None:
        """Bring everything up to date with the pulse; the pulse, None if there is none."""
        self._set("headrace_market_open", self._is_market_open())
        pulse = self._read_pulse()
        if pulse is None:
            return None
        with self._lock:
            self._read_process(pulse)
            self._read_shards(pulse)
        return pulse

    def is_healthy(self) -> bool:
        """Whether the dataflow still ends epochs; refreshes everything on the way."""
        pulse = self.refresh()
        if pulse is None or pulse.age_seconds(self._clock) > STALE_PULSE_SECONDS:
            return False
        return pulse.epoch_age_seconds < self._limit_seconds

    def _read_pulse(self) -> Pulse | None:
        if self._cluster.is_committer:
            return read_pulse(self._home, self._feed)
        return read_part(self._home, self._feed, self._cluster.index)

    def _begin(self) -> None:
        """Zero is a value: a series that appears with its first reject shows no increase."""
        feed, volume = self._feed, self._contract.volume
        for name in COUNTED:
            self.instruments.counter(name, feed=feed)
        for reason in REASONS:
            self.instruments.counter("headrace_rejected_total", feed=feed, reason=reason)
        for reason in GAP_REASONS:
            self.instruments.counter("headrace_gaps_total", feed=feed, reason=reason)
        for stage in WRITTEN_STAGES:
            self.instruments.counter("headrace_bytes_written_total", feed=feed, stage=stage)
        for part in COST_PARTS:
            self.instruments.counter("headrace_cost_usd_total", feed=feed, part=part)
        self.instruments.counter("headrace_store_retries_total", feed=feed)
        self._set("headrace_freshness_target_seconds", self._contract.freshness_seconds)
        self._set("headrace_min_messages_per_minute", volume.min_per_minute)
        self._set("headrace_max_messages_per_minute", volume.max_per_minute)
        started = now_ms(self._clock) / 1000
        names = ("start", "epoch_end", *(("last_commit",) if self._cluster.is_committer else ()))
        for name in names:
            self._set(f"headrace_{name}_timestamp_seconds", started)

    def _count(self, tally: Tally) -> None:
        before = self._seen.tally
        for name, attribute in COUNTED.items():
            growth = getattr(tally, attribute) - getattr(before, attribute)
            self.instruments.counter(name, feed=self._feed).inc(growth)
        for name, (attribute, label) in COUNTED_BY.items():
            known = getattr(before, attribute)
            for value, count in getattr(tally, attribute).items():
                if growth := count - known.get(value, 0):
                    counter = self.instruments.counter(name, feed=self._feed, **{label: value})
                    counter.inc(growth)
        if tally.newest_event_ms:
            watermark = tally.newest_event_ms / 1000
            self._set("headrace_event_watermark_timestamp_seconds", watermark)
        if tally.newest_commit_ms:
            self._set("headrace_last_commit_timestamp_seconds", tally.newest_commit_ms / 1000)
        self._seen.tally = replace(
            tally,
            rejected=dict(tally.rejected),
            gaps=dict(tally.gaps),
            bytes_written=dict(tally.bytes_written),
        )

    def _read_process(self, pulse: Pulse) -> None:
        ended = pulse.updated_ms / 1000 - pulse.epoch_age_seconds
        self._set("headrace_epoch_end_timestamp_seconds", ended)
        if pulse.started_ms is not None:
            self._set("headrace_start_timestamp_seconds", pulse.started_ms / 1000)
        for stage, at_ms in pulse.frontiers_ms.items():
            self.instruments.gauge(
                "headrace_committed_arrival_timestamp_seconds", feed=self._feed, stage=stage
            ).set(at_ms / 1000)
        for fact, count in pulse.table.items():
            self._set(f"headrace_{fact}", count)
        retries = self.instruments.counter("headrace_store_retries_total", feed=self._feed)
        retries.inc(max(0, pulse.retries - self._seen.retries))
        self._seen.retries = pulse.retries
        self._read_cost(pulse)

    def _read_cost(self, pulse: Pulse) -> None:
        cost = self._meter.read(
            pulse.updated_ms / 1000,
            shards=sum(shard.get("state") != "ended" for shard in pulse.shards),
            calls=pulse.requests,
            commits=int(pulse.tally.get("commits", 0)),
        )
        for part, usd in cost.items():
            counter = self.instruments.counter(
                "headrace_cost_usd_total", feed=self._feed, part=part
            )
            counter.inc(max(0.0, usd - self._seen.cost.get(part, 0.0)))
        self._seen.cost = cost

    def _read_shards(self, pulse: Pulse) -> None:
        shards = [s for s in pulse.shards if s.get("state") not in {"ended", "waiting"}]
        names = {shard["shard"]["shard"] for shard in shards}
        for name in SHARD_GAUGES:
            self.instruments.keep_only(name, "shard", names)
        for shard in shards:
            self._read_shard(shard["shard"]["shard"], shard, pulse.retention_ms)

    def _read_shard(
        self, name: str, status: Mapping[str, object], retention_ms: int | None
    ) -> None:
        behind, read, backlog = (
            status.get(key) for key in ("behind_ms", "read_ms", "backlog_records")
        )
        values = {
            "headrace_shard_behind_seconds": _scaled(behind, 1000),
            "headrace_shard_read_timestamp_seconds": _scaled(read, 1000),
            "headrace_shard_backlog_records": _scaled(backlog, 1),
            "headrace_retention_used_ratio": _scaled(behind, retention_ms),
        }
        for metric, value in values.items():
            if value is not None:
                self.instruments.gauge(metric, feed=self._feed, shard=name).set(value)

    def _is_market_open(self) -> bool:
        return market_state(self._contract.calendar, now_ms(self._clock)).is_open

    def _set(self, name: str, value: float) -> None:
        self.instruments.gauge(name, feed=self._feed).set(value)


def _latency(record: SliceRecord, at_ns: int) -> float:
    """From the last arrival on; arrivals are stamped by another clock, so never below zero."""
    return max(0.0, (at_ns - record.arrival_ns[1]) / 1e9)


def _scaled(value: object, unit: int | None) -> float | None:
    return value / unit if isinstance(value, int | float) and unit else None
