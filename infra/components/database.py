"""Prefect's PostgreSQL on RDS: encrypted, private, TLS only, its password known to nobody.

RDS makes the master password, keeps it in Secrets Manager and rotates it. The server gets it as a
secret of its container, from the JSON key `password`; a rotation makes that copy stale, so the
server renews its connections every few minutes (`RENEW_SECONDS`), `/api/ready` fails when it
cannot, and ECS starts a task with the new password. Rotation is monthly at a quiet hour instead of
weekly at any: each costs the API some minutes. Runs and workers wait for it.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.networking import Networking
from components.security import Security, log_group
from context import Part

PORT = 5432
ENGINE, FAMILY = "16", "postgres16"
USER = DATABASE = "prefect"
RENEW_SECONDS = 300
ROTATION = "cron(0 3 ? * SUN#1 *)"
INSIGHTS_DAYS = 7
"""What Performance Insights keeps without a charge."""


class Database:
    """The instance and how it is reached. Its resources lie below the part that asks for it."""

    address: pulumi.Output[str]
    identifier: str
    secret_arn: pulumi.Output[str]
    group_id: pulumi.Output[str]

    def __init__(
        self,
        part: Part,
        network: Networking,
        security: Security,
        clients_group_id: pulumi.Input[str],
    ) -> None:
        self._part = part
        self.identifier = part.context.name("prefect")
        self.group_id = _make_group(part, network, clients_group_id)
        instance = self._instance(network, security)
        self.address = instance.address
        self.secret_arn = instance.master_user_secrets.apply(lambda found: str(found[0].secret_arn))
        aws.secretsmanager.SecretRotation(
            "database-password",
            secret_id=self.secret_arn,
            rotation_rules={"schedule_expression": ROTATION, "duration": "1h"},
            rotate_immediately=False,
            opts=part.below(),
        )

    def _instance(self, network: Networking, security: Security) -> aws.rds.Instance:
        part, settings = self._part, self._part.context.settings
        subnets = aws.rds.SubnetGroup(
            "database",
            name=self.identifier,
            description="Private subnets of headrace",
            subnet_ids=network.private_subnet_ids,
            opts=part.below(),
        )
        logs = [
            log_group(part, security, f"/aws/rds/instance/{self.identifier}/{kind}")
            for kind in ("postgresql", "upgrade")
        ]
        return aws.rds.Instance(
            "database",
            identifier=self.identifier,
            engine="postgres",
            engine_version=ENGINE,
            instance_class=settings.prefect.instance_class,
            db_name=DATABASE,
            username=USER,
            manage_master_user_password=True,
            master_user_secret_kms_key_id=security.secrets_key_arn,
            port=PORT,
            allocated_storage=settings.prefect.storage_gib,
            max_allocated_storage=settings.prefect.storage_gib * 4,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=security.data_key_arn,
            multi_az=settings.prefect.multi_az,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[self.group_id],
            publicly_accessible=False,
            parameter_group_name=self._parameters().name,
            backup_retention_period=settings.prefect.backup_days,
            backup_window="01:00-02:00",
            maintenance_window="sun:04:30-sun:05:30",
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            skip_final_snapshot=False,
            final_snapshot_identifier=f"{self.identifier}-final",
            auto_minor_version_upgrade=True,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=security.data_key_arn,
            performance_insights_retention_period=INSIGHTS_DAYS,
            enabled_cloudwatch_logs_exports=["postgresql", "upgrade"],
            opts=part.kept(depends_on=logs),
        )

    def _parameters(self) -> aws.rds.ParameterGroup:
        wanted = {"rds.force_ssl": "1", "log_min_duration_statement": "1000"}
        return aws.rds.ParameterGroup(
            "database",
            name=self.identifier,
            family=FAMILY,
            description="TLS alone; slow statements are logged",
            parameters=[{"name": name, "value": value} for name, value in wanted.items()],
            opts=self._part.below(),
        )


def _make_group(
    part: Part, network: Networking, clients_group_id: pulumi.Input[str]
) -> pulumi.Output[str]:
    """Open to one group alone; it opens nothing itself."""
    group = aws.ec2.SecurityGroup(
        "database",
        name=part.context.name("prefect-database"),
        description="Database of Prefect",
        vpc_id=network.vpc_id,
        opts=part.below(),
    )
    aws.vpc.SecurityGroupIngressRule(
        "database-in",
        security_group_id=group.id,
        referenced_security_group_id=clients_group_id,
        ip_protocol="tcp",
        from_port=PORT,
        to_port=PORT,
        description="The Prefect server",
        opts=part.below(),
    )
    aws.vpc.SecurityGroupEgressRule(
        "server-to-database",
        security_group_id=clients_group_id,
        referenced_security_group_id=group.id,
        ip_protocol="tcp",
        from_port=PORT,
        to_port=PORT,
        description="Its database",
        opts=part.below(),
    )
    return group.id
