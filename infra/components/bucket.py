"""One bucket with everything that every bucket of the platform has.

Versions, no public access, no ACLs, encryption by our key (a bucket key keeps the calls to KMS
few), TLS 1.2 or newer, access logs, an end for unfinished uploads and for old versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from context import Part
from grants import policy_document

Rule = aws.s3.BucketLifecycleConfigurationRuleArgs
UNFINISHED_DAYS = 7


@dataclass(frozen=True, slots=True)
class Zone:
    """A bucket. `name`: physical; `bucket`: the resource; `policy`: what a writer that is tried out
    at once (CloudTrail) has to wait for.
    """

    name: str
    arn: pulumi.Output[str]
    bucket: aws.s3.Bucket
    policy: aws.s3.BucketPolicy

    @property
    def uri(self) -> str:
        """As the runtime's settings name it."""
        return f"s3://{self.name}"


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """What differs. `key_arn`: None = SSE-S3, for what AWS' own log delivery writes.
    `old_versions_days`: how long a replaced or deleted object can be brought back.
    `statements`: more of the bucket's policy, given its ARN.
    """

    what: str
    key_arn: pulumi.Input[str] | None
    old_versions_days: int
    rules: Sequence[Rule] = ()
    logs_to: pulumi.Input[str] | None = None
    statements: Sequence[dict[str, Any]] = ()


def make_bucket(part: Part, plan: BucketPlan) -> Zone:
    """The bucket and its eight or nine settings."""
    name = part.context.bucket_name(plan.what)
    bucket = aws.s3.Bucket(plan.what, bucket=name, force_destroy=False, opts=part.kept())
    aws.s3.BucketVersioning(
        plan.what,
        bucket=bucket.id,
        versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(
            status="Enabled"
        ),
        opts=part.below(),
    )
    block = aws.s3.BucketPublicAccessBlock(
        plan.what,
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=part.below(),
    )
    aws.s3.BucketOwnershipControls(
        plan.what,
        bucket=bucket.id,
        rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
        opts=part.below(),
    )
    _encrypt(part, plan, bucket)
    policy = aws.s3.BucketPolicy(
        plan.what,
        bucket=bucket.id,
        policy=policy_document([*_tls_only(bucket.arn), *plan.statements]),
        opts=part.below(depends_on=[block]),  # both at once and S3 answers 409
    )
    _expire(part, plan, bucket)
    if plan.logs_to is not None:
        aws.s3.BucketLogging(
            plan.what,
            bucket=bucket.id,
            target_bucket=plan.logs_to,
            target_prefix=f"{plan.what}/",
            opts=part.below(),
        )
    return Zone(name, bucket.arn, bucket, policy)


def move(name: str, prefix: str, *steps: tuple[int, str]) -> Rule:
    """Objects below a prefix change their storage class: (days, class), ascending."""
    return Rule(
        id=name,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=prefix),
        transitions=[
            aws.s3.BucketLifecycleConfigurationRuleTransitionArgs(days=days, storage_class=to)
            for days, to in steps
        ],
    )


def expire(name: str, prefix: str, days: int) -> Rule:
    """Objects below a prefix are deleted."""
    return Rule(
        id=name,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=prefix),
        expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=days),
    )


def _encrypt(part: Part, plan: BucketPlan, bucket: aws.s3.Bucket) -> None:
    by_default = (
        aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="aws:kms" if plan.key_arn is not None else "AES256",
            kms_master_key_id=plan.key_arn,
        )
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        plan.what,
        bucket=bucket.id,
        rules=[
            aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                apply_server_side_encryption_by_default=by_default,
                bucket_key_enabled=plan.key_arn is not None,
            )
        ],
        opts=part.below(),
    )


def _expire(part: Part, plan: BucketPlan, bucket: aws.s3.Bucket) -> None:
    clean = Rule(
        id="clean",
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
            days_after_initiation=UNFINISHED_DAYS
        ),
        noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=plan.old_versions_days
        ),
        expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(
            expired_object_delete_marker=True
        ),
    )
    aws.s3.BucketLifecycleConfiguration(
        plan.what, bucket=bucket.id, rules=[clean, *plan.rules], opts=part.below()
    )


def _tls_only(arn: pulumi.Output[str]) -> list[dict[str, Any]]:
    """Two denials: without TLS, and with a TLS older than 1.2."""
    where = [arn, pulumi.Output.concat(arn, "/*")]
    base = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": where}
    return [
        {**base, "Sid": "TlsOnly", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {**base, "Sid": "Tls12", "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
    ]
