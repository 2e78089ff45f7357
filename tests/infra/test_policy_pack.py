"""The policy pack, spoken to as Pulumi's engine does: silent on our stacks, loud on each fault."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

import synth
from judges.environment import program
from judges.plant import (
    add_statement,
    drop,
    find,
    in_container,
    in_json,
    plant,
    put,
    remove,
    replace,
)
from judges.policy_pack import PACK, PolicyPack

BALANCER = "aws:lb/loadBalancer:LoadBalancer"
BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
CIPHER = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
DATABASE = "aws:rds/instance:Instance"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
FUNCTION = "aws:lambda/function:Function"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
KEY = "aws:kms/key:Key"
LISTENER = "aws:lb/listener:Listener"
LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
QUEUE = "aws:sqs/queue:Queue"
REPOSITORY = "aws:ecr/repository:Repository"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
SECRET = "aws:secretsmanager/secret:Secret"
SERVICE = "aws:ecs/service:Service"
STREAM = "aws:kinesis/stream:Stream"
SUBNET = "aws:ec2/subnet:Subnet"
TABLE = "aws:dynamodb/table:Table"
TASK = "aws:ecs/taskDefinition:TaskDefinition"
TOPIC = "aws:sns/topic:Topic"
TRAIL = "aws:cloudtrail/trail:Trail"
WORKGROUP = "aws:athena/workgroup:Workgroup"


@pytest.fixture(scope="module")
def pack():
    with PolicyPack(program("policies")) as running:
        yield running


@pytest.fixture(scope="module")
def prod(graphs):
    """Prod with every option: the graph that has most to get wrong."""
    return graphs.everything()


def is_task(resource):
    return "ecs-tasks" in resource.inputs["assumeRolePolicy"]


def is_by_our_key(resource):
    return "aws:kms" in str(resource.inputs["rules"])


def runs_somewhere(graph):
    """Whether a task definition is run by a service: ECS Exec is the service's setting."""
    used = {urn for s in graph.of(SERVICE) for urn in s.by_property.get("taskDefinition", ())}
    return lambda resource: resource.urn in used


def untagged(graph):
    (provider,) = [r for r in graph.custom if r.type == "pulumi:providers:aws"]
    tags = json.loads(provider.inputs["defaultTags"])
    del tags["tags"]["cost-allocation"]
    inputs = {**provider.inputs, "defaultTags": json.dumps(tags)}
    return replace(graph, provider, dataclasses.replace(provider, inputs=inputs))


def with_shell(graph):
    """ECS Exec on a service whose containers lose the volumes that it writes to."""
    task = find(graph, TASK, runs_somewhere(graph))
    bare = plant(graph, TASK, in_container(drop_mounts), lambda r: r.urn == task.urn)
    return plant(
        bare,
        SERVICE,
        put("enableExecuteCommand", True),
        lambda r: task.urn in r.by_property["taskDefinition"],
    )


def unencrypted_queue(inputs):
    inputs.pop("kmsMasterKeyId", None)
    inputs.pop("sqsManagedSseEnabled", None)


def drop_mounts(container):
    container["mountPoints"] = []


def weaken_tls(document):
    for statement in document["Statement"]:
        statement.get("Condition", {}).pop("NumericLessThan", None)


def planted(rule, what, type_, change, where=None):
    return pytest.param(
        rule, lambda graph: plant(graph, type_, change, where), id=f"{rule}: {what}"
    )


def missing(rule, what, type_):
    return pytest.param(rule, lambda graph: remove(graph, type_), id=f"{rule}: {what}")


def whole(rule, what, mutate):
    return pytest.param(rule, mutate, id=f"{rule}: {what}")


def in_task(rule, what, change):
    return planted(rule, what, TASK, in_container(change))


def in_policy(rule, what, type_, statement):
    return planted(rule, what, type_, add_statement("policy", {"Sid": "Planted", **statement}))


def unset(*keys):
    def change(container):
        *path, last = keys
        for key in path:
            container = container[key]
        del container[last]

    return change


AMAZONS_KEY = [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]
ANYWHERE = {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "-1", "fromPort": None, "toPort": None}
FOR_ANYONE = in_json("assumeRolePolicy", lambda d: d["Statement"][0].update(Principal="*"))
NO_INIT = {"capabilities": {"drop": ["ALL"]}, "initProcessEnabled": False}
PASSWORD = {"name": "DB_PASSWORD", "value": "planted"}
SOME_OBJECTS = "arn:aws:s3:::bucket/*"

