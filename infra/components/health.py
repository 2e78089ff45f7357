"""Health checks that a container runs in its own shell (`sh`, `stat`, `bash`: all in the image)."""

from __future__ import annotations

from pathlib import Path

from components.containers import Health
from components.environment import HOME
from stream.heartbeat import pulse_path

PULSE_SECONDS = 30
"""The pulse is written every second; older than this, the process is frozen or gone. An epoch that
does not end is not looked for here: the runtime's own watchdog ends such a process."""


def pulse_health(feed: str, index: int) -> Health:
    """Healthy while a process's pulse is fresh. A missing file is a failure, so the start has
    the five minutes that ECS allows at most to catch up and write its first one.
    """
    return Health(_fresh(pulse_path(Path(HOME), feed, index)), start_seconds=300)


def _fresh(path: Path) -> str:
    age = f"$(( $(date +%s) - $(stat -c %Y {path}) ))"
    return f"test {age} -lt {PULSE_SECONDS}"


def http_health(port: int, path: str, *, start_seconds: int = 120) -> Health:
    """Healthy while an HTTP server of the container answers 200. By bash: the image has no curl."""
    ask = f"printf 'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3"
    command = f"exec 3<>/dev/tcp/127.0.0.1/{port} && {ask} && head -n 1 <&3 | grep -q ' 200 '"
    return Health(f'bash -c "{command}"', start_seconds=start_seconds)
