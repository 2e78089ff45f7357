"""How every container runs: each rule on the three stacks, and against a fault planted for it."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import synth
from components.containers import EXEC_FOLDERS, Health
from components.environment import environment
from components.health import PULSE_SECONDS, http_health, pulse_health
from grants import Grant, distinct
from stream.errors import ConfigError
from stream.heartbeat import Heartbeat, pulse_path
from stream.observe.metrics import STALE_PULSE_SECONDS
from stream.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICE = "aws:ecs/service:Service"
POLICY = "aws:iam/rolePolicy:RolePolicy"
DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
SECRET_WORDS = re.compile(r"PASSWORD|AUTH_STRING|API_KEY|TOKEN|_URI$|PII_KEY$")
ADDRESS_WITH_PASSWORD = re.compile(r"://[^/@]+:[^/@]+@")
KNOWN = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}


def containers(graph: synth.Graph) -> list[tuple[str, dict[str, Any]]]:
    """Every container with the name of its definition."""
    return [
        (definition.name, container)
        for definition in graph.of(DEFINITION)
        for container in json.loads(definition.inputs["containerDefinitions"])
    ]


def check_user(graph):
    """Nobody is root, nobody keeps a capability."""
    return [
        name
        for name, c in containers(graph)
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", c.get("user", ""))
        or c["linuxParameters"]["capabilities"] != {"drop": ["ALL"]}
        or c.get("privileged")
    ]


def check_root_is_read_only(graph):
    """Written is to /data and /tmp, and to the folders of ECS Exec exactly where that is on."""
    bad = []
    for name, c in containers(graph):
        paths = {mount["containerPath"] for mount in c["mountPoints"]}
        has_exec = any(s.inputs.get("enableExecuteCommand") for s in graph.of(SERVICE))
        expected = {"/data", "/tmp", *(EXEC_FOLDERS if has_exec else ())}
        if not c.get("readonlyRootFilesystem") or paths != expected:
            bad.append(name)
    return bad


def check_stops_cleanly(graph):
    """An init process passes SIGTERM on, and there is time to commit the open epoch."""
    return [
        name
        for name, c in containers(graph)
        if not c["linuxParameters"].get("initProcessEnabled")
        or not 30 <= c.get("stopTimeout", 0) <= 120
    ]


def check_no_plain_secret(graph):
    """What is secret comes by `valueFrom`, and a value never looks like one."""
    return [
        f"{name}: {pair['name']}"
        for name, c in containers(graph)
        for pair in c["environment"]
        if SECRET_WORDS.search(pair["name"]) or ADDRESS_WITH_PASSWORD.search(pair["value"])
    ]


def check_variables_are_known(graph):
    """A container with an unknown HEADRACE_ variable refuses to start."""
    return [
        f"{name}: {pair['name']}"
        for name, c in containers(graph)
        for pair in [*c["environment"], *c["secrets"]]
        if pair["name"].startswith("HEADRACE_") and pair["name"] not in KNOWN
    ]


def check_image_by_digest(graph):
    """What runs is what was tested; a tag may mean another image tomorrow."""
    return [
        name
        for name, c in containers(graph)
        if not re.search(r"@sha256:[0-9a-f]{64}$", str(c["image"]))
    ]


def check_logs_do_not_block(graph):
    return [
        name
        for name, c in containers(graph)
        if c["logConfiguration"]["options"].get("mode") != "non-blocking"
    ]


def check_roles_are_not_shared(graph):
    """A role belongs to one definition, and to one purpose in it."""
    used = Counter(
        definition.inputs[key]
        for definition in graph.of(DEFINITION)
        for key in ("taskRoleArn", "executionRoleArn")
    )
    return [arn for arn, count in used.items() if count > 1]


def check_fargate(graph):
    return [
        d.name
        for d in graph.of(DEFINITION)
        if d.inputs["runtimePlatform"]
        != {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
        or d.inputs["requiresCompatibilities"] != ["FARGATE"]
        or d.inputs["networkMode"] != "awsvpc"
        or not d.inputs["skipDestroy"]
    ]


def check_services_are_private(graph):
    return [
        s.name
        for s in graph.of(SERVICE)
        if s.inputs["networkConfiguration"].get("assignPublicIp") is not False
        or not s.inputs["networkConfiguration"]["securityGroups"]
    ]


def check_one_task_at_a_time(graph):
    """Two tasks of a kind would do everything twice; a failed deployment goes back by itself."""
    wanted = {
        "desiredCount": 1,
        "deploymentMinimumHealthyPercent": 0,
        "deploymentMaximumPercent": 100,
        "availabilityZoneRebalancing": "DISABLED",
        "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        "platformVersion": "1.4.0",
    }
    return [
        s.name
        for s in graph.of(SERVICE)
        if {key: s.inputs.get(key) for key in wanted} != wanted or s.inputs.get("launchType")
    ]


def check_spot(graph):
    """AWS may take Spot tasks away: only in dev, and never Prefect's server."""
    return [
        s.name
        for s in graph.of(SERVICE)
        for strategy in s.inputs["capacityProviderStrategies"]
        if strategy["capacityProvider"] != "FARGATE"
        and (graph.stack != "dev" or s.name == "prefect-server")
    ]


