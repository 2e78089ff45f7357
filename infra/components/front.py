"""The way to the Prefect server: a private name, TLS 1.2 or newer, from our tasks alone.

The load balancer is internal. People reach the UI through a port forwarded into the VPC. Its idle
timeout is longer than a minute, because events and logs travel over WebSockets that may be quiet.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.data_lake import DataLake
from components.networking import Networking
from context import Part

TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
IDLE_SECONDS = 300
LOG_PREFIX = "prefect"


class Front:
    """An internal load balancer before one port. Its resources lie below the part that asks."""

    suffix: pulumi.Output[str]
    target_group: aws.lb.TargetGroup
    listener: aws.lb.Listener
    server_group_id: pulumi.Output[str]

    def __init__(self, part: Part, network: Networking, lake: DataLake, port: int) -> None:
        self._part, self._network, self._port = part, network, port
        self._balancer_group = self._group("prefect-front", "Load balancer of Prefect")
        self.server_group_id = self._group("prefect-server", "Server of Prefect")
        self._open("front-in", self._balancer_group, network.task_group_id, 443, "Tasks")
        self._open("server-in", self.server_group_id, self._balancer_group, port, "Load balancer")
        aws.vpc.SecurityGroupEgressRule(
            "front-to-server",
            security_group_id=self._balancer_group,
            referenced_security_group_id=self.server_group_id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description="The server and its health check",
            opts=part.below(),
        )
        balancer = self._balancer(lake)
        self.suffix = balancer.arn_suffix
        self.target_group = self._targets()
        self.listener = self._listen(balancer)
        self._name(balancer)

    def _balancer(self, lake: DataLake) -> aws.lb.LoadBalancer:
        return aws.lb.LoadBalancer(
            "prefect",
            name=self._part.context.name("prefect"),
            internal=True,
            load_balancer_type="application",
            subnets=self._network.private_subnet_ids,
            security_groups=[self._balancer_group],
            idle_timeout=IDLE_SECONDS,
            drop_invalid_header_fields=True,
            desync_mitigation_mode="strictest",
            enable_deletion_protection=self._part.context.settings.deletion_protection,
            access_logs={
                "bucket": lake.access_logs.bucket.id,
                "prefix": LOG_PREFIX,
                "enabled": True,
            },
            opts=self._part.below(),
        )

    def _targets(self) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            "prefect",
            name=self._part.context.name("prefect"),
            vpc_id=self._network.vpc_id,
            target_type="ip",
            protocol="HTTP",
            port=self._port,
            # The one server stops before the next one starts: waiting longer is an outage.
            deregistration_delay=15,
            health_check={
                "path": "/api/ready",
                "matcher": "200",
                "interval": 15,
                "timeout": 5,
                "healthy_threshold": 2,
                "unhealthy_threshold": 4,
            },
            opts=self._part.below(),
        )

    def _listen(self, balancer: aws.lb.LoadBalancer) -> aws.lb.Listener:
        return aws.lb.Listener(
            "prefect",
            load_balancer_arn=balancer.arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificate_arn=self._part.context.settings.prefect.certificate_arn,
            default_actions=[{"type": "forward", "target_group_arn": self.target_group.arn}],
            opts=self._part.below(),
        )

    def _name(self, balancer: aws.lb.LoadBalancer) -> None:
        """The certificate's name means the load balancer, inside this VPC alone."""
        domain = self._part.context.settings.prefect.domain
        zone = aws.route53.Zone(
            "prefect",
            name=domain,
            comment="The Prefect server, inside the VPC",
            vpcs=[{"vpc_id": self._network.vpc_id}],
            opts=self._part.below(),
        )
        aws.route53.Record(
            "prefect",
            zone_id=zone.zone_id,
            name=domain,
            type="A",
            aliases=[
                {
                    "name": balancer.dns_name,
                    "zone_id": balancer.zone_id,
                    "evaluate_target_health": False,
                }
            ],
            opts=self._part.below(),
        )

    def _group(self, name: str, description: str) -> pulumi.Output[str]:
        return aws.ec2.SecurityGroup(
            name,
            name=self._part.context.name(name),
            description=description,
            vpc_id=self._network.vpc_id,
            opts=self._part.below(),
        ).id

    def _open(
        self,
        name: str,
        group: pulumi.Input[str],
        source: pulumi.Input[str],
        port: int,
        who: str,
    ) -> None:
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=group,
            referenced_security_group_id=source,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=who,
            opts=self._part.below(),
        )
