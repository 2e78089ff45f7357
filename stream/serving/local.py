"""The API of this machine: DuckDB, a token and a key in the home, the same `app` as in Lambda."""

from __future__ import annotations

from stream.clock import SYSTEM_CLOCK, Clock
from stream.lake.connect import Lake, connect_lake
from stream.local.platform import connect
from stream.serving.app import Api
from stream.serving.callers import token_callers
from stream.serving.duckdb_rows import DuckdbRows
from stream.serving.keys import local_key_ring, local_token
from stream.serving.status import Status
from stream.serving.throttle import Throttle
from stream.settings import Settings


def open_local_api(settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> Api:
    """An API that answers although the lake is away (503) or empty (404).

    Raises: ConfigError if the home cannot keep the token and the key.
    """
    rows = DuckdbRows(settings, open_lake=lambda: _open_lake(settings), clock=clock)
    return Api(
        rows,
        Status(settings, rows.lake, clock=clock),
        local_key_ring(settings.home),
        token_callers(settings.api_token or local_token(settings.home)),
        Throttle(settings.api_requests_per_second, clock=clock),
        clock=clock,
    )


def _open_lake(settings: Settings) -> Lake:
    """The lake of the platform that runs now. Raises: ConfigError if none does."""
    if not settings.is_in_folders:
        connect(settings)
    return connect_lake(settings)