def check_execution_roles(graph):
    """An execution role reads exactly the secrets that its container names."""
    bad = []
    for definition in graph.of(DEFINITION):
        (container,) = json.loads(definition.inputs["containerDefinitions"])
        wanted = {":".join(s["valueFrom"].split(":")[:7]) for s in container["secrets"]}
        policy = graph.one(POLICY, f"{definition.name}-execution-policy")
        granted = {
            resource
            for statement in json.loads(policy.inputs["policy"])["Statement"]
            if "secretsmanager:GetSecretValue" in statement["Action"]
            for resource in statement["Resource"]
        }
        if wanted != granted:
            bad.append(definition.name)
    return bad


RULES = {name: rule for name, rule in list(globals().items()) if name.startswith("check_")}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_stack_keeps_the_rule(rule, graph):
    assert len(containers(graph)) >= 12, "the graph holds containers to look at"
    assert rule(graph) == []


def change_container(change: Callable[[dict[str, Any]], None]) -> Callable[[synth.Graph], None]:
    """Plant something into the container of the first definition."""

    def plant(graph: synth.Graph) -> None:
        found = json.loads(graph.of(DEFINITION)[0].inputs["containerDefinitions"])
        change(found[0])
        put(graph, DEFINITION, 0, containerDefinitions=json.dumps(found))

    return plant


def put(graph: synth.Graph, type_: str, number: int, **inputs: Any) -> None:
    """Change inputs of one resource of a graph."""
    old = graph.of(type_)[number]
    where = graph.resources.index(old)
    graph.resources[where] = replace(old, inputs={**old.inputs, **inputs})


def change_service(**inputs: Any) -> Callable[[synth.Graph], None]:
    return lambda graph: put(graph, SERVICE, 0, **inputs)


def share_a_role(graph: synth.Graph) -> None:
    put(graph, DEFINITION, 0, taskRoleArn=graph.of(DEFINITION)[1].inputs["taskRoleArn"])


def expose(graph: synth.Graph) -> None:
    network = graph.of(SERVICE)[0].inputs["networkConfiguration"]
    put(graph, SERVICE, 0, networkConfiguration={**network, "assignPublicIp": True})


def variable(name: str, value: str) -> Callable[[synth.Graph], None]:
    return change_container(lambda c: c["environment"].append({"name": name, "value": value}))


