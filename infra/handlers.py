"""The functions that Lambda calls, each named here alone; a test imports and calls them."""

from __future__ import annotations

LINEAGE = "batch.aws.lineage.handle"
"""Takes a batch of SQS messages, each an "Object Created" event of S3; answers which it failed."""

API = "stream.serving.lambda_handler.handle"
"""Takes an HTTP API request (payload format 2.0)."""
