"""The lake's buckets, claims and catalog: invariants of every stack, and planted faults."""

from __future__ import annotations

import dataclasses
import json

import moto
import pytest

import synth
from batch.aws.claim_table import DynamoClaims
from judges.documents import named, statements_of, without
from judges.plant import drop, find, in_json, plant, put, remove, replace
from stream.settings import Settings

BUCKET = "aws:s3/bucket:Bucket"
POLICY = "aws:s3/bucketPolicy:BucketPolicy"
BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
OWNERSHIP = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
VERSIONING = "aws:s3/bucketVersioning:BucketVersioning"
ENCRYPTION = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
)
LIFECYCLE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
LOGGING = "aws:s3/bucketLogging:BucketLogging"
NOTIFICATION = "aws:s3/bucketNotification:BucketNotification"
TABLE = "aws:dynamodb/table:Table"


def of_bucket(graph, type_):
    """Bucket's id -> the one setting of a type."""
    return {r.inputs["bucket"]: r.inputs for r in graph.of(type_)}


def check_buckets(graph):
    """What every bucket has: versions, no public access, no ACLs, encryption, access logs."""
    versions, blocks = of_bucket(graph, VERSIONING), of_bucket(graph, BLOCK)
    owners, logged = of_bucket(graph, OWNERSHIP), of_bucket(graph, LOGGING)
    found = []
    for bucket in graph.of(BUCKET):
        name = bucket.inputs["bucket"]
        status = versions.get(name, {}).get("versioningConfiguration", {}).get("status")
        found += [] if status == "Enabled" else [f"{name}: versions {status}"]
        block = blocks.get(name, {})
        switches = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls")
        found += [
            f"{name}: {switch}"
            for switch in (*switches, "restrictPublicBuckets")
            if block.get(switch) is not True
        ]
        owner = owners.get(name, {}).get("rule", {}).get("objectOwnership")
        found += [] if owner == "BucketOwnerEnforced" else [f"{name}: owner {owner}"]
        if bucket.name != "access-logs" and not logged.get(name, {}).get("targetBucket"):
            found.append(f"{name}: no access logs")
        found += [f"{name}: {fault}" for fault in encryption_faults(graph, name, bucket.name)]
    return found


def encryption_faults(graph, name, what):
    (rule,) = of_bucket(graph, ENCRYPTION).get(name, {}).get("rules", [{}])
    by_default = rule.get("applyServerSideEncryptionByDefault", {})
    if what == "access-logs":  # S3 delivers its logs with no other
        return [] if by_default.get("sseAlgorithm") == "AES256" else ["not SSE-S3"]
    key = "logs-key" if what == "audit" else "data-key"
    wanted = graph.one("aws:kms/key:Key", key).outputs["arn"]
    is_right = (by_default.get("sseAlgorithm"), by_default.get("kmsMasterKeyId")) == (
        "aws:kms",
        wanted,
    )
    return [
        *([] if is_right else [f"encrypted by {by_default}"]),
        *([] if rule.get("bucketKeyEnabled") else ["a call to KMS per object"]),
    ]


