"""List prices of eu-west-1 in USD, on demand, without tax, discount or free tier.

As of 2026-11. **Estimates from general knowledge, written down without a look at a price list:
check each against the AWS Pricing Calculator before you plan with it.** Each is for one unit and
one month unless its name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

AS_OF = "2026-11"
REGION = "eu-west-1"
HOURS = 730
"""Of a month, as AWS counts."""

NAT_GATEWAY = 0.048 * HOURS
PUBLIC_IPV4 = 0.005 * HOURS
INTERFACE_ENDPOINT_ZONE = 0.011 * HOURS

FARGATE_ARM_VCPU = 0.03238 * HOURS
FARGATE_ARM_GB = 0.00356 * HOURS
FARGATE_SPOT_SHARE = 0.35
"""What is left of the price on Spot; it moves with demand."""

RDS_INSTANCE: Mapping[str, float] = {
    "db.t4g.micro": 0.017 * HOURS,
    "db.t4g.small": 0.035 * HOURS,
    "db.t4g.medium": 0.070 * HOURS,
    "db.t4g.large": 0.141 * HOURS,
    "db.m7g.large": 0.187 * HOURS,
}
"""PostgreSQL in one zone; with a standby twice as much."""
RDS_GP3_GIB = 0.127
LOAD_BALANCER = 0.0252 * HOURS

KINESIS_SHARD = 0.017 * HOURS
KINESIS_ON_DEMAND_STREAM = 0.045 * HOURS
KINESIS_EXTENDED_SHARD = 0.023 * HOURS
"""A shard that keeps records for more than 24 hours (up to 7 days)."""

KMS_KEY = 1.0
SECRET = 0.40
ALARM_METRIC = 0.10
"""An alarm costs this for each metric that it looks at."""
CUSTOM_METRIC = 0.30
DASHBOARD = 3.0
INSIGHTS_METRICS: Mapping[str, int] = {"cluster": 8, "service": 11, "family": 6}
"""Metrics that Container Insights keeps, each at the price of a custom one."""

HOSTED_ZONE = 0.50
CLOUD_MAP_INSTANCE = 0.10
