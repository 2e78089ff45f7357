"""`headrace demo` as a user runs it: equal, nothing left behind, whenever it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HEADRACE = Path(sys.executable).with_name("headrace")
MARK = "DEMO_TEST_MARK"


@dataclass
class Shell:
    """An empty directory, a temporary folder of its own, and a mark on every process."""

    folder: Path
    temporary: Path
    mark: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HEADRACE, *arguments],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.temporary), MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> Any:
        """What the command prints as JSON; it must succeed."""
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, f"{out}\n{err}"
        return json.loads(out)

    def processes(self) -> list[str]:
        """Command lines of every process that carries the mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it ended meanwhile, or is someone else's
        return found

    def left(self) -> list[str]:
        """Whatever is still there."""
        deadline = time.monotonic() + 3
        while (running := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        files = [*self.folder.rglob("*"), *self.temporary.rglob("*")]
        return [*running, *map(str, files)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path / "empty", tmp_path / "temporary", tmp_path.name + str(os.getpid()))
    made.folder.mkdir()
    made.temporary.mkdir()
    yield made
    assert not made.processes()


def test_demo_accounts_for_every_message_and_leaves_nothing(shell: Shell) -> None:
    result = shell.run("demo", "--records", "6000", "--seed", "3")

    assert result["is_equal"] is True
    assert result["published"] == result["committed"]
    assert sum(result["published"].values()) == 6_000
    assert result["verdict"].startswith("EQUAL: 6,000 messages")
    assert len(result["answer"]) == 5
    assert result["home"] is None
    assert shell.left() == []


@pytest.mark.parametrize("seconds", [0.3, 1.5, 4.0, 9.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_leaves_nothing(
    shell: Shell, seconds: float, number: signal.Signals
) -> None:
    process = shell.start("demo", "--seconds", "60")
    time.sleep(seconds)
    assert process.poll() is None
    began = time.monotonic()

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert process.returncode in {130, -number}  # at 0.3 s Python itself is still starting
    assert time.monotonic() - began < 15
    assert "Traceback" not in out + err
    assert shell.left() == []


def test_demo_interrupted_by_an_impatient_user_leaves_nothing(shell: Shell) -> None:
    process = shell.start("demo", "--seconds", "60")
    time.sleep(4)

    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=30)

    assert "Traceback" not in err
    assert shell.left() == []


def test_demo_killed_leaves_no_process(shell: Shell) -> None:
    process = shell.start("demo", "--seconds", "60")
    time.sleep(4)

    process.kill()
    process.communicate(timeout=10)

    assert not [line for line in shell.left() if not line.startswith("/")]


def test_demo_for_people_shows_a_verdict_and_with_keep_leaves_a_lake_that_answers(
    shell: Shell,
) -> None:
    process = shell.start("demo", "--records", "4000", "--seed", "3", "--keep")
    out, err = process.communicate(timeout=200)

    assert process.returncode == 0, f"{out}\n{err}"
    assert "EQUAL: 4,000 messages acknowledged by Kinesis" in out
    assert "Traceback" not in out + err
    assert not shell.processes()

    counted = shell.run("query", "SELECT count(*) AS n FROM trades")
    proofs = shell.run("prove")

    assert counted[0]["n"] > 2_000
    assert all(proof["is_equal"] for proof in proofs)
    records = {proof["feed"]: proof["totals"]["messages"] for proof in proofs}
    landed = {"positions", "prices_daily", "transactions"}
    streamed = {"trades", "quotes", "news"}
    assert set(records) == {*streamed, *landed}, "streams, and what Gold needs besides"
    assert sum(records[feed] for feed in streamed) == 4_000
    assert list(shell.temporary.iterdir()) == []
