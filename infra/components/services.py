"""ECS clusters, and a service that keeps exactly one task of a kind running.

Nothing here is served by two tasks at once: a stream has one dataflow per process index, a venue
one producer, a pool one worker, and two Prefect servers would schedule twice. So a service is
"desired 1, 0 to 100 %": ECS stops the old task before it starts the new one, and autoscaling has
nothing to decide. ECS does not promise that (containers-roadmap#959: a draining task may overlap
with its replacement); what keeps data right then is the ledger, not this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from components.containers import Task, exec_log
from components.networking import Networking
from components.security import Security, log_group
from context import Part

PLATFORM_VERSION = "1.4.0"
"""The first with ARM64 on Spot and with volumes that keep their owner."""


def make_cluster(part: Part, security: Security, name: str) -> aws.ecs.Cluster:
    """A Fargate cluster with container insights. Where shells are allowed, sessions are recorded.

    A session has TLS and no key of ours besides: whoever opens one would need that key directly,
    and the keys' policies let nobody use one but through a service.
    """
    configuration: aws.ecs.ClusterConfigurationArgs | None = None
    if part.context.settings.ecs_exec:
        configuration = _recorded(log_group(part, security, exec_log(name)).name)
    cluster = aws.ecs.Cluster(
        name,
        name=part.context.name(name),
        settings=[{"name": "containerInsights", "value": "enabled"}],
        configuration=configuration,
        opts=part.below(),
    )
    aws.ecs.ClusterCapacityProviders(
        f"{name}-capacity",
        cluster_name=cluster.name,
        capacity_providers=["FARGATE", "FARGATE_SPOT"],
        opts=part.below(),
    )
    return cluster


def _recorded(log_group_name: pulumi.Input[str]) -> aws.ecs.ClusterConfigurationArgs:
    where = aws.ecs.ClusterConfigurationExecuteCommandConfigurationLogConfigurationArgs(
        cloud_watch_encryption_enabled=True, cloud_watch_log_group_name=log_group_name
    )
    return aws.ecs.ClusterConfigurationArgs(
        execute_command_configuration=aws.ecs.ClusterConfigurationExecuteCommandConfigurationArgs(
            logging="OVERRIDE", log_configuration=where
        )
    )


def make_service(
    part: Part,
    cluster: aws.ecs.Cluster,
    network: Networking,
    task: Task,
    *,
    may_be_spot: bool = True,
    groups: Sequence[pulumi.Input[str]] = (),
    **more: Any,
) -> aws.ecs.Service:
    """Keep one task running in the private subnets.

    Args: groups: security groups besides the one of all tasks. more: of `aws.ecs.Service`.
    """
    settings = part.context.settings
    provider = "FARGATE_SPOT" if settings.spot and may_be_spot else "FARGATE"
    return aws.ecs.Service(
        task.name,
        name=part.context.name(task.name),
        cluster=cluster.arn,
        task_definition=task.definition.arn,
        desired_count=1,
        deployment_minimum_healthy_percent=0,
        deployment_maximum_percent=100,
        # Its default is ENABLED since 2025, which starts a second task before it stops the first.
        availability_zone_rebalancing="DISABLED",
        deployment_circuit_breaker={"enable": True, "rollback": True},
        capacity_provider_strategies=[{"capacity_provider": provider, "weight": 1, "base": 1}],
        platform_version=PLATFORM_VERSION,
        network_configuration={
            "subnets": network.private_subnet_ids,
            "security_groups": [network.task_group_id, *groups],
            "assign_public_ip": False,
        },
        enable_execute_command=settings.ecs_exec,
        enable_ecs_managed_tags=True,
        propagate_tags="SERVICE",
        opts=part.below(),
        **more,
    )
