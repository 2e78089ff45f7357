"""Encryption on the way: TLS 1.2 or newer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import PolicyResource

from rules.document import Statement, is_anyone, statements
from rules.encryption import BUCKET
from rules.rule import Properties, belongs_to, of_type, rule, stack_rule

BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
MODERN = ("ELBSecurityPolicy-TLS13-", "ELBSecurityPolicy-FS-1-2-", "ELBSecurityPolicy-TLS-1-2-")


def _bucket_policy(properties: Properties) -> str | None:
    denied = [s for s in statements(properties.get("policy")) if _denies_everybody(s)]
    if not any(_condition(s, "Bool", "aws:SecureTransport") == "false" for s in denied):
        return "no statement denies requests without TLS (aws:SecureTransport false)"
    if not any(_condition(s, "NumericLessThan", "s3:TlsVersion") == "1.2" for s in denied):
        return "no statement denies TLS below 1.2 (s3:TlsVersion)"
    return None


def _denies_everybody(statement: Statement) -> bool:
    is_all = statement.get("Action") in ("s3:*", ["s3:*"])
    return statement.get("Effect") == "Deny" and is_all and is_anyone(statement.get("Principal"))


def _condition(statement: Statement, operator: str, key: str) -> str:
    found: Any = (statement.get("Condition") or {}).get(operator, {})
    value = found.get(key) if isinstance(found, Mapping) else None
    return str(value[0] if isinstance(value, list) else value).lower()


def _buckets(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    policies = list(of_type(resources, BUCKET_POLICY))
    for bucket in of_type(resources, BUCKET):
        if not any(belongs_to(policy, bucket, "bucket") for policy in policies):
            yield bucket, "no BucketPolicy of this bucket, which would deny requests without TLS"


def _listener(properties: Properties) -> str | None:
    protocol, policy = properties.get("protocol"), str(properties.get("sslPolicy") or "")
    if protocol == "HTTPS" and policy.startswith(MODERN):
        return None
    return f"protocol {protocol!r}, sslPolicy {policy!r}; expected HTTPS and a TLS 1.2+ policy"


RULES = [
    rule("bucket-denies-plain-http", "S3 by TLS 1.2 or newer.", {BUCKET_POLICY: _bucket_policy}),
    stack_rule("bucket-has-a-policy", "Every bucket has its policy.", _buckets),
    rule("listener-speaks-tls", "Load balancers by TLS.", {"aws:lb/listener:Listener": _listener}),
]
