"""A work pool on AWS: the task definition of its flow runs, and the worker that starts them.

A worker never registers a definition: it names this one, with the image by its digest, and may pass
on the two roles of its own pool alone. It polls and does nothing else, so one small task is enough.
Size and container name come from deploy/prefect/resources.yaml, which names this definition.
Not here: what the flows of a pool may touch (`ingestion`, `transformation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pulumi
import yaml

from batch.flows.declared import RESOURCES_FILE
from components.containers import Container, Images, Task
from components.data_lake import DataLake
from components.environment import DATA, runtime_environment, sdk_environment
from components.health import http_health
from components.networking import Networking
from components.orchestration import Orchestration
from components.services import make_service
from context import Part
from grants import Grant, write_objects
from settings import TaskSize

CONTAINER = "prefect"
"""What the pool's job template overrides, and where the observer looks for logs."""
RESULTS = "results/"
WORKER_PORT = 8080
RUN_TASK_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every pool needs of the other components."""

    network: Networking
    lake: DataLake
    images: Images
    prefect: Orchestration


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool's parts; the stack's outputs name them to Prefect."""

    name: str
    task: Task
    worker_service_name: pulumi.Output[str]

    def outputs(self) -> dict[str, pulumi.Output[str]]:
        """The values that deploy/prefect/resources.yaml asks for."""
        return {
            f"{self.name}_task_definition_arn": self.task.definition.arn,
            f"{self.name}_task_role_arn": self.task.role.arn,
        }


def make_pool(
    part: Part,
    around: Surroundings,
    name: str,
    grants: Sequence[Grant],
    fields: Mapping[str, Any],
    *,
    variables: Mapping[str, pulumi.Input[str]] | None = None,
) -> Pool:
    """A pool's definition and worker. `fields`: settings of the runtime that its flows need;
    `variables`: what programs that they start read.
    """
    results = write_objects("Results", around.lake.artifacts.arn, [RESULTS])
    task = around.images.make_task(
        part,
        name,
        size=pool_size(name),
        container=Container(
            name=CONTAINER,
            # The worker overrides the command, never the entry point of the image.
            entry_point=("/usr/bin/env",),
            command=("prefect", "flow-run", "execute"),
            environment={
                **runtime_environment(part.context, around.lake.environment, **fields),
                **around.prefect.client_environment(),
                **(variables or {}),
                "PREFECT_HOME": f"{DATA}/prefect",
            },
            secrets=around.prefect.client_secrets(),
        ),
        grants=[*grants, *results],
    )
    worker = _make_worker(part, around, task)
    service = make_service(part, around.prefect.batch_cluster, around.network, worker)
    return Pool(name, task, service.name)


def pool_size(name: str) -> TaskSize:
    """CPU and memory of a pool's runs, as its job template asks for them."""
    defaults = declared_pools()[name]["ecs"]["defaults"]
    return TaskSize(cpu=defaults["cpu"], memory=defaults["memory"])


@cache
def declared_pools() -> Mapping[str, Mapping[str, Any]]:
    """The pools of resources.yaml by name, placeholders and all."""
    found = yaml.safe_load(RESOURCES_FILE.read_text())["pools"]
    return {pool["name"]: pool for pool in found}


def _make_worker(part: Part, around: Surroundings, runs: Task) -> Task:
    prefect, context = around.prefect, part.context
    return around.images.make_task(
        part,
        f"{runs.name}-worker",
        size=context.settings.prefect.worker,
        container=Container(
            name="prefect-worker",
            entry_point=("prefect",),
            command=("worker", "start", "--pool", runs.name, "--type", "ecs", "--with-healthcheck"),
            environment={
                **sdk_environment(context),
                **prefect.client_environment(),
                **_observer_environment(prefect.observer_queue_name, context.settings.region),
                "PREFECT_HOME": f"{DATA}/prefect",
            },
            secrets=prefect.client_secrets(),
            health=http_health(WORKER_PORT, "/health"),
        ),
        grants=worker_grants(part, prefect, runs),
    )


def _observer_environment(queue_name: str, region: str) -> dict[str, str]:
    ecs = "PREFECT_INTEGRATIONS_AWS_ECS"
    return {
        f"{ecs}_OBSERVER_ENABLED": "true",
        f"{ecs}_OBSERVER_SQS_QUEUE_NAME": queue_name,
        f"{ecs}_OBSERVER_SQS_QUEUE_REGION": region,
        f"{ecs}_WORKER_CREATE_TASK_RUN_MAX_ATTEMPTS": str(RUN_TASK_ATTEMPTS),
    }


def worker_grants(part: Part, prefect: Orchestration, runs: Task) -> tuple[Grant, ...]:
    """What `prefect_aws`' worker and observer call, for this pool alone.

    The observer of any worker handles the events of all pools, so it may look at every task of the
    cluster and read every log of the stack.
    """
    context, cluster = part.context, prefect.batch_cluster_arn
    family = context.arn("ecs", f"task-definition/{context.name(runs.name)}:*")
    tasks = context.arn("ecs", f"task/{context.name('batch')}/*")
    logs = context.arn("logs", f"log-group:/headrace/{context.settings.stack}/*:log-stream:*")
    in_cluster = {"ArnEquals": {"ecs:cluster": cluster}}
    return (
        Grant("RunFlows", ("ecs:RunTask",), (family,), in_cluster),
        Grant("WatchFlows", ("ecs:DescribeTasks", "ecs:StopTask"), (tasks,), in_cluster),
        Grant(
            "TagFlows",
            ("ecs:TagResource",),
            (tasks,),
            {"StringEquals": {"ecs:CreateAction": "RunTask"}},
        ),
        # No resource can be named for these.
        Grant(
            "Describe",
            ("ec2:DescribeSubnets", "ec2:DescribeVpcs", "ecs:DescribeTaskDefinition"),
            ("*",),
        ),
        Grant(
            "PassRoles",
            ("iam:PassRole",),
            (runs.role.arn, runs.execution_role.arn),
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
        Grant("ReadCrashLogs", ("logs:GetLogEvents",), (logs,)),
        *prefect.observer.grants(),
    )
