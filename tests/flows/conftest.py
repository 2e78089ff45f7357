"""A real Prefect server for the slow tests; for the fast ones, ears instead of one.

The fast tests call flows as plain functions (`.fn`): what they would write to a server is heard
here. Prefect is imported by the tests that need it, not by this file.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import batch
from batch.prefect_server import PrefectPlan, end_session, running
from stream.local.process import spawn
from stream.settings import Settings, load_settings

FLOW_MODULES = (
    *("backfill", "replay", "compaction", "expiry", "orphans", "retention", "watch"),
    *("dbt_build", "hours", "lineage"),
)


@dataclass
class Heard:
    """What flows wrote, announced, remembered and asked of the batch actions."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    identities: list[str | None] = field(default_factory=list)
    memory: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, home: Path) -> Heard:
    """Flows of this process say to the result what they would say to a server."""
    found = Heard()

    def write(key: str, rows: Any, description: str) -> None:
        found.tables[key] = [dict(row) for row in rows]

    async def write_async(key: str, rows: Any, description: str) -> None:
        write(key, rows, description)

    def announce(event: str, subject: str, payload: Any, identity: str | None = None) -> None:
        found.events.append((event, subject, dict(payload)))
        found.identities.append(identity)

    async def recall(name: str) -> str | None:
        return found.memory.get(name)

    async def remember(name: str, value: str) -> None:
        found.memory[name] = value

    for name in FLOW_MODULES:
        module = importlib.import_module(f"batch.flows.{name}")
        for target, said in (
            ("write_table", write),
            ("write_table_async", write_async),
            ("announce", announce),
            ("recall", recall),
            ("remember", remember),
            ("concurrency", lambda name, strict: nullcontext()),
        ):
            if hasattr(module, target):
                monkeypatch.setattr(module, target, said)
    bar = SimpleNamespace(show=lambda progress: None)
    monkeypatch.setattr("batch.flows.backfill.ProgressBar", lambda description: bar)
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    monkeypatch.setenv("HEADRACE_LAKE", f"file://{home}/lake")
    return found


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, heard: Heard) -> Callable[..., None]:
    """Let the batch actions answer what a test says; what flows ask of them is heard."""

    def say(**replies: Any) -> None:
        def answer(name: str) -> Callable[..., Any]:
            def call(settings: Settings, *arguments: Any, **options: Any) -> Any:
                heard.calls.append((name, {"arguments": arguments, **options}))
                return replies[name]

            return call

        actions = SimpleNamespace(**{name: answer(name) for name in replies})
        monkeypatch.setattr(batch, "actions", actions, raising=False)

    return say


class Api:
    """The REST API of a Prefect server, without importing Prefect."""

    def __init__(self, plan: PrefectPlan) -> None:
        self.http = httpx.Client(base_url=plan.api_url, timeout=30)
        self.environment = dict(plan.server.env)

    def get(self, path: str) -> Any:
        return self._ask("GET", path).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, body).raise_for_status().json()

    def delete(self, path: str) -> None:
        self._ask("DELETE", path).raise_for_status()

    def has(self, deployment: str) -> bool:
        """Whether `flow/deployment` is registered."""
        return self._find(deployment) is not None

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was announced under a name."""
        wanted = {"event": {"name": [name]}, "order": "ASC"}
        return list(self.post("/events/filter", filter=wanted)["events"])

    def emit(self, event: dict[str, Any]) -> None:
        """Take an event from outside."""
        self._ask("POST", "/events", [event]).raise_for_status()

    def start(self, deployment: str, **parameters: Any) -> str:
        """A run of `flow/deployment`, as soon as that is registered; its id."""
        found = self.wait(lambda: self._find(deployment), f"{deployment} is not registered")
        run = self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters)
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.get(f"/flow_runs/{run}")["state"])

    def states(self, run: str) -> list[str]:
        """Every state that a run had, in order."""
        return [state["name"] for state in self.get(f"/flow_run_states/?flow_run_id={run}")]

    def finish(self, run: str, seconds: float = 90) -> dict[str, Any]:
        """Wait for the end of a run."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        self.wait(lambda: self.state(run)["type"] in final, f"run {run} did not end", seconds)
        return self.state(run)

    def artifacts(self, run: str) -> dict[str, Any]:
        """The artifacts of a run by key."""
        found = self.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return {item["key"]: item for item in found}

    def wait(self, look: Callable[[], Any], complaint: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, complaint
            time.sleep(0.3)
        return found

    def _find(self, deployment: str) -> Any:
        answer = self._ask("GET", f"/deployments/name/{deployment}")
        return answer.json() if answer.is_success else None

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """As Prefect's own client does: 503 is a SQLite that was locked for too long."""
        for _ in range(20):
            answer = self.http.request(method, path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        return answer


@pytest.fixture
def prefect_settings(tmp_path: Path) -> Settings:
    """Settings of a platform of its own, its lake in a folder."""
    return load_settings(home=tmp_path / "home", lake=f"file://{tmp_path}/lake")


@pytest.fixture
def server(prefect_settings: Settings) -> Iterator[Api]:
    """A server without flows, for what brings workers of its own; nothing of it is left behind."""
    with running(prefect_settings, with_flows=False) as plan:
        api = Api(plan)
        yield api
        api.http.close()
        assert processes_of(prefect_settings.home), "they would not be seen afterwards either"
    assert not processes_of(prefect_settings.home)


@pytest.fixture
def served(prefect_settings: Settings) -> Iterator[Api]:
    """A server and the process that serves every deployment; nothing of them is left behind."""
    with running(prefect_settings) as plan:
        api = Api(plan)
        yield api
        api.http.close()
        assert processes_of(prefect_settings.home), "they would not be seen afterwards either"
    assert not processes_of(prefect_settings.home)


def processes_of(home: Path) -> list[str]:
    """Command lines of all processes whose environment names a home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(home).encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Start a command with a log of its own; it is ended with the test. Returns the log."""
    with ExitStack() as ending:

        def start(name: str, command: list[str], env: dict[str, str]) -> Path:
            log = tmp_path / f"{name}.log"
            ending.callback(end_session, spawn(command, log, env))
            return log

        yield start
