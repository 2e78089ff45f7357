"""The local Prefect: a server on SQLite and one process that serves every deployment.

    HEADRACE_HOME/prefect/   database, leases, profiles and the remembered port of this platform
    prefect        the API and UI, on 127.0.0.1 alone
    prefect-flows  `batch.flows.serve`: runs the flows, each in a process of its own

`plan_prefect` says what to start as plain data, for the platform's supervisor; `running` starts
and stops it itself. A developer's own Prefect settings and profiles never reach these processes,
and nothing is reported to anybody. Only processes are started here: no Prefect library is
imported, so that a platform without it pays nothing.
Not here: what the flows do (`flows`), pools and deployments of AWS (deploy/prefect).
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.local.process import last_line, reap, spawn
from stream.local.roto import choose_port
from stream.settings import SECRETS, Settings, bare_environment, child_environment

HOST = "127.0.0.1"
SERVER, FLOWS = "prefect", "prefect-flows"
START_SECONDS = 180.0
"""A first start creates the database: 14 s alone, twice that and more on a busy machine."""
STOP_SECONDS = 15.0
"""The flows end their runs and pause their schedules, which needs the server: it ends last."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
QUICK = {
    "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
}
KEEPING = {
    # Held in memory, a restart of the server fails every run that holds a slot.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Flow runs are kept for ever otherwise.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "batch,stream",
}
JSON_LOGS = {
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "batch.flows.logs.RunFormatter",
    "PREFECT_LOGGING_FORMATTERS_JSON_FORMAT": "%(message)s",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_COLORS": "false",
}
"""Prefect's own lines in our format (`HEADRACE_LOG_FORMAT=json`)."""


@dataclass(frozen=True, slots=True)
class PrefectProcess:
    """One command to keep running. Its environment may hold the settings' secrets: never shown."""

    name: str
    command: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(repr=False)
    health_url: str | None = None


@dataclass(frozen=True, slots=True)
class PrefectPlan:
    """The two processes, in the order of their start."""

    api_url: str
    server: PrefectProcess
    flows: PrefectProcess

    @property
    def ui_url(self) -> str:
        """What to open in a browser."""
        return self.api_url.removesuffix("/api")

    @property
    def processes(self) -> tuple[PrefectProcess, PrefectProcess]:
        """Both; the second one waits for the first by itself."""
        return self.server, self.flows


def plan_prefect(settings: Settings, port: int | None = None) -> PrefectPlan:
    """What to start for the platform of these settings.

    Args: port: unset takes the one that this home used before, if it is free, else any free one.
    Raises: ConfigError if Prefect is not installed or the home cannot be written.
    """
    check_installed()
    folder = settings.home.absolute() / "prefect"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        port = port or choose_port(folder / "port")
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror}. Choose another HEADRACE_HOME."
        ) from error
    api_url = f"http://{HOST}:{port}/api"
    server = bare_environment(_environment(settings, folder, api_url))
    flows = _environment(settings, folder, api_url, SECRETS)
    log = settings.home.absolute() / "log"
    serve = ("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return PrefectPlan(
        api_url,
        PrefectProcess(
            SERVER,
            (sys.executable, "-m", *serve),
            log / f"{SERVER}.log",
            server,
            f"{api_url}/ready",
        ),
        PrefectProcess(
            FLOWS, (sys.executable, "-m", "batch.flows.serve"), log / f"{FLOWS}.log", flows
        ),
    )


def check_installed() -> None:
    """Raises: ConfigError if the optional Prefect is not there."""
    if importlib.util.find_spec("prefect") is None:
        raise ConfigError(
            "Prefect is not installed here: pip install 'headrace[prefect]' (or `make "
            "setup-extras`). Every batch action also runs without it, e.g. `headrace backfill`."
        )


def remembered_url(settings: Settings) -> str:
    """The address of this home's server; of no use before its first start."""
    port = (settings.home.absolute() / "prefect" / "port").read_text().strip()
    return f"http://{HOST}:{port}"


@contextmanager
def running(
    settings: Settings, *, with_flows: bool = True, clock: Clock = SYSTEM_CLOCK
) -> Iterator[PrefectPlan]:
    """Both processes for the length of the block; none of theirs is left behind it.

    Args: with_flows: false starts the server alone, for workers of pools.
    Raises: ConfigError with the server's last words if it does not answer in time.
    """
    plan = plan_prefect(settings)
    with ExitStack() as ending:
        server = _start(plan.server, ending)
        _wait_until_ready(plan.server, server, clock)
        if with_flows:
            _start(plan.flows, ending)
        yield plan


def is_ready(url: str) -> bool:
    """Whether a server answers 200 there.

    >>> is_ready("http://127.0.0.1:1/api/ready")
    False
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end_session(process: subprocess.Popen[bytes], patience_seconds: float = STOP_SECONDS) -> None:
    """End a spawned process, then whatever it started that outlived it."""
    reap(process, patience_seconds)
    with suppress(ProcessLookupError):  # the group is gone with its last member
        os.killpg(process.pid, signal.SIGKILL)


def _start(process: PrefectProcess, ending: ExitStack) -> subprocess.Popen[bytes]:
    child = spawn(process.command, process.log, process.env)
    ending.callback(end_session, child)
    return child


def _wait_until_ready(
    process: PrefectProcess, child: subprocess.Popen[bytes], clock: Clock
) -> None:
    deadline = clock.monotonic() + START_SECONDS
    while not is_ready(process.health_url or ""):
        if child.poll() is not None or clock.monotonic() > deadline:
            raise ConfigError(
                f"the Prefect server did not answer at {process.health_url} (log {process.log}): "
                f"{last_line(process.log) or 'it said nothing'}"
            )
        clock.sleep(0.2)


def _environment(
    settings: Settings, folder: Path, api_url: str, secrets: Collection[str] = ()
) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in child_environment(settings, secrets).items()
        if not name.startswith("PREFECT_")
    }
    return {
        **inherited,
        **QUIET,
        **QUICK,
        **KEEPING,
        **(JSON_LOGS if settings.log_format == "json" else {}),
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
    }
