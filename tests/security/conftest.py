"""Planted secrets, a search for them, servers that lie, children whose memory is measured."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from batch.cli import headrace
from stream.cli.failure import run_command

ROOT = Path(__file__).parents[2]

PLANTED = {
    "HEADRACE_FMP_API_KEY": "pl4nted-fmp-key-0123456789",
    "HEADRACE_MONGO_URI": "mongodb://reader:pl4nted-mongo-password@127.0.0.1:1/?tls=false",
    "HEADRACE_PII_KEY": "pl4nted-key-that-masks-0123456789abcdef",
    "HEADRACE_API_TOKEN": "pl4nted-token-of-the-api-0123456789",
    "HEADRACE_PREFECT_AUTH": "reader:pl4nted-prefect-password",
    "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
    "AWS_SECRET_ACCESS_KEY": "pl4nted-aws-secret-0123456789",
    "AWS_SESSION_TOKEN": "pl4nted-aws-session-token-0123456789",
}
HIDDEN = (
    *(value for name, value in PLANTED.items() if name != "AWS_ACCESS_KEY_ID"),
    "pl4nted-mongo-password",
)
"""What must be nowhere. An access key's id is a name, not a secret."""


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, str]:
    """The environment of a platform on a folder, with a secret for everything."""
    for name, value in {
        **PLANTED,
        "HEADRACE_HOME": str(home),
        "HEADRACE_LAKE": f"file://{home}/lake",
    }.items():
        monkeypatch.setenv(name, value)
    return PLANTED


def find_secrets(data: bytes) -> list[str]:
    """The planted secrets that some bytes show, plain or in a usual spelling."""
    return [secret for secret in HIDDEN if any(form in data for form in _forms(secret))]


def _forms(secret: str) -> Iterator[bytes]:
    plain = secret.encode()
    yield plain
    yield quote(secret, safe="").encode()
    yield plain.hex().encode()
    for shift in range(3):  # base64 of a text that holds it begins at any of three places
        coded = base64.b64encode(b"\0" * shift + plain)
        yield coded[4 if shift else 0 : -4]


def search_below(root: Path) -> list[str]:
    """Which files show a secret; gzip and Parquet are unpacked."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            secrets = find_secrets(str(path).encode() + b"\n" + _contents(path))
            found += [f"{path.relative_to(root)}: {secret}" for secret in secrets]
    return found


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data += gzip.decompress(data)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        columns = [column.to_pylist() for column in table.columns]
        data += repr(table.schema).encode()
        data += b"\n".join(
            v if isinstance(v, bytes) else str(v).encode() for c in columns for v in c
        )
    return data


@pytest.fixture
def secrets_below() -> Callable[[Path], list[str]]:
    """See `search_below`."""
    return search_below


@pytest.fixture
def secrets_in() -> Callable[[bytes], list[str]]:
    """See `find_secrets`."""
    return find_secrets


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a verb in this process; its exit code, and all that it and its children printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = run_command(headrace, arguments)
        printed = capfd.readouterr()
        return code, printed.out + printed.err

    return run


class Server:
    """Answers connection n with the n-th of `answers` (the last one repeats): bytes or a function
    that writes to the connection. `asked` keeps what was asked for.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[bytes | Callable[[socket.socket], None]] = []
        self.asked: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65_536)
                if not piece:
                    return
                head += piece
            self.asked.append(head)
            answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers on this machine."""
    servers: list[Server] = []

    def start(
        *answers: bytes | Callable[[socket.socket], None], context: ssl.SSLContext | None = None
    ) -> Server:
        server = Server(context)
        server.answers = list(answers)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = {
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n".encode() + body


@pytest.fixture
def answer() -> Callable[..., bytes]:
    """See `http`."""
    return http


MEASURE = """
import resource
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
"""


@pytest.fixture
def grown_mb() -> Callable[[str, str], tuple[int, str]]:
    """Run `prepare`, then `act`, in a process of its own: by how many MB `act` raised its peak
    memory, and what it printed.
    """

    def run(prepare: str, act: str) -> tuple[int, str]:
        code = (
            f"{MEASURE}\n{prepare}\nbefore = peak_mb()\n{act}\nprint('grown', peak_mb() - before)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return int(re.findall(r"^grown (\d+)$", answer.stdout, re.M)[0]), answer.stdout

    return run


@pytest.fixture
def root() -> Path:
    """The source tree."""
    return ROOT
