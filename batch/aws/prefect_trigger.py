"""Start flow runs through a Prefect server's REST API, with the standard library alone.

`http.client` and nothing above it: only http and https, no redirects, no proxies, no other scheme.
An address comes from the environment, never from an event. A run has an idempotency key: the
server keeps one run per key, so every call may be made again. Basic authentication if there is a
secret; a CSRF token if the server asks for one. The address of the deployment is asked for each
time: a deployment that was made anew has another id.
Not here: what a run is started for (`lineage_batch`).
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from batch.aws.lineage_batch import RunRequest
from stream.clock import SYSTEM_CLOCK, Clock, to_utc
from stream.errors import ConfigError, StoreUnavailableError

FLOW, DEPLOYMENT = "lineage-batch", "default"
TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3
PATIENCE_SECONDS = 25.0
"""All attempts of one call; with the table's own this stays within the function's minute."""
MAX_ANSWER_BYTES = 8_000_000
FIND_AT_ONCE = 100
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def excerpt(self) -> str:
        """Its beginning, for a message."""
        return self.body[:300].decode(errors="replace")


class PrefectTrigger:
    """Runs of one deployment. Not for several threads.

    Args: url: of the API, e.g. https://prefect.example.com/api. read_auth: "user:password", read
    again after a refusal; None where the server wants none. client: a name of this process, to
    which a CSRF token is bound.

    Raises: ConfigError for an address that is none, or would send the password in clear.
    """

    def __init__(
        self,
        url: str,
        read_auth: Callable[[], str] | None = None,
        *,
        client: str = "headrace-lineage",
        clock: Clock = SYSTEM_CLOCK,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._host, self._port, self._path, self._is_tls = _parse_url(url)
        self._read_auth, self._client, self._clock = read_auth, client, clock
        self._timeout = timeout_seconds
        self._auth: str | None = None
        self._token: str | None = None

    def find(self, keys: Collection[str]) -> dict[str, str]:
        """Ids of the deployment's runs that have one of these idempotency keys, by key.

        Raises: RetryableError (no answer, overloaded), ConfigError (refused).
        """
        wanted, found = sorted(keys), dict[str, str]()
        for at in range(0, len(wanted), FIND_AT_ONCE):
            asked = {
                "flows": {"name": {"any_": [FLOW]}},
                "flow_runs": {"idempotency_key": {"any_": wanted[at : at + FIND_AT_ONCE]}},
            }
            answer = self._call("POST", "/flow_runs/filter", asked)
            found |= self._read(
                answer, lambda runs: {str(r["idempotency_key"]): str(r["id"]) for r in runs}
            )
        return found

    def start(self, request: RunRequest) -> str:
        """Start the run of a key, unless there is one; its id. Raises: as `find`."""
        where = f"/deployments/name/{quote(FLOW)}/{quote(DEPLOYMENT)}"
        deployment = self._read(self._call("GET", where), _id)
        answer = self._call(
            "POST",
            f"/deployments/{quote(deployment, safe='')}/create_flow_run",
            {
                "name": f"lineage-{request.key[:12]}",
                "idempotency_key": request.key,
                "parameters": {"hours": [hour.to_parameter() for hour in request.hours]},
                "state": {
                    "type": "SCHEDULED",
                    "state_details": {
                        "scheduled_time": to_utc(request.after_ms * 1_000_000).isoformat()
                    },
                },
            },
        )
        return self._read(answer, _id)

    def _read(self, answer: Answer, take: Callable[[Any], Found]) -> Found:
        """What `take` finds in the JSON of an answer."""
        try:
            return take(json.loads(answer.body))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{self._host} answered something else than expected: is PREFECT_API_URL a Prefect "
                f"server's API? {answer.excerpt}"
            ) from None

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One call with its second chances: another token, another password, a later moment."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        has_new_token = has_new_auth = False
        attempt = 1
        while True:
            try:
                answer = self._send(method, path, body)
                if not _is_passing(answer.status):
                    if answer.status == http.client.FORBIDDEN and not has_new_token:
                        has_new_token = self._fetch_token()
                        if has_new_token:
                            continue
                    if answer.status == http.client.UNAUTHORIZED and not has_new_auth:
                        has_new_auth, self._auth = True, None
                        if self._read_auth is not None:
                            continue
                    return self._check(method, path, answer)
                trouble = f"HTTP {answer.status} {answer.excerpt}"
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__} {error}"
            if attempt >= ATTEMPTS or self._clock.monotonic() >= deadline:
                raise StoreUnavailableError(
                    f"Prefect at {self._host}: {method} {path}: {trouble} ({attempt} attempts)"
                )
            self._clock.sleep(0.5 * 2 ** (attempt - 1))
            attempt += 1

    def _fetch_token(self) -> bool:
        """Get a CSRF token; False if the server uses none, so that its refusal stands."""
        answer = self._send("GET", f"/csrf-token?client={quote(self._client, safe='')}")
        if not answer.is_ok:
            return False
        self._token = self._read(answer, lambda found: str(found["token"]))
        return True

    def _check(self, method: str, path: str, answer: Answer) -> Answer:
        if answer.is_ok:
            return answer
        advice = _ADVICE.get(answer.status, "")
        if 300 <= answer.status < 400:
            advice = "it sends elsewhere; redirects are not followed: name the final address. "
        raise ConfigError(
            f"Prefect at {self._host}: {method} {path}: HTTP {answer.status}. {advice}"
            f"{answer.excerpt}"
        )

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        connection = self._connect()
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{self._path}{path}", body=data, headers=self._headers())
            response = connection.getresponse()
            found = response.read(MAX_ANSWER_BYTES + 1)
        finally:
            connection.close()
        if len(found) > MAX_ANSWER_BYTES:
            raise ConfigError(f"{self._host}: an answer of more than {MAX_ANSWER_BYTES:,} bytes")
        return Answer(response.status, found)

    def _connect(self) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=context
        )

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._auth is None and self._read_auth is not None:
            self._auth = self._read_auth()
        if self._auth is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(self._auth.encode()).decode()}"
        if self._token is not None:
            headers |= {
                "Prefect-Csrf-Token": self._token,
                "Prefect-Csrf-Client": self._client,
            }
        return headers


_ADVICE = {
    401: "The secret of PREFECT_AUTH_SECRET_ARN is not what the server expects. ",
    404: f"Is the deployment {FLOW}/{DEPLOYMENT} applied (deploy/prefect/apply.py)? ",
    409: "The deployment takes other parameters: apply deploy/prefect of this version. ",
}


def _id(found: Any) -> str:
    return str(found["id"])


def _is_passing(status: int) -> bool:
    """Whether another attempt may end better."""
    return status >= 500 or status in {408, 429}


def _parse_url(url: str) -> tuple[str, int | None, str, bool]:
    """Host, port, path without a slash at its end, and whether it is TLS."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    is_plain = parts.scheme == "http" and host in LOOPBACK
    if (
        not host
        or not (parts.scheme == "https" or is_plain)
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            "PREFECT_API_URL: expected https://host[:port]/api, without user, query or fragment; "
            f"http is only for this machine. Found {parts.scheme or 'no scheme'}, host {host!r}"
        )
    return host, port, parts.path.rstrip("/"), parts.scheme == "https"