PLANTED = [
    planted("encrypted-at-rest", "stream", STREAM, put("encryptionType", "NONE")),
    planted("encrypted-at-rest", "queue", QUEUE, unencrypted_queue),
    planted("encrypted-at-rest", "topic", TOPIC, drop("kmsMasterKeyId")),
    planted("encrypted-at-rest", "table", TABLE, drop("serverSideEncryption")),
    planted("encrypted-at-rest", "log group", LOG_GROUP, drop("kmsKeyId")),
    planted("encrypted-at-rest", "secret", SECRET, drop("kmsKeyId")),
    planted("encrypted-at-rest", "database", DATABASE, put("storageEncrypted", False)),
    planted("encrypted-at-rest", "repository", REPOSITORY, drop("encryptionConfigurations")),
    planted("encrypted-at-rest", "trail", TRAIL, drop("kmsKeyId")),
    planted("encrypted-at-rest", "function", FUNCTION, drop("kmsKeyArn")),
    planted("encrypted-at-rest", "results of queries", WORKGROUP, drop("configuration")),
    planted("encrypted-at-rest", "bucket", CIPHER, put("rules", AMAZONS_KEY), is_by_our_key),
    missing("bucket-is-encrypted", "a bucket that says nothing", CIPHER),
    planted("key-rotates", "a key for ever", KEY, put("enableKeyRotation", False)),
    planted("bucket-blocks-public-access", "a hole", BLOCK, put("restrictPublicBuckets", False)),
    missing("bucket-has-its-block", "a bucket without", BLOCK),
    planted("no-public-address", "database", DATABASE, put("publiclyAccessible", True)),
    planted("no-public-address", "task", SERVICE, put("networkConfiguration.assignPublicIp", True)),
    planted("no-public-address", "load balancer", BALANCER, put("internal", False)),
    planted("no-public-address", "subnet", SUBNET, put("mapPublicIpOnLaunch", True)),
    planted("no-open-door", "in", INGRESS, put("cidrIpv4", "0.0.0.0/0")),
    planted("no-open-door", "out", EGRESS, lambda inputs: inputs.update(ANYWHERE)),
    planted("bucket-denies-plain-http", "old TLS", BUCKET_POLICY, in_json("policy", weaken_tls)),
    missing("bucket-has-a-policy", "a bucket without", BUCKET_POLICY),
    planted("listener-speaks-tls", "plain HTTP", LISTENER, put("protocol", "HTTP")),
    in_policy(
        "actions-are-named",
        "every action of a service",
        ROLE_POLICY,
        {"Effect": "Allow", "Action": "s3:*", "Resource": SOME_OBJECTS},
    ),
    in_policy(
        "actions-are-named",
        "all but one",
        ROLE_POLICY,
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": SOME_OBJECTS},
    ),
    in_policy(
        "resources-are-named",
        "everything",
        ROLE_POLICY,
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "*"},
    ),
    planted("role-has-a-boundary", "a role without", ROLE, drop("permissionsBoundary"), is_task),
    planted("trust-is-narrow", "a role for anyone", ROLE, FOR_ANYONE, is_task),
    in_policy(
        "resource-policy-is-private",
        "a bucket",
        BUCKET_POLICY,
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": SOME_OBJECTS},
    ),
    in_policy(
        "resource-policy-is-private",
        "a key",
        KEY,
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:Decrypt", "Resource": "*"},
    ),
    planted("logs-end", "logs for ever", LOG_GROUP, drop("retentionInDays")),
    planted("logs-end", "logs of a day", LOG_GROUP, put("retentionInDays", 1)),
    whole("everything-is-tagged", "a budget's tag is gone", untagged),
    in_task("root-is-read-only", "writable", lambda c: c.update(readonlyRootFilesystem=False)),
    in_task("user-is-not-root", "root", lambda c: c.update(user="0")),
    in_task("user-is-not-root", "whoever the image says", unset("user")),
    in_task("no-privileges", "privileged", lambda c: c.update(privileged=True)),
    in_task("no-privileges", "capabilities", unset("linuxParameters", "capabilities")),
    in_task("signals-arrive", "no init", lambda c: c["linuxParameters"].update(NO_INIT)),
    in_task("containers-log", "no logs", unset("logConfiguration")),
    in_task("image-by-digest", "a tag", lambda c: c.update(image="headrace:latest")),
    in_task("no-secret-in-environment", "a password", lambda c: c["environment"].append(PASSWORD)),
    whole("exec-can-write", "a shell that cannot start", with_shell),
]


@pytest.mark.parametrize("stack", synth.STACKS)
def test_the_pack_finds_nothing_in_a_stack(pack, graphs, stack):
    assert pack.judge(graphs.get(stack)) == []


def test_the_pack_finds_nothing_when_every_option_is_on(pack, prod):
    assert pack.judge(prod) == []


def test_a_preview_of_unknown_values_is_stopped_by_no_rule(pack, graphs):
    found = pack.judge(graphs.get("prod", is_preview=True))
    assert [verdict for verdict in found if verdict.is_mandatory] == []


@pytest.mark.parametrize(("rule", "mutate"), PLANTED)
def test_a_planted_fault_is_caught_by_exactly_its_rule(pack, prod, rule, mutate):
    found = pack.judge(mutate(prod), since=prod)
    assert {verdict.rule for verdict in found} == {rule}
    assert all(verdict.is_mandatory for verdict in found)


def test_every_rule_has_a_planted_fault(pack):
    assert pack.rules() == sorted({fault.values[0] for fault in PLANTED})


def test_the_pack_installs_from_hashes_and_names_no_address():
    lines = (PACK / "requirements.txt").read_text()
    assert not re.search(r"https?://|--index|--find" "-links", lines)
    pins = re.findall(r"^([a-z0-9-]+)==", lines, re.M)
    assert "pulumi-policy" in pins
    assert all(re.search(rf"^{pin}==\S+.*\\\n    --hash=sha256:", lines, re.M) for pin in pins)
