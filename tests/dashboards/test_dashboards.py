"""Grafana's dashboards: they ask only for what is served, and every question has an answer.

No Grafana runs here: how a page looks is not tested. That Prometheus answers each expression is:
promtool evaluates all of them over one series for every metric of the catalogue.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.alerts.rules import ALERTS
from stream.dashboards import PAGES, render_page
from stream.dashboards.grafana import FEED_QUERY, render
from stream.dashboards.panel import OF_PROMETHEUS, Page, Panel, Query, Row, metrics_of
from stream.telemetry.catalogue import (
    CATALOGUE,
    COST_PARTS,
    GAP_REASONS,
    STAGES,
    Metric,
    find_metric,
)

ROOT = Path(__file__).parents[2]
FEED = "trades"
FOUND = {path: json.loads(render_page(path)) for path in PAGES}
Document = dict[str, Any]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian's package prometheus)"
)

VALUES = {
    "shard": ("shardId-000000000000", "shardId-000000000001"),
    "stage": STAGES,
    "part": COST_PARTS,
    "reason": ("bad_price", *GAP_REASONS),
}
"""Values of labels, as a dataflow gives them."""


def panels(document: Document) -> Iterator[Document]:
    yield from (panel for panel in document["panels"] if panel["type"] != "row")


def expressions() -> list[tuple[str, str]]:
    """Title and expression of every query of every page, Grafana's variables filled in."""
    return [
        (f"{page.title}: {panel.title}", filled(query.expression))
        for page in (build() for build in PAGES.values())
        for panel in page.panels()
        for query in panel.queries
    ]


def filled(expression: str) -> str:
    text = expression.replace("$__rate_interval", "1m").replace("$feed", FEED)
    assert "$" not in text, f"{expression}: a variable that this test does not know"
    return text


def series_of(metric: Metric) -> Iterator[tuple[str, str]]:
    """What a scrape of a dataflow holds of a metric, in promtool's notation, 15 s apart."""
    target = {"instance": f"dataflow-{FEED}:9100", "job": "dataflow", "feed": FEED}
    given = [(name, [value]) for name, value in target.items()]
    given += [(name, list(VALUES[name])) for name in metric.labels if name != "feed"]
    for chosen in product(*(values for _, values in given)):
        labels = dict(zip((name for name, _ in given), chosen, strict=True))
        if metric.kind == "histogram":
            for bound in (*metric.buckets, "+Inf"):
                yield render_series(f"{metric.name}_bucket", {**labels, "le": f"{bound}"}), "0+4x80"
            for part in ("sum", "count"):
                yield render_series(f"{metric.name}_{part}", labels), "0+4x80"
        else:
            yield (
                render_series(metric.name, labels),
                "0+3x80" if metric.kind == "counter" else "1x80",
            )


def render_series(name: str, labels: dict[str, str]) -> str:
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{inside}}}"


def served() -> list[dict[str, str]]:
    """One series at least for every metric of the catalogue, and Prometheus' own."""
    where = {"job": "dataflow", "instance": f"dataflow-{FEED}:9100", "feed": FEED}
    own = [(render_series("up", where), "1x80")]
    own += [
        (
            render_series(
                "ALERTS",
                {"alertname": "a", "alertstate": "firing", "priority": p, "feed": FEED},
            ),
            "1x80",
        )
        for p in ("p1", "p2", "p3", "p4")
    ]
    found = [*own, *(pair for metric in CATALOGUE for pair in series_of(metric))]
    return [{"series": series, "values": values} for series, values in found]


