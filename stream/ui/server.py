"""Listen, serve the page until a signal, and say where.

The address is taken before anything else is loaded, so that a busy port is an error at once and
the page answers while its first state is still being read.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from pathlib import Path
from types import FrameType

import uvicorn

from stream.errors import ConfigError
from stream.ui.address import announced, read_page
from stream.ui.app import ReadHistory, build_app
from stream.ui.collector import Collector

PATIENCE_SECONDS = 2
ADVICE = {
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "ports below 1024 need rights that headrace should not have",
    errno.EADDRNOTAVAIL: "no such address on this machine",
}


def listen(host: str, port: int, home: Path | None = None) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Args: home: whose page may have the port already. Raises: ConfigError saying who has the port,
    or what is wrong with the address.
    """
    try:
        return _create_server(host, port)
    except OSError as error:  # gaierror is one
        page = read_page(home) if home else None
        if error.errno == errno.EADDRINUSE and page and page.port == port:
            reason = f"the page of this home is served there already: open {page.url}"
        else:
            reason = ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise ConfigError(
            f"the page cannot listen on {host} port {port}: {reason}. `headrace ui --port 0` takes "
            "a free port; HEADRACE_UI_HOST and HEADRACE_UI_PORT choose another address."
        ) from None


def is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    try:
        _create_server(host, port).close()
    except OSError:
        return False
    return True


def free_port(host: str) -> int:
    """A port that nobody has now. Raises: ConfigError if there is no such address."""
    with listen(host, 0) as probe:
        return int(probe.getsockname()[1])


def url_of(listener: socket.socket) -> str:
    """What to open in a browser of this machine."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def serve_page(
    listener: socket.socket,
    home: Path,
    collector: Collector,
    read_history: ReadHistory,
    names: Collection[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, then return; the main thread only.

    Raises: what reading a state raised, if that was no error that a page can show.
    """
    config = uvicorn.Config(
        build_app(collector, read_history, names),
        log_config=None,  # ours
        access_log=False,
        loop="asyncio",
        http="h11",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=PATIENCE_SECONDS,
    )
    server = _Server(config)
    server.collector = collector
    collector.on_failure = server.give_up
    with announced(home, url_of(listener)):
        server.run(sockets=[listener])
    if collector.failure:
        raise collector.failure


def _create_server(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


class _Server(uvicorn.Server):
    """Ends the streams of states when it is told to end, because it waits for open answers."""

    collector: Collector

    def give_up(self) -> None:
        """From any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.collector.release()
        super().handle_exit(sig, frame)
