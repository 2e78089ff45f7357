"""Log lines of flows: our JSON, with the id of the flow run in every line.

Prefect's own lines get it too: pools set PREFECT_LOGGING_FORMATTERS_JSON_CLASS to `RunFormatter`,
so that one search for an id finds a run in every container that it touched, from the first line.
Not here: the format itself (`stream.telemetry`), Prefect's copy of the logs in its API.
"""

from __future__ import annotations

import json
import logging

from stream.settings import Settings, correlation_id, secret_values
from stream.telemetry import JsonFormatter, set_up_logging
from stream.telemetry.redaction import Redactor


class RunFormatter(JsonFormatter):
    """`JsonFormatter` plus `flow_run_id`, while there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = json.loads(super().format(record))
        if run := correlation_id():
            line["flow_run_id"] = run
        return json.dumps(line)


def set_up_run_logging(settings: Settings) -> None:
    """The logging of a flow's process, Prefect's loggers included."""
    secrets = secret_values(settings)
    set_up_logging(settings.log_level, settings.log_format, secrets=secrets)
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(RunFormatter(redactor=Redactor(secrets)))
