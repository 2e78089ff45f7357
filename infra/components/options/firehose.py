"""A raw tap: Firehose copies each stream as it is, beside Bronze and never into it.

For people who want the bytes without our code in between. Bronze is what the platform replays; the
tap lies in the artifacts bucket, in its own folder, and ends after a month. It reads with the same
share of each shard (5 reads and 2 MB a second) as the dataflow does.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from components.data_lake import DataLake
from components.security import Security, log_group
from context import Context, Part
from grants import Grant, make_role, use_key

FOLDER = "tap/"
FIREHOSE = "firehose.amazonaws.com"
BUFFER_MIB, BUFFER_SECONDS = 64, 300
KIND, HOUR = "!{firehose:error-output-type}/", "!{timestamp:yyyy/MM/dd/HH}/"


class Firehose(Part):
    """A delivery stream per feed."""

    def __init__(
        self,
        context: Context,
        security: Security,
        lake: DataLake,
        stream_arns: Mapping[str, pulumi.Input[str]],
    ) -> None:
        super().__init__(context, "firehose")
        self._security, self._lake = security, lake
        for feed, stream_arn in stream_arns.items():
            self._tap(feed, stream_arn)
        self.register_outputs({})

    def _tap(self, feed: str, stream_arn: pulumi.Input[str]) -> None:
        log = log_group(self, self._security, f"tap-{feed}")
        log_stream = aws.cloudwatch.LogStream(
            f"tap-{feed}", name="delivery", log_group_name=log.name, opts=self.below()
        )
        role = make_role(
            self,
            f"tap-{feed}",
            self._grants(feed, stream_arn, log.arn),
            boundary_arn=self._security.boundary_arn,
            service=FIREHOSE,
        )
        aws.kinesis.FirehoseDeliveryStream(
            f"tap-{feed}",
            name=self.context.name(f"tap-{feed}"),
            destination="extended_s3",
            kinesis_source_configuration={
                "kinesis_stream_arn": stream_arn,
                "role_arn": role.arn,
            },
            extended_s3_configuration={
                "role_arn": role.arn,
                "bucket_arn": self._lake.artifacts.arn,
                "prefix": f"{FOLDER}{feed}/{HOUR}",
                "error_output_prefix": f"{FOLDER}{feed}-failed/{KIND}{HOUR}",
                "buffering_size": BUFFER_MIB,
                "buffering_interval": BUFFER_SECONDS,
                "compression_format": "GZIP",
                "kms_key_arn": self._security.data_key_arn,
                # Records carry no end of their own: without one, two cannot be told apart.
                "processing_configuration": {
                    "enabled": True,
                    "processors": [{"type": "AppendDelimiterToRecord", "parameters": []}],
                },
                "cloudwatch_logging_options": {
                    "enabled": True,
                    "log_group_name": log.name,
                    "log_stream_name": log_stream.name,
                },
            },
            opts=self.below(),
        )

    def _grants(
        self, feed: str, stream_arn: pulumi.Input[str], log_arn: pulumi.Input[str]
    ) -> tuple[Grant, ...]:
        bucket = self._lake.artifacts.arn
        folders = [f"{FOLDER}{feed}/", f"{FOLDER}{feed}-failed/"]
        return (
            Grant(
                "ReadStream",
                (
                    "kinesis:DescribeStream",
                    "kinesis:GetRecords",
                    "kinesis:GetShardIterator",
                    "kinesis:ListShards",
                ),
                (stream_arn,),
            ),
            Grant(
                "WriteTap",
                ("s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"),
                tuple(pulumi.Output.concat(bucket, f"/{folder}*") for folder in folders),
            ),
            Grant(
                "SeeBucket",
                ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"),
                (bucket,),
            ),
            Grant(
                "WriteLog",
                ("logs:PutLogEvents",),
                (pulumi.Output.concat(log_arn, ":log-stream:*"),),
            ),
            use_key(self._security.data_key_arn),
        )
