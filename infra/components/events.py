"""Lineage: every object that lands in Bronze becomes a row, and Prefect hears of closed hours.

S3 → EventBridge → a queue → a function → a table, and Prefect. An audit trail beside the road, not
part of it: the dataflows commit by the ledger and need none of this. A message that failed five
times is set aside; a row's key is the object and its ETag, so handling one twice changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pulumi_aws as aws

import handlers
from batch.aws.lineage_table import EXPIRES, OBJECT, VERSION
from components.functions import Limits, Site, make_function
from context import Context, Part
from grants import Grant, policy_document, read_secrets, use_key

LIMITS = Limits(timeout_seconds=60, memory_mib=512, concurrency=2)
BATCH_SECONDS = 300
"""Messages are collected so long: a run of Prefect per batch, not one for every few objects."""
TRIES = 5
KEPT_SECONDS = 14 * 86_400
"""The longest that SQS offers: time to mend what failed."""


class Events(Part):
    """The way from an object to its lineage row."""

    dead_letter_name: pulumi.Output[str]
    function_name: pulumi.Output[str]
    table_name: pulumi.Output[str]

    def __init__(
        self,
        context: Context,
        site: Site,
        bucket_name: str,
        prefect_api_url: pulumi.Input[str],
    ) -> None:
        super().__init__(context, "events")
        self._key_arn = site.security.data_key_arn
        dead, queue = self._queues()
        rule = self._rule(bucket_name)
        self._deliver(rule, queue, dead)
        table = self._table()
        auth = site.security.secret_arn("prefect/auth-string")
        function = make_function(
            self,
            "lineage",
            handlers.LINEAGE,
            site,
            LIMITS,
            grants=(
                _take(queue.arn),
                Grant("WriteLineage", ("dynamodb:PutItem",), (table.arn,)),
                read_secrets("ReadPrefectAuth", [auth]),
                use_key(self._key_arn),
                Grant("ReadSecretsKey", ("kms:Decrypt",), (site.security.secrets_key_arn,)),
            ),
            environment={
                "LINEAGE_TABLE": table.name,
                "LINEAGE_BUCKETS": bucket_name,
                "PREFECT_API_URL": prefect_api_url,
                "PREFECT_AUTH_SECRET_ARN": auth,
            },
        )
        aws.lambda_.EventSourceMapping(
            "lineage",
            event_source_arn=queue.arn,
            function_name=function.arn,
            batch_size=1_000,
            maximum_batching_window_in_seconds=BATCH_SECONDS,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config={"maximum_concurrency": LIMITS.concurrency},
            opts=self.below(),
        )
        self.dead_letter_name = dead.name
        self.function_name = function.name
        self.table_name = table.name
        self.register_outputs({"table_name": table.name})

    def _queues(self) -> tuple[aws.sqs.Queue, aws.sqs.Queue]:
        dead = self._queue("lineage-dead", KEPT_SECONDS)
        queue = self._queue(
            "lineage",
            KEPT_SECONDS,
            # AWS advises six times the function's timeout, and the window: a throttled batch is not
            # seen twice.
            visibility_timeout_seconds=6 * LIMITS.timeout_seconds + BATCH_SECONDS,
            redrive_policy=pulumi.Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": TRIES}
            ),
        )
        return dead, queue

    def _queue(self, name: str, kept_seconds: int, **options: Any) -> aws.sqs.Queue:
        return aws.sqs.Queue(
            name,
            name=self.context.name(name),
            message_retention_seconds=kept_seconds,
            kms_master_key_id=self._key_arn,
            opts=self.below(),
            **options,
        )

    def _rule(self, bucket_name: str) -> aws.cloudwatch.EventRule:
        """The bucket sends its events to EventBridge (`data_lake`)."""
        pattern = {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [bucket_name]}},
        }
        return aws.cloudwatch.EventRule(
            "bronze-objects",
            name=self.context.name("bronze-objects"),
            description="Objects that land in Bronze",
            event_pattern=json.dumps(pattern),
            opts=self.below(),
        )

    def _deliver(
        self, rule: aws.cloudwatch.EventRule, queue: aws.sqs.Queue, dead: aws.sqs.Queue
    ) -> None:
        aws.cloudwatch.EventTarget(
            "lineage",
            rule=rule.name,
            arn=queue.arn,
            dead_letter_config={"arn": dead.arn},
            opts=self.below(),
        )
        for name, target in (("lineage", queue), ("lineage-dead", dead)):
            aws.sqs.QueuePolicy(
                name,
                queue_url=target.url,
                policy=policy_document(_queue_statements(target.arn, rule.arn)),
                opts=self.below(),
            )

    def _table(self) -> aws.dynamodb.Table:
        return aws.dynamodb.Table(
            "lineage",
            name=self.context.name("lineage"),
            billing_mode="PAY_PER_REQUEST",
            hash_key=OBJECT,
            range_key=VERSION,
            attributes=[{"name": OBJECT, "type": "S"}, {"name": VERSION, "type": "S"}],
            ttl={"attribute_name": EXPIRES, "enabled": True},
            point_in_time_recovery={"enabled": True},
            server_side_encryption={"enabled": True, "kms_key_arn": self._key_arn},
            deletion_protection_enabled=self.context.settings.deletion_protection,
            opts=self.kept(),
        )


def _take(queue_arn: pulumi.Input[str]) -> Grant:
    """What Lambda's poller does in the function's name."""
    actions = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
    return Grant("TakeMessages", actions, (queue_arn,))


def _queue_statements(
    queue_arn: pulumi.Input[str], rule_arn: pulumi.Input[str]
) -> list[dict[str, Any]]:
    return [
        {
            "Sid": "RuleSends",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
        },
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": queue_arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
