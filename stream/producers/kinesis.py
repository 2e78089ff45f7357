"""PutRecords: the sender behind `publish.Publisher`, over aiobotocore.

One call, at most 500 records; its answer is per record. Retries belong to the publisher, which
knows about order, so the SDK's own are off. Errors are told apart by what helps: waiting
(throttled, unreachable) or a person (no such stream, no permission). Not here: creating streams.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from stream.errors import ConfigError, FatalError, StoreUnavailableError, ThrottledError
from stream.producers.pack import Pack

_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "KMSThrottlingException",
    }
)
_REFUSALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "UnrecognizedClientException",
    }
)
_INVALID = frozenset({"InvalidArgumentException", "ValidationException", "SerializationException"})


class KinesisSender:
    """Sends to one stream through an open client; see `open_sender`."""

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self.stream = stream

    async def send(self, packs: Sequence[Pack]) -> list[str | None]:
        """One PutRecords call; per record None or the service's error code."""
        records = [{"Data": pack.data, "PartitionKey": pack.key} for pack in packs]
        try:
            answer = await self._client.put_records(StreamName=self.stream, Records=records)
        except ClientError as error:
            raise self._explain(error) from error
        except (NoCredentialsError, NoRegionError, PartialCredentialsError) as error:
            raise ConfigError(f"publish to {self.stream}: {error}") from error
        except (HTTPClientError, BotoCoreError, OSError) as error:
            raise StoreUnavailableError(f"publish to {self.stream}: {error}") from error
        return [result.get("ErrorCode") for result in answer["Records"]]

    async def check(self) -> None:
        """One cheap call that fails early and clearly: before a source is opened.

        Raises: ConfigError (no stream, no permission); StoreUnavailableError.
        """
        try:
            await self._client.describe_stream_summary(StreamName=self.stream)
        except ClientError as error:
            raise self._explain(error) from error
        except (NoCredentialsError, NoRegionError, PartialCredentialsError) as error:
            raise ConfigError(f"publish to {self.stream}: {error}") from error
        except (HTTPClientError, BotoCoreError, OSError) as error:
            raise StoreUnavailableError(f"publish to {self.stream}: {error}") from error

    def _explain(self, error: ClientError) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = str(error.response.get("Error", {}).get("Message", ""))
        if code == "ResourceNotFoundException":
            return ConfigError(
                f"stream {self.stream} does not exist; create it with `headrace up`, or check "
                "HEADRACE_STREAM_PREFIX and HEADRACE_REGION"
            )
        if code in _REFUSALS:
            return ConfigError(
                f"no permission to publish to stream {self.stream} ({code}: {message}); the "
                "credentials need kinesis:PutRecords on it"
            )
        if code in _THROTTLES:
            return ThrottledError(f"stream {self.stream} is throttled: {code}")
        if code in _INVALID:
            return FatalError(
                f"stream {self.stream} refused the call itself ({code}: {message}); a retry "
                "cannot help. This is a defect of the producer: report it."
            )
        return StoreUnavailableError(f"stream {self.stream}: {code}: {message}")


@asynccontextmanager
async def open_sender(
    stream: str,
    *,
    region: str,
    endpoint_url: str | None = None,
    connect_seconds: float = 3.0,
    read_seconds: float = 10.0,
) -> AsyncIterator[KinesisSender]:
    """A sender with its own client, closed at the end of the context."""
    # aiohttp warns above 1 MiB; one message near Kinesis' limit is that large after base64.
    warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
    config = AioConfig(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=16,
        tcp_keepalive=True,
    )
    session = get_session()
    async with session.create_client(
        "kinesis", region_name=region, endpoint_url=endpoint_url, config=config
    ) as client:
        yield KinesisSender(client, stream)
