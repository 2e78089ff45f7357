"""Judge every policy document of a graph against what AWS knows.

A misspelt action, an ARN of the wrong kind or an unknown condition key is accepted by AWS and then
never matches: a grant that grants nothing, or a denial that denies nothing. A "*" where an ARN
would do grants too much.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from judges.iam_facts import Action, find_actions, knows_key
from synth import Graph, Resource

GRANTING: Mapping[str, str] = {
    "aws:iam/policy:Policy": "policy",
    "aws:iam/rolePolicy:RolePolicy": "policy",
}
"""Identity policies: their statements name resources."""

GUARDING: Mapping[str, str] = {
    "aws:ec2/vpcEndpoint:VpcEndpoint": "policy",
    "aws:ecr/repositoryPolicy:RepositoryPolicy": "policy",
    "aws:iam/role:Role": "assumeRolePolicy",
    "aws:kms/key:Key": "policy",
    "aws:s3/bucketPolicy:BucketPolicy": "policy",
    "aws:secretsmanager/secretPolicy:SecretPolicy": "policy",
    "aws:sns/topicPolicy:TopicPolicy": "policy",
    "aws:sqs/queuePolicy:QueuePolicy": "policy",
}
"""Policies of the resource itself, where "*" means that resource: only words are checked."""

OPERATORS = frozenset(
    {
        "ArnEquals",
        "ArnLike",
        "ArnNotEquals",
        "ArnNotLike",
        "Bool",
        "NumericGreaterThan",
        "NumericLessThan",
        "NumericLessThanEquals",
        "StringEquals",
        "StringEqualsIgnoreCase",
        "StringLike",
        "StringNotEquals",
        "StringNotLike",
    }
)

LAMBDA_IN_A_VPC = "AWS: a function's role needs it on all resources to enter a VPC"
WITHOUT_ARN: Mapping[str, str] = {
    "ec2:AssignPrivateIpAddresses": LAMBDA_IN_A_VPC,
    "ec2:CreateNetworkInterface": LAMBDA_IN_A_VPC,
    "ec2:DeleteNetworkInterface": LAMBDA_IN_A_VPC,
    "ec2:UnassignPrivateIpAddresses": LAMBDA_IN_A_VPC,
}
"""Actions that take an ARN and are granted on "*" all the same, with the reason."""

NAMED = ("dynamodb", "ecr", "kinesis", "s3", "secretsmanager", "sns", "sqs")
MADE_ELSEWHERE = (
    "arn:aws:s3:::headrace-state-",  # Pulumi's own state: made by hand before the first `up`
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!",  # by RDS, with the database
)

OF_AN_IDENTITY_PROVIDER = ("token.actions.githubusercontent.com:",)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One statement's fault."""

    urn: str
    sid: str
    fault: str


def judge(graph: Graph) -> list[Problem]:
    """Everything that is wrong in the graph's policy documents."""
    found: list[Problem] = []
    for resource, statement in statements(graph, {**GRANTING, **GUARDING}):
        faults = list(_words(statement))
        does_grant = resource.type in GRANTING and statement["Effect"] == "Allow"
        if not faults and does_grant and not is_boundary(graph, resource):
            faults = list(_resources(statement))
        sid = str(statement.get("Sid", ""))
        found += [Problem(resource.urn, sid, fault) for fault in faults]
    return sorted(found)


def judge_targets(graph: Graph) -> list[Problem]:
    """Grants on something of this stack that the stack does not have: they reach nothing."""
    known = [str(found.outputs.get("arn", "")) for found in graph.custom]
    return sorted(
        Problem(resource.urn, str(statement.get("Sid", "")), f"{arn}: nothing in the stack is that")
        for resource, statement in statements(graph, GRANTING)
        if statement["Effect"] == "Allow" and not is_boundary(graph, resource)
        for arn in texts(statement.get("Resource"))
        if _is_ours(arn) and not any(_is_or_holds(own, arn) for own in known)
    )


def _is_ours(arn: str) -> bool:
    """An ARN of a service whose resources have the names that the program gives them."""
    parts = arn.split(":", maxsplit=5)
    return len(parts) == 6 and parts[2] in NAMED and not arn.startswith(MADE_ELSEWHERE)


def _is_or_holds(own: str, granted: str) -> bool:
    """Whether a grant is on that resource, or on what is inside it (objects, indexes, tasks)."""
    return fnmatch.fnmatch(own, granted) or granted.startswith((f"{own}/", f"{own}:"))


def statements(
    graph: Graph, documents: Mapping[str, str]
) -> Iterator[tuple[Resource, Mapping[str, Any]]]:
    """All statements of the documents in these inputs, with the resource that holds them."""
    for resource in graph.custom:
        text = resource.inputs.get(documents.get(resource.type, ""))
        if text:
            found = json.loads(text)["Statement"]
            for statement in found if isinstance(found, list) else [found]:
                yield resource, statement


def texts(value: Any) -> list[str]:
    """`Action` and its like: one text or a list of them."""
    return [value] if isinstance(value, str) else list(value or ())


def is_boundary(graph: Graph, policy: Resource) -> bool:
    """Whether a policy is the ceiling of roles: it grants nothing itself, so it may say "*"."""
    return any(
        policy.urn in role.by_property.get("permissionsBoundary", ())
        for role in graph.of("aws:iam/role:Role")
    )


def _words(statement: Mapping[str, Any]) -> Iterator[str]:
    """Actions that do not exist, condition operators and keys that nobody knows."""
    named = texts(statement.get("Action")) + texts(statement.get("NotAction"))
    known: list[Action] = []
    for name in named:
        found = find_actions(name) if name != "*" else ()
        known += found
        if not found and name != "*":
            yield f"{name}: there is no such action"
    for operator, conditions in statement.get("Condition", {}).items():
        bare = operator.removesuffix("IfExists").rpartition(":")[2]
        if bare not in OPERATORS:
            yield f"{operator}: there is no such condition operator, or it is not in OPERATORS"
        for key in conditions:
            is_provider = key.startswith(OF_AN_IDENTITY_PROVIDER)
            if not is_provider and not knows_key(known, key):
                yield f"{key}: none of {named} knows that condition key"


def _resources(statement: Mapping[str, Any]) -> Iterator[str]:
    """ARNs of a kind that no action takes, actions for which no ARN is given, needless "*"."""
    arns = texts(statement.get("Resource"))
    actions = [found for name in texts(statement.get("Action")) for found in find_actions(name)]
    for action in actions:
        if action.name in WITHOUT_ARN and "*" in arns:
            continue
        if action.kinds and "*" in arns:
            yield f"{action.name} on *: it takes {sorted(action.kinds)}; name the ARN"
        if not action.kinds and "*" not in arns:
            yield f"{action.name} takes no resource: only * allows it"
        if action.kinds and "*" not in arns and not any(fits(action, arn) for arn in arns):
            yield f"{action.name}: none of {arns} is one of {sorted(action.kinds)}"
    for arn in arns:
        if arn != "*" and not any(fits(action, arn) for action in actions):
            yield f"{arn}: no action of this statement takes an ARN of that kind"


def fits(action: Action, arn: str) -> bool:
    """Whether an ARN is of a kind that the action takes."""
    return any(pattern.fullmatch(arn) for pattern in action.kinds.values())
