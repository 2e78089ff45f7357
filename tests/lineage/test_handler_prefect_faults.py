"""A Prefect server that misbehaves: what a real one cannot be asked to do. The real one:
test_handler_end_to_end.py.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from batch.aws.lineage_batch import RunRequest
from batch.aws.lineage_event import BronzeHour
from batch.aws.prefect_trigger import PATIENCE_SECONDS, PrefectTrigger
from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError

REQUEST = RunRequest("k" * 64, (BronzeHour("trades", datetime(2026, 11, 23, 12, tzinfo=UTC)),), 0)


class Misbehaving:
    """Answers what a test says, and remembers what it was asked: method, path, headers, body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any, Any]] = []
        self.reply: Callable[..., tuple[int, Any]] = good
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size) or b"null")
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, answer = outer.reply(self.command, self.path, dict(self.headers))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(OSError):  # the client gave up
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def good(method: str, path: str, _headers: Any) -> tuple[int, Any]:
    """As a server without password and CSRF protection."""
    return (201, {"id": "run-1"}) if "create_flow_run" in path else (200, {"id": "deployment-1"})


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    found = Misbehaving()
    yield found
    found.close()


@pytest.fixture
def trigger(server: Misbehaving) -> PrefectTrigger:
    return PrefectTrigger(server.url, clock=ManualClock())


def test_run_is_asked_for_with_its_key_its_hours_and_its_time(server, trigger):
    assert trigger.start(REQUEST) == "run-1"
    assert server.paths == [
        "GET /api/deployments/name/lineage-batch/default",
        "POST /api/deployments/deployment-1/create_flow_run",
    ]
    _, _, headers, body = server.asked[1]
    assert (body["idempotency_key"], body["name"]) == ("k" * 64, "lineage-" + "k" * 12)
    assert body["parameters"] == {
        "hours": [{"source": "trades", "hour": "2026-11-23T12:00:00+00:00"}]
    }
    assert body["state"]["state_details"]["scheduled_time"] == "1970-01-01T00:00:00+00:00"
    assert "Authorization" not in headers


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_answer_that_may_pass_is_tried_three_times(server, trigger, status):
    server.reply = lambda *_: (status, "later")
    with pytest.raises(StoreUnavailableError, match=rf"HTTP {status} .*\(3 attempts\)"):
        trigger.start(REQUEST)
    assert len(server.asked) == 3


def test_server_that_recovers_in_between_is_not_noticed(server, trigger):
    answers = iter([503, 503])
    server.reply = lambda *ask: (s, "") if (s := next(answers, 0)) else good(*ask)
    assert trigger.start(REQUEST) == "run-1"
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (301, "redirects are not followed"), (307, "redirects are not followed"),
        (400, "HTTP 400"), (401, "is not what the server expects"), (403, "HTTP 403"),
        (404, r"Is the deployment lineage-batch/default applied"), (422, "HTTP 422"),
        (409, "apply deploy/prefect of this version"),
    ],
)  # fmt: skip
def test_answer_that_will_not_pass_is_not_tried_again_and_says_what_to_do(
    server, trigger, status, words
):
    server.reply = lambda *_: (status, {"detail": "no"})
    with pytest.raises(ConfigError, match=words):
        trigger.start(REQUEST)
    assert len({path for path in server.paths if "csrf" not in path}) == 1


def test_refused_password_is_read_again_once(server):
    passwords = iter(["a:old", "a:new"])
    wanted = f"Basic {base64.b64encode(b'a:new').decode()}"
    server.reply = lambda m, p, headers: (
        good(m, p, headers) if headers.get("Authorization") == wanted else (401, {})
    )
    trigger = PrefectTrigger(server.url, lambda: next(passwords), clock=ManualClock())
    assert trigger.start(REQUEST) == "run-1"
    assert trigger.start(REQUEST) == "run-1", "and kept"

    server.reply = lambda *_: (401, {})
    trigger = PrefectTrigger(server.url, lambda: "a:wrong", clock=ManualClock())
    with pytest.raises(ConfigError, match="401") as caught:
        trigger.start(REQUEST)
    assert "wrong" not in str(caught.value)
    assert server.paths[-2:] == ["GET /api/deployments/name/lineage-batch/default"] * 2


