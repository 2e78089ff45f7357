"""The JSON inside a graph, as a CloudFormation template: a lens for cfn-lint.

Container definitions and policies are text to Pulumi's types, so nothing there is checked. CloudFormation
has a schema for the same things under other names: with their first letters raised they become
AWS::ECS::TaskDefinition and the policies' own types. The template is for the linter alone; nobody
deploys it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cfnlint.api import lint
from cfnlint.config import ManualArgs
from synth import REGION, Graph, Resource

KEPT_AS_WRITTEN = ("DockerLabels", "Options")
"""Maps whose keys are values: a log driver's options, labels."""

IGNORED = (
    "W2501",  # a password written out: the rule takes a secret's ARN for one
    "W3045",  # S3's AccessControl: no bucket is in the template
)


def lint_graph(graph: Graph) -> list[str]:
    """What cfn-lint says of a graph: "E3047 task-name: ..."."""
    names = {_logical(resource): resource.name for resource in graph.custom}
    found = lint(
        json.dumps(template(graph)),
        regions=[REGION],
        config=ManualArgs(ignore_checks=list(IGNORED), include_checks=["W"]),
    )
    return sorted(
        f"{match.rule.id} {names.get(str(match.path[1]), '?')}: {match.message}" for match in found
    )


def template(graph: Graph) -> dict[str, Any]:
    """The template of those resources that hold JSON."""
    resources: dict[str, Any] = {}
    for resource in graph.custom:
        if convert := CONVERSIONS.get(resource.type):
            type_, properties = convert(resource)
            resources[_logical(resource)] = {"Type": type_, "Properties": properties}
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def _logical(resource: Resource) -> str:
    letters = "".join(c if c.isalnum() else " " for c in f"{resource.type} {resource.name}")
    return "".join(word.capitalize() for word in letters.split())


def raised(value: Any) -> Any:
    """Keys with their first letter raised, all the way down."""
    if isinstance(value, Mapping):
        made: dict[str, Any] = {}
        for key, found in value.items():
            name = key[:1].upper() + key[1:]
            made[name] = found if name in KEPT_AS_WRITTEN else raised(found)
        return made
    return [raised(found) for found in value] if isinstance(value, list) else value


def _task(resource: Resource) -> tuple[str, dict[str, Any]]:
    given = resource.inputs
    properties = {
        "ContainerDefinitions": raised(json.loads(given["containerDefinitions"])),
        "Volumes": [{"Name": found["name"]} for found in given.get("volumes", [])],
    }
    for key in (
        "cpu",
        "executionRoleArn",
        "family",
        "memory",
        "networkMode",
        "requiresCompatibilities",
        "runtimePlatform",
        "taskRoleArn",
    ):
        if key in given:
            properties[key[:1].upper() + key[1:]] = raised(given[key])
    return "AWS::ECS::TaskDefinition", properties


def _role(resource: Resource) -> tuple[str, dict[str, Any]]:
    trust = json.loads(resource.inputs["assumeRolePolicy"])
    return "AWS::IAM::Role", {"AssumeRolePolicyDocument": trust}


def _policy(type_: str, text: str, **fixed: Any) -> Callable[[Resource], tuple[str, dict[str, Any]]]:
    def convert(resource: Resource) -> tuple[str, dict[str, Any]]:
        return type_, {text: json.loads(resource.inputs["policy"]), **fixed}

    return convert


PLACEHOLDER = "as-named-in-the-program"
CONVERSIONS: Mapping[str, Callable[[Resource], tuple[str, dict[str, Any]]]] = {
    "aws:ecs/taskDefinition:TaskDefinition": _task,
    "aws:iam/policy:Policy": _policy("AWS::IAM::ManagedPolicy", "PolicyDocument"),
    "aws:iam/role:Role": _role,
    "aws:iam/rolePolicy:RolePolicy": _policy(
        "AWS::IAM::Policy", "PolicyDocument", PolicyName=PLACEHOLDER, Roles=[PLACEHOLDER]
    ),
    "aws:kms/key:Key": _policy("AWS::KMS::Key", "KeyPolicy", EnableKeyRotation=True),
    "aws:s3/bucketPolicy:BucketPolicy": _policy(
        "AWS::S3::BucketPolicy", "PolicyDocument", Bucket=PLACEHOLDER
    ),
    "aws:sns/topicPolicy:TopicPolicy": _policy(
        "AWS::SNS::TopicPolicy", "PolicyDocument", Topics=[PLACEHOLDER]
    ),
    "aws:sqs/queuePolicy:QueuePolicy": _policy(
        "AWS::SQS::QueuePolicy", "PolicyDocument", Queues=[PLACEHOLDER]
    ),
}
