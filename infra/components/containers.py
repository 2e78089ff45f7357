"""The image, and how every container of the platform runs: one hardened task definition.

ARM64 on Fargate, as user 10001, no Linux capability, an init process, a read-only root; what is
written goes to the volumes at /data and /tmp, which live as long as the task. The image must
declare both as VOLUME: Fargate takes the owner of a fresh volume from there, and gives it to root
otherwise. `make_task` gives a task its own log group and its own two roles, so no two services can
share one. Not here: services (`services`), what a task is for (`streaming`, `orchestration`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws

from components.environment import DATA, TMP
from components.security import Security, log_group
from context import Context, Part
from grants import Grant, distinct, make_role
from settings import TaskSize

USER = "10001"
OPEN_FILES = 65_536
LOG_BUFFER = "25m"
KEPT_IMAGES = 50
EXEC_FOLDERS = ("/managed-agents", "/var/lib/amazon/ssm", "/var/log/amazon/ssm")
"""ECS Exec writes there as root: volumes, as the root is read-only (containers-roadmap#1359)."""
EXEC_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)


@dataclass(frozen=True, slots=True)
class Health:
    """A check inside the container: shell, because a Python process every 30 s costs more than the
    work that it watches. `start_seconds`: how long failures do not count.
    """

    command: str
    start_seconds: int = 120

    def declaration(self) -> dict[str, Any]:
        """As ECS reads it: unhealthy after three failures, 90 s."""
        return {
            "command": ["CMD-SHELL", self.command],
            "interval": 30,
            "timeout": 5,
            "retries": 3,
            "startPeriod": self.start_seconds,
        }


