"""Logs and metrics: how the road speaks while it runs.

Logs go to stderr, as text for people or one JSON object per line for machines
(`HEADRACE_LOG_FORMAT=json`). Level by consequence: WARNING is unexpected but nothing is lost,
ERROR means data was lost or a person is needed. Metrics are one catalogue (`METRICS`): name, kind,
unit, meaning, and what to do. They carry `feed` and `shard`, never a symbol.

Served by `serve_metrics` on our own address: `/metrics`, and `/healthz`, which fails when the road
has stalled. Not here: what is measured when (`live`), dashboards and alarms.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, make_wsgi_app

from stream.clock import to_utc
from stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue. `action` is what a person does when it looks wrong."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    action: str


METRICS = (
    Metric(
        "headrace_messages_total",
        "counter",
        "messages",
        ("feed",),
        "Messages committed: decoded, ignored and rejected",
        "Several per record when producers pack them; compare with what producers report.",
    ),
    Metric(
        "headrace_records_total",
        "counter",
        "records",
        ("feed",),
        "Kinesis records committed",
        "Flat while producers publish: look at headrace_lag_ms and the log of the dataflow.",
    ),
    Metric(
        "headrace_payload_bytes_total",
        "counter",
        "bytes",
        ("feed",),
        "Payload committed",
        "Compare with the stream's IncomingBytes.",
    ),
    Metric(
        "headrace_silver_rows_total",
        "counter",
        "rows",
        ("feed",),
        "Rows committed to Silver",
        "Outside the contract's volume bounds: look at the producer first.",
    ),
    Metric(
        "headrace_duplicates_total",
        "counter",
        "rows",
        ("feed",),
        "Rows dropped as duplicates",
        "A jump is normal after a producer's restart; a lasting one is a producer that repeats.",
    ),
    Metric(
        "headrace_rejected_total",
        "counter",
        "messages",
        ("feed", "reason"),
        "Messages put into quarantine, by reason code",
        'headrace query "SELECT * FROM quarantine", fix the decoder, headrace redrive.',
    ),
    Metric(
        "headrace_commits_total",
        "counter",
        "commits",
        ("feed",),
        "Commits of this process",
        "None for several epochs: the dataflow stalls; /healthz fails as well.",
    ),
    Metric(
        "headrace_freshness_ms",
        "gauge",
        "milliseconds",
        ("feed",),
        "Commit time minus the newest arrival in it",
        "Above the contract's target: compare with headrace_lag_ms; equal means too little CPU.",
    ),
    Metric(
        "headrace_lag_ms",
        "gauge",
        "milliseconds",
        ("feed", "shard"),
        "Distance of the reader from the tip of its shard",
        "Growing on one shard: a hot key, split it. On all: add processes.",
    ),
    Metric(
        "headrace_epoch_age_seconds",
        "gauge",
        "seconds",
        ("feed",),
        "Time since the last epoch ended",
        "Grows without bound when the dataflow stalls; the watchdog ends the process.",
    ),
)
"""The catalogue. A new metric is a line here and an update where the thing happens."""

Instrument = Counter | Gauge


class Instruments:
    """The live metrics of one process, by name of the catalogue.

    >>> live = Instruments()
    >>> live.counter("headrace_commits_total", feed="trades").inc()
    >>> b'headrace_commits_total{feed="trades"} 1.0' in live.render()
    True
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._by_name = {metric.name: self._build(metric) for metric in METRICS}

    def counter(self, name: str, **labels: str) -> Counter:
        """A counter of the catalogue; it only goes up. Raises: KeyError for another name."""
        return self._find(name, Counter, labels)  # type: ignore[return-value]

    def gauge(self, name: str, **labels: str) -> Gauge:
        """A gauge of the catalogue. Raises: KeyError for another name."""
        return self._find(name, Gauge, labels)  # type: ignore[return-value]

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _find(self, name: str, kind: type[Instrument], labels: dict[str, str]) -> Instrument:
        instrument = self._by_name[name]
        if not isinstance(instrument, kind):
            raise KeyError(f"{name} is no {kind.__name__.lower()} in the catalogue")
        return instrument.labels(**labels)

    def _build(self, metric: Metric) -> Instrument:
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.name, metric.meaning, metric.labels, registry=self.registry)


PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, error; and `flow_run_id`, the
    job that the process belongs to, if there is one.
    """

    correlation: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": to_utc(int(record.created * 1e9)).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self.correlation:
            line["flow_run_id"] = self.correlation
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


QUIET_LOGGERS = (
    *("botocore", "boto3", "aiobotocore", "s3transfer", "urllib3", "httpx", "httpcore"),
    *("websockets", "pymongo"),
)
"""At DEBUG they print requests and answers whole: tokens, secrets, documents with personal data."""


def set_up_logging(
    level: str, style: Literal["text", "json"] = "text", correlation: str | None = None
) -> None:
    """Send logs to stderr. SDKs log at WARNING at most (`QUIET_LOGGERS`).

    Args: correlation: the job that this process belongs to; in every JSON line as `flow_run_id`.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json, plain = JsonFormatter(), logging.Formatter(PLAIN)
    as_json.correlation = correlation
    handler.setFormatter(as_json if style == "json" else plain)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """A running server; `close` ends it."""

    port: int
    _server: WSGIServer

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


def serve_metrics(
    instruments: Instruments, host: str, port: int, is_healthy: Callable[[], bool]
) -> MetricsServer:
    """Answer /metrics and /healthz (200 or 503) from a thread of its own.

    Args: is_healthy: called for both, so it may bring gauges up to date. port: 0 takes a free
    one, named in the result. Raises: ConfigError for a busy port.
    """
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(instruments.registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_well = is_healthy()
        if environ["PATH_INFO"] == "/metrics":
            return metrics(environ, start_response)
        is_known = environ["PATH_INFO"] == "/healthz"
        status = "404 Not Found" if not is_known else "200 OK"
        if is_known and not is_well:
            status = "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{status[4:].lower()}\n".encode()]

    try:
        server = make_server(host, port, answer, handler_class=_SilentHandler)
    except OSError as error:
        raise ConfigError(
            f"HEADRACE_METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}. "
            "Choose another port, or 0 for any free one."
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return MetricsServer(int(server.server_address[1]), server)


class _SilentHandler(WSGIRequestHandler):
    """Scrapes every few seconds are not worth a log line."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""
