"""Keys, secrets, logs, the trail, the provider: invariants of every stack and planted faults."""

from __future__ import annotations

import json
import re

import pytest

import synth
from components.security import SECRETS
from judges.documents import as_list, drop_conditions, named, statements_of
from judges.plant import add_statement, drop, in_json, plant, put, remove

KEY = "aws:kms/key:Key"
ALIAS = "aws:kms/alias:Alias"
SECRET = "aws:secretsmanager/secret:Secret"
LOGS = "aws:cloudwatch/logGroup:LogGroup"
TRAIL = "aws:cloudtrail/trail:Trail"
BUCKET = "aws:s3/bucket:Bucket"
PROVIDER = "pulumi:providers:aws"


def check_keys(graph):
    """Keys rotate, go slowly, have an alias, and stay when the stack goes."""
    named = {a.inputs["targetKeyId"] for a in graph.of(ALIAS)}
    wanted = {
        "rotates": lambda k: k.inputs.get("enableKeyRotation") is True,
        "waits 30 days before it is gone": lambda k: k.inputs.get("deletionWindowInDays") == 30,
        "has an alias": lambda k: k.outputs["keyId"] in named,
        "is kept": lambda k: k.is_protected and k.is_retained,
    }
    return [
        f"{key.name}: not true that it {what}"
        for key in graph.of(KEY)
        for what, is_true in wanted.items()
        if not is_true(key)
    ]


def check_key_policies(graph):
    """Nobody has all of a key; use needs a service in between, a service needs a condition."""
    found = []
    for key in graph.of(KEY):
        for statement in statements_of(key):
            actions = set(as_list(statement["Action"]))
            principal, sid = statement["Principal"], f"{key.name}/{statement.get('Sid')}"
            if principal == "*" or "*" in as_list(principal.get("AWS", [])):
                found.append(f"{sid}: anybody")
            if actions & {"*", "kms:*"}:
                found.append(f"{sid}: every action")
            uses = any(re.match(r"kms:(Decrypt|Encrypt|Generate|ReEncrypt)", a) for a in actions)
            condition = json.dumps(statement.get("Condition", {}))
            if uses and "AWS" in principal and "kms:ViaService" not in condition:
                found.append(f"{sid}: used without a service in between")
            if "Service" in principal and not re.search(r"aws:Source|EncryptionContext", condition):
                found.append(f"{sid}: a service without a condition")
    return found


def check_secrets(graph):
    """Names without values, below the stack's path, encrypted, kept."""
    found = [
        f"{r.name}: a value"
        for r in graph.custom
        if '"secretString":' in json.dumps(dict(r.inputs))
    ]
    found += [f"{r.name}: a version" for r in graph.custom if r.type.endswith(":SecretVersion")]
    for secret in graph.of(SECRET):
        if not secret.inputs["name"].startswith(f"/headrace/{graph.stack}/"):
            found.append(f"{secret.name}: named {secret.inputs['name']}")
        if "kmsKeyId" not in secret.inputs:
            found.append(f"{secret.name}: AWS' own key")
        if not (secret.is_protected and secret.is_retained):
            found.append(f"{secret.name}: goes with the stack")
    return found


def check_log_groups(graph):
    """Encrypted, kept for as long as the stack says, under a name that the key accepts."""
    days = synth.read_stack(graph.stack)["headrace:settings"]["log_days"]
    name = re.compile(rf"/headrace/{graph.stack}/|/aws/[^/]+/.*headrace-{graph.stack}-")
    return [
        f"{group.name}: {dict(group.inputs)}"
        for group in graph.of(LOGS)
        if group.inputs.get("retentionInDays") != days
        or "kmsKeyId" not in group.inputs
        or not name.match(group.inputs["name"])
    ]


def check_trail(graph):
    """All regions and Bronze's objects, signed, encrypted, into a bucket of its own."""
    trails = graph.of(TRAIL)
    bronze = graph.one(BUCKET, "bronze").outputs["arn"]
    wanted = {
        "enableLogFileValidation": True,
        "isMultiRegionTrail": True,
        "includeGlobalServiceEvents": True,
        "s3BucketName": graph.one(BUCKET, "audit").inputs["bucket"],
        "kmsKeyId": graph.one(KEY, "logs-key").outputs["arn"],
    }
    found = [] if len(trails) == 1 else [f"{len(trails)} trails"]
    for trail in trails:
        found += [
            f"{k}: {trail.inputs.get(k)}" for k, v in wanted.items() if trail.inputs.get(k) != v
        ]
        selectors = json.dumps(trail.inputs.get("advancedEventSelectors", []))
        found += [
            f"{text}: not recorded"
            for text in ("Management", f'"{bronze}/"')
            if text not in selectors
        ]
    return found


