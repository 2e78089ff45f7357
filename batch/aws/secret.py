"""Choose where the FMP key comes from: the settings, or a secret that they name.

Not here: how a secret is read (`stream.lake.secret`).
"""

from __future__ import annotations

from pydantic import SecretStr

from stream.errors import ConfigError
from stream.lake.secret import read_secret


def fmp_api_key(settings_key: SecretStr | None, secret_id: str | None, region: str) -> SecretStr:
    """The FMP key: the one that the settings hold, else the secret that they name.

    Raises: ConfigError when neither is set or the secret is of no use; RetryableError.
    """
    if settings_key is not None and settings_key.get_secret_value().strip():
        return SecretStr(settings_key.get_secret_value().strip())
    if secret_id:
        return read_secret(secret_id, region)
    raise ConfigError(
        "extracts from FMP need a key: set HEADRACE_FMP_API_KEY, or HEADRACE_FMP_SECRET_ID to the "
        "name or ARN of a secret in AWS Secrets Manager"
    )
