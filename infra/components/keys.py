"""The policies of the platform's own keys: who administers them, and through which service.

No key is for everything. An account's administrators may manage one but not decrypt with it
directly; roles use it through the services that store what it protects, if their own policy says
so; AWS services that write on our behalf are named one by one and bound to this account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from context import Context, Part
from grants import policy_document

USE = ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*")
MANAGE = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey*",
    "kms:GetKey*",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
DELETION_DAYS = 30
"""The longest that AWS offers: a deleted key is deleted data."""

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What one key protects. `through`: services whose callers may use it; `granting`: those of
    them that keep a grant (RDS, ECR); `writers`: AWS services that use it without a caller.
    """

    name: str
    description: str
    through: tuple[str, ...]
    granting: tuple[str, ...] = ()
    writers: tuple[Statement, ...] = ()


def make_key(part: Part, use: KeyUse) -> aws.kms.Key:
    """A key that rotates every year, its policy and its alias."""
    context = part.context
    key = aws.kms.Key(
        f"{use.name}-key",
        description=use.description,
        enable_key_rotation=True,
        deletion_window_in_days=DELETION_DAYS,
        policy=key_policy(context, use),
        opts=part.kept(),
    )
    aws.kms.Alias(
        f"{use.name}-alias",
        name=f"alias/{context.name(use.name)}",
        target_key_id=key.key_id,
        opts=part.below(),
    )
    return key


def key_policy(context: Context, use: KeyUse) -> pulumi.Output[str]:
    """Manage it, use it through a service, let services write: nothing else."""
    root = {"AWS": f"arn:aws:iam::{context.settings.account_id}:root"}
    statements: list[Statement] = [
        _statement("Manage", root, MANAGE),
        _statement("UseThroughServices", root, USE, _through(context, use.through)),
    ]
    if use.granting:
        limit = _through(context, use.granting)
        limit["Bool"] = {"kms:GrantIsForAWSResource": "true"}
        statements.append(_statement("GrantToServices", root, ("kms:CreateGrant",), limit))
    return policy_document([*statements, *use.writers])


def writers(context: Context, sid: str, services: Sequence[str]) -> Statement:
    """AWS services that encrypt with a key of ours for this account alone."""
    account = {"aws:SourceAccount": context.settings.account_id}
    actions = ("kms:Decrypt", "kms:GenerateDataKey*")
    return _statement(sid, {"Service": list(services)}, actions, {"StringEquals": account})


def log_writers(context: Context, patterns: Sequence[str]) -> Statement:
    """CloudWatch Logs, for log groups of these names."""
    arns = [context.arn("logs", f"log-group:{pattern}") for pattern in patterns]
    return _statement(
        "Logs",
        {"Service": f"logs.{context.settings.region}.amazonaws.com"},
        ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"),
        {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": arns}},
    )


def trail_writer(context: Context, trail: str) -> Statement:
    """CloudTrail, for one trail."""
    arn = context.arn("cloudtrail", f"trail/{trail}")
    return _statement(
        "Trail",
        {"Service": "cloudtrail.amazonaws.com"},
        ("kms:DescribeKey", "kms:GenerateDataKey*"),
        {"StringEquals": {"aws:SourceArn": arn}},
    )


def _through(context: Context, services: Sequence[str]) -> dict[str, Any]:
    region, account = context.settings.region, context.settings.account_id
    return {
        "StringEquals": {
            "kms:CallerAccount": account,
            "kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in services],
        }
    }


def _statement(
    sid: str,
    principal: Mapping[str, Any],
    actions: Sequence[str],
    condition: Mapping[str, Any] | None = None,
) -> Statement:
    found: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": dict(principal),
        "Action": sorted(actions),
        "Resource": "*",  # in a key's policy: this key
    }
    return found | ({"Condition": dict(condition)} if condition else {})
