"""The Lambda function that turns new objects of Bronze into lineage: `batch.aws.lineage.handle`.

    S3 ─▶ EventBridge ─▶ SQS (five attempts, then a dead-letter queue) ─▶ handle
                          ─▶ a row per object version (DynamoDB) ─▶ one Prefect run per batch

Beside the road, not part of it: the dataflows commit by the ledger and need none of this. What
must come back is named in `batchItemFailures`; SQS deletes the rest. While Prefect is away its
messages come back every six minutes; after half an hour they wait in the dead-letter queue, for a
fortnight, to be sent again. boto3 and the standard library only: it starts in a fraction of the
time that the libraries of the lake need.
Environment: LINEAGE_TABLE, PREFECT_API_URL; PREFECT_AUTH_SECRET_ARN where the server wants a
password; LINEAGE_BUCKETS, comma-separated, to refuse the events of any other bucket.
Not here: the rule of batches (`lineage_batch`), the queue, the table and the rights (`infra`).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from batch.aws.lineage_batch import Message, Outcome, take_batch
from batch.aws.lineage_table import LineageTable
from batch.aws.prefect_trigger import PrefectTrigger
from stream.errors import ConfigError, StoreUnavailableError

log = logging.getLogger(__name__)

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Environment:
    """What the function is told by its environment."""

    table: str
    prefect_url: str
    auth_secret: str | None
    buckets: frozenset[str]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Raises: ConfigError listing every variable that is missing."""
        missing = [n for n in ("LINEAGE_TABLE", "PREFECT_API_URL") if not variables.get(n)]
        if missing:
            raise ConfigError(f"not set in the function's environment: {', '.join(missing)}")
        buckets = variables.get("LINEAGE_BUCKETS", "").split(",")
        return cls(
            variables["LINEAGE_TABLE"],
            variables["PREFECT_API_URL"],
            variables.get("PREFECT_AUTH_SECRET_ARN") or None,
            frozenset(name.strip() for name in buckets if name.strip()),
        )


def handle(event: object, context: object) -> dict[str, list[dict[str, str]]]:
    """Take one delivery of SQS; answers which messages must come back.

    Raises: ConfigError (not a delivery of SQS, an environment without its variables): then
    everything comes back.
    """
    log.setLevel(logging.INFO)  # Lambda's own logging starts at WARNING
    messages = read_messages(event)
    environment = Environment.read(os.environ)
    table, trigger = connect(environment, getattr(context, "log_stream_name", ""))
    outcome = take_batch(messages, table, trigger, environment.buckets)
    _tell(messages, outcome)
    return {"batchItemFailures": [{"itemIdentifier": i} for i in sorted(outcome.failed)]}


def read_messages(event: object) -> list[Message]:
    """The messages of a delivery. Raises: ConfigError for an event that is none.

    >>> read_messages({"Records": [{"messageId": "1", "body": "{}"}]})
    [Message(id='1', body='{}')]
    """
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list):
        raise ConfigError(
            f"expected a delivery of SQS with Records, found {ascii(event)[:120]}: is the function "
            "mapped to the queue?"
        )
    found = []
    for record in records:
        identity = record.get("messageId") if isinstance(record, dict) else None
        body = record.get("body") if isinstance(record, dict) else None
        if not isinstance(identity, str) or not identity or not isinstance(body, str):
            raise ConfigError(
                f"expected records with messageId and body, found {ascii(record)[:120]}: is the "
                "function mapped to the queue?"
            )
        found.append(Message(identity, body))
    return found


@cache
def connect(environment: Environment, name: str) -> tuple[LineageTable, PrefectTrigger]:
    """What an execution environment keeps from call to call. Args: name: of that environment."""
    secret = environment.auth_secret
    trigger = PrefectTrigger(
        environment.prefect_url,
        None if secret is None else lambda: read_auth(secret),
        client=f"headrace-lineage/{name or 'local'}",
    )
    return LineageTable(environment.table), trigger


def read_auth(secret: str) -> str:
    """The password of the Prefect server, "user:password"; no message shows it.

    Raises: ConfigError (missing, denied, of another form), StoreUnavailableError (no answer).
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=2.0, read_timeout=5.0
    )
    try:
        client = boto3.Session().client("secretsmanager", config=config)
        text = str(client.get_secret_value(SecretId=secret).get("SecretString", "")).strip()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise ConfigError(f"secret {secret} cannot be read: {code}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"secret {secret}: {error}") from error
    if ":" not in text or any(char in text for char in "\r\n"):
        raise ConfigError(f"secret {secret}: expected one line of the form user:password")
    return text


def _tell(messages: list[Message], outcome: Outcome) -> None:
    """One line for the delivery; what a person should look at in lines of their own."""
    line = {
        "messages": len(messages),
        "rows": outcome.rows,
        "known": outcome.known,
        "repeated": outcome.repeated,
        "ignored": dict(outcome.ignored),
        "poison": dict(outcome.poison),
        "failed": len(outcome.failed),
        "run": outcome.run,
    }
    log.info("%s", json.dumps({"lineage": line}))
    if outcome.trouble is not None:
        log.error("this delivery comes back, in part or whole: %s", outcome.trouble)
    if outcome.poison:
        shown = dict(list(outcome.failed.items())[:SHOWN])
        log.warning("messages that cannot be read or come back: %s", json.dumps(shown))
    for name in outcome.rewritten[:SHOWN]:
        log.error("an object of Bronze was written twice: %s", name)
