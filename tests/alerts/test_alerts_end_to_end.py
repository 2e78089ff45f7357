"""A dataflow is killed: the pager hears it, and hears that it is well again. Nothing is played.

Debian's Prometheus scrapes a real `headrace run` and evaluates the deployed rules, which wait a
twentieth of their time; its Alertmanager routes by deploy/alertmanager/production.yml, whose
receivers are pointed at this test. Everything listens on 127.0.0.1 and ends with the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.alerts.prometheus import render_rules
from stream.alerts.rules import ALERTS
from stream.sources.kinesis_streams import create_stream
from stream.telemetry.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PATIENCE = 0.05
TOOLS = ("prometheus", "prometheus-alertmanager")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)),
        reason="apt-get install prometheus prometheus-alertmanager (CI has them)",
    ),
]


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, path: str) -> str | None:
    """What a server says; None while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return None


@dataclass
class People:
    """Who is told: every notification, by the receiver that it came to."""

    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    def told(self, receiver: str, status: str, alert: str) -> dict[str, Any] | None:
        for name, note in list(self.heard):
            for item in note["alerts"]:
                if (name, item["status"], item["labels"]["alertname"]) == (receiver, status, alert):
                    return item
        return None


@contextmanager
def listening() -> Iterator[People]:
    """Receivers at /<name>."""
    people = People()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            people.heard.append((self.path.strip("/"), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    people.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield people
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def process(log: Path, *command: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends with the block; killed if it does not want to."""
    with (
        log.open("ab") as out,
        subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=log.parent,
        ) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()


def alertmanager_file(folder: Path, people: People) -> Path:
    """The production file; people are reached through this test, without waiting for company."""
    config = yaml.safe_load((ROOT / "deploy/alertmanager/production.yml").read_text())
    config["global"] = {"resolve_timeout": "5m"}
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        name = receiver["name"]
        hook = {"url": f"http://127.0.0.1:{people.port}/{name}", "send_resolved": True}
        receiver.clear()
        receiver |= {"name": name, "webhook_configs": [hook]}
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def prometheus_file(folder: Path, dataflow: int, alertmanager: int) -> Path:
    """The deployed file, with other targets and a look every second."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = ["rules.yml"]
    (folder / "rules.yml").write_text(render_rules(patience=PATIENCE))
    target = {"targets": [f"127.0.0.1:{alertmanager}"]}
    config["alerting"] = {"alertmanagers": [{"static_configs": [target]}]}
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "dataflow")
    del job["relabel_configs"]
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{dataflow}"], "labels": {"feed": "trades"}},
    ]
    config["scrape_configs"] = [job]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@dataclass(frozen=True)
class Prometheus:
    port: int

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = ask(self.port, f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        return json.loads(answer)["data"]["result"] if answer else []

    def firing(self) -> set[str]:
        found = self.query('ALERTS{alertstate="firing"}')
        return {series["metric"]["alertname"] for series in found}


@pytest.mark.timeout(300)
def test_killed_dataflow_pages_and_its_restart_resolves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, dataflow, manager, watcher = (free_port() for _ in range(4))
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "HEADRACE_AWS": "account",
        "HEADRACE_HOME": str(tmp_path / "home"),
        "HEADRACE_LAKE": f"file://{tmp_path}/lake",
        "HEADRACE_METRICS_PORT": str(dataflow),
        "HEADRACE_EPOCH_SECONDS": "1",
        "HEADRACE_WINDOW_MS": "500",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    headrace = (sys.executable, "-m", "stream.cli")
    run = (tmp_path / "run.log", *headrace, "run", "trades")
    roto = Path(sys.executable).with_name("roto-server")
    prometheus, seconds = Prometheus(watcher), {}

    with ExitStack() as everything:
        people = everything.enter_context(listening())

        def start(name: str, *command: object) -> None:
            everything.enter_context(process(tmp_path / f"{name}.log", *command))

        start("aws", roto, "--ephemeral", "--host", "127.0.0.1", "--port", aws)
        start(
            *("alertmanager", "prometheus-alertmanager"),
            f"--config.file={alertmanager_file(tmp_path, people)}",
            f"--storage.path={tmp_path}/alertmanager",
            f"--web.listen-address=127.0.0.1:{manager}",
            "--cluster.listen-address=",
        )
        wait_for("an emulator", lambda: is_listening(aws))
        create_stream("headrace-trades", 1)
        start("produce", *headrace, "produce", "trades", "--rate", "300", "--seconds", "90")

        with process(*run) as flow:
            wait_for("a first commit", lambda: has_committed(dataflow), 30)
            start(
                *("prometheus", "prometheus"),
                f"--config.file={prometheus_file(tmp_path, dataflow, manager)}",
                f"--storage.tsdb.path={tmp_path}/tsdb",
                f"--web.listen-address=127.0.0.1:{watcher}",
                "--rules.alert.resend-delay=1s",
            )
            up = 'up{job="dataflow",feed="trades"} == 1'
            wait_for("a scrape", lambda: prometheus.query(up))
            wait_for("rules", lambda: '"lastEvaluation":"2' in str(ask(watcher, "/api/v1/rules")))
            time.sleep(3)  # longer than it takes to page
            check_every_metric_is_sent(prometheus)
            assert not people.heard, people.heard
            assert prometheus.firing() == set()
            flow.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            page = wait_for("a page", lambda: people.told("pager", "firing", "dataflow-away"))
            seconds["kill -9 to page"] = time.monotonic() - killed
        assert (page["labels"]["feed"], page["labels"]["priority"]) == ("trades", "p1")
        assert page["annotations"]["summary"].startswith("trades: the dataflow at 127.0.0.1:")
        assert (ROOT / page["annotations"]["runbook"]).is_file()

        started = time.monotonic()
        with process(*run):
            wait_for("all clear", lambda: people.told("pager", "resolved", "dataflow-away"), 30)
            seconds["restart to resolved"] = time.monotonic() - started
            wait_for("quiet", lambda: not prometheus.firing(), 20)
        told = {(name, a["labels"]["alertname"]) for name, n in people.heard for a in n["alerts"]}
        assert told == {("pager", "dataflow-away")}, "nobody hears what follows from it"
    print({name: round(value, 1) for name, value in seconds.items()})


def has_committed(port: int) -> bool:
    said = ask(port, "/metrics") or ""
    return re.search(r'headrace_commits_total\{feed="trades"\} [1-9]', said) is not None


def check_every_metric_is_sent(prometheus: Prometheus) -> None:
    """A rule over a series that nobody sends never fires."""
    sent = {series["metric"]["__name__"] for series in prometheus.query('{feed="trades"}')}
    for alert in ALERTS:
        for metric in CATALOGUE:
            if metric.name in alert.expression:
                name = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
                assert name in sent, f"{alert.name} watches {name}, which no dataflow sends"
