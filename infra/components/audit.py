"""Who did what: CloudTrail over the account and over Bronze's objects, flow logs of the network.

The trail's bucket is its own and its files are signed (`validate-logs` finds a changed one). Reads
of Bronze are recorded because its messages name people. Not sent to CloudWatch as well: nothing
alarms on it, and every event would be paid for twice.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from components.bucket import BucketPlan, Zone, expire, make_bucket
from components.data_lake import DataLake
from components.networking import Networking
from components.security import TRAIL, Security, log_group
from context import Context, Part
from grants import Grant, make_role

FLOW_LOGS = "vpc-flow-logs.amazonaws.com"
FLOW_SECONDS = 600
TRAIL_DAYS = 731
"""Longer than any stack's logs: an intrusion may be found late."""

Selector = aws.cloudtrail.TrailAdvancedEventSelectorArgs
FieldSelector = aws.cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs


class Audit(Part):
    """The trail, its bucket and the network's flow logs."""

    bucket: Zone
    trail_arn: pulumi.Output[str]

    def __init__(
        self, context: Context, network: Networking, security: Security, lake: DataLake
    ) -> None:
        super().__init__(context, "audit")
        self._security, self._lake = security, lake
        self.bucket = self._bucket()
        self.trail_arn = self._trail().arn
        self._flow_logs(network)
        self.register_outputs({"trail_arn": self.trail_arn})

    def _bucket(self) -> Zone:
        plan = BucketPlan(
            "audit",
            self._security.logs_key_arn,
            old_versions_days=TRAIL_DAYS,
            rules=[expire("old-events", "", TRAIL_DAYS)],
            logs_to=self._lake.access_logs.bucket.id,
            statements=self._trail_writes(),
        )
        return make_bucket(self, plan)

    def _trail_writes(self) -> list[dict[str, Any]]:
        """CloudTrail checks the bucket and puts into its folder, for our trail alone."""
        context = self.context
        bucket = f"arn:aws:s3:::{context.bucket_name('audit')}"
        source = {"aws:SourceArn": context.arn("cloudtrail", f"trail/{context.name(TRAIL)}")}
        base = {"Effect": "Allow", "Principal": {"Service": "cloudtrail.amazonaws.com"}}
        return [
            {
                **base,
                "Sid": "TrailChecks",
                "Action": "s3:GetBucketAcl",
                "Resource": bucket,
                "Condition": {"StringEquals": source},
            },
            {
                **base,
                "Sid": "TrailWrites",
                "Action": "s3:PutObject",
                "Resource": f"{bucket}/AWSLogs/{context.settings.account_id}/*",
                "Condition": {"StringEquals": source},
            },
        ]

    def _trail(self) -> aws.cloudtrail.Trail:
        selectors = [_selector("Management events", ("eventCategory", "Management"))]
        if self.context.settings.options.cloudtrail_data_events:
            selectors.append(self._bronze_events())
        return aws.cloudtrail.Trail(
            "trail",
            name=self.context.name(TRAIL),
            s3_bucket_name=self.bucket.bucket.id,
            kms_key_id=self._security.logs_key_arn,
            enable_log_file_validation=True,
            is_multi_region_trail=True,
            include_global_service_events=True,
            advanced_event_selectors=selectors,
            # CloudTrail tries to write when it is made.
            opts=self.below(depends_on=[self.bucket.policy]),
        )

    def _bronze_events(self) -> Selector:
        objects = pulumi.Output.concat(self._lake.bronze.arn, "/")
        return Selector(
            name="Objects of Bronze",
            field_selectors=[
                *_fields(("eventCategory", "Data"), ("resources.type", "AWS::S3::Object")),
                FieldSelector(field="resources.ARN", starts_withs=[objects]),
            ],
        )

    def _flow_logs(self, network: Networking) -> None:
        group = log_group(self, self._security, "network")
        streams = pulumi.Output.concat(group.arn, ":log-stream:*")
        role = make_role(
            self,
            "flow-logs",
            [
                Grant("Write", ("logs:CreateLogStream", "logs:PutLogEvents"), (streams,)),
                Grant("Look", ("logs:DescribeLogStreams",), (group.arn,)),
            ],
            boundary_arn=self._security.boundary_arn,
            service=FLOW_LOGS,
        )
        aws.ec2.FlowLog(
            "network",
            vpc_id=network.vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=FLOW_SECONDS,
            opts=self.below(),
        )


def _selector(name: str, *equal: tuple[str, str]) -> Selector:
    return Selector(name=name, field_selectors=_fields(*equal))


def _fields(*equal: tuple[str, str]) -> list[FieldSelector]:
    return [FieldSelector(field=field, equals=[value]) for field, value in equal]
