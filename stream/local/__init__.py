"""The embedded AWS: start, stop and look after an emulator on this machine.

Application code never knows about it: it sees `AWS_ENDPOINT_URL_*` and otherwise talks to AWS as
always. The emulator sits behind `Emulator`, so replacing it is one setting (`HEADRACE_EMULATOR`).
Guarantees: everything binds 127.0.0.1; a process started here does not outlive its parent; data
survives restarts. Not here: buckets (`lake.store`) and streams (`sources.kinesis`).
"""

from __future__ import annotations

from typing import Protocol

SERVICES = ("S3", "KINESIS", "DYNAMODB", "SECRETS_MANAGER", "SQS", "SNS", "EVENTBRIDGE", "SSM")
"""The services that one emulator process answers for, as the SDKs name them in variables."""


class Emulator(Protocol):
    """One AWS emulator, embedded or elsewhere. `start` returns when it answers."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """The process, or None when it is not ours."""
        ...

    def start(self) -> str:
        """Start it unless it runs, and return its endpoint URL. Raises: ConfigError."""
        ...

    def is_alive(self) -> bool: ...

    def stop(self) -> None:
        """Stop it; a second call does nothing."""
        ...


def sdk_environment(endpoint: str, region: str) -> dict[str, str]:
    """The variables that send boto3, aiobotocore and obstore to one endpoint.

    The general AWS_ENDPOINT_URL is set too: a service that the emulator lacks must fail here
    instead of reaching a real account. The credentials are dummies; emulators do not check them.

    >>> sdk_environment("http://127.0.0.1:5070", "us-east-1")["AWS_ENDPOINT_URL_KINESIS"]
    'http://127.0.0.1:5070'
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        **{f"AWS_ENDPOINT_URL_{service}": endpoint for service in SERVICES},
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "headrace",
        "AWS_SECRET_ACCESS_KEY": "emulators-check-nothing",  # nosec B105  # pragma: allowlist secret
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
