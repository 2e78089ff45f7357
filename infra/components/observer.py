"""How Prefect learns that a container died: ECS tells EventBridge, EventBridge a queue.

Without it a killed run stays "Running" for ever, because a worker starts a task and looks no more.
Every worker reads this one queue: an event names its flow run by the task's tags, so any of them
can tell the server. What failed three times waits in a dead-letter queue for an alarm.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from context import Part
from grants import Grant, policy_document

VISIBLE_SECONDS, KEEP_SECONDS = 300, 7 * 86_400
RECEIVES = 3


class Observer:
    """Rule, queue and dead-letter queue. Its resources lie below the part that asks for it."""

    queue_name: str
    queue_arn: pulumi.Output[str]
    dead_letter_name: str

    def __init__(
        self, part: Part, cluster_arn: pulumi.Input[str], key_arn: pulumi.Input[str]
    ) -> None:
        self.queue_name = part.context.name("prefect-observer")
        self.dead_letter_name = f"{self.queue_name}-dead"
        dead = aws.sqs.Queue(
            "observer-dead",
            name=self.dead_letter_name,
            message_retention_seconds=KEEP_SECONDS * 2,
            kms_master_key_id=key_arn,
            opts=part.below(),
        )
        queue = aws.sqs.Queue(
            "observer",
            name=self.queue_name,
            visibility_timeout_seconds=VISIBLE_SECONDS,
            message_retention_seconds=KEEP_SECONDS,
            kms_master_key_id=key_arn,
            redrive_policy=pulumi.Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": RECEIVES}
            ),
            opts=part.below(),
        )
        self.queue_arn, self._key_arn = queue.arn, key_arn
        rule = aws.cloudwatch.EventRule(
            "observer",
            name=part.context.name("batch-tasks"),
            description="Tasks of flow runs, not those of services",
            event_pattern=pulumi.Output.json_dumps(event_pattern(cluster_arn)),
            opts=part.below(),
        )
        aws.sqs.QueuePolicy(
            "observer",
            queue_url=queue.url,
            policy=policy_document([_may_send(queue.arn, rule.arn), _only_tls(queue.arn)]),
            opts=part.below(),
        )
        aws.sqs.RedriveAllowPolicy(
            "observer-dead",
            queue_url=dead.url,
            redrive_allow_policy=pulumi.Output.json_dumps(
                {"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]}
            ),
            opts=part.below(),
        )
        aws.cloudwatch.EventTarget(
            "observer",
            rule=rule.name,
            arn=queue.arn,
            retry_policy={"maximum_event_age_in_seconds": 3600, "maximum_retry_attempts": 100},
            opts=part.below(),
        )

    def grants(self) -> tuple[Grant, ...]:
        """What a worker's observer calls."""
        actions = (
            "sqs:ChangeMessageVisibility",
            "sqs:DeleteMessage",
            "sqs:GetQueueUrl",
            "sqs:ReceiveMessage",
        )
        decrypt = Grant("DecryptEvents", ("kms:Decrypt",), (self._key_arn,))
        return (Grant("Observe", actions, (self.queue_arn,)), decrypt)


def event_pattern(cluster_arn: pulumi.Input[str]) -> dict[str, object]:
    """Events of one cluster; services there would only wake the workers."""
    return {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {
            "clusterArn": [cluster_arn],
            "group": [{"anything-but": {"prefix": "service:"}}],
        },
    }


def _may_send(queue_arn: pulumi.Input[str], rule_arn: pulumi.Input[str]) -> dict[str, object]:
    return {
        "Sid": "FromRule",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }


def _only_tls(queue_arn: pulumi.Input[str]) -> dict[str, object]:
    return {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": queue_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
