"""The JSON inside a graph, as a CloudFormation template: a lens for cfn-lint.

Container definitions and policies are text to Pulumi's types, so nothing there is checked.
CloudFormation has a schema for the same things under other names: with their first letters raised
they become AWS::ECS::TaskDefinition and the policies' own types. The template is for the linter
alone; nobody deploys it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cfnlint.api import lint
from cfnlint.config import ManualArgs

from synth import REGION, Resource

KEPT_AS_WRITTEN = ("DockerLabels", "Options")
"""Maps whose keys are values: a log driver's options, labels."""


def lint_resources(resources: Sequence[Resource]) -> list[str]:
    """What cfn-lint says of these resources: "E3047 task-name: ..."."""
    names = {_logical(resource): resource.name for resource in resources}
    found: Any = lint(  # typed without its path
        json.dumps(template(resources)), regions=[REGION], config=ManualArgs()
    )
    return sorted(
        f"{match.rule.id} {names.get(str(match.path[1]), '?')}: {match.message}" for match in found
    )


def template(given: Sequence[Resource]) -> dict[str, Any]:
    """The template of those resources that hold JSON."""
    resources: dict[str, Any] = {}
    for resource in given:
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


def _inline(resource: Resource) -> tuple[str, dict[str, Any]]:
    given = {"PolicyName": resource.name, "Roles": [resource.inputs["role"]]}
    return "AWS::IAM::Policy", {"PolicyDocument": _document(resource), **given}


def _managed(resource: Resource) -> tuple[str, dict[str, Any]]:
    return "AWS::IAM::ManagedPolicy", {"PolicyDocument": _document(resource)}


def _key(resource: Resource) -> tuple[str, dict[str, Any]]:
    return "AWS::KMS::Key", {"KeyPolicy": _document(resource), "EnableKeyRotation": True}


def _bucket(resource: Resource) -> tuple[str, dict[str, Any]]:
    given = {"Bucket": resource.inputs["bucket"]}
    return "AWS::S3::BucketPolicy", {"PolicyDocument": _document(resource), **given}


def _topic(resource: Resource) -> tuple[str, dict[str, Any]]:
    given = {"Topics": [resource.inputs["arn"]]}
    return "AWS::SNS::TopicPolicy", {"PolicyDocument": _document(resource), **given}


def _queue(resource: Resource) -> tuple[str, dict[str, Any]]:
    given = {"Queues": [resource.inputs["queueUrl"]]}
    return "AWS::SQS::QueuePolicy", {"PolicyDocument": _document(resource), **given}


def _document(resource: Resource) -> Any:
    return json.loads(resource.inputs["policy"])


CONVERSIONS: Mapping[str, Callable[[Resource], tuple[str, dict[str, Any]]]] = {
    "aws:ecs/taskDefinition:TaskDefinition": _task,
    "aws:iam/policy:Policy": _managed,
    "aws:iam/role:Role": _role,
    "aws:iam/rolePolicy:RolePolicy": _inline,
    "aws:kms/key:Key": _key,
    "aws:s3/bucketPolicy:BucketPolicy": _bucket,
    "aws:sns/topicPolicy:TopicPolicy": _topic,
    "aws:sqs/queuePolicy:QueuePolicy": _queue,
}
