"""The key that masks personal data: where it comes from, and that a lake has only one.

Rows that were hashed with different keys do not join, and nobody would notice. So every table
with personal data says the fingerprint of its key in a table property; a start with another key
is refused, and a commit of a process that still has the old one, too.
Not here: what is masked and how (`stream.masking`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretBytes

from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake
from stream.settings import PII_KEY_CHARACTERS, Settings

PROPERTY = "headrace.pii.key"
FILE = "pii.key"
RUNBOOK = "deploy/runbooks/rotate-the-pii-key.md"

_PURPOSE = b"headrace-pii-key"


@dataclass(frozen=True, slots=True)
class PiiKey:
    """A key, never shown. `replaces`: fingerprint of the key that it may take over from."""

    secret: SecretBytes
    replaces: str | None = None

    @classmethod
    def of(cls, text: str, replaces: str | None = None) -> Self:
        """The key that a text stands for, white space around it aside."""
        secret = hashlib.blake2b(text.strip().encode(), digest_size=32, person=_PURPOSE).digest()
        return cls(SecretBytes(secret), replaces)

    @property
    def fingerprint(self) -> str:
        """Says which key it is without telling it."""
        secret = self.secret.get_secret_value()
        return hmac.new(secret, PROPERTY.encode(), "sha256").hexdigest()[:16]


def read_pii_key(settings: Settings) -> PiiKey:
    """The key of these settings: itself, the secret that they name, or the local platform's file.

    Raises: ConfigError (none, too short, a file that others can read), RetryableError.
    """
    if settings.pii_key is not None:
        text = settings.pii_key.get_secret_value()
    elif settings.pii_secret_id:
        from stream.lake.secret import read_secret  # noqa: PLC0415 - the SDK, for those who ask

        text = read_secret(settings.pii_secret_id, settings.region, "pii_key").get_secret_value()
        _check_length(text, f"secret {settings.pii_secret_id}")
    elif settings.aws == "embedded":
        text = _read_or_create(settings.home / FILE)
    else:
        raise ConfigError(
            "personal data is masked before it reaches Silver, and there is no key for it: set "
            "HEADRACE_PII_SECRET_ID to the name or ARN of a secret in AWS Secrets Manager, or "
            f"HEADRACE_PII_KEY to at least {PII_KEY_CHARACTERS} random characters (for one: "
            "`openssl rand -hex 32`). Keep a copy: rows of another key do not join"
        )
    return PiiKey.of(text, settings.pii_key_replaces)


def check_key(lake: Lake, key: PiiKey) -> None:
    """Refuse a key that is not the one of the lake's tables. Cost: one load a table with PII.

    Raises: ConfigError naming the table, both fingerprints and what to do.
    """
    wanted = {name for name, contract in load_feeds().items() if contract.pii_columns}
    for name in sorted(wanted.intersection(lake.catalog.names())):
        found = lake.catalog.open(name).properties.get(PROPERTY)
        if found not in (None, key.fingerprint, key.replaces):
            raise ConfigError(_explain(name, key, found))


def pin_key(table: LakeTable, key: PiiKey) -> None:
    """Say in the table which key masks it; from now on this handle commits under no other.

    Raises: ConfigError as `check_key`.
    """
    table.pin(
        PROPERTY,
        key.fingerprint,
        replaces=(None, key.replaces),
        explain=lambda found: _explain(table.name, key, found),
    )


def _explain(table: str, key: PiiKey, found: str | None) -> str:
    return (
        f"table {table} is masked with the key {found}, these settings hold the key "
        f"{key.fingerprint}: their rows would not join. Nothing was committed. Give the lake's own "
        f"key (HEADRACE_PII_KEY, HEADRACE_PII_SECRET_ID or HEADRACE_HOME/{FILE}); to replace it, "
        f"follow {RUNBOOK}"
    )


def _check_length(text: str, where: str) -> None:
    if len(text.strip()) < PII_KEY_CHARACTERS:
        raise ConfigError(
            f"{where}: expected at least {PII_KEY_CHARACTERS} random characters as the key that "
            f"masks personal data, found {len(text.strip())}"
        )


def _read_or_create(path: Path) -> str:
    """The key of a home. Whoever is first creates it, and everybody reads the same one."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path)
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read or create {path}, the key that masks personal data: {error}. Choose "
            "another HEADRACE_HOME, change its owner, or set HEADRACE_PII_KEY."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{path} can be read by others and unmasks personal data: `chmod 600 {path}`"
        )
    _check_length(text, str(path))
    return text


def _create(path: Path) -> None:
    """Create the file whole or not at all; one that another process created meanwhile stays."""
    number, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=path.parent)  # O_EXCL, mode 0600
    fresh = Path(name)
    try:
        with os.fdopen(number, "w") as file:
            file.write(os.urandom(32).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(fresh)  # unlike a rename it never replaces
    finally:
        fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # rows that outlive a power cut must not outlive their key
    finally:
        os.close(folder)
