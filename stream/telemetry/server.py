"""Answer /metrics and /healthz on our own address, from a thread of its own.

Binds to the configured address only (127.0.0.1 by default). `/healthz` fails when the road has
stalled. Not here: what is measured when (`observe`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from stream.errors import ConfigError
from stream.telemetry.instruments import Instruments


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
