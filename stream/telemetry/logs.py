"""Log lines: to stderr, as text for people or one JSON object per line for machines.

Level by consequence: WARNING is unexpected but nothing is lost, ERROR means data was lost or a
person is needed. SDKs log at WARNING at most. A JSON line says what it is about: whatever of feed,
shard, slice, commit, trace id and flow run the code at work has named with `log_context`. Every
line passes `redaction`. Not here: what is logged when.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from stream.clock import to_utc
from stream.telemetry.redaction import Redactor

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CONTEXT_FIELDS = ("feed", "shard", "slice", "commit", "trace_id")
_NO_FIELDS: Mapping[str, str] = {}
_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=_NO_FIELDS)


@contextmanager
def log_context(**fields: str | None) -> Iterator[None]:
    """Name what the enclosed work is about (`CONTEXT_FIELDS`); None names nothing.

    Belongs to the thread or task, and nests: inner fields win.

    >>> with log_context(feed="trades"), log_context(shard="0", slice=None):
    ...     dict(current_context())
    {'feed': 'trades', 'shard': '0'}
    """
    token = _CONTEXT.set(_merged(fields))
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def bind_log_context(**fields: str | None) -> None:
    """`log_context` for the rest of this thread."""
    _CONTEXT.set(_merged(fields))


def current_context() -> Mapping[str, str]:
    """What the work at hand is about."""
    return _CONTEXT.get()


def _merged(fields: Mapping[str, str | None]) -> Mapping[str, str]:
    given = {name: value for name, value in fields.items() if value is not None}
    return {**_CONTEXT.get(), **given} if given else _CONTEXT.get()


class TextFormatter(logging.Formatter):
    """For people: `PLAIN`, and nothing secret."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__(PLAIN)
        self._clean = (redactor or Redactor()).clean

    def format(self, record: logging.LogRecord) -> str:
        return self._clean(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, error, what it is about
    (`CONTEXT_FIELDS`); and `flow_run_id`, the job that the process belongs to, if there is one.
    """

    correlation: str | None = None

    def __init__(self, *_configured: Any, redactor: Redactor | None = None) -> None:
        """Positional arguments are what `logging.config` passes to any formatter; the format is
        ours.
        """
        super().__init__()
        self._clean = (redactor or Redactor()).clean

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": to_utc(int(record.created * 1e9)).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._clean(record.getMessage()),
            **_CONTEXT.get(),
        }
        if self.correlation:
            line["flow_run_id"] = self.correlation
        if record.exc_info:
            line["error"] = self._clean(self.formatException(record.exc_info))
        return json.dumps(line)


QUIET_LOGGERS = (
    *("botocore", "boto3", "aiobotocore", "s3transfer", "urllib3", "httpx", "httpcore"),
    *("websockets", "pymongo", "opentelemetry", "pyiceberg.io"),
)
"""At DEBUG they print requests and answers whole: tokens, secrets, documents with personal data."""


def set_up_logging(
    level: str,
    style: Literal["text", "json"] = "text",
    correlation: str | None = None,
    *,
    secrets: Collection[str] = (),
) -> None:
    """Send logs to stderr. SDKs log at WARNING at most (`QUIET_LOGGERS`).

    Args: correlation: the job that this process belongs to; in every JSON line as `flow_run_id`.
    secrets: values that no line may show, whatever is logged.
    """
    redactor = Redactor(secrets)
    handler = logging.StreamHandler(sys.stderr)
    as_json = JsonFormatter(redactor=redactor)
    as_json.correlation = correlation
    handler.setFormatter(as_json if style == "json" else TextFormatter(redactor))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
