"""apply.py as one task of ECS: started, waited for, its log and exit code handed on.

moto starts no containers; a stand-in runs each task's command here, with what the task's
definition and its overrides bring, and then lets moto say that the task has stopped.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.ecs.models import ecs_backends
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

from batch.flows.declared import RESOURCES_FILE, ROOT
from stream.local.roto import free_port

REGION, ACCOUNT, GROUP = "us-east-1", "123456789012", "/headrace/prefect-apply"
WEBHOOK = "http://127.0.0.1:9/alerts-secret"


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "deploy" / "prefect" / "apply_on_ecs.py"
    spec = importlib.util.spec_from_file_location("apply_on_ecs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAUSE_SECONDS = 0.2
    return module


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    endpoint = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    endpoint.start()
    host, port = endpoint.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # By itself moto lets a task end after some looks at it.
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**9})
    yield
    state_manager.unset_transition("ecs::task")
    assert httpx.post(f"http://{host}:{port}/moto-api/reset").is_success
    endpoint.stop()


@pytest.fixture
def outputs(aws: None) -> dict[str, Any]:
    """What `deploy/stack outputs` says: values, a hidden one, and things of no concern here."""
    ec2, ecs = boto3.client("ec2"), boto3.client("ecs")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="batch", Description="batch", VpcId=vpc)["GroupId"]
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    asked = set(re.findall(r"\$\{([a-z_]+)\}", RESOURCES_FILE.read_text())) - {"root"}
    return {
        **{name: f"{name}-of-a-test" for name in asked},
        "vpc_id": vpc,
        "private_subnet_ids": [subnet],
        "batch_security_group_ids": [group],
        "batch_cluster_arn": ecs.create_cluster(clusterName="batch")["cluster"]["clusterArn"],
        "prefect_apply_task_definition_arn": _register(ecs),
        "alerts_webhook_url": f"secretsmanager:{_keep_secret()}",
        "api_endpoint": "https://api.example.com",
    }


class StandIn:
    """Runs the next task's command; `environment` is what the task's definition brings."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.overrides: dict[str, Any] = {}
        self.output = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(10)

    def _run(self) -> None:
        backend = ecs_backends[ACCOUNT][REGION]
        while not (tasks := list(backend.tasks.get("batch", {}).values())):
            time.sleep(0.05)
        (task,) = tasks
        (self.overrides,) = task.overrides["containerOverrides"]
        given = {item["name"]: item["value"] for item in self.overrides["environment"]}
        program, *arguments = self.overrides["command"]
        assert program == "python"
        answer = subprocess.run(
            [sys.executable, *arguments],
            env={**self.environment, **given},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output = answer.stdout
        self._log(task.task_arn.rpartition("/")[2], answer.stdout)
        task.containers[0].exitCode = answer.returncode
        task.status = "STOPPED"

    def _log(self, identity: str, text: str) -> None:
        logs, stream = boto3.client("logs"), f"apply/prefect/{identity}"
        logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in text.splitlines()]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)


def _keep_secret() -> str:
    secrets = boto3.client("secretsmanager")
    value = json.dumps({"url": WEBHOOK})
    return str(secrets.create_secret(Name="/headrace/slack", SecretString=value)["ARN"])


def _register(ecs: Any) -> str:
    options = {"awslogs-group": GROUP, "awslogs-region": REGION, "awslogs-stream-prefix": "apply"}
    container = {
        "name": "prefect",
        "image": "headrace@sha256:0",
        "cpu": 256,
        "memory": 512,
        "logConfiguration": {"logDriver": "awslogs", "options": options},
    }
    answer = ecs.register_task_definition(
        family="prefect-apply",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


def brought(**more: str) -> dict[str, str]:
    """What the task's definition brings; PATH and HOME stand for the image's."""
    kept = {n: v for n, v in os.environ.items() if n in ("PATH", "HOME") or n.startswith("AWS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def given(outputs: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps(outputs))
    return path


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_server_is_brought_to_what_is_declared_and_a_second_time_changes_nothing(
    script, given, server, capsys
):
    said = []
    for arguments in (["--dry-run"], [], []):
        ecs_backends[ACCOUNT][REGION].tasks.clear()
        task = StandIn(brought(**server.environment))
        assert script.main(["--outputs", str(given), *arguments]) == 0
        task.join()
        said.append(capsys.readouterr().out.splitlines())
        assert WEBHOOK not in json.dumps(task.overrides) + task.output
    would, created, again = (lines[-1] for lines in said)
    assert would.replace("would be ", "") == created
    assert "created 0" not in created
    assert again.startswith("created 0, updated 0, deleted 0, unchanged ")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_exit_code_and_log_of_the_task_are_those_of_the_script(script, given, capsys):
    task = StandIn(brought())
    assert script.main(["--outputs", str(given)]) == 2
    task.join()
    assert "PREFECT_API_URL is not set" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_secret_that_is_not_there_is_named(script, given, outputs, capsys):
    boto3.client("secretsmanager").delete_secret(
        SecretId="/headrace/slack", ForceDeleteWithoutRecovery=True
    )
    task = StandIn(brought())
    assert script.main(["--outputs", str(given)]) == 2
    task.join()
    assert outputs["alerts_webhook_url"].removeprefix("secretsmanager:") in capsys.readouterr().out


def test_only_what_resources_ask_for_is_sent_and_nothing_secret(script):
    outputs = {"vpc_id": "vpc-1", "alerts_webhook_url": "[secret]", "api_endpoint": "x"}
    (container,) = script.build_overrides(outputs, ["--dry-run"])["containerOverrides"]
    assert [json.loads(item["value"]) for item in container["environment"]] == [{"vpc_id": "vpc-1"}]
    assert container["command"][-1] == "--dry-run"


def test_outputs_of_a_stack_without_the_task_are_refused(script, tmp_path, capsys):
    (tmp_path / "outputs.json").write_text('{"vpc_id": "vpc-1"}')
    assert script.main(["--outputs", str(tmp_path / "outputs.json")]) == 2
    assert "no prefect_apply_task_definition_arn, batch_cluster_arn" in capsys.readouterr().err


def test_more_values_than_ecs_takes_are_refused(script, tmp_path, capsys):
    outputs = {**dict.fromkeys(script.NEEDED, "x"), "vpc_id": "v" * 9000}
    (tmp_path / "outputs.json").write_text(json.dumps(outputs))
    assert script.main(["--outputs", str(tmp_path / "outputs.json")]) == 2
    assert "ECS takes 8192" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("container", "code", "message"),
    [
        ({"exitCode": 0}, 0, ""),
        ({"exitCode": 137}, 137, ""),
        ({"reason": "CannotPullContainerError"}, 1, "never ran: CannotPullContainerError"),
        ({}, 1, "never ran: Task failed to start"),
    ],
)
def test_task_without_an_exit_code_has_failed(script, capsys, container, code, message):
    task = {
        "taskArn": "arn:1",
        "stoppedReason": "Task failed to start",
        "containers": [{"name": "other", "exitCode": 0}, {"name": "prefect", **container}],
    }
    assert script.read_verdict(task) == code
    assert message in capsys.readouterr().err
