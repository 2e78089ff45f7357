"""Encryption at rest: whatever holds data is encrypted with a key of ours, which rotates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pulumi_policy import PolicyResource

from rules.rule import Check, Properties, belongs_to, has, of_type, rule, stack_rule

BUCKET = "aws:s3/bucket:Bucket"
BUCKET_ENCRYPTION = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
)
KMS_ALGORITHMS = ("aws:kms", "aws:kms:dsse")


def _needs(key: str) -> Check:
    """A check that `key` names a KMS key."""

    def check(properties: Properties) -> str | None:
        return None if has(properties, key) else f"no {key}; expected the ARN of a key of the stack"

    return check


def _stream(properties: Properties) -> str | None:
    kind = properties.get("encryptionType")
    if kind == "KMS" and has(properties, "kmsKeyId"):
        return None
    return f"encryptionType {kind!r}; expected 'KMS' and a kmsKeyId"


def _queue(properties: Properties) -> str | None:
    """By a key of ours, or by SQS's own where another service of AWS is what sends."""
    if has(properties, "kmsMasterKeyId") or properties.get("sqsManagedSseEnabled"):
        return None
    return "neither kmsMasterKeyId nor sqsManagedSseEnabled"


def _table(properties: Properties) -> str | None:
    given = properties.get("serverSideEncryption") or {}
    return None if given.get("enabled") else "serverSideEncryption is not enabled"


def _database(properties: Properties) -> str | None:
    if properties.get("storageEncrypted") and has(properties, "kmsKeyId"):
        return None
    return "expected storageEncrypted and a kmsKeyId"


def _repository(properties: Properties) -> str | None:
    kinds = [c.get("encryptionType") for c in properties.get("encryptionConfigurations") or []]
    return None if kinds == ["KMS"] else f"encryptionConfigurations {kinds}; expected one of KMS"


def _workgroup(properties: Properties) -> str | None:
    configuration = properties.get("configuration") or {}
    results = configuration.get("resultConfiguration") or {}
    kind = (results.get("encryptionConfiguration") or {}).get("encryptionOption")
    if kind not in ("SSE_KMS", "CSE_KMS"):
        return f"results are encrypted with {kind!r}; expected SSE_KMS"
    if configuration.get("enforceWorkgroupConfiguration") is False:
        return "enforceWorkgroupConfiguration is off: a client could choose no encryption"
    return None


def _delivery(properties: Properties) -> str | None:
    if has(properties, "kinesisSourceConfiguration"):
        return None  # as its source is: AWS refuses both
    given = properties.get("serverSideEncryption") or {}
    return None if given.get("enabled") else "serverSideEncryption is not enabled"


def _bucket(properties: Properties) -> str | None:
    algorithms = [
        (found.get("applyServerSideEncryptionByDefault") or {}).get("sseAlgorithm")
        for found in properties.get("rules") or []
    ]
    # S3's log delivery cannot write with a key of ours (AWS, "Enabling server access logging").
    wanted = ("AES256",) if _holds_access_logs(properties) else KMS_ALGORITHMS
    if algorithms and all(algorithm in wanted for algorithm in algorithms):
        return None
    return f"sseAlgorithm {algorithms}; expected one of {list(wanted)}"


def _holds_access_logs(properties: Properties) -> bool:
    return has(properties, "bucket") and "access-logs" in str(properties.get("bucket"))


def _key(properties: Properties) -> str | None:
    if properties.get("enableKeyRotation"):
        return None
    return "enableKeyRotation is off; a key is replaced every year"


def _buckets(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    configured = list(of_type(resources, BUCKET_ENCRYPTION))
    for bucket in of_type(resources, BUCKET):
        if not any(belongs_to(found, bucket, "bucket") for found in configured):
            yield bucket, "no BucketServerSideEncryptionConfiguration of this bucket"


RULES = [
    rule(
        "encrypted-at-rest",
        "What holds data is encrypted.",
        {
            "aws:athena/workgroup:Workgroup": _workgroup,
            "aws:cloudtrail/trail:Trail": _needs("kmsKeyId"),
            "aws:cloudwatch/logGroup:LogGroup": _needs("kmsKeyId"),
            "aws:dynamodb/table:Table": _table,
            "aws:ecr/repository:Repository": _repository,
            "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": _delivery,
            "aws:kinesis/stream:Stream": _stream,
            "aws:lambda/function:Function": _needs("kmsKeyArn"),
            "aws:rds/instance:Instance": _database,
            "aws:redshiftserverless/namespace:Namespace": _needs("kmsKeyId"),
            "aws:secretsmanager/secret:Secret": _needs("kmsKeyId"),
            "aws:sns/topic:Topic": _needs("kmsMasterKeyId"),
            "aws:sqs/queue:Queue": _queue,
            BUCKET_ENCRYPTION: _bucket,
        },
    ),
    stack_rule("bucket-is-encrypted", "Every bucket says how it encrypts.", _buckets),
    rule("key-rotates", "Keys are replaced every year.", {"aws:kms/key:Key": _key}),
]
