"""The local server and what runs its flows, as real processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batch.flows.declared import RESOURCES_FILE, ROOT
from batch.flows.hours import HOUR_MS
from batch.prefect_server import plan_prefect
from stream.errors import ConfigError
from stream.local.process import identify, wait_until_gone
from stream.query import run_query
from stream.settings import load_settings

APPLY = str(ROOT / "deploy" / "prefect" / "apply.py")


def apply(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, APPLY, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def verbs(answer: subprocess.CompletedProcess[str]) -> set[str]:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {line[49:].split(" ")[0] for line in answer.stdout.splitlines()[:-1]}


def test_plan_keeps_foreign_prefect_settings_out_and_everything_on_loopback(
    prefect_settings, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_KEY", "somebody's cloud key")
    plan = plan_prefect(prefect_settings)
    again = plan_prefect(prefect_settings)
    for process in plan.processes:
        assert "PREFECT_API_KEY" not in process.env
        assert process.env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert process.env["DO_NOT_TRACK"] == "1"
        assert Path(process.env["PREFECT_HOME"]).is_relative_to(prefect_settings.home)
        assert process.env["HEADRACE_LAKE"] == prefect_settings.lake
        assert "HEADRACE_LAKE" not in repr(process), "an environment holds secrets"
    assert plan.ui_url.startswith("http://127.0.0.1:")
    assert plan.api_url == again.api_url, "the port is remembered"


def test_plan_in_a_home_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .* Choose another HEADRACE_HOME"):
        plan_prefect(load_settings(home=tmp_path / "file"))


def test_plan_without_prefect_says_how_to_install_it(prefect_settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'headrace\[prefect\]'"):
        plan_prefect(prefect_settings)


def test_platform_part_starts_without_importing_prefect():
    code = "import sys, batch.prefect_server; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "pools,nope"], "no nope; there are pools"),
        (["--stack", "aws"], "lack alerts_webhook_url, batch_cluster_arn"),
        (["--values", "/nonexistent"], "/nonexistent: No such file"),
        ([], "PREFECT_API_URL is not set"),
    ],
)
def test_apply_with_something_missing_says_what_and_exits_2(tmp_path, arguments, message):
    answer = apply({"PREFECT_HOME": str(tmp_path), "PATH": "/usr/bin"}, *arguments)
    assert (answer.returncode, message in answer.stderr) == (2, True), answer.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_served_deployment_runs_and_leaves_its_table_and_no_process(served):
    run = served.start("stream-watch/5min")
    assert served.finish(run)["type"] == "COMPLETED"
    lines = json.loads(served.artifacts(run)["streams"]["data"])
    assert {line["feed"] for line in lines} >= {"news", "trades"}

    bad = served.start("stream-watch/5min", feeds=["nope"])
    assert "no stream nope; feeds with one" in served.finish(bad)["message"]

    names = {limit["name"] for limit in served.post("/v2/concurrency_limits/filter")}
    assert names == {"fmp-api", "mongo-dump", "gold-build"}
    schedules = served.get("/deployments/name/small-file-compaction/nightly")["schedules"]
    assert [(s["slug"], s["active"]) for s in schedules] == [("nightly", True)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_end_of_a_backfill_starts_a_compaction_of_exactly_its_days_and_publishes_gold(
    served, prefect_settings
):
    run = served.start(
        "backfill-ingestion/default",
        source="simulated",
        dataset="trades",
        start_date="2026-01-05",
        end_date="2026-01-07",
        parallel_days=2,
        options={"rows_per_day": "300"},
    )
    assert served.finish(run)["type"] == "COMPLETED"
    left = served.artifacts(run)
    assert (left["backfill-progress"]["type"], left["backfill-progress"]["data"]) == (
        "progress",
        100,
    )
    chunks = json.loads(left["backfill-simulated"]["data"])
    assert [(chunk["state"], chunk["owner"]) for chunk in chunks] == [("done", run)] * 3

    def find(flow: str) -> list[dict[str, Any]]:
        flows = {"name": {"any_": [flow]}}
        return list(served.post("/flow_runs/filter", limit=100, flows=flows))

    def find_compaction() -> list[dict[str, Any]]:
        return [run for run in find("small-file-compaction") if run["parameters"].get("days")]

    (compaction,) = served.wait(find_compaction, "the end of the backfill started nothing")
    days = compaction["parameters"]["days"]
    assert days == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert compaction["parameters"]["apply"] is True
    assert served.finish(compaction["id"])["type"] == "COMPLETED"
    assert "compaction" in served.artifacts(compaction["id"])

    (build,) = served.wait(lambda: find("dbt-build"), "no build of Gold was started")
    assert build["parameters"].get("days") is None, "the ledger knows the days"
    end = served.finish(build["id"])
    assert end["type"] == "COMPLETED", end["message"]
    assert "gold-models" in served.artifacts(build["id"])
    said = served.wait(lambda: served.events("headrace.gold.published"), "nobody was told")
    assert [event["payload"]["build"] for event in said] == [1]
    trades = run_query(prefect_settings, "SELECT count(*) AS n FROM gold.int_enriched_trades")
    assert trades.to_pylist()[0]["n"] > 0

    again = served.start("dbt-build/default")
    assert served.finish(again)["type"] == "COMPLETED"
    assert not served.artifacts(again), "nothing was new"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_closed_hours_of_several_feeds_start_one_build_and_a_restarted_watcher_none(
    served, prefect_settings
):
    """The memory and the identities are the server's: every look is a process of its own."""
    served.wait(lambda: served.has("dbt-build/default"), "dbt-build is not registered")
    environment = served.environment
    code = (
        "import asyncio, sys; from prefect import flow; from batch.flows.hours import *\n"
        "@flow(name='look')\n"
        "async def look():\n"
        "    return [await announce_hours(f, int(sys.argv[1]), 1) for f in ('trades', 'quotes')]\n"
        "print(asyncio.run(look()))"
    )
    until_ms = 500_000 * HOUR_MS

    def watch(moment_ms: int) -> str:
        command = [sys.executable, "-c", code, str(moment_ms)]
        look = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return look.stdout

    assert watch(until_ms).count("+00:00") == 2
    assert watch(until_ms + 5).count("+00:00") == 0
    closed = "headrace.silver.hour-closed"
    served.wait(lambda: len(served.events(closed)) == 2, "the hour was not announced")

    for name in ("trades", "quotes"):  # a second watcher that knows nothing of the first one
        served.delete(f"/variables/name/headrace_hour_closed_{name}")
    assert watch(until_ms + 9).count("+00:00") == 2
    time.sleep(5)
    assert len(served.events(closed)) == 2, "one identity, one event"
    flows = {"name": {"any_": ["dbt-build"]}}
    assert len(served.post("/flow_runs/filter", flows=flows)) == 1


