"""Who hears an alarm: a topic per priority, and the ways out of them.

P1: PagerDuty, if the stack has it, and an e-mail always, for the day on which the pager itself is
down. P2: a Slack channel, or an e-mail without one. P3: an e-mail. P4: nobody, it is a dashboard.

What Pulumi's state holds: PagerDuty's address carries its key, and an SNS subscription takes an
address only. A Pulumi secret would be in the configuration and in the state, encrypted. So the
subscription is made by a CloudFormation stack of one resource, whose template names the secret:
CloudFormation reads it in the name of a role that may read this one secret (who deploys may read
none), and the state holds the reference alone. The secret needs its value before that stack is
made. A new key: put it, then replace the stack (`pulumi up --replace`). Whoever may call
`sns:ListSubscriptions` sees the address. Slack needs no secret: workspace and channel are ids.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from components.security import Security
from context import Context, Part
from grants import Grant, make_role, policy_document, read_secrets
from stream.alerts.alert import PRIORITIES, Priority

PUBLISHERS = ("cloudwatch.amazonaws.com",)
COST_PUBLISHERS = ("budgets.amazonaws.com", "costalerts.amazonaws.com")
CLOUDFORMATION = "cloudformation.amazonaws.com"
PAGER_SECRET = "monitoring/pagerduty"  # noqa: S105 - where it is, not what it is


class Paging(Part):
    """Topics and subscriptions. `topic_arns` by priority."""

    topic_arns: dict[Priority, pulumi.Output[str]]

    def __init__(self, context: Context, security: Security) -> None:
        super().__init__(context, "paging")
        self.topic_arns = {name: self._topic(name, security) for name in PRIORITIES}
        alerts = context.settings.alerts
        self._email("p1")
        self._email("p3")
        if alerts.pagerduty:
            self._pager(security)
        if alerts.slack is None:
            self._email("p2")
        else:
            self._slack(alerts.slack.team_id, alerts.slack.channel_id, security)
        self.register_outputs({"topic_arns": self.topic_arns})

    def _topic(self, priority: Priority, security: Security) -> pulumi.Output[str]:
        topic = aws.sns.Topic(
            f"alerts-{priority}",
            name=self.context.name(f"alerts-{priority}"),
            display_name=f"headrace {self.context.settings.stack} {priority.upper()}",
            kms_master_key_id=security.data_key_arn,
            signature_version=2,
            opts=self.below(),
        )
        services = PUBLISHERS + (COST_PUBLISHERS if priority == "p3" else ())
        aws.sns.TopicPolicy(
            f"alerts-{priority}-policy",
            arn=topic.arn,
            policy=policy_document(self._topic_statements(topic.arn, services)),
            opts=self.below(),
        )
        return topic.arn

    def _topic_statements(
        self, topic_arn: pulumi.Output[str], services: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        account = self.context.settings.account_id
        return [
            {
                "Sid": "AlarmsPublish",
                "Effect": "Allow",
                "Principal": {"Service": list(services)},
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": {"StringEquals": {"aws:SourceAccount": account}},
            },
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sns:Publish",
                "Resource": topic_arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ]

    def _email(self, priority: Priority) -> None:
        """Nothing is sent until somebody follows the link in the mail that SNS sends first."""
        aws.sns.TopicSubscription(
            f"alerts-{priority}-email",
            topic=self.topic_arns[priority],
            protocol="email",
            endpoint=self.context.settings.alerts.email,
            opts=self.below(),
        )

    def _pager(self, security: Security) -> None:
        address = pulumi.Output.concat(
            "{{resolve:secretsmanager:", security.secret_arn(PAGER_SECRET), "}}"
        )
        subscription = {
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": self.topic_arns["p1"],
                "Protocol": "https",
                "Endpoint": address,
            },
        }
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "Subscribes the pager; its address is read from Secrets Manager",
            "Resources": {"Pager": subscription},
        }
        aws.cloudformation.Stack(
            "pager",
            name=self.context.name("pager"),
            template_body=pulumi.Output.json_dumps(template),
            iam_role_arn=self._subscriber(security).arn,
            timeout_in_minutes=5,
            opts=self.below(),
        )

    def _subscriber(self, security: Security) -> aws.iam.Role:
        """What CloudFormation may do."""
        return make_role(
            self,
            "pager",
            (
                Grant("Subscribe", ("sns:Subscribe",), (self.topic_arns["p1"],)),
                # No resource can be named for these.
                Grant("Follow", ("sns:GetSubscriptionAttributes", "sns:Unsubscribe"), ("*",)),
                read_secrets("ReadAddress", [security.secret_arn(PAGER_SECRET)]),
                Grant("ReadSecretsKey", ("kms:Decrypt",), (security.secrets_key_arn,)),
            ),
            boundary_arn=security.boundary_arn,
            service=CLOUDFORMATION,
        )

    def _slack(self, team_id: str, channel_id: str, security: Security) -> None:
        """The channel only listens: its role may do nothing, and the guardrail says so again."""
        role = make_role(
            self,
            "slack",
            (),
            boundary_arn=security.boundary_arn,
            service="chatbot.amazonaws.com",
        )
        aws.chatbot.SlackChannelConfiguration(
            "slack",
            configuration_name=self.context.name("alerts"),
            slack_team_id=team_id,
            slack_channel_id=channel_id,
            iam_role_arn=role.arn,
            guardrail_policy_arns=["arn:aws:iam::aws:policy/AWSDenyAll"],
            logging_level="ERROR",
            sns_topic_arns=[self.topic_arns["p2"]],
            user_authorization_required=False,
            opts=self.below(),
        )
