"""Objects to rows to flow runs, with a real Prefect server that wants a password and CSRF tokens.

The queue and the table are moto's, polled as Lambda polls; the lake lies in a folder, so S3's
announcements are written from its listing. Not proven: EventBridge and Lambda themselves.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from batch import actions, prefect_server
from batch.aws import lineage
from batch.extracts import ExtractRequest
from stream.clock import now_ms, to_utc
from stream.lake.connect import open_lake_store
from stream.lake.layout import BronzeKey, ExtractPartKey
from stream.settings import Settings, load_settings
from stream.slices import ShardRef

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PASSWORD = "admin:correct horse"
DEPLOYMENT = "/deployments/name/lineage-batch/default"


class Server:
    """The server's API, as a person with its password uses it."""

    def __init__(self, url: str) -> None:
        user, _, password = PASSWORD.partition(":")
        self.http = httpx.Client(base_url=url, auth=(user, password), timeout=30)

    def post(self, path: str, **body: Any) -> Any:
        token = self.http.get("/csrf-token", params={"client": "test"}).raise_for_status().json()
        headers = {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": "test"}
        return self.http.post(path, json=body, headers=headers).raise_for_status().json()

    def runs(self) -> dict[str, dict[str, Any]]:
        """Every run of the flow, by key."""
        found = self.post("/flow_runs/filter", flows={"name": {"any_": ["lineage-batch"]}})
        assert len({run["idempotency_key"] for run in found}) == len(found)
        return {run["idempotency_key"]: run for run in found}

    def events(self, name: str) -> list[dict[str, Any]]:
        return list(self.post("/events/filter", filter={"event": {"name": [name]}})["events"])

    def wait(self, look: Callable[[], Any], complaint: str, seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, complaint
            time.sleep(0.3)
        return found


@pytest.fixture
def prefect_settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", lake=f"file://{tmp_path}/lake")


@pytest.fixture
def server(prefect_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server locked as the one on AWS is, and the process that serves the deployments."""
    plain = prefect_server.plan_prefect

    def plan_locked(settings: Settings) -> prefect_server.PrefectPlan:
        plan = plain(settings)
        lock = {
            "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        }
        return replace(
            plan,
            server=replace(plan.server, env={**plan.server.env, **lock}),
            flows=replace(plan.flows, env={**plan.flows.env, "PREFECT_API_AUTH_STRING": PASSWORD}),
        )

    monkeypatch.setattr(prefect_server, "plan_prefect", plan_locked)
    with prefect_server.running(prefect_settings) as plan:
        monkeypatch.setenv("PREFECT_API_URL", plan.api_url)
        found = Server(plan.api_url)
        assert httpx.get(f"{plan.api_url}{DEPLOYMENT}").status_code == 401, "the server is open"
        yield found
        found.http.close()


@pytest.fixture
def landed(prefect_settings: Settings) -> list[str]:
    """Objects of Bronze: an extract with its manifest, a lost part, a slice that nobody commits."""
    day = date(2026, 1, 5)
    request = ExtractRequest("trades", day, day, (), {"rows_per_day": "200", "rows_per_part": "40"})
    actions.extract(prefect_settings, "simulated", request, "run-1")
    store = open_lake_store(prefect_settings)
    at_ms = now_ms()
    shard = ShardRef("trades", "headrace-trades.00000000", "shard-0")
    lost = ExtractPartKey("simulated", "run-died", at_ms, 0, "json").path
    left = BronzeKey.of(shard, "1", at_ms * 1_000_000).path
    for path in (lost, left):
        store.put(path, b"x")
        old = time.time() - 3_600
        os.utime(store.uri(path).removeprefix("file://"), (old, old))
    return [info.path for info in store.list("bronze/")]


@pytest.mark.usefixtures("aws")
def test_objects_become_rows_and_each_batch_one_run_that_names_what_nothing_names(
    server: Server, landed: list[str], prefect_settings: Settings, lineage_kit: Any, monkeypatch
) -> None:
    store = open_lake_store(prefect_settings)
    secrets = boto3.client("secretsmanager")
    secrets.create_secret(Name=lineage_kit.SECRET, SecretString="admin:yesterday's")
    monkeypatch.setenv("PREFECT_AUTH_SECRET_ARN", lineage_kit.SECRET)
    server.wait(lambda: server.http.get(DEPLOYMENT).is_success, "lineage-batch is not registered")

    def announce(path: str, age_seconds: float = 3_600) -> dict[str, Any]:
        data = store.get(path) or b""
        at = to_utc(int((now_ms() - age_seconds * 1_000) * 1_000_000))
        return lineage_kit.created(
            path,
            time=at.isoformat(),
            detail__object__etag=hashlib.md5(data).hexdigest(),
            detail__object__size=len(data),
        )

    events = [announce(path) for path in landed]
    queue = lineage_kit.Queue()
    queue.send(*events, events[0], events[-1], "poison", lineage_kit.created("gold/x"))
    seen = []

    def handle(delivery: Any, context: object) -> Any:
        seen.append(delivery)
        return lineage.handle(delivery, context)

    # A password that the server does not take: rows are written, everything comes back.
    assert queue.poll(handle) == 10
    assert server.runs() == {}
    assert not any("run" in row for row in lineage_kit.read_rows())
    secrets.update_secret(SecretId=lineage_kit.SECRET, SecretString=PASSWORD)

    queue.drain(handle)
    rows, runs = lineage_kit.read_rows(), server.runs()
    assert queue.set_aside() == ["poison"]
    assert [row["object"] for row in rows] == sorted(f"{lineage_kit.BUCKET}/{p}" for p in landed)
    assert {row["run"] for row in rows} == {run["id"] for run in runs.values()}
    assert {row["kind"] for row in rows} == {"slice", "part", "manifest"}

    for delivery in seen:  # each of them once more, whole
        lineage.handle(delivery, None)
    assert server.runs().keys() == runs.keys()
    assert lineage_kit.read_rows() == rows

    done = server.wait(lambda: _finished(server), "the runs did not end")
    assert {run["state_type"] for run in done} == {"COMPLETED"}, done
    told = server.wait(
        lambda: {
            event["payload"]["source"]: event["payload"]
            for event in server.events("headrace.bronze.unnamed")
        },
        "nobody was told",
    )
    assert (told["simulated"]["unfinished"], told["simulated"]["stalled"]) == (1, 0)
    assert (told["trades"]["unfinished"], told["trades"]["stalled"]) == (0, 1)
    assert "run-died" in told["simulated"]["objects"][0]

    # A young object's run waits for the end of its grace.
    young = announce(landed[0], age_seconds=0)
    young["detail"]["object"]["etag"] = hashlib.md5(b"another version").hexdigest()
    assert lineage.handle(lineage_kit.delivery(young), None) == {"batchItemFailures": []}
    (waiting,) = [run for key, run in server.runs().items() if key not in runs]
    assert waiting["state_type"] == "SCHEDULED"
    assert waiting["expected_start_time"] > to_utc((now_ms() + 14 * 60_000) * 10**6).isoformat()


def _finished(server: Server) -> list[dict[str, Any]]:
    found = list(server.runs().values())
    final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    return found if all(run["state_type"] in final for run in found) else []
