"""The functions that Lambda will call, each named here alone.

They are written after this program. Until a handler's module can be imported, the settings refuse
the option that needs it: no stack refers to code that its image does not hold.
"""

from __future__ import annotations

from importlib.util import find_spec

LINEAGE = "batch.aws.lineage.handle"
"""Takes a batch of SQS messages, each an "Object Created" event of S3; answers which it failed."""

API = "stream.serving.lambda_handler.handle"
"""Takes an HTTP API request (payload format 2.0)."""


def is_written(handler: str) -> bool:
    """Whether the handler's module exists where this program runs.

    >>> is_written("stream.telemetry.serve_metrics"), is_written("no.such.module.handle")
    (True, False)
    """
    module = handler.rpartition(".")[0]
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
