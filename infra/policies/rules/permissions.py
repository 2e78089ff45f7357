"""Permissions: every action and every resource is named, below a boundary, for nobody unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pulumi_policy import PolicyResource

from rules.document import Statement, allows, is_anyone, statements, values
from rules.rule import Check, Properties, has, rule, stack_rule

GRANTING = (
    "aws:iam/policy:Policy",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/groupPolicy:GroupPolicy",
    "aws:iam/userPolicy:UserPolicy",
)
ROLE = "aws:iam/role:Role"

WITHOUT_RESOURCE = frozenset(
    {
        "athena:ListDataCatalogs",
        "cloudwatch:PutMetricData",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ec2:UnassignPrivateIpAddresses",
        "ecr:GetAuthorizationToken",
        "ecs:DescribeTaskDefinition",
        "ecs:ListTaskDefinitions",
        "lakeformation:GetDataAccess",
        "logs:DescribeLogGroups",
        "sns:GetSubscriptionAttributes",
        "sns:Unsubscribe",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
)
"""Actions for which AWS knows no resource, so "*" is the only way to grant them, and those with
which Lambda enters a VPC (AWS: on all resources). The judge with AWS's whole list is
tests/infra/test_iam.py."""


def _granted(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, Statement]]:
    """Statements that grant something. A boundary grants nothing: it is what grants stay within."""
    boundaries = {
        boundary.urn
        for role in resources
        if role.resource_type == ROLE
        for boundary in role.property_dependencies.get("permissionsBoundary", [])
    }
    for resource in resources:
        if resource.resource_type in GRANTING and resource.urn not in boundaries:
            for statement in statements(resource.props.get("policy")):
                if allows(statement):
                    yield resource, statement


def _actions(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    for resource, statement in _granted(resources):
        found = [action for action in values(statement, "Action") if "*" in action]
        if found or "NotAction" in statement:
            what = ", ".join(found) or "NotAction"
            yield resource, f"{statement.get('Sid')} allows {what}; expected actions by their names"


def _resources(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    for resource, statement in _granted(resources):
        if "NotResource" not in statement and "*" not in values(statement, "Resource"):
            continue
        needless = sorted(set(values(statement, "Action")) - WITHOUT_RESOURCE)
        if needless:
            yield resource, f"{statement.get('Sid')} allows {needless} on everything; name ARNs"


def _trust(properties: Properties) -> str | None:
    for statement in statements(properties.get("assumeRolePolicy")):
        if allows(statement) and is_anyone(statement.get("Principal")):
            return "anyone may assume it; expected one service or one role"
    return None


def _boundary(properties: Properties) -> str | None:
    """Of what runs: a pipeline's role makes such roles, so it cannot be one itself."""
    trusted = [s.get("Principal") for s in statements(properties.get("assumeRolePolicy"))]
    is_of_a_service = any(isinstance(who, dict) and "Service" in who for who in trusted)
    if not is_of_a_service or has(properties, "permissionsBoundary"):
        return None
    return "no permissionsBoundary; expected the stack's"


def _private(key: str) -> Check:
    def check(properties: Properties) -> str | None:
        for statement in statements(properties.get(key)):
            is_open = allows(statement) and is_anyone(statement.get("Principal"))
            if is_open and not statement.get("Condition"):
                return f"{statement.get('Sid')} allows everybody, without a condition"
        return None

    return check


RULES = [
    stack_rule("actions-are-named", "No wildcard in what is allowed.", _actions),
    stack_rule("resources-are-named", "No wildcard in what it is allowed on.", _resources),
    rule("trust-is-narrow", "A role is for one service.", {ROLE: _trust}),
    rule("role-has-a-boundary", "What runs is below the boundary.", {ROLE: _boundary}),
    rule(
        "resource-policy-is-private",
        "A resource's policy lets nobody in whom it does not name.",
        {
            "aws:ecr/repositoryPolicy:RepositoryPolicy": _private("policy"),
            "aws:kms/key:Key": _private("policy"),
            "aws:s3/bucketPolicy:BucketPolicy": _private("policy"),
            "aws:secretsmanager/secretPolicy:SecretPolicy": _private("policy"),
            "aws:sns/topicPolicy:TopicPolicy": _private("policy"),
            "aws:sqs/queuePolicy:QueuePolicy": _private("policy"),
        },
    ),
]