def ask(folder: Path, asked: list[tuple[str, str]]) -> str:
    """What promtool says to "each of these has at least one answer"; empty if it agrees."""
    tests = [
        {
            "expr": f"count(({expression})) > bool 0",
            "eval_time": "18m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for _, expression in asked
    ]
    unit = {"interval": "15s", "input_series": served(), "promql_expr_test": tests}
    path = folder / "dashboards.test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [unit]}))
    command = ["promtool", "test", "rules", path.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@needs_promtool
def test_every_expression_parses_and_is_answered_by_what_a_dataflow_serves(tmp_path):
    assert ask(tmp_path, expressions()) == ""


@needs_promtool
@pytest.mark.parametrize(
    "expression",
    [
        "rate(headrace_records_total[1m]",
        'headrace_records_total{feed="tardes"}',
        "headrace_shard_behind_seconds * on (part) headrace_cost_usd_total",
        "headrace_freshness_ms",
    ],
)
def test_an_expression_that_has_no_answer_is_found(expression, tmp_path):
    assert expression.partition("{")[0] in ask(tmp_path, [("planted", expression)])


def test_every_metric_on_a_page_is_in_the_catalogue_and_every_metric_is_on_a_page():
    shown = {
        name for build in PAGES.values() for p in build().panels() for name in metrics_of(p.queries)
    }
    assert {name for name in shown if find_metric(name) is None} <= set(OF_PROMETHEUS)
    assert {metric.name for metric in CATALOGUE} <= shown


def test_the_feeds_to_choose_from_are_those_that_a_dataflow_names():
    (asked,) = metrics_of([Query(FEED_QUERY)])
    metric = find_metric(asked)
    assert metric is not None
    assert "feed" in metric.labels


def test_a_panel_with_a_metric_that_nobody_has_is_refused():
    with pytest.raises(KeyError, match="headrace_lag_ms"):
        Panel("lag", "ms", (Query("headrace_lag_ms"),)).description()


def place_faults(document: Document) -> Iterator[str]:
    """Panels that lie on one another or leave the grid; ids that two have; a row amid a line."""
    taken: dict[tuple[int, int], str] = {}
    for panel in document["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']}: leaves the grid"
        for cell in product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            if cell in taken:
                yield f"{panel['title']}: lies on {taken[cell]}"
                break
            taken[cell] = panel["title"]
    ids = [panel["id"] for panel in document["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"


def said_faults(document: Document) -> Iterator[str]:
    """Panels without title, unit or description, and two of one title in a row."""
    for panel in panels(document):
        if not (panel["title"] and panel["description"]):
            yield f"{panel['id']}: says nothing"
        if panel["type"] != "text" and not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{panel['title']}: has no unit"


def query_faults(document: Document) -> Iterator[str]:
    """Panels without a query, from another source, or whose queries share a letter."""
    for panel in panels(document):
        targets = panel.get("targets") or []
        if not targets and panel["type"] != "text":
            yield f"{panel['title']}: asks nothing"
        letters = [target["refId"] for target in targets]
        if len(set(letters)) != len(letters) or "" in letters:
            yield f"{panel['title']}: letters {letters}"
        if any(target["datasource"]["uid"] != "prometheus" for target in targets):
            yield f"{panel['title']}: asks another source"


def variable_faults(document: Document) -> Iterator[str]:
    """Variables that are used and not there, or there and not used."""
    there = {variable["name"] for variable in document["templating"]["list"]}
    text = json.dumps([document["panels"]])
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    yield from (f"${name} is used and not there" for name in sorted(used - there))
    yield from (f"${name} is there and not used" for name in sorted(there - used))


def link_faults(document: Document) -> Iterator[str]:
    """Links to runbooks that are not there."""
    for name in set(re.findall(r"\$\{runbooks\}/([a-z-]+)\.md", json.dumps(document))):
        if name not in {alert.name for alert in ALERTS}:
            yield f"{name}: no such alert"
        if not (ROOT / f"deploy/runbooks/{name}.md").is_file():
            yield f"{name}: no runbook"


def move(document: Document) -> None:
    document["panels"][3]["gridPos"]["x"] = document["panels"][2]["gridPos"]["x"]


FAULTS: list[tuple[Callable[[Document], Iterator[str]], str, Callable[[Document], object]]] = [
    (place_faults, "lies on", move),
    (place_faults, "leaves", lambda d: d["panels"][-1]["gridPos"].update(x=20)),
    (place_faults, "one id", lambda d: d["panels"][2].update(id=d["panels"][1]["id"])),
    (said_faults, "says nothing", lambda d: d["panels"][1].update(description="")),
    (said_faults, "no unit", lambda d: d["panels"][1]["fieldConfig"]["defaults"].pop("unit")),
    (query_faults, "asks nothing", lambda d: d["panels"][1].update(targets=[])),
    (query_faults, "letters", lambda d: d["panels"][1]["targets"].append(
        dict(d["panels"][1]["targets"][0]))),
    (query_faults, "another", lambda d: d["panels"][1]["targets"][0]["datasource"].update(uid="x")),
    (variable_faults, "not there", lambda d: d["panels"][1].update(title="$shard")),
    (variable_faults, "not used", lambda d: d["templating"]["list"].append({"name": "venue"})),
    (link_faults, "no such alert", lambda d: d["panels"][1].update(
        links=[{"url": "${runbooks}/no-such.md"}])),
]  # fmt: skip
JUDGES = list(dict.fromkeys(judge for judge, _, _ in FAULTS))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.__name__)
def test_page_has_no_fault(judge, path):
    assert list(judge(FOUND[path])) == []


@pytest.mark.parametrize(
    ("judge", "phrase", "plant"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_planted_fault_is_found(judge, phrase, plant):
    document = json.loads(json.dumps(FOUND[next(iter(PAGES))]))
    plant(document)
    assert [complaint for complaint in judge(document) if phrase in complaint]


def test_pages_differ_by_uid_and_the_overview_leads_to_the_page_of_a_feed():
    uids = [document["uid"] for document in FOUND.values()]
    assert len(set(uids)) == len(uids)
    (target,) = set(re.findall(r"/d/([\w-]+)\?var-feed=", json.dumps(list(FOUND.values()))))
    (page,) = (d for d in FOUND.values() if d["uid"] == target)
    assert "feed" in {variable["name"] for variable in page["templating"]["list"]}


def test_every_alert_has_its_place_on_the_overview_and_its_link_on_a_panel():
    text = json.dumps(FOUND[next(path for path in PAGES if path.stem == "overview")])
    assert [alert.name for alert in ALERTS if f"{{runbooks}}/{alert.name}.md" not in text] == []
    linked = {
        alert.name
        for build in PAGES.values()
        for panel in build().panels()
        for alert in panel.alerts()
    }
    assert linked == {alert.name for alert in ALERTS}


def test_folder_holds_the_pages_alone_and_grafana_of_the_compose_file_loads_them():
    (folder,) = {path.parent for path in PAGES}
    assert {path.name for path in (ROOT / folder).iterdir()} == {path.name for path in PAGES}
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    provider = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/dashboards/headrace.yml").read_text()
    )["providers"][0]
    assert f"./{folder}:{provider['options']['path']}:ro" in mounts["volumes"]
    for document in FOUND.values():
        (runbooks,) = (v for v in document["templating"]["list"] if v["name"] == "runbooks")
        place = f"/usr/share/grafana{runbooks['query']}"
        assert f"./deploy/runbooks:{place}:ro" in mounts["volumes"]


def test_a_line_that_is_full_begins_a_new_one():
    wide = Panel("a", "short", (Query("up"),), width=16, height=3)
    page = Page("u", "t", "a", (Row("r", (wide, wide)),))
    places = [panel["gridPos"] for panel in json.loads(render(page))["panels"]]
    assert [(place["x"], place["y"]) for place in places] == [(0, 0), (0, 1), (0, 4)]
