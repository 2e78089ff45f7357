"""Redshift Serverless over the lake, for those who need a warehouse's SQL: private, capped a day.

Reads Gold through the Glue catalog as an external schema, so no data is copied:

    CREATE EXTERNAL SCHEMA gold FROM DATA CATALOG DATABASE 'gold' IAM_ROLE default;
"""

from __future__ import annotations

import pulumi_aws as aws

from components.data_lake import DataLake
from components.networking import Networking
from components.security import Security, log_group
from context import Context, Part
from grants import make_role

REDSHIFT = "redshift.amazonaws.com"
CAPACITY = 8
"""In RPU: a small warehouse; it costs nothing while nobody asks."""
RPU_HOURS_A_DAY = 32
"""Four hours of it; then queries are refused until midnight UTC."""
PORT = 5439
LOGS = ("connectionlog", "userlog", "useractivitylog")


class Redshift(Part):
    """A namespace, a workgroup and the cap on its use."""

    def __init__(
        self, context: Context, network: Networking, security: Security, lake: DataLake
    ) -> None:
        super().__init__(context, "redshift")
        role = make_role(
            self,
            "redshift",
            lake.read_grants(),
            boundary_arn=security.boundary_arn,
            service=REDSHIFT,
        )
        name = context.name("warehouse")
        logs = [log_group(self, security, f"/aws/redshift/{name}/{log}") for log in LOGS]
        namespace = aws.redshiftserverless.Namespace(
            "warehouse",
            namespace_name=name,
            db_name="headrace",
            kms_key_id=security.data_key_arn,
            # AWS makes the password and turns it over: it is never here, nor in the state.
            manage_admin_password=True,
            admin_password_secret_kms_key_id=security.secrets_key_arn,
            default_iam_role_arn=role.arn,
            iam_roles=[role.arn],
            log_exports=list(LOGS),
            opts=self.kept(depends_on=logs),
        )
        workgroup = aws.redshiftserverless.Workgroup(
            "warehouse",
            workgroup_name=name,
            namespace_name=namespace.namespace_name,
            base_capacity=CAPACITY,
            max_capacity=2 * CAPACITY,
            port=PORT,
            publicly_accessible=False,
            enhanced_vpc_routing=True,
            subnet_ids=network.private_subnet_ids,
            security_group_ids=[self._group(network).id],
            config_parameters=[{"parameter_key": "require_ssl", "parameter_value": "true"}],
            opts=self.below(),
        )
        aws.redshiftserverless.UsageLimit(
            "daily",
            resource_arn=workgroup.arn,
            usage_type="serverless-compute",
            amount=RPU_HOURS_A_DAY,
            period="daily",
            breach_action="deactivate",
            opts=self.below(),
        )
        self.register_outputs({})

    def _group(self, network: Networking) -> aws.ec2.SecurityGroup:
        """Whoever is in the VPC may ask; it may reach AWS over TLS."""
        return aws.ec2.SecurityGroup(
            "warehouse",
            name=self.context.name("warehouse"),
            description="The warehouse: SQL from the VPC, TLS to AWS",
            vpc_id=network.vpc_id,
            ingress=[
                {
                    "description": "SQL from the VPC",
                    "protocol": "tcp",
                    "from_port": PORT,
                    "to_port": PORT,
                    "cidr_blocks": [network.vpc_cidr],
                }
            ],
            egress=[
                {
                    "description": "AWS over TLS",
                    "protocol": "tcp",
                    "from_port": 443,
                    "to_port": 443,
                    "cidr_blocks": ["0.0.0.0/0"],
                }
            ],
            opts=self.below(),
        )
