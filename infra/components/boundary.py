"""The permission boundary: a ceiling for every role of the platform, in one managed policy.

It allows verbs of the services that the platform uses on names of this stack alone, and denies
three things outright: changing IAM, leaving the region, and managing what holds data (a bucket's
policy, a key). A boundary gives nothing: a role needs its own grant below it as well. That every
grant of every role is inside is judged by a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pulumi

from context import Context
from grants import policy_document

GLOBAL = ("budgets:*", "ce:*", "cloudfront:*", "iam:*", "route53:*", "sts:*")
"""Services that answer in one region for all."""
NEVER = (
    "cloudtrail:Delete*",
    "cloudtrail:StopLogging",
    "iam:Add*",
    "iam:Attach*",
    "iam:Create*",
    "iam:Delete*",
    "iam:Detach*",
    "iam:Put*",
    "iam:Remove*",
    "iam:Set*",
    "iam:Update*",
    "kms:DisableKey*",
    "kms:Put*",
    "kms:ScheduleKeyDeletion",
    "organizations:*",
    "s3:DeleteBucket*",
    "s3:DeleteObjectVersion*",
    "s3:PutBucket*",
    "s3:PutLifecycle*",
)
ANY_RESOURCE = (
    "cloudwatch:PutMetricData",
    "ec2:AssignPrivateIpAddresses",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:GetAuthorizationToken",
    "ecs:DeregisterTaskDefinition",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTaskDefinitions",
    "ecs:RegisterTaskDefinition",
    "lakeformation:GetDataAccess",
    "logs:DescribeLogGroups",
    "sns:GetSubscriptionAttributes",
    "sns:Unsubscribe",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "sts:GetCallerIdentity",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
)
"""AWS lets these name no resource, or none that is known before the call."""


def boundary_document(
    context: Context, key_arns: Sequence[pulumi.Input[str]]
) -> pulumi.Output[str]:
    """The policy; AWS takes 6,144 characters of it at most."""
    allowed = [
        _allow("OwnNames", actions, resources) for actions, resources in _own(context, key_arns)
    ]
    return policy_document(
        [*_numbered(allowed), _allow("NoNames", ANY_RESOURCE, ("*",)), *_deny(context)]
    )


def _own(
    context: Context, key_arns: Sequence[pulumi.Input[str]]
) -> Iterable[tuple[Sequence[str], Sequence[pulumi.Input[str]]]]:
    """Verbs and the names of this stack that they are for."""
    name, stack = context.name, context.settings.stack
    yield ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*"), key_arns
    yield (
        ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:Get*", "s3:List*", "s3:PutObject"),
        (f"arn:aws:s3:::{name('*')}",),
    )
    yield (
        (
            "secretsmanager:DescribeSecret",
            "secretsmanager:GetSecretValue",
        ),
        (
            context.arn("secretsmanager", f"secret:/headrace/{stack}/*"),
            context.arn("secretsmanager", "secret:rds!db-*"),
        ),
    )
    yield (
        ("logs:CreateLogStream", "logs:Describe*", "logs:GetLogEvents", "logs:PutLogEvents"),
        (
            context.arn("logs", f"log-group:/headrace/{stack}/*"),
            context.arn("logs", f"log-group:/aws/*/{name('*')}"),
        ),
    )
    yield (
        (
            "kinesis:Describe*",
            "kinesis:Get*",
            "kinesis:List*",
            "kinesis:Put*",
            "kinesis:Subscribe*",
        ),
        (context.arn("kinesis", f"stream/{name('*')}"),),
    )
    yield (
        (
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:DescribeTable",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:UpdateItem",
        ),
        (context.arn("dynamodb", f"table/{name('*')}"),),
    )
    yield (
        ("glue:*Database*", "glue:*Partition*", "glue:*Table*", "glue:GetSchema*"),
        (
            context.arn("glue", "catalog"),
            context.arn("glue", "database/*"),
            context.arn("glue", "registry/*"),
            context.arn("glue", "schema/*"),
            context.arn("glue", "table/*"),
        ),
    )
    yield (
        ("athena:*Quer*", "athena:Get*", "athena:List*"),
        (context.arn("athena", f"workgroup/{name('*')}"), context.arn("athena", "datacatalog/*")),
    )
    yield (
        ("sns:Publish", "sns:Subscribe", "sqs:*Message*", "sqs:GetQueue*", "events:PutEvents"),
        (
            context.arn("sns", name("*")),
            context.arn("sqs", name("*")),
            context.arn("events", "event-bus/*"),
        ),
    )
    yield (
        (
            "ecs:*Task*",
            "ecs:Describe*",
            "ecs:ExecuteCommand",
            "ecs:List*",
            "ecs:TagResource",
            "ecs:UpdateService",
        ),
        (context.arn("ecs", f"*/{name('*')}"),),
    )
    yield (
        ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
        (context.arn("ecr", f"repository/{context.settings.image_repository}*"),),
    )
    yield (
        ("lambda:InvokeFunction", "firehose:PutRecord*", "servicediscovery:*Instance*"),
        (
            context.arn("lambda", f"function:{name('*')}"),
            context.arn("firehose", f"deliverystream/{name('*')}"),
            context.arn("servicediscovery", "service/*"),
        ),
    )
    yield ("iam:GetRole", "iam:PassRole"), (context.arn("iam", f"role/{name('*')}", region=False),)


def _deny(context: Context) -> list[Mapping[str, Any]]:
    elsewhere = {"StringNotEquals": {"aws:RequestedRegion": context.settings.region}}
    return [
        {"Sid": "Never", "Effect": "Deny", "Action": sorted(NEVER), "Resource": "*"},
        {
            "Sid": "NotElsewhere",
            "Effect": "Deny",
            "NotAction": sorted(GLOBAL),
            "Resource": "*",
            "Condition": elsewhere,
        },
    ]


def _numbered(statements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A policy's sids differ."""
    return [{**found, "Sid": f"{found['Sid']}{number}"} for number, found in enumerate(statements)]


def _allow(
    sid: str, actions: Sequence[str], resources: Sequence[pulumi.Input[str]]
) -> Mapping[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": list(resources),
    }
