"""OpenTelemetry traces: one span per slice and per commit, sent to an OTLP/HTTP collector.

Off unless an endpoint is set; then the extra `otlp` must be installed. A slice's span lasts from
its first step until it is durable. A commit's span links to the spans of its slices. Spans carry
the feed, the shard, the slice or the commit, and the Prefect flow run that started the process; log
lines of the same work carry the trace id. Spans wait in a bounded queue and are sent by a thread:
a collector that is away costs spans, never records, and one warning.
"""

from __future__ import annotations

import importlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext

log = logging.getLogger(__name__)

MAX_LINKS = 1_024
"""A commit's links to slices; it names their number as well."""
MAX_UNCOMMITTED = 65_536
"""Slices whose spans wait for their commit; of older ones the link is lost."""
SEND_SECONDS = 5.0
QUIET = "opentelemetry"


@dataclass(frozen=True, slots=True)
class Span:
    """An open span."""

    trace_id: str
    otel: OtelSpan


class Traces:
    """The spans of one dataflow."""

    def __init__(self, provider: TracerProvider) -> None:
        """Use `open_traces`."""
        self._provider = provider
        self._tracer = provider.get_tracer("headrace")
        self._durable: OrderedDict[str, SpanContext] = OrderedDict()

    def begin(self, name: str, at_ns: int, facts: Mapping[str, str]) -> Span:
        """A span of work that begins; `facts` become its attributes."""
        otel = self._tracer.start_span(
            f"headrace.{name}", start_time=at_ns, attributes=_attributes(facts)
        )
        return Span(f"{otel.get_span_context().trace_id:032x}", otel)

    def end_slice(
        self, span: Span, slice_id: str, at_ns: int, facts: Mapping[str, str | int]
    ) -> None:
        """The slice is durable; its commit will link to it."""
        self._durable[slice_id] = span.otel.get_span_context()
        if len(self._durable) > MAX_UNCOMMITTED:
            self._durable.popitem(last=False)
        span.otel.set_attributes(_attributes(facts))
        span.otel.end(at_ns)

    def end_commit(
        self,
        span: Span,
        slices: Sequence[str] | None,
        at_ns: int,
        facts: Mapping[str, str | int],
    ) -> None:
        """The commit of these slices landed; None: there was nothing to commit, and no span."""
        if slices is None:
            return
        for slice_id in slices:
            if (context := self._durable.pop(slice_id, None)) is not None:
                span.otel.add_link(context)
        span.otel.set_attributes(_attributes({**facts, "slices": len(slices)}))
        span.otel.end(at_ns)

    def close(self) -> None:
        """Send what waits, for a few seconds at most, and end the sending thread."""
        self._provider.force_flush(int(SEND_SECONDS * 1000))
        self._provider.shutdown()


def open_traces(endpoint: str, feed: str, flow_run_id: str | None = None) -> Traces:
    """Traces to a collector's OTLP/HTTP endpoint (`http://host:4318`; spans go to its /v1/traces).

    Raises: ConfigError if the extra `otlp` is not installed. Does not touch the network.
    """
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise ConfigError(
            f"HEADRACE_OTLP_ENDPOINT={endpoint} asks for traces, but {error.name} is not "
            "installed: pip install 'headrace[otlp]', or unset it."
        ) from error
    logging.getLogger(QUIET).setLevel(logging.CRITICAL)  # each span lost would be an ERROR line
    facts = {"service.name": "headrace", "headrace.feed": feed}
    if flow_run_id:
        facts["headrace.flow_run_id"] = flow_run_id
    provider = sdk.TracerProvider(
        sampler=importlib.import_module("opentelemetry.sdk.trace.sampling").ALWAYS_ON,
        resource=resources.Resource(facts),
        span_limits=sdk.SpanLimits(max_links=MAX_LINKS),
        shutdown_on_exit=False,
    )
    sender = otlp.OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=SEND_SECONDS
    )
    exporter = _told_once(export, sender, endpoint)
    provider.add_span_processor(export.BatchSpanProcessor(exporter, schedule_delay_millis=2_000))
    return Traces(provider)


def _told_once(export: Any, inner: Any, endpoint: str) -> Any:
    """An exporter whose outage is one WARNING: spans are lost, nothing else."""

    class _Exporter(export.SpanExporter):  # type: ignore[misc]  # imported by name
        is_away = False

        def export(self, spans: Sequence[Any]) -> Any:
            result = inner.export(spans)
            failed = result is not export.SpanExportResult.SUCCESS
            if failed and not self.is_away:
                log.warning("traces: %s takes no spans; they are dropped until it does", endpoint)
            self.is_away = failed
            return result

        def shutdown(self) -> None:
            inner.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return bool(inner.force_flush(timeout_millis))

    return _Exporter()


def _attributes(facts: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"headrace.{name}": value for name, value in facts.items()}