def test_guard_ends_what_a_killed_leader_left_behind(tmp_path):
    code = (
        "import subprocess, sys, time; from batch.flows.guard import start_guard\n"
        "guard = start_guard()\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    with leader:
        child = identify(int(leader.stdout.readline()))
        assert child
        leader.kill()
    assert wait_until_gone(child, 5)


def test_guard_of_a_process_that_leads_no_group_would_end_others_and_is_not_started():
    code = "from batch.flows.guard import start_guard; assert start_guard() is None"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_apply_twice_changes_nothing_and_a_process_worker_runs_what_it_deployed(
    server, start_process
):
    environment = server.environment
    assert verbs(apply(environment, "--dry-run")) == {"create"}
    assert server.post("/work_pools/filter") == [], "a dry run wrote"
    assert verbs(apply(environment)) == {"create"}
    before = _identities(server)
    assert verbs(apply(environment)) == {"unchanged"}
    assert _identities(server) == before

    server.post("/variables/", name="old", value=1, tags=["headrace"])
    server.post("/variables/", name="theirs", value=1, tags=[])
    assert "would be deleted 1" in apply(environment, "--prune", "--dry-run").stdout
    assert "variable    old" in apply(environment, "--prune").stdout
    left = {item["name"] for item in server.post("/variables/filter")}
    assert left == {"theirs", "headrace_root"}

    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lightweight"]
    start_process("worker", worker, environment)
    run = server.start("stream-watch/5min")
    assert server.finish(run)["type"] == "COMPLETED"
    assert "streams" in server.artifacts(run)

    answer = apply(environment, "--stack", "aws", "--values", str(_aws_values(server)))
    assert answer.returncode == 2
    assert "is of type 'process' on this server and 'ecs' on stack 'aws'" in answer.stderr


def _identities(server: Any) -> dict[str, list[str]]:
    kinds = ("work_pools", "deployments", "variables", "automations")
    return {kind: sorted(item["id"] for item in server.post(f"/{kind}/filter")) for kind in kinds}


def _aws_values(server: Any) -> Path:
    """A file that names every value that the aws stack asks for."""
    found = re.findall(r"\$\{([a-z_]+)\}", RESOURCES_FILE.read_text())
    path = Path(server.environment["PREFECT_HOME"]) / "values.json"
    path.write_text(json.dumps(dict.fromkeys(found, "x")))
    return path
