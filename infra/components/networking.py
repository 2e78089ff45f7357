"""The network: private subnets for every task, public ones for NAT alone."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from context import Context, Part


class Networking(Part):
    """A VPC over the stack's zones."""

    vpc_id: pulumi.Output[str]
    private_subnet_ids: list[pulumi.Output[str]]

    def __init__(self, context: Context) -> None:
        super().__init__(context, "networking")
        vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block=context.settings.vpc_cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            opts=self.below(),
        )
        self.vpc_id = vpc.id
        self.private_subnet_ids = []
        self.register_outputs({"vpc_id": self.vpc_id})