def check_provider(graph):
    """Everything is tagged, and no other account is touched."""
    (provider,) = graph.of(PROVIDER)
    tags = json.loads(as_text(provider.inputs.get("defaultTags", {}))).get("tags", {})
    wanted = {"project": "headrace", "stack": graph.stack, "managed-by": "pulumi"}
    found = [f"tag {k}: {tags.get(k)}" for k, v in wanted.items() if tags.get(k) != v]
    accounts = json.loads(as_text(provider.inputs.get("allowedAccountIds")))
    found += [] if tags.get("cost-allocation") else ["no cost allocation"]
    return found + ([] if accounts == [synth.ACCOUNT] else [f"accounts {accounts}"])


def as_text(value):
    """A provider's inputs are JSON texts."""
    return value if isinstance(value, str) else json.dumps(value)


CHECKS = (
    check_keys,
    check_key_policies,
    check_secrets,
    check_log_groups,
    check_trail,
    check_provider,
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_stack_keeps_its_invariants(graph, check):
    assert check(graph) == []


def planted(action, resource="*", **more):
    return {"Sid": "Planted", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def in_statement(number, **changes):
    return lambda document: document["Statement"][number].update(changes)


FAULTS = {
    "a key that never rotates": (check_keys, lambda g: plant(g, KEY, drop("enableKeyRotation"))),
    "a key that is gone in a week": (
        check_keys,
        lambda g: plant(g, KEY, put("deletionWindowInDays", 7)),
    ),
    "a key without a name": (check_keys, lambda g: remove(g, ALIAS)),
    "a key for anybody": (
        check_key_policies,
        lambda g: plant(g, KEY, add_statement("policy", planted("kms:Decrypt", Principal="*"))),
    ),
    "a key that an account has all of": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", in_statement(0, Action="kms:*"))),
    ),
    "a key that is used directly": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", drop_conditions), named("secrets-key")),
    ),
    "a key for every customer's logs": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", drop_conditions), named("logs-key")),
    ),
    "a secret with AWS' own key": (check_secrets, lambda g: plant(g, SECRET, drop("kmsKeyId"))),
    "a secret of another stack": (
        check_secrets,
        lambda g: plant(g, SECRET, put("name", "/headrace/dev/pii/key")),
    ),
    "a secret's value": (check_secrets, lambda g: plant(g, SECRET, put("secretString", "hunter2"))),
    "logs for ever": (check_log_groups, lambda g: plant(g, LOGS, drop("retentionInDays"))),
    "logs for a week": (check_log_groups, lambda g: plant(g, LOGS, put("retentionInDays", 7))),
    "logs in the clear": (check_log_groups, lambda g: plant(g, LOGS, drop("kmsKeyId"))),
    "a name that the key refuses": (
        check_log_groups,
        lambda g: plant(g, LOGS, put("name", "/elsewhere/x")),
    ),
    "a trail that anybody may edit": (
        check_trail,
        lambda g: plant(g, TRAIL, put("enableLogFileValidation", False)),
    ),
    "a trail that does not see Bronze": (
        check_trail,
        lambda g: plant(g, TRAIL, lambda inputs: inputs["advancedEventSelectors"].pop()),
    ),
    "no trail": (check_trail, lambda g: remove(g, TRAIL)),
    "resources without a tag": (check_provider, lambda g: plant(g, PROVIDER, drop("defaultTags"))),
    "any account": (check_provider, lambda g: plant(g, PROVIDER, put("allowedAccountIds", "[]"))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


def test_every_secret_has_a_place_and_nothing_else_has(graph):
    paths = {s.inputs["name"].removeprefix(f"/headrace/{graph.stack}/") for s in graph.of(SECRET)}
    assert paths >= set(SECRETS)


def test_a_stack_may_do_without_the_reads_of_bronze(graphs):
    quiet = graphs.mutated("dev", lambda s: s.update(options={"cloudtrail_data_events": False}))
    (selector,) = quiet.of(TRAIL)[0].inputs["advancedEventSelectors"]
    assert selector["fieldSelectors"] == [{"field": "eventCategory", "equals": ["Management"]}]
