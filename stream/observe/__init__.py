"""Watch one dataflow: its metrics, its traces, and how both leave the process.

`observe` gives `live.run_feed` somebody who is told what happens, and runs the exporters that the
settings ask for: `/metrics` and `/healthz` on our own address, EMF lines on stdout, traces to an
OTLP collector. All of them run in threads of their own, so they go on when the dataflow hangs, and
end with `close`. Without any of them nobody looks, and nothing is spent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from stream.clock import SYSTEM_CLOCK, Clock
from stream.cluster import cluster_of
from stream.flow import Begun, Tally
from stream.lake.entries import Entry, SliceRecord
from stream.observe.cost import Prices
from stream.observe.metrics import FeedMetrics
from stream.settings import Settings, correlation_id
from stream.slices import Slice
from stream.telemetry import MetricsServer, serve_metrics
from stream.telemetry.emf import EmfExporter
from stream.telemetry.traces import Traces, open_traces


@dataclass(slots=True)
class Observation:
    """Who looks at one dataflow: a `flow.Observer`. Either part may be missing."""

    metrics: FeedMetrics | None = None
    traces: Traces | None = None
    server: MetricsServer | None = None
    clock: Clock = SYSTEM_CLOCK
    exporters: ExitStack = field(default_factory=ExitStack)

    def begin_slice(self, item: Slice) -> Begun:
        return self._begin("slice", {"shard": item.shard.shard, "slice": item.id})

    def end_slice(self, begun: Begun, record: SliceRecord) -> None:
        now_ns = self.clock.now_ns()
        if self.metrics is not None:
            self.metrics.on_durable(record, now_ns)
        if self.traces is not None:
            facts = {"records": record.rows, "silver_rows": record.silver_rows}
            self.traces.end_slice(begun.span, record.slice_id, now_ns, facts)

    def begin_commit(self) -> Begun:
        return self._begin("commit", {})

    def end_commit(self, begun: Begun, entry: Entry | None, tally: Tally) -> None:
        now_ns = self.clock.now_ns()
        if self.metrics is not None and entry is not None:
            self.metrics.on_entry(entry, (now_ns - begun.at_ns) / 1e9, now_ns)
            self.metrics.on_commit(tally)
        if self.traces is not None:
            slices = [record.slice_id for record in entry.slices] if entry else None
            number = entry.number if entry else 0
            self.traces.end_commit(begun.span, slices, now_ns, {"commit": number})

    def close(self) -> None:
        """Send what is left, end the threads, free the port."""
        self.exporters.close()

    def _begin(self, name: str, facts: dict[str, str]) -> Begun:
        now_ns = self.clock.now_ns()
        if self.traces is None:
            return Begun(now_ns)
        span = self.traces.begin(name, now_ns, facts)
        return Begun(now_ns, span.trace_id, span)


def observe(
    settings: Settings,
    feed: str,
    *,
    write: Callable[[str], object] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Observation | None:
    """Start what the settings ask for; None if that is nothing.

    Args: write: takes EMF lines; None: stdout.

    Raises: ConfigError for a busy port, or traces without the extra `otlp`.
    """
    has_metrics = settings.metrics_port is not None or settings.metrics_export == "emf"
    if not has_metrics and settings.otlp_endpoint is None:
        return None
    seen = Observation(clock=clock)
    if settings.otlp_endpoint is not None:
        seen.traces = open_traces(settings.otlp_endpoint, feed, correlation_id())
        seen.exporters.callback(seen.traces.close)
    if has_metrics:
        prices = Prices.of(settings)
        seen.metrics = FeedMetrics(
            feed,
            settings.home,
            settings.stall_limit_seconds,
            clock,
            prices,
            cluster=cluster_of(settings),
        )
        _export(seen, seen.metrics, settings, feed, write)
    return seen


def _export(
    seen: Observation,
    metrics: FeedMetrics,
    settings: Settings,
    feed: str,
    write: Callable[[str], object] | None,
) -> None:
    if settings.metrics_port is not None:
        seen.server = serve_metrics(
            metrics.instruments, settings.metrics_host, settings.metrics_port, metrics.is_healthy
        )
        seen.exporters.callback(seen.server.close)
    if settings.metrics_export == "emf":
        exporter = EmfExporter(
            metrics.instruments.registry,
            feed,
            refresh=metrics.refresh,
            seconds=settings.metrics_export_seconds,
            per_shard=settings.metrics_per_shard,
            write=write,
            clock=seen.clock,
        )
        exporter.start()
        seen.exporters.callback(exporter.stop)
