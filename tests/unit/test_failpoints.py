"""Failpoints: their rules, their catalogue against the code, never a real account, no cost off."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
import timeit
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import failpoints
from stream.errors import CommitConflictError, ConfigError, StoreUnavailableError
from stream.failpoints import CATALOGUE, Rule, arm, failpoint, parse_rules
from stream.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


def test_rules_of_a_text_are_read_in_their_order():
    assert parse_rules(" bronze-put-done=kill@3; commit-send=pause:0.5@2+ ;slice-read=stop;") == [
        Rule("bronze-put-done", "kill", "", 3, 3),
        Rule("commit-send", "pause", "0.5", 2, failpoints._FOR_EVER),
        Rule("slice-read", "stop", "", 1, 1),
    ]
    assert parse_rules("ledger-head=skip@2-4") == [Rule("ledger-head", "skip", "", 2, 4)]
    assert parse_rules("") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bronze-put=kill", "nearest are bronze-put-done"),
        ("xyz=kill", "nearest are slice-read, "),
        ("slice-read", "expected NAME=ACTION"),
        ("slice-read=kill@0", "expected NAME=ACTION"),
        ("slice-read=explode", "expected kill, stop, pause:SECONDS"),
        ("slice-read=kill:9", "kill takes no argument, found '9'"),
        ("slice-read=pause", "pause needs seconds"),
        ("slice-read=pause:long", "pause needs seconds"),
        ("slice-read=error:KeyError", "none of stream.errors: "),
        ("slice-read=skip", "nothing can be skipped at slice-read"),
        ("slice-read=kill@5-3", "hits 5-3 are none"),
    ],
)
def test_rule_that_cannot_be_is_refused_with_what_it_could_be(text, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_rules(text)
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_settings(failpoints=text)


def test_rule_acts_at_its_hits_alone(capfd):
    arm("commit-refused=error:CommitConflictError@2; ledger-head=skip@2-3; commit-response=error")
    assert failpoint("commit-refused") is False
    with pytest.raises(CommitConflictError, match="failpoint commit-refused at hit 2: The catalog"):
        failpoint("commit-refused")
    assert failpoint("commit-refused") is False
    assert [failpoint("ledger-head") for _ in range(4)] == [False, True, True, False]
    with pytest.raises(StoreUnavailableError):
        failpoint("commit-response")
    assert failpoint("slice-read") is False
    assert "failpoint commit-refused: error:CommitConflictError at hit 2" in capfd.readouterr().err


def test_rules_of_one_place_act_in_their_order(capfd):
    arm("silver-put=pause:0.01; silver-put=error")
    with pytest.raises(StoreUnavailableError):
        failpoint("silver-put")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("failpoint")]
    assert lines == [
        "failpoint silver-put: pause:0.01 at hit 1",
        "failpoint silver-put: error at hit 1",
    ]


def test_armed_process_says_so_and_dies_where_it_was_told_to(tmp_path):
    code = (
        "from stream.failpoints import failpoint; from stream.cli.context import open_settings\n"
        "open_settings()\n"
        "failpoint('slice-durable')\nfailpoint('slice-durable')\nprint('alive')"
    )
    environment = {
        **os.environ,
        "HEADRACE_FAILPOINTS": "slice-durable=kill@2",
        "HEADRACE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == -9
    assert done.stdout == ""
    assert "WARNING" in done.stderr
    assert "failpoints are armed, this process will fail on purpose: slice-d" in done.stderr
    assert done.stderr.endswith("failpoint slice-durable: kill at hit 2\n")


def test_every_failpoint_of_the_catalogue_is_called_at_one_place():
    files = [p for name in ("stream", "batch") for p in (ROOT / name).rglob("*.py")]
    called = Counter(
        ast.literal_eval(node.args[0])
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "failpoint"
    )
    assert called == dict.fromkeys(CATALOGUE, 1)


EMULATED = "http://127.0.0.1:4566"


@pytest.mark.parametrize(
    ("variables", "values", "real"),
    [
        ({}, {"aws": "account"}, "kinesis and s3"),
        ({}, {"aws": "account", "lake": "file:///lake"}, "kinesis"),
        ({"AWS_ENDPOINT_URL_KINESIS": EMULATED}, {"aws": "account"}, "s3"),
        ({"AWS_ENDPOINT_URL_KINESIS": EMULATED}, {}, "s3"),
        ({"AWS_ENDPOINT_URL_KINESIS": EMULATED, "AWS_ENDPOINT_URL_S3": EMULATED},
         {"aws": "account", "catalog": "glue", "claims": "dynamodb"}, "glue and dynamodb"),
        ({"AWS_ENDPOINT_URL": "https://kinesis.eu-west-1.amazonaws.com"}, {"aws": "account"},
         "kinesis and s3"),
    ],
)  # fmt: skip
def test_failpoints_are_refused_where_a_service_would_be_real(monkeypatch, variables, values, real):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"FAILPOINTS is set, and {real} would be a real"):
        load_settings(failpoints="slice-read=kill", **values)
    load_settings(**values)


@pytest.mark.parametrize("values", [{}, {"aws": "account"}])
def test_failpoints_are_accepted_on_an_emulator(monkeypatch, values):
    if values:
        monkeypatch.setenv("AWS_ENDPOINT_URL", EMULATED)
    settings = load_settings(failpoints="slice-read=kill", **values)
    assert settings.failpoints == "slice-read=kill"


def test_failpoint_that_is_off_costs_less_than_two_microseconds():
    """Generous, in CPU time: 50 ns is usual; a slice of 10 ms has five of them."""
    calls, clock = 10_000, time.process_time
    spent = timeit.repeat(lambda: failpoint("slice-read"), timer=clock, number=calls, repeat=5)
    assert min(spent) / calls < 2e-6
