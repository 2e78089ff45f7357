"""One dataflow's metrics: its tally and its pulse, put into the catalogue's instruments.

Counters advance at commits, so they never count what a crash takes back. Gauges are read from the
pulse when someone scrapes. Not here: the catalogue and the server (`telemetry`), who serves when
(`cli.run`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.flow import Tally
from stream.heartbeat import read_pulse
from stream.settings import Settings
from stream.telemetry import Instruments, MetricsServer, serve_metrics

COUNTED = {
    "headrace_records_total": "records",
    "headrace_messages_total": "messages",
    "headrace_payload_bytes_total": "payload_bytes",
    "headrace_silver_rows_total": "silver_rows",
    "headrace_duplicates_total": "duplicates",
    "headrace_commits_total": "commits",
}
STALE_PULSE_SECONDS = 15.0
STALLED_EPOCHS = 5


class FeedMetrics:
    """Keeps one feed's instruments up to date."""

    def __init__(
        self, feed: str, home: Path, epoch_seconds: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.instruments = Instruments()
        self._feed, self._home, self._clock = feed, home, clock
        self._limit_seconds = max(60.0, STALLED_EPOCHS * epoch_seconds)
        self._seen = Tally()
        for name in COUNTED:  # zero is a value: a rate over a missing series is nothing
            self.instruments.counter(name, feed=feed)

    def on_commit(self, tally: Tally) -> None:
        """Count what was committed since the last call."""
        for name, field in COUNTED.items():
            growth = getattr(tally, field) - getattr(self._seen, field)
            self.instruments.counter(name, feed=self._feed).inc(growth)
        for reason, count in tally.rejected.items():
            rejected = self.instruments.counter(
                "headrace_rejected_total", feed=self._feed, reason=reason
            )
            rejected.inc(count - self._seen.rejected.get(reason, 0))
        if tally.newest_arrival_ms:
            committed = self.instruments.gauge(
                "headrace_committed_arrival_timestamp_seconds", feed=self._feed, stage="silver"
            )
            committed.set(tally.newest_arrival_ms / 1000)
        self._seen = replace(tally, rejected=dict(tally.rejected))

    def is_healthy(self) -> bool:
        """Whether the dataflow still ends epochs; refreshes the gauges on the way."""
        pulse = read_pulse(self._home, self._feed)
        if pulse is None or pulse.age_seconds(self._clock) > STALE_PULSE_SECONDS:
            return False
        self.instruments.gauge("headrace_epoch_end_timestamp_seconds", feed=self._feed).set(
            pulse.updated_ms / 1000 - pulse.epoch_age_seconds
        )
        for shard in pulse.shards:
            lag = self.instruments.gauge(
                "headrace_shard_behind_seconds", feed=self._feed, shard=shard["shard"]["shard"]
            )
            lag.set((shard["behind_ms"] or 0) / 1000)
        return pulse.epoch_age_seconds < self._limit_seconds


def observe(settings: Settings, feed: str) -> tuple[Callable[[Tally], None], MetricsServer | None]:
    """What to call at a commit, and the running server; None unless a metrics port is set.

    Raises: ConfigError for a busy port.
    """
    if settings.metrics_port is None:
        return (lambda _: None), None
    metrics = FeedMetrics(feed, settings.home, settings.epoch_seconds)
    server = serve_metrics(
        metrics.instruments, settings.metrics_host, settings.metrics_port, metrics.is_healthy
    )
    return metrics.on_commit, server
