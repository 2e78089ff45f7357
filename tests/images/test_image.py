"""deploy/Dockerfile, built for real and run: read-only, as user 10001, with nothing but its volume.

Slow (minutes), and skipped with the reason where buildah or root is missing. Not proven: the real
base image, arm64, an engine's own networks and limits.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stream.local.roto import answers, free_port
from stream.settings import Settings

if TYPE_CHECKING:
    from conftest import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
MAX_BYTES = 1_250_000_000
"""The dependencies are 1,000 MB of it; a second copy of anything big would show."""
HANDLER = """
from stream.feeds import streamed_feeds

def handle(event, context):
    return {"feeds": streamed_feeds(), "key": event["key"]}
"""


def fetch(url: str) -> int:
    """The status of an answer; 0 for none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def emulator(image: Image, tmp_path: Path) -> Iterator[str]:
    """The emulator's service of compose, on a free port; its address by name, as there."""
    port, folder = free_port(), tmp_path / "aws"
    folder.mkdir()
    given = COMPOSE["services"]["emulator"]
    replaced = {"4566": str(port), "/data/aws": "/data/headrace"}
    command = [replaced.get(word, word) for word in given["command"]]
    with image.start(folder, *command, entry=given["entrypoint"]) as container:
        container.wait_for(lambda: answers("127.0.0.1", port))
        yield f"http://localhost:{port}"


def find_faults(root: Path, config: dict[str, Any]) -> Iterator[str]:
    """What an image must not be, whatever it is built from."""
    user = config.get("User", "")
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        yield f"user {user!r}: expected numbers above 0"
    if config.get("Entrypoint") != ["headrace"]:
        yield f"entry point {config.get('Entrypoint')}: expected a list, or signals reach a shell"
    for unwanted in (
        "opt/headrace/bin/pip*",
        "opt/headrace/lib/*/*/setuptools",
        "app/tests",
        "build",
    ):
        yield from (f"{path}: not needed to run" for path in root.glob(unwanted))
    for place in ("app", "opt", "usr", "etc"):
        for folder, _, names in os.walk(root / place):
            yield from filter(None, map(_openness, (Path(folder) / name for name in (".", *names))))


def _openness(path: Path) -> str:
    found = path.lstat()
    is_open = found.st_uid != 0 or (not path.is_symlink() and found.st_mode & 0o022)
    return f"{path}: others than root may change it" if is_open else ""


def test_image_is_of_the_size_that_is_documented_and_runs_as_10001(image, record_property):
    for name, value in image.figures.items():
        record_property(name, value)
    print(image.figures)
    assert image.figures["bytes"] < MAX_BYTES
    assert image.figures["user"] == 10001
    assert image.config["Labels"]["org.opencontainers.image.title"] == "headrace"
    revision = image.config["Labels"]["org.opencontainers.image.revision"]
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", revision)


def test_settings_of_the_image_exist(image):
    names = {n for n in image.environment if n.startswith("HEADRACE_")}
    assert names
    assert {n.removeprefix("HEADRACE_").lower() for n in names} <= set(Settings.model_fields)


def test_image_holds_nothing_that_its_user_could_change_and_no_installer(image):
    assert list(find_faults(image.root, image.config)) == []


@pytest.mark.parametrize(
    ("phrase", "plant"),
    [
        ("user ''", lambda root, config: config.pop("User")),
        ("user '0:0'", lambda root, config: config.update(User="0:0")),
        ("user 'headrace'", lambda root, config: config.update(User="headrace")),
        ("entry point", lambda root, config: config.update(Entrypoint=["sh", "-c", "headrace"])),
        ("pip3: not needed", lambda root, config: (root / "opt/headrace/bin/pip3").touch()),
        ("tests: not needed", lambda root, config: (root / "app/tests").mkdir()),
        ("may change it", lambda root, config: (root / "app/cli.py").chmod(0o666)),
        ("may change it", lambda root, config: os.chown(root / "app", 10001, 10001)),
    ],
)
def test_planted_fault_of_an_image_is_named(tmp_path, phrase, plant):
    if os.geteuid() != 0:
        pytest.skip("as another user every file made here has an owner who may change it")
    for folder in ("app", "opt/headrace/bin", "usr", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "app/cli.py").touch(0o644)
    config = {"User": "10001:10001", "Entrypoint": ["headrace"]}
    assert list(find_faults(tmp_path, config)) == []
    plant(tmp_path, config)
    assert [fault for fault in find_faults(tmp_path, config) if phrase in fault]


def test_container_of_these_tests_is_read_only_and_without_power(image, data):
    code = """
import os, pathlib
for place in ("/app/x", "/opt/headrace/x", "/data/x", "/x"):
    try:
        pathlib.Path(place).write_text("")
        print("written:", place)
    except OSError as error:
        print(error.errno)
pathlib.Path("/data/headrace/x").write_text("")
pathlib.Path("/tmp/x").write_text("")
status = pathlib.Path("/proc/self/status").read_text()
print(os.getpid(), os.getuid(), os.getgid(), os.getgroups())
print([line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapBnd", "NoNew"))])
"""  # noqa: E501
    answer = image.run(data, "-c", code, entry=["python"])
    assert answer.stdout.splitlines() == [
        *["30"] * 4,  # EROFS
        "1 10001 10001 []",
        "['0000000000000000', '0000000000000000', '1']",
    ], answer.stderr


