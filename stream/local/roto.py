"""The embedded emulator: one `roto-server` process for S3, Kinesis, DynamoDB and more.

It keeps its data in one folder and survives SIGKILL without losing an acknowledged write. The
port is chosen free once and remembered beside the data, so endpoints stay the same over restarts
as long as nobody else takes it. Start-up takes about 50 ms.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.local.process import last_line, reap, spawn
from stream.settings import bare_environment

HOST = "127.0.0.1"
START_SECONDS = 15.0


class Roto:
    """The emulator process of one home folder: data in `home/aws`, output in `home/log/aws.log`."""

    name = "roto"

    def __init__(self, home: Path, region: str = "us-east-1", clock: Clock = SYSTEM_CLOCK) -> None:
        self._data = home / "aws"
        self._log = home / "log" / "aws.log"
        self._region = region
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._endpoint = ""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> str:
        """Start it unless it runs; returns when ListStreams answers. Raises: ConfigError."""
        if self.is_alive():
            return self._endpoint
        binary = find_binary()
        prepare_folder(self._data)
        port = choose_port(self._data / "port")
        self._child = spawn(
            [binary, "--host", HOST, "--port", str(port), "--data-dir", self._data],
            self._log,
            bare_environment(),
        )
        self._wait_until_ready(port)
        add_missing_index(self._data / "kinesis.db")
        self._endpoint = f"http://{HOST}:{port}"
        return self._endpoint

    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        if self._child:
            reap(self._child)
            self._child = None

    def _wait_until_ready(self, port: int) -> None:
        deadline = self._clock.monotonic() + START_SECONDS
        while not answers(HOST, port, self._region):
            if not self.is_alive():
                raise ConfigError(
                    f"the embedded AWS ended at its start: {last_line(self._log)} (log {self._log})"
                )
            if self._clock.monotonic() > deadline:
                self.stop()
                raise ConfigError(
                    f"the embedded AWS did not answer on port {port} within {START_SECONDS:.0f} s"
                    f" (log {self._log})"
                )
            self._clock.sleep(0.01)


def find_binary() -> Path:
    """`roto-server` as pip installed it, beside the Python that runs us. Raises: ConfigError."""
    binary = Path(sys.executable).with_name("roto-server")
    if not binary.is_file():
        raise ConfigError(
            f"the embedded AWS is not installed: no file {binary}. Install `roto-aws` into this "
            "environment (`make setup`), or set HEADRACE_EMULATOR to the URL of another emulator."
        )
    return binary


def prepare_folder(folder: Path) -> None:
    """Create a folder and check that it takes a file, so that later messages can be about more.

    Raises: ConfigError naming the folder and why it does not.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 65_536)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder.absolute()}: {error.strerror}. "
            "Make room or permissions there, or set HEADRACE_HOME to another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def choose_port(memory: Path) -> int:
    """The port remembered in a file if it is free, else a free one, which is then remembered."""
    with contextlib.suppress(OSError, ValueError):
        remembered = int(memory.read_text())
        if is_free(remembered):
            return remembered
    port = free_port()
    memory.write_text(str(port))
    return port


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether we could listen on a loopback port now."""
    with socket.socket() as listener:
        # As servers do it: connections of an ended server that linger do not hold the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def answers(host: str, port: int, region: str = "us-east-1", seconds: float = 2.0) -> bool:
    """Whether an emulator answers ListStreams there.

    Plain HTTP, because importing an SDK takes longer than starting the emulator. The signature
    is a dummy: emulators route by the service name in the credential scope and check nothing.
    """
    scope = f"Credential=headrace/20200101/{region}/kinesis/aws4_request"
    headers = {
        "X-Amz-Target": "Kinesis_20131202.ListStreams",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
    }
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("POST", "/", b"{}", headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def add_missing_index(database: Path) -> None:
    """Give the emulator's records table the index that its expiry needs.

    Each of its calls deletes expired records by arrival time and would scan the table for it: 5-7
    times the cost once a stream holds some 100k records. The schema is not ours: if it changed,
    go without.
    """
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(database, timeout=5.0)) as connection,
        connection,
    ):
        connection.execute("CREATE INDEX IF NOT EXISTS ix ON records(stream_arn, arrived)")
