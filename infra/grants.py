"""Who may do what: the one way in which a role gets a permission.

A `Grant` names actions and the exact resources they are allowed on; `make_role` turns grants into a
role with one inline policy, below the stack's permission boundary. "*" as a resource is for the few
actions that take no resource; a judge knows which (tests/infra).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi
import pulumi_aws as aws

from context import Context, Part

ECS_TASKS = "ecs-tasks.amazonaws.com"
LAMBDA = "lambda.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Grant:
    """One statement that allows. `sid`: what for, in CamelCase."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[pulumi.Input[str], ...]
    conditions: Mapping[str, Mapping[str, pulumi.Input[Any]]] = field(default_factory=dict)

    def statement(self) -> dict[str, Any]:
        """The statement, as IAM reads it."""
        found: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": list(self.resources),
        }
        return found | ({"Condition": dict(self.conditions)} if self.conditions else {})


def policy_document(statements: Sequence[Mapping[str, Any]]) -> pulumi.Output[str]:
    """A policy's JSON; outputs inside are resolved."""
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(service: str, context: Context) -> pulumi.Output[str]:
    """Only that service, only for this account: no confused deputy."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": context.settings.account_id}},
    }
    return policy_document([statement])


def make_role(
    part: Part,
    name: str,
    grants: Sequence[Grant],
    *,
    boundary_arn: pulumi.Input[str] | None,
    service: str = ECS_TASKS,
    assumed_by: pulumi.Input[str] | None = None,
    path: str = "/",
) -> aws.iam.Role:
    """A role for one service, with these permissions and no other.

    `boundary_arn`: None for who deploys alone. `assumed_by`: a trust policy instead of the
    service's, for people and for GitHub. `path`: before the name in the role's ARN.
    """
    role = aws.iam.Role(
        f"{name}-role",
        name=part.context.name(name),
        path=path,
        description=f"What {name} of headrace may do",
        assume_role_policy=assumed_by or trust(service, part.context),
        permissions_boundary=boundary_arn,
        opts=part.below(),
    )
    if grants:
        aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.id,
            policy=policy_document([grant.statement() for grant in grants]),
            opts=part.below(),
        )
    return role


def distinct(grants: Sequence[Grant]) -> tuple[Grant, ...]:
    """One statement per Sid, as IAM wants it: a role may collect grants of several feeds.

    Statements of one Sid become one where that widens nothing: same actions, and either the same
    conditions (resources add up) or the same resources (values of conditions add up). Else the
    later one gets a number.
    """
    found: dict[str, Grant] = {}
    for grant in grants:
        sid, number = grant.sid, 1
        joined: Grant | None = None
        while sid in found and (joined := _join(found[sid], grant)) is None:
            number += 1
            sid = f"{grant.sid}{number}"
        found[sid] = joined or replace(grant, sid=sid)
    return tuple(found.values())


def _join(one: Grant, other: Grant) -> Grant | None:
    if sorted(one.actions) != sorted(other.actions):
        return None
    if one.conditions == other.conditions:
        extra = tuple(r for r in other.resources if not any(r is known for known in one.resources))
        return replace(one, resources=(*one.resources, *extra))
    if len(one.resources) != len(other.resources) or not all(
        a is b or (isinstance(a, str) and a == b)
        for a, b in zip(one.resources, other.resources, strict=True)
    ):
        return None
    return _join_conditions(one, other)


def _join_conditions(one: Grant, other: Grant) -> Grant | None:
    """Values of the same keys of the same operators add up; anything else is another statement."""
    shape = [{operator: set(keys) for operator, keys in g.conditions.items()} for g in (one, other)]
    if shape[0] != shape[1]:
        return None
    joined: dict[str, dict[str, pulumi.Input[Any]]] = {}
    for operator, keys in one.conditions.items():
        for key, values in keys.items():
            others = other.conditions[operator][key]
            if not isinstance(values, list) or not isinstance(others, list):
                return None
            together = [*values, *(value for value in others if value not in values)]
            joined.setdefault(operator, {})[key] = together
    if sum(len(keys) for keys in joined.values()) != 1:
        return None  # two keys are an AND: adding to both would allow pairs that nobody granted
    return replace(one, conditions=joined)


def write_objects(
    sid: str, bucket_arn: pulumi.Input[str], prefixes: Sequence[str] = ("",)
) -> tuple[Grant, ...]:
    """Get, list and put below these prefixes; not delete."""
    actions = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
    return (
        Grant(f"{sid}Write", actions, _below(bucket_arn, prefixes)),
        _list(sid, bucket_arn, prefixes),
    )


def delete_objects(
    sid: str, bucket_arn: pulumi.Input[str], prefixes: Sequence[str]
) -> tuple[Grant, ...]:
    """Delete below these prefixes: for maintenance alone, never Bronze."""
    return (Grant(f"{sid}Delete", ("s3:DeleteObject",), _below(bucket_arn, prefixes)),)


def use_key(key_arn: pulumi.Input[str], *, sid: str = "UseKey") -> Grant:
    """Encrypt and decrypt with a key."""
    return Grant(sid, ("kms:Decrypt", "kms:GenerateDataKey"), (key_arn,))


def read_secrets(sid: str, secret_arns: Sequence[pulumi.Input[str]]) -> Grant:
    """Read these secrets."""
    return Grant(sid, ("secretsmanager:GetSecretValue",), tuple(secret_arns))


def read_stream(stream_arn: pulumi.Input[str]) -> tuple[Grant, ...]:
    """What `stream.sources.kinesis` calls."""
    actions = (
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
    )
    return (Grant("ReadStream", actions, (stream_arn,)),)


def write_stream(stream_arn: pulumi.Input[str]) -> tuple[Grant, ...]:
    """What `stream.producers.kinesis` calls."""
    actions = ("kinesis:DescribeStreamSummary", "kinesis:PutRecords")
    return (Grant("WriteStream", actions, (stream_arn,)),)


def _below(bucket_arn: pulumi.Input[str], prefixes: Sequence[str]) -> tuple[pulumi.Input[str], ...]:
    return tuple(pulumi.Output.concat(bucket_arn, f"/{prefix}*") for prefix in prefixes)


def _list(sid: str, bucket_arn: pulumi.Input[str], prefixes: Sequence[str]) -> Grant:
    limit: dict[str, Mapping[str, pulumi.Input[Any]]] = {}
    if any(prefixes):
        limit = {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}
    return Grant(f"{sid}List", ("s3:ListBucket",), (bucket_arn,), limit)
