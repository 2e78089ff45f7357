"""Wrong use and a hostile machine: one clear line, the right exit code, never a traceback.

Verbs run in processes of their own, because a panic of a native library passes by `sys.stderr`.
"""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.engine import Stop
from stream.errors import PipelineError
from stream.feeds import load_feed
from stream.lake.connect import connect_lake
from stream.live import run_feed
from stream.local.process import wait_until_gone
from stream.local.roto import Roto
from stream.local.state import read_state
from stream.prove import prove
from stream.settings import Settings
from stream.sources.kinesis_streams import create_stream
from stream.sources.memory import MemoryReader, MemoryStream

pytestmark = pytest.mark.slow  # one process a case, a minute in all

NOBODY = "http://127.0.0.1:1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
NOISE = re.compile(r"Traceback|panicked|thread '|RuntimeError|defect of headrace")
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ")

Answer = subprocess.CompletedProcess[str]
Headrace = Callable[..., Answer]


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """A home and a lake of the test's own; no AWS."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**keep, "HEADRACE_HOME": str(home), "HEADRACE_LAKE": f"file://{home}/lake"}


@pytest.fixture
def headrace(environment: dict[str, str]) -> Headrace:
    """Run a verb, with more environment if given."""

    def run(*arguments: str, **more: str) -> Answer:
        command = [sys.executable, "-m", "stream.cli", *arguments]
        return subprocess.run(
            command,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def check_refused(answer: Answer, code: int, *words: str) -> None:
    """One line that says all of it, beside the log's own."""
    assert answer.returncode == code, answer.stderr
    assert not NOISE.search(answer.stderr + answer.stdout), answer.stderr
    said = [line for line in answer.stderr.splitlines() if not LOG_LINE.match(line)]
    assert len(said) == 1, answer.stderr
    assert not [word for word in words if word not in said[0]], said[0]


# --- names and settings ---


@pytest.mark.parametrize("verb", ["run", "produce", "prove", "ledger", "redrive", "lag", "up"])
def test_unknown_feed_names_the_nearest(headrace, verb):
    check_refused(headrace(verb, "trads"), 2, "no feed 'trads'", "Did you mean 'trades'?")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HEADRACE_LAEK", "file:///x", ["no such setting", "headrace check"]),
        ("HEADRACE_SHARDS", "many", ["valid integer", "'many'"]),
        ("HEADRACE_START", "yesterday", ["TRIM_HORIZON, LATEST or an ISO time", "'yesterday'"]),
        ("HEADRACE_START", "latest", ["TRIM_HORIZON, LATEST or an ISO time", "'latest'"]),
        ("HEADRACE_START", "2026-13-45T00:00", ["ISO time", "'2026-13-45T00:00'"]),
        ("HEADRACE_LAKE", "ftp://somewhere", ["expected s3://bucket[/prefix] or file:///folder"]),
    ],
)
def test_wrong_setting_is_named_with_what_it_accepts(headrace, name, value, words):
    verb = ["query", "SELECT 1"] if name == "HEADRACE_LAKE" else ["status"]
    answer = headrace(*verb, **{name: value, "AWS_ENDPOINT_URL_KINESIS": NOBODY})
    said = [] if name == "HEADRACE_LAKE" else [name]
    check_refused(answer, 2, *said, *words)


def test_several_wrong_settings_are_named_at_once(headrace):
    answer = headrace("status", HEADRACE_LAEK="x", HEADRACE_SHARDS="0", HEADRACE_LANES="-1")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 3
    assert all(f"HEADRACE_{name}" in answer.stderr for name in ("LAEK", "SHARDS", "LANES"))


# --- nothing to work on ---


@pytest.mark.parametrize("verb", [["run", "trades"], ["produce", "trades"], ["lag"]])
def test_platform_that_does_not_run_is_named(headrace, verb):
    check_refused(headrace(*verb), 2, "is not running", "headrace up")


def test_query_of_a_lake_without_tables_says_what_makes_them(headrace):
    check_refused(headrace("query", "SELECT 1"), 2, "has no tables yet", "headrace run FEED")


