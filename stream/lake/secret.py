"""Read one secret from AWS Secrets Manager.

A secret is the text itself, or JSON with a field that holds it. It is read when it is needed and
kept nowhere; no error, log line or repr shows it. Credentials, profile and endpoint are found by
boto3 itself (`AWS_*`). Not here: creating or rotating secrets.
"""

from __future__ import annotations

from typing import Any

import boto3
import orjson
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from pydantic import SecretStr

from stream.errors import ConfigError, PipelineError, StoreUnavailableError, ThrottledError
from stream.lake.aws_faults import NO_ANSWER

_MISSING = frozenset({"ResourceNotFoundException"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
_THROTTLED = frozenset(
    {"LimitExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException"}
)
_UNUSABLE = frozenset(
    {
        "DecryptionFailure",
        "InvalidParameterException",
        "InvalidRequestException",
        "ValidationException",
    }
)


def read_secret(secret_id: str, region: str, field: str = "api_key") -> SecretStr:
    """The current version of a secret, without surrounding white space.

    Args: field: which text of a secret that is JSON.

    Raises: ConfigError (missing, denied, of another form), ThrottledError, StoreUnavailableError.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=3.0,
        read_timeout=10.0,
    )
    try:
        # A session of its own: the default one keeps the first credentials that it found.
        session = boto3.Session()
        client = session.client("secretsmanager", region_name=region, config=config)
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        raise _explain(error, secret_id, region) from error
    except (NoCredentialsError, NoRegionError, PartialCredentialsError) as error:
        raise ConfigError(
            f"secret {secret_id} in {region}: {error}; set AWS credentials"
        ) from error
    except NO_ANSWER as error:
        raise StoreUnavailableError(
            f"Secrets Manager did not answer for secret {secret_id} in {region}: {error}"
        ) from error
    except BotoCoreError as error:
        raise ConfigError(f"secret {secret_id} in {region}: {error}") from error
    return _read_value(answer, secret_id, field)


def _read_value(answer: dict[str, Any], secret_id: str, field: str) -> SecretStr:
    text = str(answer.get("SecretString", "")).strip()
    if text.startswith("{"):
        text = _read_field(text, field)
    if not text:
        raise ConfigError(
            f"secret {secret_id}: expected the key as text, or JSON with a text {field!r}; found "
            "neither"
        )
    return SecretStr(text)


def _read_field(text: str, field: str) -> str:
    """A field of a JSON secret; nothing if it is not one, or has no such text."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    value = found.get(field)
    return value.strip() if isinstance(value, str) else ""


def _explain(error: ClientError, secret_id: str, region: str) -> PipelineError:
    """Our error for the service's."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    where = f"secret {secret_id} in {region}"
    if code in _MISSING:
        return ConfigError(f"{where} does not exist: check its name and region, or create it")
    if code in _DENIED:
        return ConfigError(
            f"{where} was refused ({code}): the role needs secretsmanager:GetSecretValue on it, "
            "and kms:Decrypt if it has a key of its own"
        )
    if code in _THROTTLED:
        return ThrottledError(f"{where}: {code}")
    if code in _UNUSABLE:
        return ConfigError(f"{where} cannot be read ({code}: {message})")
    return StoreUnavailableError(f"{where}: {code}: {message}")
