"""The real ECS worker of Prefect against an ECS without containers, and a stand-in that runs them.

moto keeps clusters, tasks and queues but starts nothing and emits nothing. `FakeFargate` does
both: it runs a task's command with its environment, and puts the state change, which EventBridge
would route, into the worker's queue. Everything else is ours or Prefect's own: apply.py, the base
job templates, the worker, its observer, the flow.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from batch.flows.declared import RESOURCES_FILE, ROOT
from stream.local.roto import free_port

REGION = "us-east-1"
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass
class FakeFargate:
    """Runs each new task once: its command, with its overrides on top of a bare environment."""

    ecs: Any
    sqs: Any
    cluster: str
    queue: str
    folder: Path
    base: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _ending: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, name="fargate", daemon=True).start()

    def stop(self) -> None:
        self._ending.set()
        for task, process in self.processes.items():
            self.kill(self._run_of(task))
            process.wait(10)

    def task_of(self, run: str) -> str | None:
        """The task that runs a flow run."""
        return next((task for task in self.requests if self._run_of(task) == run), None)

    def kill(self, run: str) -> None:
        """SIGKILL for every process of a run's container, as when the kernel ends it."""
        for process in self._processes_of(run):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def environment(self, run: str) -> set[str]:
        """What every process of a run's container has in its environment."""
        found = [_environ(process) for process in self._processes_of(run)]
        return set.intersection(*found)

    def _processes_of(self, run: str) -> list[int]:
        everything = sorted(int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        return [pid for pid in everything if f"PREFECT__FLOW_RUN_ID={run}" in _environ(pid)]

    def output(self, task: str) -> str:
        return self._log(task).read_text()

    def _run_of(self, task: str) -> str:
        given = {item["name"]: item["value"] for item in self.requests[task]["environment"]}
        return str(given["PREFECT__FLOW_RUN_ID"])

    def _run(self) -> None:
        while not self._ending.wait(0.2):
            for task in self.ecs.list_tasks(cluster=self.cluster)["taskArns"]:
                if task not in self.processes:
                    self._start(task)
            for task, process in list(self.processes.items()):
                if process.poll() is not None and self.requests[task].pop("running", None):
                    self._tell(task, "STOPPED", process.returncode)

    def _start(self, task: str) -> None:
        (found,) = self.ecs.describe_tasks(cluster=self.cluster, tasks=[task])["tasks"]
        (container,) = found["overrides"]["containerOverrides"]
        self.requests[task] = {**container, "task": found, "running": True}
        given = {item["name"]: item["value"] for item in container["environment"]}
        self._tell(task, "PENDING", None)
        with self._log(task).open("wb") as log:
            self.processes[task] = subprocess.Popen(
                container["command"],
                env={**self.base, **given},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _tell(self, task: str, status: str, exit_code: int | None) -> None:
        container: dict[str, Any] = {"name": "prefect", "lastStatus": status}
        if exit_code is not None:
            container["exitCode"] = 128 - exit_code if exit_code < 0 else exit_code
        event = {
            "id": f"00000000-0000-0000-0000-{len(self.requests):04d}{hash(status) % 10**8:08d}",
            "detail-type": "ECS Task State Change",
            "time": "2026-01-01T00:00:00Z",
            "detail": {
                "taskArn": task,
                "clusterArn": self.cluster,
                "lastStatus": status,
                "stoppedReason": "Essential container in task exited" if exit_code else "",
                "containers": [container],
            },
        }
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(event))

    def _log(self, task: str) -> Path:
        return self.folder / f"{task.rpartition('/')[2]}.log"


def _environ(process: int) -> set[str]:
    try:
        return set(Path(f"/proc/{process}/environ").read_text().split("\0"))
    except OSError:  # it ended meanwhile
        return set()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An AWS of this process; the environment that points at it."""
    endpoint = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    endpoint.start()
    host, port = endpoint.get_host_and_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    yield found
    endpoint.stop()


@pytest.fixture
def values(aws: dict[str, str]) -> dict[str, Any]:
    """A network, a cluster, roles and task definitions: what the infrastructure code outputs."""
    ec2, ecs = boto3.client("ec2"), boto3.client("ecs")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    # moto names an interface by its DNS name and fails on one that has none.
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="batch", Description="batch", VpcId=vpc)["GroupId"]
    found: dict[str, Any] = {name: f"{name}-of-a-test" for name in _placeholders()}
    boto3.client("s3").create_bucket(Bucket="results")
    return {
        **found,
        "root": str(ROOT),
        "vpc_id": vpc,
        "private_subnet_ids": [subnet],
        "batch_security_group_ids": [group],
        "batch_cluster_arn": ecs.create_cluster(clusterName="batch")["cluster"]["clusterArn"],
        "results_bucket": "results",
        "alerts_webhook_url": "http://127.0.0.1:9/alerts-secret",
        "prefect_auth_string_secret_arn": "arn:aws:secretsmanager:us-east-1:1:secret:prefect",
        **{
            f"{pool}_task_definition_arn": _register(ecs, pool)
            for pool in ("ingestion", "transformation", "lightweight", "gpu")
        },
        **{
            f"{pool}_task_role_arn": f"arn:aws:iam::123456789012:role/{pool}"
            for pool in ("ingestion", "transformation", "lightweight", "gpu")
        },
    }


@pytest.fixture
def fargate(
    server: Any,
    aws: dict[str, str],
    values: dict[str, Any],
    tmp_path: Path,
    start_process: Callable[..., Path],
) -> Iterator[FakeFargate]:
    """Everything applied to a server, the worker of the lightweight pool, and the stand-in."""
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="task-events")["QueueUrl"]
    environment = {
        **server.environment,
        **aws,
        "PREFECT_API_AUTH_STRING": "admin:very-secret",
        "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME": "task-events",
    }
    given = tmp_path / "outputs.json"
    given.write_text(json.dumps(values))
    for verb in ("created", "unchanged"):
        said = _apply(given, environment)
        assert f"{verb} 0" not in said.splitlines()[-1], said
        assert "alerts-secret" not in said
    worker = [str(BIN / "prefect"), "worker", "start", "--pool", "lightweight", "--type", "ecs"]
    log = start_process("worker", worker, environment)
    base = {
        **{name: server.environment[name] for name in ("HOME", "PREFECT_HOME", "HEADRACE_HOME")},
        "HEADRACE_LAKE": server.environment["HEADRACE_LAKE"],
        "PATH": f"{BIN}:/usr/bin:/bin",
        **aws,
    }
    found = FakeFargate(
        boto3.client("ecs"), sqs, values["batch_cluster_arn"], queue, tmp_path, base
    )
    found.start()
    yield found
    found.stop()
    assert "Traceback" not in log.read_text()


def test_flow_run_completes_in_a_task_of_our_definition_and_every_line_names_it(
    fargate, server, values
):
    run = server.start("stream-watch/5min")
    assert server.finish(run)["type"] == "COMPLETED"

    task = fargate.task_of(run)
    assert fargate.processes[task].wait(30) == 0
    asked = fargate.requests[task]
    assert asked["task"]["taskDefinitionArn"] == values["lightweight_task_definition_arn"]
    assert asked["task"]["overrides"]["taskRoleArn"] == values["lightweight_task_role_arn"]
    assert "very-secret" not in json.dumps(asked, default=str)
    lines = [json.loads(line) for line in fargate.output(task).splitlines()]
    assert {line["flow_run_id"] for line in lines} == {run}
    assert any("Finished in state Completed" in line["message"] for line in lines)
    assert "streams" in server.artifacts(run)


def test_killed_task_makes_its_run_crashed(fargate, server):
    deployment = _deploy_sleeper(server)
    run = server.post(f"/deployments/{deployment}/create_flow_run")["id"]
    server.wait(lambda: server.state(run)["type"] == "RUNNING", "it never ran")

    assert f"LOG_CORRELATION_ID={run}" in fargate.environment(run)

    fargate.kill(run)

    state = server.finish(run)
    assert state["type"] == "CRASHED"
    assert "non-zero exit code" in state["message"]
    assert server.states(run)[-2:] == ["Running", "Crashed"]


def _deploy_sleeper(server: Any) -> str:
    flow = server.post("/flows/", name="sleeper")
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
    created = server.post(
        "/deployments/",
        name="test",
        flow_id=flow["id"],
        entrypoint="tests/flows/sleeper.py:sleeper",
        work_pool_name="lightweight",
        pull_steps=[step],
    )
    return str(created["id"])


def _register(ecs: Any, pool: str) -> str:
    container = {
        "name": "prefect",
        "image": "headrace@sha256:0",
        # moto adds these up and fails when they are absent.
        "cpu": 256,
        "memory": 512,
    }
    answer = ecs.register_task_definition(
        family=pool,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


def _apply(given: Path, environment: dict[str, str]) -> str:
    script = str(ROOT / "deploy" / "prefect" / "apply.py")
    answer = subprocess.run(
        [sys.executable, script, "--stack", "aws", "--values", str(given)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _placeholders() -> set[str]:
    return set(re.findall(r"\$\{([a-z_]+)\}", RESOURCES_FILE.read_text()))
