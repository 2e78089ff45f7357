"""The network: private subnets for every task, public ones for NAT gateways alone.

A /16 holds sixteen /20: the first half is private (a task takes an address each), the second
public. Private subnets leave through a NAT gateway, of their own zone if there is one per zone.
S3 and DynamoDB never pay for it: their gateway endpoints cost nothing and are always there.
Not here: who may open which connection from inside a task (roles), flow logs (`audit`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from components.endpoints import add_gateway_endpoints, add_interface_endpoints
from context import Context, Part

CLUSTER_PORT = 2101
"""Where the processes of one Bytewax cluster talk to each other."""
ANYWHERE = "0.0.0.0/0"
PUBLIC_FROM = 8
"""Number of the first public /20: private ones come before it."""


class Networking(Part):
    """A VPC over the stack's zones, with the ways in and out of it."""

    vpc_id: pulumi.Output[str]
    vpc_cidr: str
    private_subnet_ids: list[pulumi.Output[str]]
    public_subnet_ids: list[pulumi.Output[str]]
    private_route_table_ids: list[pulumi.Output[str]]
    task_group_id: pulumi.Output[str]
    endpoint_group_id: pulumi.Output[str]
    s3_endpoint_id: pulumi.Output[str]
    namespace_id: pulumi.Output[str]
    namespace_name: str

    def __init__(self, context: Context) -> None:
        super().__init__(context, "networking")
        self.vpc_cidr = context.settings.vpc_cidr
        self.vpc_id = self._vpc()
        self.public_subnet_ids = self._subnets("public", PUBLIC_FROM)
        self.private_subnet_ids = self._subnets("private", 0)
        self.private_route_table_ids = self._routes()
        self.task_group_id = self._task_group()
        self.endpoint_group_id = self._endpoint_group()
        self.s3_endpoint_id = add_gateway_endpoints(self)
        if context.settings.interface_endpoints:
            add_interface_endpoints(self)
        self.namespace_name = f"headrace-{context.settings.stack}.internal"
        self.namespace_id = aws.servicediscovery.PrivateDnsNamespace(
            "namespace",
            name=self.namespace_name,
            description="Where the processes of a cluster find each other",
            vpc=self.vpc_id,
            opts=self.below(),
        ).id
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "private_subnet_ids": self.private_subnet_ids,
                "task_group_id": self.task_group_id,
            }
        )

    def _vpc(self) -> pulumi.Output[str]:
        vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block=self.vpc_cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": self.context.name("vpc")},
            opts=self.below(),
        )
        # AWS makes it with rules that let everything out and itself in: whoever forgets to name a
        # security group gets this one.
        aws.ec2.DefaultSecurityGroup(
            "default-group", vpc_id=vpc.id, ingress=[], egress=[], opts=self.below()
        )
        return vpc.id

    def _subnets(self, kind: str, first: int) -> list[pulumi.Output[str]]:
        blocks = list(ipaddress.ip_network(self.vpc_cidr).subnets(new_prefix=20))
        return [
            aws.ec2.Subnet(
                f"{kind}-{zone}",
                vpc_id=self.vpc_id,
                availability_zone=zone,
                cidr_block=str(blocks[first + number]),
                map_public_ip_on_launch=False,
                tags={"Name": self.context.name(f"{kind}-{zone}"), "tier": kind},
                opts=self.below(),
            ).id
            for number, zone in enumerate(self.context.settings.zones)
        ]

    def _routes(self) -> list[pulumi.Output[str]]:
        """Public subnets to the internet gateway, private ones to NAT; the private tables."""
        gateway = aws.ec2.InternetGateway("internet", vpc_id=self.vpc_id, opts=self.below())
        public = self._table("public", self.public_subnet_ids)
        aws.ec2.Route(
            "public-out",
            route_table_id=public,
            destination_cidr_block=ANYWHERE,
            gateway_id=gateway.id,
            opts=self.below(),
        )
        exits = [self._nat(number, gateway) for number in range(self.context.settings.nat_gateways)]
        tables = []
        for number, subnet_id in enumerate(self.private_subnet_ids):
            table = self._table(f"private-{self.context.settings.zones[number]}", [subnet_id])
            aws.ec2.Route(
                f"private-out-{self.context.settings.zones[number]}",
                route_table_id=table,
                destination_cidr_block=ANYWHERE,
                nat_gateway_id=exits[number % len(exits)],
                opts=self.below(),
            )
            tables.append(table)
        return tables

    def _table(self, name: str, subnet_ids: Sequence[pulumi.Output[str]]) -> pulumi.Output[str]:
        table = aws.ec2.RouteTable(
            name,
            vpc_id=self.vpc_id,
            tags={"Name": self.context.name(name)},
            opts=self.below(),
        )
        for number, subnet_id in enumerate(subnet_ids):
            aws.ec2.RouteTableAssociation(
                f"{name}-{number}", route_table_id=table.id, subnet_id=subnet_id, opts=self.below()
            )
        return table.id

    def _nat(self, number: int, gateway: aws.ec2.InternetGateway) -> pulumi.Output[str]:
        zone = self.context.settings.zones[number]
        address = aws.ec2.Eip(f"nat-{zone}", domain="vpc", opts=self.below(depends_on=[gateway]))
        return aws.ec2.NatGateway(
            f"nat-{zone}",
            allocation_id=address.allocation_id,
            subnet_id=self.public_subnet_ids[number],
            tags={"Name": self.context.name(f"nat-{zone}")},
            opts=self.below(depends_on=[gateway]),
        ).id

    def _task_group(self) -> pulumi.Output[str]:
        """Of every task: out by TLS, and among tasks of the platform whatever they agree on."""
        group = self._group("tasks", "Tasks of headrace")
        self._out("tasks-tls", group, 443, "AWS, venues and FMP, by TLS alone", ANYWHERE)
        aws.vpc.SecurityGroupEgressRule(
            "tasks-inside",
            security_group_id=group,
            referenced_security_group_id=group,
            ip_protocol="-1",
            description="Tasks among themselves; what they accept is below",
            opts=self.below(),
        )
        aws.vpc.SecurityGroupIngressRule(
            "tasks-cluster",
            security_group_id=group,
            referenced_security_group_id=group,
            ip_protocol="tcp",
            from_port=CLUSTER_PORT,
            to_port=CLUSTER_PORT,
            description="Processes of one cluster",
            opts=self.below(),
        )
        return group

    def _endpoint_group(self) -> pulumi.Output[str]:
        group = self._group("endpoints", "Private endpoints of AWS services")
        aws.vpc.SecurityGroupIngressRule(
            "endpoints-in",
            security_group_id=group,
            referenced_security_group_id=self.task_group_id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            description="Tasks of headrace",
            opts=self.below(),
        )
        return group

    def _group(self, name: str, description: str) -> pulumi.Output[str]:
        return aws.ec2.SecurityGroup(
            name,
            name=self.context.name(name),
            description=description,
            vpc_id=self.vpc_id,
            revoke_rules_on_delete=True,
            tags={"Name": self.context.name(name)},
            opts=self.below(),
        ).id

    def _out(self, name: str, group: pulumi.Output[str], port: int, why: str, cidr: str) -> None:
        aws.vpc.SecurityGroupEgressRule(
            name,
            security_group_id=group,
            cidr_ipv4=cidr,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            opts=self.below(),
        )
