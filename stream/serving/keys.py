"""Secrets of the API: keys that seal cursors, and the local bearer token.

Locally both are made once, of 32 random bytes, in files of the home that only their owner reads;
two processes that start at once agree on the file that was first. In AWS the keys come from
Secrets Manager, and the gateway looks after tokens.

A key file or secret holds one key, or several separated by white space: the first seals, all open.
Rotation: put a new one in front, take the old one away an hour later.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from stream.errors import ConfigError

CURSOR_KEY_FILE = "api-cursor-key"
TOKEN_FILE = "api-token"  # noqa: S105  # nosec B105: the name of a file
MIN_KEY_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by their id, the first of `ids` seals. No repr shows one."""

    ids: tuple[str, ...]
    keys: tuple[SecretStr, ...]

    def sealing(self) -> tuple[str, bytes]:
        """Id and bytes of the key that seals."""
        return self.ids[0], self.keys[0].get_secret_value().encode()

    def opening(self, key_id: str) -> bytes | None:
        """The key of an id; None if there is none (any more)."""
        for known, key in zip(self.ids, self.keys, strict=True):
            if known == key_id:
                return key.get_secret_value().encode()
        return None


def read_key_ring(text: SecretStr, where: str) -> KeyRing:
    """The keys that a secret holds. Raises: ConfigError if one is too short to hide anything."""
    keys = text.get_secret_value().split()
    if not keys or any(len(key) < MIN_KEY_CHARACTERS for key in keys):
        raise ConfigError(
            f"{where}: expected keys of at least {MIN_KEY_CHARACTERS} characters each, separated "
            "by white space, the newest first"
        )
    ids = tuple(hashlib.sha256(key.encode()).hexdigest()[:8] for key in keys)
    return KeyRing(ids, tuple(map(SecretStr, keys)))


def local_key_ring(home: Path) -> KeyRing:
    """The keys of a home, made if there are none. Raises: ConfigError."""
    path = home / CURSOR_KEY_FILE
    return read_key_ring(_read_or_make(path), str(path))


def local_token(home: Path) -> SecretStr:
    """The bearer token of a home, made if there is none. Raises: ConfigError."""
    path = home / TOKEN_FILE
    token = SecretStr(_read_or_make(path).get_secret_value().strip())
    if len(token.get_secret_value()) < MIN_KEY_CHARACTERS:
        raise ConfigError(f"{path} holds no token: delete it, and the next start makes one.")
    return token


def _read_or_make(path: Path) -> SecretStr:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return SecretStr(path.read_text())
        except FileNotFoundError:
            _make(path)
            return SecretStr(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"cannot keep a secret in {path}: {error.strerror}. Choose another HEADRACE_HOME."
        ) from error


def _make(path: Path) -> None:
    """Create the file whole: written beside it, then linked under its name unless one is there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
        try:
            os.link(beside, path)
        except FileExistsError:
            return  # another process was first: its key is everybody's
    finally:
        beside.unlink()
