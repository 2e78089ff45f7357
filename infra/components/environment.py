"""The variables of containers: only names that the program inside reads.

`environment` takes fields of the runtime's own `Settings`, so an unknown or misspelt one stops the
program here and not a container in the night; it refuses secrets, which are `secrets` of a
container. Not here: how a container gets them (`containers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from context import Context
from stream.errors import ConfigError
from stream.settings import Settings

DATA, TMP = "/data", "/tmp"  # noqa: S108 - a volume of the container's own
HOME = f"{DATA}/headrace"
METRICS_PORT = 9100
PREFIX = "HEADRACE_"


def variable(field: str) -> str:
    """The environment variable of a field of the runtime's settings.

    >>> variable("metrics_port")
    'HEADRACE_METRICS_PORT'

    Raises: ConfigError for a field that there is not.
    """
    if field not in Settings.model_fields:
        raise ConfigError(
            f"the runtime has no setting {field!r}, a container with it would not start; "
            f"there are {', '.join(sorted(Settings.model_fields))}"
        )
    return f"{PREFIX}{field.upper()}"


def is_secret(field: str) -> bool:
    """Whether a field of the runtime's settings holds a secret itself (not the name of one)."""
    return "SecretStr" in str(Settings.model_fields[field].annotation)


def environment(**fields: Any) -> dict[str, pulumi.Input[str]]:
    """Variables for fields of the runtime's settings.

    >>> environment(region="eu-west-1", claims="dynamodb")
    {'HEADRACE_REGION': 'eu-west-1', 'HEADRACE_CLAIMS': 'dynamodb'}

    Raises: ConfigError for an unknown field, or for a secret in clear.
    """
    found: dict[str, pulumi.Input[str]] = {}
    for field, value in fields.items():
        name = variable(field)
        if is_secret(field):
            raise ConfigError(f"{name}: a secret; give it as `secrets` of the container")
        found[name] = value if isinstance(value, (str, pulumi.Output)) else str(value)
    return found


def runtime_environment(
    context: Context, lake: Mapping[str, pulumi.Input[str]], **fields: Any
) -> dict[str, pulumi.Input[str]]:
    """What every container that touches the lake is told. `lake`: where it is (`DataLake`)."""
    return {**base_environment(context), **lake, **environment(**fields)}


def base_environment(context: Context) -> dict[str, pulumi.Input[str]]:
    """What every container of headrace is told: the account, its streams, where it may write."""
    return {
        **sdk_environment(context),
        **environment(
            aws="account",
            region=context.settings.region,
            home=HOME,
            stream_prefix=context.streams_prefix,
            log_format="json",
        ),
    }


def sdk_environment(context: Context) -> dict[str, pulumi.Input[str]]:
    """The region of every AWS SDK in a container, also where no setting of ours reaches."""
    return {
        "AWS_REGION": context.settings.region,
        "AWS_DEFAULT_REGION": context.settings.region,
    }


def telemetry_off() -> dict[str, pulumi.Input[str]]:
    """Prefect does not call home; it reads these when it is imported."""
    return {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