def test_demo_runs_in_the_image_and_its_proof_is_equal(image, data):
    began = time.monotonic()
    answer = image.run(data, "demo", "--records", "20000")
    print(f"demo: {time.monotonic() - began:.0f} s\n{answer.stdout[-1_500:]}")
    assert answer.returncode == 0, answer.stderr[-3_000:]
    assert "EQUAL: " in answer.stdout
    assert re.search(r"headrace gold: \d+ models, .* 0 failed: published", answer.stdout)


def test_dataflow_as_process_one_is_healthy_and_ends_with_0_at_sigterm(
    image, data, emulator, tmp_path
):
    env = {"HEADRACE_EMULATOR": emulator}
    # As the service `prepare` does it, twice because every `compose up` does.
    script = (ROOT / "deploy/compose/prepare.py").read_text()
    for _ in range(2):
        prepared = image.run(data, "-c", script, entry=["python"], env=env, net="host")
        assert prepared.returncode == 0, prepared.stderr
        assert "headrace-trades" in prepared.stdout
    port = free_port()
    env |= {"HEADRACE_METRICS_PORT": str(port), "HEADRACE_LOG_FORMAT": "json"}
    with image.start(data, "run", "trades", env=env) as container:
        container.wait_for(lambda: fetch(f"http://127.0.0.1:{port}/healthz") == 200)
        produced = image.run(
            data, "produce", "trades", "--count", "2000", env={"HEADRACE_EMULATOR": emulator},
            net="host",
        )  # fmt: skip
        assert produced.returncode == 0, produced.stderr
        url = f"http://127.0.0.1:{port}/metrics"
        container.wait_for(lambda: _committed(url) > 0)
        began = time.monotonic()
        container.signal(signal.SIGTERM)
        code = container.process.wait(timeout=60)
        print(f"SIGTERM: ended after {time.monotonic() - began:.1f} s")
        assert code == 0, container.log.read_text()[-3_000:]


def _committed(url: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return float(re.search(r"^headrace_silver_rows_total\{.*\} (\S+)$", text, re.M)[1])


def test_prefect_serves_its_interface_from_a_read_only_image(image, data):
    given = COMPOSE["services"]["prefect-server"]
    port = free_port()
    env = {
        name: value
        for name, value in given["environment"].items()
        if name.startswith("PREFECT_") and "DATABASE_CONNECTION" not in name
    }
    env["PREFECT_HOME"] = "/data/headrace/prefect"
    command = [*given["command"][:2], "--host", "127.0.0.1", "--port", str(port)]
    with image.start(data, *command, entry=given["entrypoint"], env=env) as container:
        container.wait_for(lambda: fetch(f"http://127.0.0.1:{port}/api/ready") == 200)
        assert fetch(f"http://127.0.0.1:{port}/") == 200


def test_lambda_calls_a_handler_of_the_same_image(image, data):
    (data / "handler.py").write_text(HANDLER)
    with lambda_service({"key": "bronze/x"}) as service:
        env = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{service.server_port}",
            "PYTHONPATH": "/data/headrace",
            "HEADRACE_HOME": "/tmp/headrace",  # all that Lambda lets anyone write to
        }
        entry = ["python", "-m", "awslambdaric"]
        with image.start(data, "handler.handle", entry=entry, env=env) as container:
            container.wait_for(lambda: service.answers)
    path, body = service.answers[0]
    assert path.endswith("/invocation/id-1/response"), (path, body)
    assert json.loads(body) == {"feeds": ["news", "quotes", "trades"], "key": "bronze/x"}


def test_lambda_runs_the_lineage_handler_and_takes_its_answer(image, data):
    """A message that cannot be read needs neither a table nor a server."""
    env = {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "LINEAGE_TABLE": "lineage",
        "PREFECT_API_URL": "https://prefect.invalid/api",
        "HEADRACE_HOME": "/tmp/headrace",
    }
    with lambda_service({"Records": [{"messageId": "m1", "body": "poison"}]}) as service:
        env["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{service.server_port}"
        entry = ["python", "-m", "awslambdaric"]
        with image.start(data, "batch.aws.lineage.handle", entry=entry, env=env) as container:
            container.wait_for(lambda: service.answers)
    path, body = service.answers[0]
    assert path.endswith("/invocation/id-1/response"), (path, body)
    assert json.loads(body) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


class _Runtime(BaseHTTPRequestHandler):
    """Lambda's side of the runtime interface: one event, then silence."""

    server: _Service

    def do_GET(self) -> None:
        if self.server.is_handed_out:
            self.server.ended.wait()
            return
        self.server.is_handed_out = True
        self._answer(200, json.dumps(self.server.event).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.answers.append((self.path, body))
        self._answer(202, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")  # without it the client crashes
        self.send_header("Lambda-Runtime-Aws-Request-Id", "id-1")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 30_000))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:x:1:function:f")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, event: object) -> None:
        super().__init__(("127.0.0.1", 0), _Runtime)
        self.event, self.is_handed_out, self.ended = event, False, threading.Event()
        self.answers: list[tuple[str, str]] = []


@contextmanager
def lambda_service(event: object) -> Iterator[_Service]:
    with _Service(event) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        try:
            yield service
        finally:
            service.ended.set()
            service.shutdown()
