"""A Lambda function from the platform's own image: the same digest as every task, another entry.

In the private subnets, with its own role, its own encrypted log and a share of the account's
concurrency that it can neither exceed nor be denied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.networking import Networking
from components.security import Security, log_group
from context import Context, Part
from grants import LAMBDA, Grant, make_role

RUNTIME_CLIENT = ("python", "-m", "awslambdaric")
"""What speaks Lambda's protocol inside the image (deploy/Dockerfile)."""

HOME = "/tmp/headrace"  # noqa: S108 - the one place in Lambda that takes files


@dataclass(frozen=True, slots=True)
class Site:
    """Where functions run and what they are made of."""

    network: Networking
    security: Security
    image_uri: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class Limits:
    """`concurrency`: reserved; the account keeps 100 for everybody else."""

    timeout_seconds: int
    memory_mib: int
    concurrency: int


def make_function(
    part: Part,
    name: str,
    handler: str,
    site: Site,
    limits: Limits,
    *,
    grants: Sequence[Grant],
    environment: Mapping[str, pulumi.Input[str]],
) -> aws.lambda_.Function:
    """The function, its role and its log."""
    context, security = part.context, site.security
    log = log_group(part, security, f"/aws/lambda/{context.name(name)}")
    role = make_role(
        part,
        name,
        (*_runtime_grants(context, site.network, log.arn), *grants),
        boundary_arn=security.boundary_arn,
        service=LAMBDA,
    )
    return aws.lambda_.Function(
        name,
        name=context.name(name),
        description=f"{handler} of headrace",
        package_type="Image",
        image_uri=site.image_uri,
        image_config={"entry_points": list(RUNTIME_CLIENT), "commands": [handler]},
        architectures=["arm64"],
        role=role.arn,
        timeout=limits.timeout_seconds,
        memory_size=limits.memory_mib,
        reserved_concurrent_executions=limits.concurrency,
        kms_key_arn=security.data_key_arn,
        environment={
            "variables": {
                **environment,
                "HEADRACE_HOME": HOME,
                "HEADRACE_LOG_FORMAT": "json",
            }
        },
        vpc_config={
            "subnet_ids": site.network.private_subnet_ids,
            "security_group_ids": [site.network.task_group_id],
        },
        logging_config={"log_format": "Text", "log_group": log.name},
        tracing_config={"mode": "PassThrough"},
        opts=part.below(),
    )


def _runtime_grants(
    context: Context, network: Networking, log_arn: pulumi.Output[str]
) -> tuple[Grant, ...]:
    """Write its log, and have Lambda attach it to the private subnets."""
    place = context.arn("ec2", "")
    subnets = [
        pulumi.Output.concat(place, "subnet/", subnet) for subnet in network.private_subnet_ids
    ]
    group = pulumi.Output.concat(place, "security-group/", network.task_group_id)
    interfaces = f"{place}network-interface/*"
    return (
        Grant(
            "WriteLog",
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            (pulumi.Output.concat(log_arn, ":log-stream:*"),),
        ),
        Grant("Attach", ("ec2:CreateNetworkInterface",), (interfaces, group, *subnets)),
        Grant(
            "UseInterfaces",
            (
                "ec2:AssignPrivateIpAddresses",
                "ec2:DeleteNetworkInterface",
                "ec2:UnassignPrivateIpAddresses",
            ),
            (interfaces,),
        ),
        Grant("SeeNetwork", ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"), ("*",)),
    )
