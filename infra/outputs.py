"""What the stack tells Prefect: the values that deploy/prefect/resources.yaml asks for.

`pulumi stack output --json` gives them to deploy/prefect/apply.py. A secret is not among them, only
where it lies: `apply.py` reads it itself. The pool `gpu` is paused and has no values: Fargate has
no GPU, and an EC2 group for a pool that nothing uses would only cost.
"""

from __future__ import annotations

import pulumi

from components.data_lake import DataLake
from components.networking import Networking
from components.orchestration import Orchestration
from components.pools import Pool
from components.security import Security

SECRET = "secretsmanager:"  # noqa: S105 - what comes before a secret's ARN
ALERTS = "monitoring/slack"


def prefect_values(
    network: Networking,
    security: Security,
    lake: DataLake,
    prefect: Orchestration,
    *pools: Pool,
) -> dict[str, pulumi.Input[object]]:
    """Values by the names of the placeholders in resources.yaml."""
    has_channel = network.context.settings.alerts.slack
    webhook = pulumi.Output.concat(SECRET, security.secret_arn(ALERTS)) if has_channel else ""
    found: dict[str, pulumi.Input[object]] = {
        "alerts_webhook_url": webhook,
        "batch_cluster_arn": prefect.batch_cluster_arn,
        "batch_security_group_ids": [network.task_group_id],
        "prefect_auth_string_secret_arn": prefect.auth_secret_arn,
        "private_subnet_ids": network.private_subnet_ids,
        "results_bucket": lake.artifacts.bucket.bucket,
        "vpc_id": network.vpc_id,
    }
    for pool in pools:
        found |= pool.outputs()
    return found
