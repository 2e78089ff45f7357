"""Log lines: to stderr, as text for people or one JSON object per line for machines.

Level by consequence: WARNING is unexpected but nothing is lost, ERROR means data was lost or a
person is needed. SDKs log at WARNING at most. Not here: what is logged when.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

from stream.clock import to_utc

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
