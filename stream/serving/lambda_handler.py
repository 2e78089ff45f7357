"""What Lambda calls: `handle(event, context)` for a request of the HTTP API (payload format 2.0).

Reads go through Athena; catalog, ledger and keys are read with the function's role. The API is
built at the first request and kept with the container; the key of cursors is read anew every few
minutes, so that a rotation needs no deployment.
"""

from __future__ import annotations

import threading
from typing import Any

from stream.clock import SYSTEM_CLOCK
from stream.errors import ConfigError, PipelineError
from stream.lake.secret import read_secret
from stream.serving.app import Api, refuse
from stream.serving.athena_rows import AthenaRows
from stream.serving.callers import claimed_callers
from stream.serving.keys import KeyRing, read_key_ring
from stream.serving.problem import explain
from stream.serving.status import Status
from stream.serving.throttle import Throttle
from stream.settings import Settings, load_settings
from stream.telemetry import set_up_logging

KEY_SECONDS = 300.0


class _Container:
    """What one container of the function keeps between requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._api: Api | None = None
        self._made_at = 0.0

    def api(self) -> Api:
        """The API with keys that are not older than a few minutes. Raises: PipelineError."""
        with self._lock:
            now = SYSTEM_CLOCK.monotonic()
            if self._api is None:
                settings = load_settings()
                set_up_logging(settings.log_level, settings.log_format, None)
                self._api, self._made_at = build_api(settings), now
            elif now - self._made_at > KEY_SECONDS:
                self._api.pages.use_keys(read_keys(load_settings()))
                self._made_at = now
            return self._api


_CONTAINER = _Container()


def handle(event: dict[str, Any], _: object) -> dict[str, Any]:
    """The response to one request."""
    try:
        api = _CONTAINER.api()
    except PipelineError as error:
        return refuse(explain(error))
    return api.handle(event)


def build_api(settings: Settings) -> Api:
    """The API over Athena. Raises: ConfigError, StoreUnavailableError, ThrottledError."""
    ring = read_keys(settings)
    rows = AthenaRows(settings)
    status = Status(settings, rows.lake)
    return Api(rows, status, ring, claimed_callers, Throttle(settings.api_requests_per_second))


def read_keys(settings: Settings) -> KeyRing:
    """The keys that seal cursors. Raises: ConfigError, StoreUnavailableError, ThrottledError."""
    secret = settings.api_cursor_secret_id
    if secret is None:
        raise ConfigError(
            "HEADRACE_API_CURSOR_SECRET_ID is not set: expected the secret that holds the key of "
            "cursors"
        )
    return read_key_ring(read_secret(secret, settings.region, "cursor_key"), secret)
