"""Who hears an alert, by amtool on the deployed files; what follows from a fault is silent.

Every name that rules and alarms use is of the catalogue, and means what the catalogue says.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.alerts.alert import PRIORITIES
from stream.alerts.prometheus import RULES
from stream.alerts.rules import ALERTS
from stream.feeds import streamed_feeds
from stream.telemetry.catalogue import METRICS, find_metric

ROOT = Path(__file__).parents[2]
LAPTOP = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
PRODUCTION = LAPTOP.with_name("production.yml")
HEARS = {"p1": "pager", "p2": "chat", "p3": "mail", "p4": "dashboard"}

needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool judges the routes: apt-get install prometheus-alertmanager (CI has it)",
)


def amtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["amtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def route(receivers: str, *labels: str) -> int:
    """The exit code of amtool's own test."""
    return amtool(
        *("config", "routes", "test", f"--config.file={PRODUCTION}"),
        *(f"--verify.receivers={receivers}", *labels),
    ).returncode


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@needs_amtool
def test_files_are_valid():
    answer = amtool("check-config", LAPTOP, PRODUCTION)
    assert answer.returncode == 0, answer.stderr


@needs_amtool
@pytest.mark.parametrize("priority", PRIORITIES)
def test_priority_reaches_its_receiver_and_no_other(priority: str):
    for alert in (alert for alert in ALERTS if alert.priority == priority):
        labels = (f"alertname={alert.name}", f"priority={priority}", "feed=trades")
        assert route(HEARS[priority], *labels) == 0
    wrong = next(name for other, name in HEARS.items() if other != priority)
    assert route(wrong, *labels) == 1, "amtool notices a wrong receiver"


@needs_amtool
def test_alert_without_a_priority_is_read_where_people_read():
    assert route("chat", "alertname=new", "feed=trades") == 0


def test_receivers_tell_the_people_that_the_priorities_promise():
    kinds = {
        receiver["name"]: {key for key in receiver if key != "name"}
        for receiver in load(PRODUCTION)["receivers"]
    }
    assert kinds == {
        "pager": {"pagerduty_configs", "email_configs"},  # the mail, for when the pager is down
        "chat": {"slack_configs"},
        "mail": {"email_configs"},
        "dashboard": set(),
    }
    assert load(LAPTOP)["receivers"] == [{"name": "page"}], "a laptop wakes nobody"


def test_secrets_are_files():
    secret = re.compile(r"^\s*(?:- )?(\w*(?:key|url|password|token|secret)\w*):", re.M)
    found = secret.findall(PRODUCTION.read_text())
    assert len(found) == 3
    assert all(name.endswith("_file") for name in found)


@pytest.mark.parametrize("path", [LAPTOP, PRODUCTION], ids=lambda path: path.stem)
def test_what_follows_from_a_fault_is_silenced_for_its_feed(path: Path):
    silenced = {}
    for rule in load(path)["inhibit_rules"]:
        assert rule["equal"] == ["feed"]
        (source,), (target,) = rule["source_matchers"], rule["target_matchers"]
        names = re.fullmatch(r'alertname=~?"(.+)"', target)[1].split("|")
        silenced[re.fullmatch(r'alertname="(.+)"', source)[1]] = set(names)
    assert silenced == {alert.name: set(alert.silences) for alert in ALERTS if alert.silences}


def test_loss_of_data_is_never_silenced():
    silenced = {name for alert in ALERTS for name in alert.silences}
    assert not silenced & {"gap", "data-loss-horizon", "dataflow-away"}
    rank = {alert.name: alert.priority for alert in ALERTS}
    for alert in ALERTS:
        assert all(rank[name] >= alert.priority for name in alert.silences), alert.name


def test_no_two_alerts_silence_each_other():
    silences = {alert.name: set(alert.silences) for alert in ALERTS}
    assert not [(a, b) for a in silences for b in silences[a] if a in silences[b]]


FUNCTIONS = {
    "sum",
    "min",
    "max",
    "by",
    "on",
    "ignoring",
    "and",
    "or",
    "unless",
    "group_left",
    "offset",
}


def names_in(expression: str) -> set[str]:
    """The metrics of an expression: words that are no function, label or duration."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\((feed|feed, le|stage|shard|reason)\)", " ", expression)
    words = re.findall(r"\b([a-z_][a-z0-9_]*)\b(?!\s*\()", bare)
    return {word for word in words if word not in FUNCTIONS}


def test_every_metric_of_a_rule_is_in_the_catalogue_with_its_labels():
    for alert in ALERTS:
        for name in names_in(alert.expression) - {"up"}:
            metric = find_metric(name)
            assert metric is not None, f"{alert.name}: no metric {name}"
            if metric.kind == "counter":
                assert re.search(rf"(increase|rate)\({name}", alert.expression), alert.name
            for labels in re.findall(rf"{name}\{{([^}}]*)\}}", alert.expression):
                used = set(re.findall(r"(\w+)=", labels)) - {"job"}
                assert used <= {*metric.labels, "le"}, alert.name


def test_every_series_of_an_alarm_is_in_the_catalogue_with_its_labels():
    catalogue = {metric.name: metric for metric in METRICS}
    statistics = {
        "counter": {"Sum"},
        "gauge": {"Maximum", "Minimum", "SampleCount"},
        "histogram": {"p95"},
    }
    for alert in ALERTS:
        for series in alert.cloudwatch.series if alert.cloudwatch else ():
            metric = catalogue[series.metric]
            assert series.statistic in statistics[metric.kind], alert.name
            assert {*series.labels, "feed"} <= set(metric.labels), alert.name
            if series.metric == "headrace_shard_read_timestamp_seconds":
                assert series.statistic == "Minimum", "the shard that waits longest"


def test_expression_of_an_alarm_uses_each_of_its_series():
    for alert in ALERTS:
        form = alert.cloudwatch
        assert (form is None) == bool(alert.not_in_cloudwatch), alert.name
        if form is None:
            continue
        assert form.at_least <= form.of
        assert form.of * form.period_seconds <= 86_400, "what an alarm may look back"
        ids = [series.id for series in form.series]
        used = set(re.findall(r"\b[a-z]\w*\b", form.expression or ids[0]))
        assert used == set(ids), alert.name
        assert len(ids) == 1 or form.expression is not None


def test_names_are_unique_and_name_their_runbooks():
    names = [alert.name for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    assert [name for name in names if not (ROOT / f"deploy/runbooks/{name}.md").is_file()] == []


def test_prometheus_loads_the_rules_and_gives_every_target_its_feed():
    config = load(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    folder = ROOT / "deploy" / "prometheus"
    assert [path for g in config["rule_files"] for path in folder.glob(g)] == [ROOT / RULES]
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "dataflow")
    assert job["honor_labels"], "a series names its feed; `up` takes the target's"
    (relabel,) = job["relabel_configs"]
    targets = job["static_configs"][0]["targets"]
    feeds = [re.fullmatch(relabel["regex"], target)[1] for target in targets]
    assert relabel["target_label"] == "feed"
    assert sorted(feeds) == sorted(streamed_feeds())


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool: apt-get install prometheus (CI has it)"
)
def test_prometheus_accepts_its_configuration():
    answer = subprocess.run(
        ["promtool", "check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
