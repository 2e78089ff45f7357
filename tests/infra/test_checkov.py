"""checkov on the recorded graph: what it finds is explained, and what we plant it finds."""

from __future__ import annotations

import pytest

import synth
from judges import checkov
from judges.plant import add_statement, find, in_container, plant, put
from judges.terraform import address, plan, singular, snake, type_name

BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
STREAM = "aws:kinesis/stream:Stream"
TASK = "aws:ecs/taskDefinition:TaskDefinition"
VERSIONING = "aws:s3/bucketVersioning:BucketVersioning"
ADMIN = {"Sid": "Planted", "Effect": "Allow", "Action": "*", "Resource": "*"}


def is_silver(resource):
    return "silver" in str(resource.inputs["bucket"])


def is_open(resource):
    return resource.inputs.get("cidrIpv4") == "0.0.0.0/0"


PLANTED = [
    ("CKV_AWS_43", STREAM, put("encryptionType", "NONE"), None),
    ("CKV_AWS_53", BLOCK, put("blockPublicAcls", False), is_silver),
    ("CKV_AWS_382", EGRESS, lambda i: i.update(ipProtocol="-1", fromPort=-1, toPort=-1), is_open),
    ("CKV_AWS_21", VERSIONING, put("versioningConfiguration.status", "Suspended"), is_silver),
    ("CKV_AWS_62", ROLE_POLICY, add_statement("policy", ADMIN), None),
    ("CKV_AWS_336", TASK, in_container(lambda c: c.pop("readonlyRootFilesystem")), None),
]
"""Check, type, fault, and which resource of that type."""


@pytest.fixture(scope="module")
def reports(graphs, tmp_path_factory):
    """checkov's report of each graph, without the skip list."""
    wanted = {stack: graphs.get(stack) for stack in synth.STACKS}
    wanted["everything"] = graphs.everything()
    folder = tmp_path_factory.mktemp("plans")
    return {name: checkov.scan(graph, folder) for name, graph in wanted.items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*synth.STACKS, "everything"])
def test_what_checkov_finds_is_on_the_skip_list_at_that_place(reports, name):
    report = reports[name]
    explained = set().union(*(skip.covers(report) for skip in checkov.read_skips()))
    assert sorted(report.failed - explained) == []
    assert len(reports[name].checks) > 80, "checkov understood the plan"
    assert len(reports[name].passed) > 500


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_line_of_the_skip_list_is_needed(reports):
    needless = [
        skip
        for skip in checkov.read_skips()
        if not any(skip.covers(report) for report in reports.values())
    ]
    assert needless == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_planted_faults_are_found(reports, graphs, tmp_path):
    graph, expected = graphs.get("prod"), set()
    for check, type_, change, where in PLANTED:
        expected.add((check, address(find(graph, type_, where))))
        graph = plant(graph, type_, change, where)
    found = checkov.scan(graph, tmp_path).failed - reports["prod"].failed
    missed = {(check, where) for check, where in expected if not is_found(check, where, found)}
    assert missed == set()


def is_found(check, where, found):
    """checkov reports a bucket's missing versioning at the bucket."""
    bucket = where.replace("aws_s3_bucket_versioning", "aws_s3_bucket")
    return (check, where) in found or (check, bucket) in found


def test_the_plan_names_things_as_terraform_does(graphs):
    assert type_name("aws:ec2/subnet:Subnet") == "aws_subnet"
    assert type_name(VERSIONING) == "aws_s3_bucket_versioning"
    assert snake("kmsMasterKeyId") == "kms_master_key_id"
    assert snake("cidrIpv4") == "cidr_ipv4"
    assert (singular("rules"), singular("policies"), singular("access")) == (
        "rule",
        "policy",
        "access",
    )


@pytest.mark.slow
def test_the_plan_has_blocks_where_terraform_has_them_and_edges(graphs):
    graph = graphs.get("prod")
    made = plan(graph)
    root = made["planned_values"]["root_module"]["resources"]
    versioning = next(found for found in root if found["type"] == "aws_s3_bucket_versioning")
    assert versioning["values"]["versioning_configuration"] == [{"status": "Enabled"}]
    configured = {
        found["address"]: found["expressions"]
        for found in made["configuration"]["root_module"]["resources"]
    }
    references = configured[versioning["address"]]["bucket"]["references"]
    assert any(reference.startswith("aws_s3_bucket.") for reference in references)
    assert len(root) == len({found["address"] for found in root}), "each address once"
