"""Run apply.py inside a stack's network: one task of ECS with the image that the stack runs.

    deploy/stack outputs prod > outputs.json
    python deploy/prefect/apply_on_ecs.py --outputs outputs.json [--dry-run] [--prune]

The server is private, so the task's definition (infra/, output
`prefect_apply_task_definition_arn`) brings its address and its password; the values are sent along:
of a secret only where it lies, the task reads it there. Waits, prints the task's log, and ends with
the task's exit code; 1 if it never ran or stopped without one, 2 if the outputs lack something.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from batch.flows.declared import PLACEHOLDER, RESOURCES_FILE

CONTAINER = "prefect"
VALUES = "PREFECT_STACK_VALUES"
NEEDED = (
    "prefect_apply_task_definition_arn",
    "batch_cluster_arn",
    "private_subnet_ids",
    "batch_security_group_ids",
)
HIDDEN = "[secret]"
"""What `deploy/stack outputs` says instead of a secret: never sent in the clear."""

MAX_OVERRIDES_CHARS = 8192
"""What ECS takes; more is an error of RunTask that does not say so."""

TIMEOUT_SECONDS, PAUSE_SECONDS = 900, 5


def main(arguments: list[str] | None = None) -> int:
    """Run the task and wait for it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--outputs", type=Path, required=True, help="of `deploy/stack outputs`")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--prune", action="store_true", help="delete ours that are undeclared")
    options = parser.parse_args(arguments)
    outputs = json.loads(options.outputs.read_text())
    if missing := [name for name in NEEDED if name not in outputs]:
        return _fail(f"{options.outputs}: no {', '.join(missing)}; is the stack up to date?", 2)
    flags = [
        f"--{name.replace('_', '-')}" for name in ("dry_run", "prune") if getattr(options, name)
    ]
    overrides = build_overrides(outputs, flags)
    if (size := len(json.dumps(overrides))) > MAX_OVERRIDES_CHARS:
        return _fail(f"{size} characters of values, ECS takes {MAX_OVERRIDES_CHARS}", 2)
    return run(outputs, overrides)


def build_overrides(outputs: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """The command and its values: what resources.yaml asks for, less what is secret."""
    asked = set(PLACEHOLDER.findall(RESOURCES_FILE.read_text()))
    values = {n: v for n, v in outputs.items() if n in asked and v != HIDDEN}
    command = ["python", "deploy/prefect/apply.py", "--stack", "aws"]
    command += ["--values-env", VALUES, *flags]
    environment = [{"name": VALUES, "value": json.dumps(values, separators=(",", ":"))}]
    container = {"name": CONTAINER, "command": command, "environment": environment}
    return {"containerOverrides": [container]}


def run(outputs: dict[str, Any], overrides: dict[str, Any]) -> int:
    """Start the task, wait until it has stopped, print its log; returns its exit code."""
    ecs, cluster = boto3.client("ecs"), outputs["batch_cluster_arn"]
    answer = ecs.run_task(
        cluster=cluster,
        taskDefinition=outputs["prefect_apply_task_definition_arn"],
        launchType="FARGATE",
        count=1,
        startedBy="prefect-apply",
        overrides=overrides,
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": outputs["private_subnet_ids"],
                "securityGroups": outputs["batch_security_group_ids"],
                "assignPublicIp": "DISABLED",
            }
        },
    )
    if not answer["tasks"]:
        return _fail(f"ECS took no task: {answer['failures']}", 1)
    arn = answer["tasks"][0]["taskArn"]
    print(f"started {arn}", flush=True)
    stopped = _wait(ecs, cluster, arn)
    if stopped is None:
        return _fail(f"{arn} still runs after {TIMEOUT_SECONDS} s; it is left to itself", 1)
    for line in _read_log(ecs, stopped):
        print(line)
    return read_verdict(stopped)


def read_verdict(task: dict[str, Any]) -> int:
    """The container's exit code; 1, with the reason that ECS gives, if it has none."""
    (container,) = [c for c in task["containers"] if c["name"] == CONTAINER]
    if (code := container.get("exitCode")) is None:
        reason = container.get("reason") or task.get("stoppedReason") or "no reason given"
        return _fail(f"{task['taskArn']} never ran: {reason}", 1)
    return int(code)


def _wait(ecs: Any, cluster: str, arn: str) -> dict[str, Any] | None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        tasks = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        if tasks and tasks[0]["lastStatus"] == "STOPPED":
            return dict(tasks[0])
        time.sleep(PAUSE_SECONDS)
    return None


def _read_log(ecs: Any, task: dict[str, Any]) -> Iterator[str]:
    """The task's lines, from where its definition sends them."""
    arn = task["taskDefinitionArn"]
    containers = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    (ours,) = [c for c in containers["containerDefinitions"] if c["name"] == CONTAINER]
    where = ours.get("logConfiguration", {}).get("options", {})
    if "awslogs-group" not in where:
        yield f"{arn} sends its log nowhere that this can read"
        return
    logs, identity = boto3.client("logs"), task["taskArn"].rpartition("/")[2]
    stream = f"{where['awslogs-stream-prefix']}/{CONTAINER}/{identity}"
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=where["awslogs-group"], logStreamNames=[stream]
        )
        yield from (event["message"] for page in pages for event in page["events"])
    except logs.exceptions.ResourceNotFoundException:  # the container never started
        yield f"no log {stream} in {where['awslogs-group']}"


def _fail(message: str, code: int) -> int:
    print(f"apply_on_ecs: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
