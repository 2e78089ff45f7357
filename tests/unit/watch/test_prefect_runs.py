"""Prefect's runs over its REST API: read, refused, away; what is asked fits Prefect's schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from stream.errors import StoreUnavailableError
from stream.settings import Settings
from stream.watch.prefect_runs import PrefectRuns, find_url

RUN = {
    "id": "0b0c",
    "flow_id": "f1",
    "name": "brave-otter",
    "state_name": "Completed",
    "state_type": "COMPLETED",
    "start_time": "2025-11-24T16:00:00.5Z",
    "total_run_time": 12.25,
}
URL = "http://127.0.0.1:4200/api"


class Server:
    """Answers as Prefect does."""

    def __init__(self, runs: Any = (RUN,), status: int = 200) -> None:
        self.runs, self.status, self.asked = runs, status, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        body = self.runs
        if request.url.path == "/api/flows/filter":
            wanted = json.loads(request.content)["flows"]["id"]["any_"]
            body = [{"id": name, "name": f"flow-{name}"} for name in wanted]
        return httpx.Response(self.status, json=body)


def runs(server: Any, settings: Settings) -> PrefectRuns:
    return PrefectRuns(settings, httpx.MockTransport(server))


def test_runs_are_shown_with_their_flow_and_page(settings: Settings) -> None:
    server = Server()
    reader = runs(server, settings)
    found = reader.read(URL)
    [run] = found.runs
    assert (found.state, found.url) == ("up", "http://127.0.0.1:4200")
    assert (run.flow, run.name, run.state) == ("flow-f1", "brave-otter", "Completed")
    assert (run.start_ms, run.duration_ms) == (1_764_000_000_500, 12_250)
    assert run.url == "http://127.0.0.1:4200/runs/flow-run/0b0c"
    reader.read(URL)
    assert [r.url.path for r in server.asked].count("/api/flows/filter") == 1


def test_runs_are_asked_with_the_login(settings: Settings) -> None:
    server = Server()
    secret = Settings(home=settings.home, lake=settings.lake, prefect_auth="admin:p:w")
    runs(server, secret).read(URL)
    assert server.asked[0].headers["authorization"] == "Basic YWRtaW46cDp3"
    assert "p:w" not in repr(secret)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Server(status=401), "HEADRACE_PREFECT_AUTH"),
        (Server(status=500), "answered 500"),
        (Server(runs={"detail": "?"}), "does not answer like Prefect"),
        (Server(runs=[{"id": 1}]), "does not answer like Prefect"),
        (Server(runs=[{**RUN, "start_time": "soon"}]), "does not answer like Prefect"),
    ],
)
def test_server_that_cannot_be_read_is_explained(
    settings: Settings, server: Server, says: str
) -> None:
    with pytest.raises(StoreUnavailableError, match=says):
        runs(server, settings).read(URL)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("")])
def test_server_that_is_away_is_named(settings: Settings, error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(StoreUnavailableError, match=r"127.0.0.1:4200/api does not answer \(\w+"):
        runs(fail, settings).read(URL)


def test_url_is_the_settings_else_the_remembered_port_of_a_running_server(home: Path) -> None:
    settings = Settings(home=home)
    assert find_url(settings, is_running=False) == ""
    assert find_url(settings, is_running=True) == ""
    (home / "prefect").mkdir(parents=True)
    (home / "prefect" / "port").write_text("4711\n")
    assert find_url(settings, is_running=False) == ""
    assert find_url(settings, is_running=True) == "http://127.0.0.1:4711/api"
    for url in ("http://p:4200", "http://p:4200/", "http://p:4200/api", "http://p:4200/api/"):
        given = Settings(home=home, prefect_url=url)
        assert find_url(given, is_running=True) == "http://p:4200/api"
        assert runs(Server(), given).read("").state == "off"
