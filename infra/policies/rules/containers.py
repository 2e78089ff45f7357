"""ECS: containers that can do no more than they need."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import PolicyResource, ResourceValidationPolicy

from rules.rule import Properties, of_type, rule, stack_rule

TASK = "aws:ecs/taskDefinition:TaskDefinition"
SERVICE = "aws:ecs/service:Service"
Container = Mapping[str, Any]

EXEC_WRITES = ("/managed-agents", "/var/lib/amazon/ssm", "/var/log/amazon/ssm")
"""Where the agent of ECS Exec writes: it fails on a read-only root without volumes there."""

SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|CONNECTION_STRING|_KEY)$")


def containers(properties: Properties) -> list[Container]:
    """A task definition's containers."""
    found: list[Container] = json.loads(properties.get("containerDefinitions") or "[]")
    return found


def _each(
    name: str, description: str, check: Callable[[Container], str | None]
) -> ResourceValidationPolicy:
    def validate(properties: Properties) -> str | None:
        faults = [(c.get("name"), check(c)) for c in containers(properties)]
        return "; ".join(f"{who}: {fault}" for who, fault in faults if fault) or None

    return rule(name, description, {TASK: validate})


def _root(container: Container) -> str | None:
    return None if container.get("readonlyRootFilesystem") is True else "its root can be written"


def _user(container: Container) -> str | None:
    user = str(container.get("user", ""))
    number = user.partition(":")[0]
    if number.isdigit() and int(number) > 0:
        return None
    return f"user {user!r}; expected a number above 0"


def _privileges(container: Container) -> str | None:
    linux = container.get("linuxParameters") or {}
    capabilities = linux.get("capabilities") or {}
    if container.get("privileged") or capabilities.get("add"):
        return "privileged, or with added capabilities"
    return None if capabilities.get("drop") == ["ALL"] else "expected capabilities drop ALL"


def _init(container: Container) -> str | None:
    """A signal to process 1 without a handler is ignored: the task would be killed instead."""
    linux = container.get("linuxParameters") or {}
    return None if linux.get("initProcessEnabled") is True else "expected initProcessEnabled"


def _logs(container: Container) -> str | None:
    driver = (container.get("logConfiguration") or {}).get("logDriver")
    return None if driver in ("awslogs", "awsfirelens") else f"logDriver {driver!r}"


def _image(container: Container) -> str | None:
    image = str(container.get("image"))
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return None
    return f"image {image}; expected a digest: a tag can be moved"


def _secrets(container: Container) -> str | None:
    named = [e["name"] for e in container.get("environment") or [] if SECRET_NAME.search(e["name"])]
    return f"secrets in its environment: {named}; use `secrets`" if named else None


def _shells(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    tasks = {task.urn: task for task in of_type(resources, TASK)}
    for service in of_type(resources, SERVICE):
        if not service.props.get("enableExecuteCommand"):
            continue
        for found in service.property_dependencies.get("taskDefinition", []):
            for container in containers(tasks[found.urn].props):
                if missing := _unwritable(container):
                    yield service, f"ECS Exec without volumes at {missing}"


def _unwritable(container: Container) -> list[str]:
    if container.get("readonlyRootFilesystem") is not True:
        return []
    points = container.get("mountPoints") or []
    writable = {p.get("containerPath") for p in points if not p.get("readOnly")}
    return [path for path in EXEC_WRITES if path not in writable]


RULES = [
    _each("root-is-read-only", "No container can change its own program.", _root),
    _each("user-is-not-root", "No container runs as root.", _user),
    _each("no-privileges", "No container has rights over its host.", _privileges),
    _each("signals-arrive", "Process 1 is an init that passes signals on.", _init),
    _each("containers-log", "Every container's output is kept.", _logs),
    _each("image-by-digest", "What runs is what was tested.", _image),
    _each("no-secret-in-environment", "Secrets come by reference.", _secrets),
    stack_rule("exec-can-write", "ECS Exec has the volumes that it writes to.", _shells),
]