FAULTS = {
    "public address": (expose, "check_services_are_private"),
    "root": (change_container(lambda c: c.update(user="0:0")), "check_user"),
    "no user": (change_container(lambda c: c.pop("user")), "check_user"),
    "a capability": (
        change_container(lambda c: c["linuxParameters"].update(capabilities={"drop": []})),
        "check_user",
    ),
    "writable root": (
        change_container(lambda c: c.update(readonlyRootFilesystem=False)),
        "check_root_is_read_only",
    ),
    "nowhere to write": (
        change_container(lambda c: c.update(mountPoints=c["mountPoints"][:1])),
        "check_root_is_read_only",
    ),
    "no init": (
        change_container(lambda c: c["linuxParameters"].update(initProcessEnabled=False)),
        "check_stops_cleanly",
    ),
    "killed after two seconds": (
        change_container(lambda c: c.update(stopTimeout=2)),
        "check_stops_cleanly",
    ),
    "stop time that ECS refuses": (
        change_container(lambda c: c.update(stopTimeout=600)),
        "check_stops_cleanly",
    ),
    "plain password": (variable("PREFECT_SERVER_DATABASE_PASSWORD", "x"), "check_no_plain_secret"),
    "plain key": (variable("HEADRACE_FMP_API_KEY", "x"), "check_no_plain_secret"),
    "address with a password": (
        variable("SOMEWHERE", "mongodb://reader:x@db/market"),
        "check_no_plain_secret",
    ),
    "unknown variable": (variable("HEADRACE_LAKES", "s3://x"), "check_variables_are_known"),
    "image by tag": (
        change_container(lambda c: c.update(image="x.dkr.ecr/headrace:latest")),
        "check_image_by_digest",
    ),
    "blocking logs": (
        change_container(lambda c: c["logConfiguration"]["options"].pop("mode")),
        "check_logs_do_not_block",
    ),
    "shared role": (share_a_role, "check_roles_are_not_shared"),
    "another processor": (
        lambda graph: put(graph, DEFINITION, 0, runtimePlatform={"cpuArchitecture": "X86_64"}),
        "check_fargate",
    ),
    "two tasks while deploying": (
        change_service(deploymentMaximumPercent=200),
        "check_one_task_at_a_time",
    ),
    "rebalancing": (
        change_service(availabilityZoneRebalancing="ENABLED"),
        "check_one_task_at_a_time",
    ),
    "no way back": (
        change_service(deploymentCircuitBreaker={"enable": True, "rollback": False}),
        "check_one_task_at_a_time",
    ),
    "spot": (
        change_service(capacityProviderStrategies=[{"capacityProvider": "FARGATE_SPOT"}]),
        "check_spot",
    ),
    "a secret that may not be read": (
        change_container(
            lambda c: c["secrets"].append({"name": "X", "valueFrom": "arn:aws:s:r:a:secret:other"})
        ),
        "check_execution_roles",
    ),
}


@pytest.mark.parametrize(("plant", "caught_by"), FAULTS.values(), ids=FAULTS)
def test_planted_fault_is_caught_by_its_rule(plant, caught_by, graphs):
    graph = copy.copy(graphs.get("staging"))
    graph.resources = list(graph.resources)
    plant(graph)
    assert RULES[caught_by](graph), "not caught"


def test_every_rule_has_caught_a_fault():
    assert {caught_by for _, caught_by in FAULTS.values()} == set(RULES)


def test_variables_are_fields_of_the_runtime_and_never_secrets():
    assert environment(metrics_port=9100) == {"HEADRACE_METRICS_PORT": "9100"}
    with pytest.raises(ConfigError, match="no setting 'lakes'"):
        environment(lakes="s3://x")
    with pytest.raises(ConfigError, match="HEADRACE_FMP_API_KEY: a secret"):
        environment(fmp_api_key="x")


def run_check(health: Health, home: Path | None = None) -> int:
    """Run a check as ECS does: by the container's shell."""
    command = (
        health.command if home is None else health.command.replace("/data/headrace", str(home))
    )
    return subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True).returncode


