"""No public access: no open bucket, no public address, no door open to the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import PolicyResource

from rules.encryption import BUCKET
from rules.rule import Check, Properties, belongs_to, of_type, rule, stack_rule

BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
BLOCKED = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
ANYWHERE = ("0.0.0.0/0", "::/0")


def _block(properties: Properties) -> str | None:
    off = [key for key in BLOCKED if not properties.get(key)]
    return f"off: {', '.join(off)}; expected all four on" if off else None


def _buckets(resources: Sequence[PolicyResource]) -> Iterator[tuple[PolicyResource, str]]:
    blocks = list(of_type(resources, BLOCK))
    for bucket in of_type(resources, BUCKET):
        if not any(belongs_to(block, bucket, "bucket") for block in blocks):
            yield bucket, "no BucketPublicAccessBlock of this bucket"


def _is_not(key: str, wrong: bool) -> Check:  # noqa: FBT001 - the value that must not be
    def check(properties: Properties) -> str | None:
        return f"{key} is {wrong}" if bool(properties.get(key)) is wrong else None

    return check


def _service(properties: Properties) -> str | None:
    network = properties.get("networkConfiguration") or {}
    return "assignPublicIp is on" if network.get("assignPublicIp") else None


def _group(properties: Properties) -> str | None:
    for found in properties.get("ingress") or []:
        if fault := _open_door(
            found, [*_list(found, "cidrBlocks"), *_list(found, "ipv6CidrBlocks")]
        ):
            return fault
    for found in properties.get("egress") or []:
        blocks = [*_list(found, "cidrBlocks"), *_list(found, "ipv6CidrBlocks")]
        if fault := _open_way_out(found, blocks):
            return fault
    return None


def _ingress(properties: Properties) -> str | None:
    return _open_door(properties, _cidrs(properties))


def _egress(properties: Properties) -> str | None:
    return _open_way_out(properties, _cidrs(properties))


def _group_rule(properties: Properties) -> str | None:
    blocks = [*_list(properties, "cidrBlocks"), *_list(properties, "ipv6CidrBlocks")]
    is_in = properties.get("type") == "ingress"
    return _open_door(properties, blocks) if is_in else _open_way_out(properties, blocks)


def _open_door(found: Mapping[str, Any], blocks: Sequence[Any]) -> str | None:
    where = [block for block in blocks if block in ANYWHERE]
    return f"open to {where[0]} from port {found.get('fromPort')}" if where else None


def _open_way_out(found: Mapping[str, Any], blocks: Sequence[Any]) -> str | None:
    """To anywhere by TLS alone: what is stolen needs more than a socket to leave."""
    where = [block for block in blocks if block in ANYWHERE]
    ports = (found.get("fromPort"), found.get("toPort"))
    if not where or ports == (443, 443):
        return None
    return f"a way out to {where[0]}, ports {ports}; expected 443 alone"


def _cidrs(found: Mapping[str, Any]) -> list[Any]:
    return [found[key] for key in ("cidrIpv4", "cidrIpv6") if found.get(key)]


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    return list(found.get(key) or [])


RULES = [
    rule("bucket-blocks-public-access", "Nothing makes a bucket public.", {BLOCK: _block}),
    stack_rule("bucket-has-its-block", "Every bucket has its public access block.", _buckets),
    rule(
        "no-public-address",
        "Nothing has an address in the internet.",
        {
            "aws:ec2/instance:Instance": _is_not("associatePublicIpAddress", True),
            "aws:ec2/subnet:Subnet": _is_not("mapPublicIpOnLaunch", True),
            "aws:ecs/service:Service": _service,
            "aws:lb/loadBalancer:LoadBalancer": _is_not("internal", False),
            "aws:rds/instance:Instance": _is_not("publiclyAccessible", True),
            "aws:redshiftserverless/workgroup:Workgroup": _is_not("publiclyAccessible", True),
        },
    ),
    rule(
        "no-open-door",
        "Nobody comes in from anywhere; out to anywhere by TLS alone.",
        {
            "aws:ec2/securityGroup:SecurityGroup": _group,
            "aws:ec2/securityGroupRule:SecurityGroupRule": _group_rule,
            "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _egress,
            "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ingress,
        },
    ),
]
