"""A recorded graph as the JSON of `terraform show -json`, which checkov reads.

pulumi-aws is generated from Terraform's AWS provider, so every resource has a twin there: the token
gives the type's name, camelCase becomes snake_case, and the SDK's own argument classes tell a block
(a list in Terraform, named in the singular) from a plain attribute or a map. Which input was read
from which resource becomes `configuration...references`, so that checkov's graph sees the edges.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from synth import Graph, Resource

WITHOUT_MODULE = ("ec2", "vpc")
"""Modules that are not part of Terraform's names: aws:ec2/subnet:Subnet is aws_subnet."""

MODULES: Mapping[str, str] = {
    "costexplorer": "ce",
    "lambda": "lambda",
    "servicediscovery": "service_discovery",
}
TYPES: Mapping[str, str] = {
    "aws:cloudtrail/trail:Trail": "aws_cloudtrail",
    "aws:lb/loadBalancer:LoadBalancer": "aws_lb",
    "aws:rds/instance:Instance": "aws_db_instance",
    "aws:rds/parameterGroup:ParameterGroup": "aws_db_parameter_group",
    "aws:rds/subnetGroup:SubnetGroup": "aws_db_subnet_group",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": "aws_vpc_security_group_egress_rule",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": (
        "aws_vpc_security_group_ingress_rule"
    ),
}


def plan(graph: Graph) -> dict[str, Any]:
    """The plan in which every resource of the graph is created."""
    resources = [found for found in graph.custom if found.type.startswith("aws:")]
    addresses = {found.urn: address(found) for found in resources}
    planned = [_planned(found) for found in resources]
    return {
        "format_version": "1.2",
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": planned}},
        "resource_changes": [{**found, "change": _created(found["values"])} for found in planned],
        "configuration": {
            "root_module": {"resources": [_configured(found, addresses) for found in resources]}
        },
    }


def address(resource: Resource) -> str:
    """`aws_s3_bucket.data_lake_silver`: the component makes a name unique."""
    component = resource.parent.rpartition("::")[2]
    name = re.sub(r"\W", "_", f"{component}_{resource.name}")
    return f"{type_name(resource.type)}.{name}"


def type_name(token: str) -> str:
    """`aws:s3/bucketPolicy:BucketPolicy` is `aws_s3_bucket_policy`."""
    if token in TYPES:
        return TYPES[token]
    module, _, name = token.split(":")[1].partition("/")
    if module in WITHOUT_MODULE:
        return f"aws_{snake(name)}"
    return f"aws_{MODULES.get(module, module)}_{snake(name)}"


def snake(name: str) -> str:
    """`kmsMasterKeyId` is `kms_master_key_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _head(resource: Resource) -> dict[str, Any]:
    full = address(resource)
    type_, _, name = full.partition(".")
    provider = "registry.terraform.io/hashicorp/aws"
    return {
        "address": full,
        "mode": "managed",
        "type": type_,
        "name": name,
        "provider_name": provider,
    }


def _created(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"actions": ["create"], "before": None, "after": values, "after_unknown": {}}


def _planned(resource: Resource) -> dict[str, Any]:
    values = dict(_values(resource.inputs, *_arguments(resource.type)))
    return {**_head(resource), "values": values}


def _configured(resource: Resource, addresses: Mapping[str, str]) -> dict[str, Any]:
    expressions = {
        snake(key): {"references": [ref for urn in urns for ref in _refs(addresses[urn])]}
        for key, known in resource.by_property.items()
        if (urns := [urn for urn in known if urn in addresses])
    }
    return {**_head(resource), "expressions": expressions}


def _refs(found: str) -> tuple[str, str]:
    return f"{found}.id", found


def _values(
    inputs: Mapping[str, Any], module: Any, class_: type | None
) -> Iterator[tuple[str, Any]]:
    """Inputs under Terraform's names; blocks as lists of blocks."""
    annotations = class_.__init__.__annotations__ if class_ else {}  # type: ignore[misc]
    for key, value in inputs.items():
        name = snake(key)
        block = _block(module, annotations.get(name))
        if block is not None and isinstance(value, Mapping):
            yield name, [dict(_values(value, module, block))]
        elif block is not None and _is_list_of_mappings(value):
            yield singular(name), [dict(_values(found, module, block)) for found in value]
        else:
            yield name, value


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(found, Mapping) for found in value)


def singular(name: str) -> str:
    """`policies` is `policy`, `rules` is `rule`: Pulumi names lists of blocks in the plural."""
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _arguments(token: str) -> tuple[Any, type | None]:
    """The module and the class of a resource's arguments. `XInitArgs` where a block is called X."""
    module_name, _, _ = token.split(":")[1].partition("/")
    python_name = "lambda_" if module_name == "lambda" else module_name
    module = importlib.import_module(f"pulumi_aws.{python_name}")
    name = token.rpartition(":")[2]
    return module, getattr(module, f"{name}InitArgs", None) or getattr(module, f"{name}Args", None)


def _block(module: Any, annotation: Any) -> type | None:
    """The class of a block, if that is what an argument's annotation names."""
    named = re.search(r"ForwardRef\('(\w+Args)'\)", str(annotation))
    return getattr(module, named.group(1), None) if named else None
