"""Prefect's newest flow runs, over its REST API: two calls with a deadline, no Prefect library.

The server is the one that the settings name, else the one of this home's platform, whose port
is remembered beside its database. Not here: starting either (`headrace up --prefect`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx

from stream.errors import StoreUnavailableError
from stream.settings import Settings
from stream.watch.state import Prefect, PrefectRun

TIMEOUT_SECONDS = 2.0
RUNS = 20
HOST = "127.0.0.1"


def find_url(settings: Settings, *, is_running: bool) -> str:
    """The address of Prefect's API; "" if there is none.

    Args: is_running: whether the platform of this home runs a server.
    """
    if settings.prefect_url:
        return settings.prefect_url.rstrip("/").removesuffix("/api") + "/api"
    if not is_running:
        return ""
    try:
        port = int((settings.home.absolute() / "prefect" / "port").read_text())
    except (OSError, ValueError):
        return ""
    return f"http://{HOST}:{port}/api"


class PrefectRuns:
    """Reads runs; flows' names are asked for once."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._flows: dict[str, str] = {}

    def read(self, url: str) -> Prefect:
        """The newest runs of the server at `url` ("" = off).

        Raises: StoreUnavailableError if it does not answer, or not as Prefect does.
        """
        if not url:
            return Prefect("off")
        secret = self._settings.prefect_auth
        auth = None
        if secret is not None:
            user, _, password = secret.get_secret_value().partition(":")
            auth = httpx.BasicAuth(user, password)
        try:
            with httpx.Client(
                base_url=url,
                auth=auth,
                timeout=TIMEOUT_SECONDS,
                transport=self._transport,
                trust_env=False,
            ) as client:
                runs = _post(client, "/flow_runs/filter", _STARTED)
                self._learn_flows(client, {run["flow_id"] for run in runs})
            page = url.removesuffix("/api")
            return Prefect("up", page, tuple(self._run(run, page) for run in runs))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreUnavailableError(_explain(url, error, is_given=auth is not None)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnavailableError(
                f"{url} does not answer like Prefect ({type(error).__name__}: {error}). "
                "HEADRACE_PREFECT_URL is the address of its API, e.g. http://127.0.0.1:4200/api."
            ) from error

    def _learn_flows(self, client: httpx.Client, ids: set[str]) -> None:
        unknown = sorted(ids - self._flows.keys())
        if unknown:
            found = _post(client, "/flows/filter", {"flows": {"id": {"any_": unknown}}})
            self._flows |= {flow["id"]: flow["name"] for flow in found}

    def _run(self, run: dict[str, Any], page: str) -> PrefectRun:
        start = run.get("start_time")
        seconds = run.get("total_run_time")
        if run.get("state_type") == "RUNNING":
            seconds = run.get("estimated_run_time") or seconds
        return PrefectRun(
            flow=self._flows.get(run["flow_id"], "?"),
            name=str(run["name"]),
            state=str(run.get("state_name") or "?"),
            start_ms=int(datetime.fromisoformat(start).timestamp() * 1000) if start else None,
            duration_ms=None if seconds is None else int(float(seconds) * 1000),
            url=f"{page}/runs/flow-run/{run['id']}",
        )


_STARTED = {
    "flow_runs": {"start_time": {"is_null_": False}},
    "sort": "START_TIME_DESC",
    "limit": RUNS,
}
"""Runs that began; the thousands that are only scheduled say nothing yet."""


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(path.lstrip("/"), json=body)
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, list):
        raise TypeError("expected a list")
    return found


def _explain(url: str, error: Exception, *, is_given: bool) -> str:
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
        advice = "is it right?" if is_given else 'set it to "user:password".'
        return f"Prefect at {url} refused the login. HEADRACE_PREFECT_AUTH: {advice}"
    if isinstance(error, httpx.HTTPStatusError):
        return f"Prefect at {url} answered {error.response.status_code}. Look at its log."
    return (
        f"Prefect at {url} does not answer ({str(error) or type(error).__name__}). Is it running?"
    )