def test_token_is_fetched_when_the_server_wants_one_and_again_when_it_forgot_it(server):
    tokens = iter(["t1", "t2"])
    valid: list[str] = []

    def protected(method: str, path: str, headers: Any) -> tuple[int, Any]:
        if "csrf-token" in path:
            valid[:] = [next(tokens)]
            return 200, {"token": valid[0]}
        if method == "POST" and [headers.get("Prefect-Csrf-Token")] != valid:
            return 403, {"detail": "Missing CSRF token."}
        assert method == "GET" or headers["Prefect-Csrf-Client"] == "me/1"
        return good(method, path, headers)

    server.reply = protected
    trigger = PrefectTrigger(server.url, client="me/1", clock=ManualClock())
    assert [trigger.start(REQUEST), trigger.start(REQUEST)] == ["run-1"] * 2
    assert server.paths.count("GET /api/csrf-token?client=me%2F1") == 1
    valid.clear()
    assert trigger.start(REQUEST) == "run-1"


def test_slow_server_ends_within_the_patience(server):
    server.reply = lambda *_: (time.sleep(0.3), (200, {}))[1]
    trigger = PrefectTrigger(server.url, timeout_seconds=0.05, clock=ManualClock())
    with pytest.raises(StoreUnavailableError, match="TimeoutError"):
        trigger.start(REQUEST)
    assert len(server.asked) <= 3 < PATIENCE_SECONDS


@pytest.mark.parametrize("answer", [b"<html>a proxy's page</html>", b"", b"[]", b'{"id": 5, "x'])
def test_answer_that_is_no_json_of_prefect_names_the_address(server, trigger, answer):
    server.reply = lambda *_: (200, answer)
    with pytest.raises(ConfigError, match="is PREFECT_API_URL a Prefect server's API"):
        trigger.start(REQUEST)


def test_answer_without_end_is_cut(server, trigger, monkeypatch):
    monkeypatch.setattr("batch.aws.prefect_trigger.MAX_ANSWER_BYTES", 100)
    server.reply = lambda *_: (200, b"x" * 1_000)
    with pytest.raises(ConfigError, match="an answer of more than 100 bytes"):
        trigger.start(REQUEST)


def test_runs_are_looked_for_a_hundred_keys_at_a_time(server, trigger):
    def answer(_method: str, _path: str, _headers: Any) -> tuple[int, Any]:
        asked = server.asked[-1][3]["flow_runs"]["idempotency_key"]["any_"]
        return 200, [{"id": f"run {k}", "idempotency_key": k} for k in asked if k != "k7"]

    server.reply = answer
    found = trigger.find({f"k{number}" for number in range(150)})
    assert len(server.asked) == 2
    assert len(found) == 149
    assert found["k8"] == "run k8"


@pytest.mark.parametrize(
    "url",
    [
        "", "prefect", "file:///etc/passwd", "ftp://prefect/api", "http://prefect.example.com/api",
        "https:///api", "https://user:secret@prefect/api", "https://prefect/api?x=1",
        "https://prefect:port/api", "gopher://127.0.0.1/", "https://prefect/api#x",
        "http://127.0.0.1.example.com/api", "http://169.254.169.254/latest",
    ],
)  # fmt: skip
def test_address_that_is_none_or_would_send_the_password_in_clear_is_refused(url):
    with pytest.raises(ConfigError, match="PREFECT_API_URL: expected https://") as caught:
        PrefectTrigger(url)
    assert "secret" not in str(caught.value)


def test_certificate_that_nobody_vouches_for_is_refused(server):
    """The server speaks no TLS at all: what matters is that nothing is sent to it."""
    url = server.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
    with pytest.raises(StoreUnavailableError, match=r"SSL|wrong version|record layer"):
        PrefectTrigger(url, lambda: "a:b", clock=ManualClock()).start(REQUEST)
    assert server.asked == []
