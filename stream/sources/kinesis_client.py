"""The boto3 client for Kinesis, and what its errors mean for us.

Retries are off: the lanes back off on their own, in one place, and a status line shows it.
Credentials, profile and endpoint overrides are found by boto3 itself (`AWS_*`).
"""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from stream.errors import ConfigError, FatalError, StoreUnavailableError, ThrottledError
from stream.lake.aws_faults import NO_ANSWER
from stream.sources import ExpiredCursorError
from stream.sources.kinesis_parser import RecordParserFactory

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ResourceInUseException",
    "Throttling",
    "ThrottlingException",
    "KMSThrottlingException",
}
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "KMSAccessDeniedException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_SERVER_FAULT = 500


def make_client(region: str, connections: int = 64, read_timeout_seconds: float = 15.0) -> Any:
    """A client that may be shared by `connections` threads."""
    session = botocore.session.get_session()
    session.register_component("response_parser_factory", RecordParserFactory())
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=3.0,
        read_timeout=read_timeout_seconds,
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
    return boto3.Session(botocore_session=session).client(
        "kinesis", region_name=region, config=config
    )


def call(client: Any, operation: str, stream: str, **parameters: Any) -> dict[str, Any]:
    """One API call, e.g. `call(client, "GetRecords", "ticks", ShardIterator=cursor)`.

    Raises: ThrottledError, StoreUnavailableError, ExpiredCursorError, ConfigError, FatalError.
    """
    try:
        return dict(getattr(client, _method(operation))(**parameters))
    except ClientError as error:
        raise translate(error, operation, stream) from error
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        raise ConfigError(
            f"Kinesis {operation} on stream {stream}: {error}. Start the local platform with "
            "`headrace up`, or set AWS credentials and HEADRACE_AWS=account."
        ) from error
    except NO_ANSWER as error:
        raise StoreUnavailableError(
            f"Kinesis did not answer {operation} on stream {stream}: {error}. Locally: is "
            "`headrace up` running?"
        ) from error
    except BotoCoreError as error:
        raise ConfigError(f"Kinesis {operation} on stream {stream}: {error}") from error


def translate(error: ClientError, operation: str, stream: str) -> Exception:
    """Our error for the service's."""
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    where = f"Kinesis {operation} on stream {stream}"
    found: Exception = FatalError(f"{where} failed: {code} {message}")
    if code == "ExpiredIteratorException":
        found = ExpiredCursorError(message)
    elif code in _THROTTLED:
        found = ThrottledError(f"{where}: {code} {message}")
    elif code in _DENIED:
        found = ConfigError(
            f"{where} was refused ({code}): the role needs kinesis:{operation}. {message}"
        )
    elif code == "ResourceNotFoundException":
        found = ConfigError(
            f"stream {stream} does not exist or lost what {operation} asked for ({message}): "
            "run `headrace up`, or create it and check HEADRACE_STREAM_PREFIX and HEADRACE_REGION."
        )
    elif code in {"InvalidArgumentException", "ValidationException"}:
        found = ConfigError(f"{where}: {message}")
    elif status >= _SERVER_FAULT or code in {"InternalFailure", "InternalFailureException"}:
        found = StoreUnavailableError(f"{where}: {code} {message}")
    return found


def _method(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
