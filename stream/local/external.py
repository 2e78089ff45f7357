"""An emulator that somebody else runs: known by its URL, never started or stopped by us."""

from __future__ import annotations

from urllib.parse import urlsplit

from stream.errors import ConfigError
from stream.local.roto import answers


class External:
    """Any server that speaks AWS at one URL (`HEADRACE_EMULATOR=http://…`)."""

    name = "external"
    pid = None

    def __init__(self, url: str, region: str = "us-east-1") -> None:
        self._url = url.rstrip("/")
        self._region = region

    def start(self) -> str:
        """Check that it answers. Raises: ConfigError."""
        if not self.is_alive():
            raise ConfigError(
                f"HEADRACE_EMULATOR: nothing answers Kinesis ListStreams at {self._url}. "
                "Start that emulator, or unset the variable to use the embedded one."
            )
        return self._url

    def is_alive(self) -> bool:
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return answers(parts.hostname or "", port, self._region)

    def stop(self) -> None:
        """Nothing to stop: it is not ours."""