@pytest.mark.parametrize("index", [0, 1])
def test_a_fresh_pulse_is_healthy_a_stale_or_missing_one_is_not(index, tmp_path):
    health = pulse_health("trades", index)
    assert run_check(health, tmp_path) != 0, "no pulse"
    file = pulse_path(tmp_path, "trades", index)
    beat = {"epoch_age_seconds": 1.0, "tally": {}, "shards": []}
    pulse = Heartbeat(file, "trades", lambda: beat)
    pulse.start()
    try:
        assert run_check(health, tmp_path) == 0
    finally:
        pulse.stop()
    assert run_check(health, tmp_path) != 0, "a dataflow that ended has no pulse"
    file.write_text("{}")
    os.utime(file, (time.time() - PULSE_SECONDS - 1,) * 2)
    assert run_check(health, tmp_path) != 0, "stale"


def test_the_image_owns_every_folder_that_a_container_writes_to(graph):
    """Fargate gives a fresh volume to root, unless the image declares it (its owner is kept)."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (declared,) = re.findall(r"^VOLUME (\[.*\])$", text, re.M)
    paths = {m["containerPath"] for _, c in containers(graph) for m in c["mountPoints"]}
    assert paths - set(EXEC_FOLDERS) == set(json.loads(declared))
    assert {c["user"] for _, c in containers(graph)} == set(re.findall(r"^USER (\S+)$", text, re.M))


def test_ecs_is_not_stricter_than_the_runtime_itself():
    assert PULSE_SECONDS >= STALE_PULSE_SECONDS


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (503, False), (404, False)])
def test_a_server_that_answers_200_is_healthy(status, is_well):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 500)
            self.end_headers()
            self.wfile.write(b"200 in the body")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        health = http_health(server.server_port, "/health")
        assert (run_check(health) == 0) is is_well
        server.shutdown()
    assert run_check(health) != 0, "nobody listens"


def test_a_shell_is_recorded_where_it_is_allowed_and_nowhere_else(graph, settings_of):
    is_allowed = settings_of(graph.stack)["ecs_exec"]
    assert {s.inputs["enableExecuteCommand"] for s in graph.of(SERVICE)} == {is_allowed}
    for cluster in graph.of("aws:ecs/cluster:Cluster"):
        found = cluster.inputs.get("configuration", {}).get("executeCommandConfiguration")
        assert bool(found) is is_allowed, cluster.name
        if found:
            assert found["logging"] == "OVERRIDE"
            assert found["logConfiguration"]["cloudWatchEncryptionEnabled"]
    may_open = [p.name for p in graph.of(POLICY) if "ssmmessages:" in p.inputs["policy"]]
    assert bool(may_open) is is_allowed


def test_the_registry_keeps_what_was_pushed(graph):
    repository = graph.one("aws:ecr/repository:Repository", "image").inputs
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["encryptionConfigurations"][0]["encryptionType"] == "KMS"


def test_statements_of_one_sid_become_one_only_where_that_widens_nothing():
    read, write = ("s3:GetObject",), ("s3:PutObject",)
    prefix = lambda *names: {"StringLike": {"s3:prefix": list(names)}}  # noqa: E731
    listing = ("s3:ListBucket",)
    found = distinct(
        [
            Grant("Read", read, ("a",)),
            Grant("Read", read, ("b",)),
            Grant("Read", write, ("a",)),
            Grant("List", listing, ("a",), prefix("x/*")),
            Grant("List", listing, ("a",), prefix("y/*")),
            Grant("List", listing, ("b",), prefix("z/*")),
        ]
    )
    assert {grant.sid: grant.resources for grant in found} == {
        "Read": ("a", "b"),
        "Read2": ("a",),
        "List": ("a",),
        "List2": ("b",),
    }
    assert found[2].conditions == prefix("x/*", "y/*")


def test_policies_of_roles_are_short_enough_for_iam(graph):
    for policy in graph.of(POLICY):
        text = policy.inputs["policy"]
        assert len(re.sub(r"\s", "", text)) <= 10_240, policy.name
        sids = [statement["Sid"] for statement in json.loads(text)["Statement"]]
        assert len(sids) == len(set(sids)), policy.name