def test_prove_of_a_feed_that_never_ran_says_so(headrace, settings):
    connect_lake(settings).table(load_feed("news"))
    check_refused(headrace("prove", "trades"), 2, "silver.trades does not exist", "headrace run")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded AWS without streams and buckets."""
    roto = Roto(tmp_path_factory.mktemp("aws"))
    try:
        yield roto.start()
    finally:
        roto.stop()


@pytest.mark.parametrize("verb", ["run", "produce"])
def test_missing_stream_is_named_with_what_creates_it(headrace, emulator, verb):
    answer = headrace(verb, "trades", HEADRACE_EMULATOR=emulator)
    check_refused(answer, 2, "stream headrace-trades does not exist", "headrace up")


def test_missing_bucket_is_named_with_what_creates_it(headrace, emulator, monkeypatch):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": emulator}.items():
        monkeypatch.setenv(name, value)
    create_stream("without-bucket-trades", 1)
    answer = headrace(
        "run",
        "trades",
        HEADRACE_EMULATOR=emulator,
        HEADRACE_LAKE="s3://nowhere",
        HEADRACE_STREAM_PREFIX="without-bucket-",
    )
    check_refused(answer, 2, "nowhere", "bucket does not exist", "headrace up")


def test_address_that_is_no_emulator_is_named(headrace):
    check_refused(
        headrace("run", "trades", HEADRACE_EMULATOR=NOBODY),
        2,
        f"nothing answers Kinesis ListStreams at {NOBODY}",
    )


# --- no permission ---


class _Refusal(http.server.BaseHTTPRequestHandler):
    """Answers like an AWS that knows us and allows nothing."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = "X-Amz-Target" in self.headers
        body = (
            b'{"__type":"AccessDeniedException","message":"User: eve is not authorized"}'
            if is_json
            else b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
        self.send_response(400 if is_json else 403)
        self.send_header("Content-Type", "application/x-amz-json-1.1" if is_json else "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a service that refuses everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusal)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("verb", "action"),
    [("run", "kinesis:DescribeStreamSummary"), ("produce", "kinesis:PutRecords")],
)
def test_stream_that_refuses_us_names_the_missing_permission(headrace, refusing, verb, action):
    answer = headrace(verb, "trades", AWS_ENDPOINT_URL_KINESIS=refusing, **KEYS)
    check_refused(answer, 2, "headrace-trades", "AccessDenied", action)


def test_lake_that_refuses_us_is_named(headrace, refusing):
    answer = headrace(
        "run",
        "trades",
        AWS_ENDPOINT_URL=refusing,
        AWS_ENDPOINT_URL_KINESIS=refusing,
        HEADRACE_LAKE="s3://theirs",
        **KEYS,
    )
    check_refused(answer, 2, "permission denied")


# --- busy ports ---


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port of this machine that somebody listens on, and never answers."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_busy_metrics_port_is_named_with_another_choice(headrace, busy_port):
    answer = headrace(
        "run",
        "trades",
        AWS_ENDPOINT_URL_KINESIS=NOBODY,
        HEADRACE_METRICS_PORT=str(busy_port),
    )
    check_refused(answer, 2, "HEADRACE_METRICS_PORT", f"127.0.0.1:{busy_port}", "another port")


def test_emulator_address_where_another_server_listens_is_named(headrace, busy_port):
    url = f"http://127.0.0.1:{busy_port}"
    check_refused(
        headrace("run", "trades", HEADRACE_EMULATOR=url), 2, "HEADRACE_EMULATOR", f"at {url}"
    )


# --- disks ---


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where we may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` command here")
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4_096)
        except OSError:
            return filler


DISKS = [("full", "size=1m", "No space left on device", 1), ("read-only", "ro", "Read-only", 2)]


@pytest.fixture(params=DISKS, ids=[name for name, *_ in DISKS])
def bad_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str, int]]:
    """A folder that takes nothing, how the system says it, and the exit code of a dataflow."""
    name, options, text, code = request.param
    with mounted(tmp_path / "disk", options) as folder:
        if name == "full":
            fill(folder)
        yield folder, text, code


@pytest.mark.parametrize("verb", [["up", "trades"], ["demo", "--seconds", "1", "--keep"]])
def test_home_on_a_bad_disk_is_named(headrace, bad_disk, verb):
    folder, text, _ = bad_disk
    answer = headrace(*verb, HEADRACE_HOME=str(folder / "home"))
    check_refused(answer, 2, f"cannot write to {folder}/home", text, "HEADRACE_HOME")


def test_catalog_on_a_bad_disk_is_named(headrace, bad_disk):
    folder, _, code = bad_disk
    answer = headrace(
        "run", "trades", HEADRACE_HOME=str(folder / "home"), AWS_ENDPOINT_URL_KINESIS=NOBODY
    )
    advice = {1: "Free space", 2: "HEADRACE_HOME"}[code]
    check_refused(answer, code, f"{folder}/home", advice)


def test_lake_on_a_bad_disk_is_named(headrace, bad_disk):
    folder, text, code = bad_disk
    answer = headrace(
        "run", "trades", HEADRACE_LAKE=f"file://{folder}/lake", AWS_ENDPOINT_URL_KINESIS=NOBODY
    )
    check_refused(answer, code, text, {1: "Free space", 2: "HEADRACE_LAKE"}[code])


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="needs a place that takes no folder even from root: /proc, on Linux",
)
def test_home_where_no_folder_can_be_is_named(headrace):
    answer = headrace("up", "trades", HEADRACE_HOME="/proc/headrace")
    check_refused(answer, 2, "cannot write to /proc/headrace", "HEADRACE_HOME")


def test_disk_that_fills_up_stops_the_run_clearly_and_a_restart_goes_on(home, tmp_path, capfd):
    stream = MemoryStream("ticks")
    with mounted(tmp_path / "disk", "size=2m") as folder:
        settings = Settings(
            home=home, lake=f"file://{folder}/lake", window_ms=100, grace_ms=0, poll_ms=20,
            epoch_seconds=0.2, lanes=4,
        )  # fmt: skip
        stream.put(b"one", "k")
        run_until(settings, stream, 1)
        filler = fill(folder)
        stream.put(b"two", "k")
        with pytest.raises(PipelineError, match=r"(?i)disk is full|no space left.*Free space"):
            run_until(settings, stream, 1)
        assert not NOISE.search("".join(capfd.readouterr()))

        filler.unlink()
        run_until(settings, stream, 1)
        proof = prove(settings, "trades", deep=True)
        assert proof.is_equal, str(proof)
        assert proof.totals.quarantined == 2


def run_until(settings: Settings, stream: MemoryStream, records: int) -> None:
    stop = Stop()
    run_feed(
        settings,
        "trades",
        stop=stop,
        reader=MemoryReader(stream),
        on_commit=lambda tally: stop.request() if tally.records >= records else None,
    )


# --- questions ---


@pytest.fixture
def lake(settings: Settings) -> None:
    """A lake with an empty table."""
    connect_lake(settings).table(load_feed("trades"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", ["syntax error", "selec"]),
        ("", ["expected one SQL statement, found 0"]),
        ("SELECT 1; SELECT 2", ["expected one SQL statement, found 2"]),
        ("SELECT prise FROM trades", ['"prise" not found', "price"]),
        ("SELECT * FROM tradez", ["tradez does not exist", "trades_current"]),
        ("DROP TABLE trades", ["DROP is refused", "only reads"]),
    ],
)
def test_bad_sql_is_one_line(headrace, lake, sql, words):
    check_refused(headrace("query", sql), 2, *words)


@pytest.mark.parametrize("end", ["2026-11-23T09:00", "2026-11-23T08:00"])
def test_prove_of_an_empty_range_is_refused(headrace, end):
    answer = headrace("prove", "trades", "--from", "2026-11-23T09:00", "--to", end)
    assert answer.returncode == 2
    assert not NOISE.search(answer.stderr)
    assert f"--from 2026-11-23T09:00 is not before --to {end}" in answer.stderr


def test_prove_of_a_time_that_is_none_says_what_one_looks_like(headrace):
    answer = headrace("prove", "--from", "yesterday")
    check_refused(answer, 2, "'yesterday' is not an ISO time", "2026-")


# --- twice ---


def test_two_ups_at_once_start_one_platform(headrace, environment, home):
    command = [sys.executable, "-m", "stream.cli", "up", "news"]
    environment = {**environment, "HEADRACE_SHARDS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    try:
        said = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert not NOISE.search("".join(out + err for out, err in said))
        texts = sorted(out.splitlines()[0] for out, _ in said)
        assert "already running" in texts[0] + texts[1], texts
        state = read_state(home)
        assert [process.state for process in state.processes] == ["running"] * 3
    finally:
        assert headrace("down").returncode == 0
    assert all(wait_until_gone(p.process, 5) for p in state.processes if p.process)