def check_transport(graph):
    """Every bucket denies everything without TLS, and everything below 1.2."""
    found = []
    policies = {r.inputs["bucket"]: r for r in graph.of(POLICY)}
    for bucket in graph.of(BUCKET):
        name, arn = bucket.inputs["bucket"], bucket.outputs["arn"]
        denied = [
            s["Condition"]
            for s in (statements_of(policies[name]) if name in policies else [])
            if s["Effect"] == "Deny"
            and (s["Principal"], s["Action"]) == ("*", "s3:*")
            and set(s["Resource"]) == {arn, f"{arn}/*"}
        ]
        wanted = (
            {"Bool": {"aws:SecureTransport": "false"}},
            {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
        )
        found += [
            f"{name}: {condition} is not denied" for condition in wanted if condition not in denied
        ]
    return found


def check_nobody_is_let_in(graph):
    """A bucket's policy allows nobody but AWS' own services, and them for a source of ours."""
    return [
        f"{policy.name}: {statement['Sid']}"
        for policy in graph.of(POLICY)
        for statement in statements_of(policy)
        if statement["Effect"] == "Allow"
        and not (
            isinstance(statement["Principal"], dict)
            and set(statement["Principal"]) == {"Service"}
            and "aws:Source" in json.dumps(statement.get("Condition", {}))
        )
    ]


def rules_of(graph, name):
    return graph.one(LIFECYCLE, name).inputs["rules"]


def moves(graph, name):
    """(prefix, days, class) of every move; what is deleted by age shows as class None."""
    found = []
    for rule in rules_of(graph, name):
        prefix = rule["filter"]["prefix"]
        if rule["status"] == "Enabled":
            found += [(prefix, t["days"], t["storageClass"]) for t in rule.get("transitions", [])]
            if "days" in rule.get("expiration", {}):
                found.append((prefix, rule["expiration"]["days"], None))
    return found


def check_ageing(graph):
    """Bronze cools after 30 and 90 days and stays readable; Silver after 60; only logs and
    results are deleted by age.
    """
    days = graph.settings["log_days"]
    wanted = {
        "bronze": [("bronze/", 30, "STANDARD_IA"), ("bronze/", 90, "GLACIER_IR")],
        "silver": [("silver/", 60, "STANDARD_IA")],
        "gold": [],
        "artifacts": [("athena-results/", 7, None), ("results/", 30, None), ("ci/", 7, None)],
        "access-logs": [("", days, None)],
        "audit": [("", 731, None)],
    }
    return [f"{n}: {moves(graph, n)}" for n, w in wanted.items() if moves(graph, n) != w]


def check_cleaning(graph):
    """Every bucket ends unfinished uploads and old versions."""
    lives = of_bucket(graph, LIFECYCLE)
    return [
        f"{bucket.name}: {key}"
        for bucket in graph.of(BUCKET)
        for key in ("abortIncompleteMultipartUpload", "noncurrentVersionExpiration")
        if not any(
            key in rule and rule["filter"]["prefix"] == "" and rule["status"] == "Enabled"
            for rule in lives.get(bucket.inputs["bucket"], {}).get("rules", [])
        )
    ]


def check_kept(graph):
    """What holds data outlives the stack; no bucket is emptied to be deleted."""
    return [
        f"{r.name}: goes with the stack"
        for type_ in (BUCKET, TABLE, "aws:kms/key:Key", "aws:secretsmanager/secret:Secret")
        for r in graph.of(type_)
        if type_ != TABLE or r.name == "claims"
        if not (r.is_protected and r.is_retained) or r.inputs.get("forceDestroy")
    ]


def check_bronze(graph):
    """Nobody removes a version of Bronze but the role of incidents; EventBridge hears of it."""
    bucket = graph.one(BUCKET, "bronze")
    breaker = f"arn:aws:iam::{synth.ACCOUNT}:role/headrace-{graph.stack}-break-glass"
    wanted = {
        "Sid": "KeepVersions",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObjectVersion",
        "Resource": f"{bucket.outputs['arn']}/*",
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": breaker}},
    }
    found = [] if wanted in statements_of(graph.one(POLICY, "bronze")) else ["versions may go"]
    heard = of_bucket(graph, NOTIFICATION).get(bucket.inputs["bucket"], {})
    return found + ([] if heard.get("eventbridge") is True else ["EventBridge hears nothing"])


def check_claims(graph):
    """The claims can be brought back to any second, and are encrypted with our key."""
    table = graph.one(TABLE, "claims").inputs
    wanted = {
        "pointInTimeRecovery": {"enabled": True},
        "serverSideEncryption": {
            "enabled": True,
            "kmsKeyArn": graph.one("aws:kms/key:Key", "data-key").outputs["arn"],
        },
        "deletionProtectionEnabled": graph.settings["deletion_protection"],
    }
    return [f"{key}: {table.get(key)}" for key, value in wanted.items() if table.get(key) != value]


CHECKS = (
    check_buckets,
    check_transport,
    check_nobody_is_let_in,
    check_ageing,
    check_cleaning,
    check_kept,
    check_bronze,
    check_claims,
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_lake_keeps_its_invariants(graph, check):
    assert check(graph) == []


def later(document_rules, days):
    document_rules[1]["transitions"][0]["days"] = days


def below_tls_12(document):
    document["Statement"][1]["Condition"]["NumericLessThan"]["s3:TlsVersion"] = "1.1"


def let_in(document):
    reader = {"AWS": "arn:aws:iam::999999999999:root"}
    grant = {"Sid": "Partner", "Effect": "Allow", "Principal": reader}
    document["Statement"].append({**grant, "Action": "s3:GetObject", "Resource": "*"})


FAULTS = {
    "a bucket without versions": (
        check_buckets,
        lambda g: plant(g, VERSIONING, put("versioningConfiguration.status", "Suspended")),
    ),
    "a bucket that may be public": (check_buckets, lambda g: remove(g, BLOCK)),
    "a public policy is not blocked": (
        check_buckets,
        lambda g: plant(g, BLOCK, put("blockPublicPolicy", False)),
    ),
    "objects with ACLs": (
        check_buckets,
        lambda g: plant(g, OWNERSHIP, put("rule.objectOwnership", "ObjectWriter")),
    ),
    "a bucket with S3's own key": (
        check_buckets,
        lambda g: plant(g, ENCRYPTION, drop_key, named("silver")),
    ),
    "a call to KMS for every object": (
        check_buckets,
        lambda g: plant(
            g, ENCRYPTION, lambda i: i["rules"][0].update(bucketKeyEnabled=False), named("silver")
        ),
    ),
    "a bucket without access logs": (check_buckets, lambda g: remove(g, LOGGING)),
    "a bucket without a policy": (check_transport, lambda g: remove(g, POLICY)),
    "a bucket by plain HTTP": (
        check_transport,
        lambda g: plant(g, POLICY, in_json("policy", without("TlsOnly"))),
    ),
    "a bucket by TLS 1.1": (
        check_transport,
        lambda g: plant(g, POLICY, in_json("policy", below_tls_12)),
    ),
    "another account reads": (
        check_nobody_is_let_in,
        lambda g: plant(g, POLICY, in_json("policy", let_in)),
    ),
    "Bronze cools a day late": (
        check_ageing,
        lambda g: plant(g, LIFECYCLE, lambda i: later(i["rules"], 31), named("bronze")),
    ),
    "Bronze freezes where a replay cannot read it": (check_ageing, lambda g: freeze(g, "GLACIER")),
    "Silver is deleted by age": (
        check_ageing,
        lambda g: plant(
            g,
            LIFECYCLE,
            lambda i: i["rules"][1].update(expiration={"days": 400}),
            named("silver"),
        ),
    ),
    "a rule that is switched off": (
        check_ageing,
        lambda g: plant(
            g, LIFECYCLE, lambda i: i["rules"][1].update(status="Disabled"), named("silver")
        ),
    ),
    "old versions for ever": (
        check_cleaning,
        lambda g: plant(g, LIFECYCLE, lambda i: i["rules"][0].pop("noncurrentVersionExpiration")),
    ),
    "a bucket that goes with the stack": (
        check_kept,
        lambda g: unprotect(g, BUCKET),
    ),
    "a bucket that is emptied": (check_kept, lambda g: plant(g, BUCKET, put("forceDestroy", True))),
    "versions of Bronze may go": (
        check_bronze,
        lambda g: plant(g, POLICY, in_json("policy", without("KeepVersions")), named("bronze")),
    ),
    "nobody hears of Bronze": (
        check_bronze,
        lambda g: plant(g, NOTIFICATION, put("eventbridge", False)),
    ),
    "claims without a way back": (
        check_claims,
        lambda g: plant(g, TABLE, drop("pointInTimeRecovery"), named("claims")),
    ),
    "claims with AWS' key": (
        check_claims,
        lambda g: plant(g, TABLE, drop("serverSideEncryption"), named("claims")),
    ),
}


def drop_key(inputs):
    inputs["rules"][0]["applyServerSideEncryptionByDefault"] = {"sseAlgorithm": "AES256"}


def freeze(graph, storage_class):
    def change(inputs):
        inputs["rules"][1]["transitions"][1]["storageClass"] = storage_class

    return plant(graph, LIFECYCLE, change, named("bronze"))


def unprotect(graph, type_):
    victim = find(graph, type_)
    return replace(graph, victim, dataclasses.replace(victim, is_protected=False))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


def test_silver_may_tier_by_use_instead(graphs):
    graph = graphs.mutated("dev", lambda s: s.update(options={"intelligent_tiering": True}))
    assert moves(graph, "silver") == [("silver/", 0, "INTELLIGENT_TIERING")]


def test_the_claims_table_is_the_one_that_the_runtime_makes(graph, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    table = graph.one(TABLE, "claims").inputs
    with moto.mock_aws():
        claims = DynamoClaims("claims", region="eu-west-1")
        claims.create_table()
        made = claims._client.describe_table(TableName="claims")["Table"]
    assert [(k["AttributeName"], k["KeyType"]) for k in made["KeySchema"]] == [
        (table["hashKey"], "HASH"),
        (table["rangeKey"], "RANGE"),
    ]
    assert {(a["AttributeName"], a["AttributeType"]) for a in made["AttributeDefinitions"]} == {
        (a["name"], a["type"]) for a in table["attributes"]
    }
    assert made["BillingModeSummary"]["BillingMode"] == table["billingMode"]
    assert "ttl" not in table, "a claim that is done says so for ever"


def test_the_environment_of_a_task_names_settings_of_the_runtime(graph):
    environment = graph.outputs["lake"]
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known
    buckets = {f"s3://{b.inputs['bucket']}" for b in graph.of(BUCKET)}
    assert {v for k, v in environment.items() if k.endswith("LAKE")} <= buckets
