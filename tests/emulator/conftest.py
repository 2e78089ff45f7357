"""An embedded AWS per session, and streams with names of their own per test."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.sources.kinesis import KinesisReader, create_stream

ROTO = Path(sys.executable).with_name("roto-server")
_NAMES = itertools.count()


@pytest.fixture(scope="session")
def roto_url() -> Iterator[str]:
    """A running emulator; stopped at the end of the session."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(ROTO), "--ephemeral", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def roto(roto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator, and an environment that points every AWS client at it."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", roto_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return roto_url


@pytest.fixture
def new_stream(roto: str) -> Callable[[int], KinesisReader]:
    """Create a stream and return its reader."""

    def create(shards: int) -> KinesisReader:
        name = f"stream-{next(_NAMES)}"
        create_stream(name, shards)
        return KinesisReader(name)

    return create


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"roto-server did not listen on port {port} within 10 s")