@dataclass(frozen=True, slots=True)
class Container:
    """What runs: `entry_point` and `command` of the image, its variables, its secrets.

    `environment`: from `components.environment`. `secrets`: variable -> ARN (or ARN:key::).
    """

    name: str
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, pulumi.Input[str]]
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    port: int | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task definition and what belongs to it alone."""

    name: str
    container: Container
    definition: aws.ecs.TaskDefinition
    role: aws.iam.Role
    execution_role: aws.iam.Role
    logs: aws.cloudwatch.LogGroup


class Images(Part):
    """The registry of the one image. `uri` names it by its digest: what runs is what was tested.
    `tasks`: every task that was made of it, by name.
    """

    repository_arn: pulumi.Output[str]
    repository_name: pulumi.Output[str]
    uri: pulumi.Output[str]
    tasks: dict[str, Task]

    def __init__(self, context: Context, security: Security) -> None:
        super().__init__(context, "images")
        self._security = security
        self.tasks = {}
        repository = aws.ecr.Repository(
            "image",
            name=context.name(context.settings.image_repository),
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[
                {"encryption_type": "KMS", "kms_key": security.data_key_arn}
            ],
            opts=self.below(),
        )
        aws.ecr.LifecyclePolicy(
            "image-lifecycle",
            repository=repository.name,
            policy=json.dumps({"rules": LIFECYCLE}),
            opts=self.below(),
        )
        self.repository_arn, self.repository_name = repository.arn, repository.name
        self.uri = pulumi.Output.concat(
            repository.repository_url, "@", context.settings.image_digest
        )
        self.register_outputs({"uri": self.uri})

    def make_task(
        self,
        part: Part,
        name: str,
        *,
        size: TaskSize,
        container: Container,
        grants: Sequence[Grant],
    ) -> Task:
        """A task definition with a log group, a task role with `grants`, and an execution role that
        pulls this image, writes to that log group and reads the container's secrets, no more.
        """
        settings = part.context.settings
        logs = log_group(part, self._security, name)
        pulls = self._execution_grants(logs, container)
        exec_grants = _exec_grants(part.context) if settings.ecs_exec else ()
        boundary = self._security.boundary_arn
        role = make_role(part, name, distinct([*grants, *exec_grants]), boundary_arn=boundary)
        execution_role = make_role(part, f"{name}-execution", pulls, boundary_arn=boundary)
        folders = volumes(is_exec_allowed=settings.ecs_exec)
        definition = aws.ecs.TaskDefinition(
            name,
            family=part.context.name(name),
            cpu=str(size.cpu),
            memory=str(size.memory),
            network_mode="awsvpc",
            requires_compatibilities=["FARGATE"],
            runtime_platform={"cpu_architecture": "ARM64", "operating_system_family": "LINUX"},
            task_role_arn=role.arn,
            execution_role_arn=execution_role.arn,
            volumes=[{"name": volume} for volume in folders],
            container_definitions=pulumi.Output.json_dumps(
                [_declare(part.context, self.uri, container, logs.name, folders)]
            ),
            # A run between `pulumi up` and `apply.py`, and a rollback, need the old revision.
            skip_destroy=True,
            opts=part.below(),
        )
        self.tasks[name] = Task(name, container, definition, role, execution_role, logs)
        return self.tasks[name]

    def _execution_grants(
        self, logs: aws.cloudwatch.LogGroup, container: Container
    ) -> tuple[Grant, ...]:
        pull = (
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
        )
        write = ("logs:CreateLogStream", "logs:PutLogEvents")
        grants = [
            Grant("LogInToEcr", ("ecr:GetAuthorizationToken",), ("*",)),
            Grant("PullImage", pull, (self.repository_arn,)),
            Grant("WriteLogs", write, (pulumi.Output.concat(logs.arn, ":log-stream:*"),)),
        ]
        if container.secrets:
            wanted = tuple(map(_secret_alone, container.secrets.values()))
            key = self._security.secrets_key_arn
            grants += [
                Grant("ReadSecrets", ("secretsmanager:GetSecretValue",), wanted),
                Grant("DecryptSecrets", ("kms:Decrypt",), (key,)),
            ]
        return tuple(grants)


def exec_log(cluster: str) -> str:
    """The log group of the shells of a cluster."""
    return f"{cluster}-exec"


def _exec_grants(context: Context) -> tuple[Grant, ...]:
    """ECS Exec: the agent in the task opens the channels and records the session."""
    groups = context.arn("logs", f"log-group:/headrace/{context.settings.stack}/{exec_log('*')}")
    write = ("logs:CreateLogStream", "logs:PutLogEvents")
    return (
        Grant("Exec", (*EXEC_ACTIONS, "logs:DescribeLogGroups"), ("*",)),
        Grant("ExecFindLog", ("logs:DescribeLogStreams",), (groups,)),
        Grant("ExecRecord", write, (f"{groups}:log-stream:*",)),
    )


def volumes(*, is_exec_allowed: bool) -> dict[str, str]:
    """Writable folders of a container: volume -> path."""
    found = {"data": DATA, "tmp": TMP}
    exec_folders = EXEC_FOLDERS if is_exec_allowed else ()
    return found | {folder.strip("/").replace("/", "-"): folder for folder in exec_folders}


def _declare(
    context: Context,
    image: pulumi.Input[str],
    container: Container,
    log_group_name: pulumi.Input[str],
    folders: Mapping[str, str],
) -> dict[str, Any]:
    """The container definition, in the words of ECS."""
    found: dict[str, Any] = {
        "name": container.name,
        "image": image,
        "essential": True,
        "entryPoint": list(container.entry_point),
        "command": list(container.command),
        "environment": [
            {"name": name, "value": value} for name, value in sorted(container.environment.items())
        ],
        "secrets": [
            {"name": name, "valueFrom": arn} for name, arn in sorted(container.secrets.items())
        ],
        "user": f"{USER}:{USER}",
        "privileged": False,
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"]}},
        "ulimits": [{"name": "nofile", "softLimit": OPEN_FILES, "hardLimit": OPEN_FILES}],
        "mountPoints": [
            {"sourceVolume": volume, "containerPath": path, "readOnly": False}
            for volume, path in folders.items()
        ],
        "stopTimeout": context.settings.stop_timeout_seconds,
        "logConfiguration": {
            "logDriver": "awslogs",
            # Non-blocking: a slow CloudWatch loses lines, it does not stall a stream.
            "options": {
                "awslogs-group": log_group_name,
                "awslogs-region": context.settings.region,
                "awslogs-stream-prefix": "headrace",
                "mode": "non-blocking",
                "max-buffer-size": LOG_BUFFER,
            },
        },
    }
    if container.port is not None:
        found["portMappings"] = [{"containerPort": container.port, "protocol": "tcp"}]
    if container.health is not None:
        found["healthCheck"] = container.health.declaration()
    return found


def _secret_alone(value_from: pulumi.Input[str]) -> pulumi.Output[str]:
    """The secret's ARN, without the key that a `valueFrom` may name in its JSON.

    Seven parts make an ARN of a secret: arn:aws:secretsmanager:region:account:secret:name.
    """
    return pulumi.Output.from_input(value_from).apply(lambda arn: ":".join(arn.split(":")[:7]))


LIFECYCLE: Sequence[Mapping[str, Any]] = [
    {
        "rulePriority": 1,
        "description": "What a pipeline pushed without a tag",
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": 14,
        },
        "action": {"type": "expire"},
    },
    {
        "rulePriority": 2,
        "description": "Releases to go back to",
        "selection": {
            "tagStatus": "any",
            "countType": "imageCountMoreThan",
            "countNumber": KEPT_IMAGES,
        },
        "action": {"type": "expire"},
    },
]
