"""`headrace alerts` as a user types it."""

from __future__ import annotations

import json

import pytest

from stream.alerts.rules import ALERTS
from stream.cli import headrace
from stream.cli.failure import run_command


def test_alerts_are_listed_with_priority_and_runbook(capsys: pytest.CaptureFixture[str]):
    assert run_command(headrace, ["alerts"]) == 0
    printed = capsys.readouterr().out
    for alert in ALERTS:
        (line,) = (line for line in printed.splitlines() if line.split()[:1] == [alert.name])
        assert alert.runbook in line
        assert alert.priority in line.split()


def test_alerts_json_is_whole(capsys: pytest.CaptureFixture[str]):
    assert run_command(headrace, ["alerts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in found] == [alert.name for alert in ALERTS]
    assert found[0]["heard_by"] == "PagerDuty"
    assert found[0]["expression"] == ALERTS[0].expression


def test_one_alert_is_explained(capsys: pytest.CaptureFixture[str]):
    assert run_command(headrace, ["alerts", "silent-market"]) == 0
    assert "headrace_market_open" in capsys.readouterr().out


def test_unknown_alert_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    assert run_command(headrace, ["alerts", "silence"]) == 2
    assert "silent-market" in capsys.readouterr().err
