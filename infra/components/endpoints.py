"""Private ways to AWS: gateway endpoints always, interface endpoints where a stack pays for them.

An interface endpoint costs by the hour, per zone: eleven of them over three zones are the largest
fixed cost of a stack, so dev goes through NAT. Which services: those that the platform calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

if TYPE_CHECKING:
    from components.networking import Networking

GATEWAY_SERVICES = ("dynamodb", "s3")
INTERFACE_SERVICES = (
    "athena",
    "ecr.api",
    "ecr.dkr",
    "ecs",
    "glue",
    "kinesis-streams",
    "kms",
    "lakeformation",
    "logs",
    "monitoring",
    "secretsmanager",
    "sqs",
    "sts",
)
"""ecs: Prefect's workers start runs as tasks; sqs: they observe what became of them. Not sns:
CloudWatch publishes alarms, from outside of the network."""


def add_gateway_endpoints(network: Networking) -> pulumi.Output[str]:
    """S3 and DynamoDB in every private route table; the id of the S3 endpoint."""
    made = {
        service: aws.ec2.VpcEndpoint(
            f"endpoint-{service}",
            vpc_id=network.vpc_id,
            service_name=_service(network, service),
            vpc_endpoint_type="Gateway",
            route_table_ids=network.private_route_table_ids,
            opts=network.below(),
        )
        for service in GATEWAY_SERVICES
    }
    return made["s3"].id


def add_interface_endpoints(network: Networking) -> None:
    """One per service, with an address in every private subnet and the service's own name."""
    for service in INTERFACE_SERVICES:
        aws.ec2.VpcEndpoint(
            f"endpoint-{service}",
            vpc_id=network.vpc_id,
            service_name=_service(network, service),
            vpc_endpoint_type="Interface",
            subnet_ids=network.private_subnet_ids,
            security_group_ids=[network.endpoint_group_id],
            private_dns_enabled=True,
            opts=network.below(),
        )


def _service(network: Networking, service: str) -> str:
    return f"com.amazonaws.{network.context.settings.region}.{service}"
