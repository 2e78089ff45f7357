"""Every alert has a runbook whose commands work: ours on a small lake, AWS's by its models.

A ```console block after `<!-- test -->` is run, each line that begins with "$ "; one after
`<!-- aws -->` needs an account: its operation and options are compared with botocore's
descriptions. A command that several runbooks name runs once. The platform runs for all of them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from batch.cli import headrace
from stream.alerts.alert import HEARD_BY
from stream.alerts.rules import ALERTS
from stream.cli.failure import run_command
from stream.feeds import streamed_feeds
from stream.local.platform import connect
from stream.settings import load_settings
from stream.sources.kinesis_streams import create_stream

ROOT = Path(__file__).parents[2]
RUNBOOKS = {alert.name: (ROOT / alert.runbook) for alert in ALERTS}
BLOCK = re.compile(r"^( *)<!-- (\w+) -->\n\1```console\n(.*?)^\1```$", re.S | re.M)
MAX_LINES = 60


def commands(text: str, kind: str) -> list[str]:
    """The commands of the blocks of that kind, in order."""
    blocks = [body for _, found, body in BLOCK.findall(text) if found == kind]
    lines = [line.strip() for body in blocks for line in body.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


def text_of(name: str) -> str:
    return RUNBOOKS[name].read_text()


def test_commands_of_a_block_are_its_prompt_lines():
    text = "1. x\n   <!-- test -->\n   ```console\n   $ headrace a\n   out\n   ```\n<!-- aws -->\n"
    text += "```console\n$ aws b c\n```\n"
    assert commands(text, "test") == ["headrace a"]
    assert commands(text, "aws") == ["aws b c"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_runbook_says_what_it_must(alert):
    text = text_of(alert.name)
    title, second = text.splitlines()[:2]
    assert title == f"# {alert.name}"
    assert second.startswith(f"**{alert.priority.upper()}"), "the priority of the rule"
    for part in ("**Is data lost?**", "**Look.**", "**Mend", "**Check.**", "**Call**"):
        assert part in text, part
    assert text.count("\n") <= MAX_LINES
    assert text.count("```console") == len(BLOCK.findall(text)), "every block says how it is tested"
    assert commands(text, "test"), "commands to look with"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (RUNBOOKS[alert.name].parent / link).is_file(), link


def test_priorities_are_the_architecture_s():
    assert list(HEARD_BY.values()) == ["PagerDuty", "Slack", "e-mail", "dashboard"]


AWS = sorted({command for name in RUNBOOKS for command in commands(text_of(name), "aws")})


def complaint_about(command: str) -> str | None:
    """What is wrong with a call of the AWS command line; None if its model knows all of it."""
    program, service, verb, *rest = shlex.split(command)
    assert program == "aws"
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        return f"no service {service}"
    model = session.get_service_model(service)
    known = {xform_name(name, "-"): name for name in model.operation_names}
    if verb not in known:
        return f"no operation {verb}"
    shape = model.operation_model(known[verb]).input_shape
    options = {xform_name(name, "-") for name in shape.members}
    given = {word.removeprefix("--") for word in rest if word.startswith("--")}
    required = {xform_name(name, "-") for name in shape.required_members}
    stray, missing = given - options, required - given
    return f"unknown {stray}, missing {missing}" if stray or missing else None


@pytest.mark.parametrize("command", AWS)
def test_aws_command_is_of_the_service_s_model(command: str):
    assert complaint_about(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "aws kinesys list-shards --stream-name a",
        "aws kinesis list-sherds --stream-name a",
        "aws kinesis list-shards --stream a",
        "aws ecs stop-task --cluster a",
    ],
)
def test_wrong_aws_command_is_noticed(command: str):
    assert complaint_about(command)


def run(command: str) -> int:
    program, *arguments = shlex.split(command)
    assert program == "headrace", f"{command}: blocks that are run hold commands of headrace only"
    return run_command(headrace, arguments)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A platform with one feed, some rows and some rejects, as the person on call finds it."""
    home = tmp_path_factory.mktemp("platform") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_HOME", str(home))
        patch.setenv("HEADRACE_EPOCH_SECONDS", "1")
        up = [sys.executable, "-m", "stream.cli", "up", "trades"]  # a child of its own outlives it
        subprocess.run(up, check=True, capture_output=True)
        try:
            settings = load_settings()
            connect(settings)
            for feed in streamed_feeds():  # `check` wants them all
                create_stream(settings.stream_name(feed), 1)
            assert run("headrace produce trades --rate 1000 --seconds 2") == 0
            until = time.monotonic() + 90
            while run("headrace lag trades") and time.monotonic() < until:
                time.sleep(0.5)  # its first commit makes the tables
            yield home
        finally:
            patch.setenv("HEADRACE_HOME", str(home))
            run("headrace down")


@pytest.fixture(scope="module")
def codes() -> dict[str, int]:
    """Exit codes of the commands that ran."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNBOOKS)
def test_runbook_commands_succeed(
    name: str,
    platform: Path,
    codes: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("HEADRACE_HOME", str(platform))
    for command in commands(text_of(name), "test"):
        if command not in codes:
            codes[command] = run(command)
        printed = capsys.readouterr()
        assert codes[command] == 0, f"{command}\n{printed.out}{printed.err}"
