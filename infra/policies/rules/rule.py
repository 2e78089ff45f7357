"""How a rule is written: a check per resource type that names what is wrong, or nothing.

A check reads a resource's properties and returns a fault ("found ...; expected ...") or None. What
is unknown during a preview counts as given (`has`); a document that is unknown as a whole makes
pulumi-policy report that the rule could not run, which is a warning and not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import (
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

Properties = Mapping[str, Any]
Check = Callable[[Properties], str | None]
StackCheck = Callable[[Sequence[PolicyResource]], Iterator[tuple[PolicyResource, str]]]


def rule(name: str, description: str, checks: Mapping[str, Check]) -> ResourceValidationPolicy:
    """A rule about single resources; `checks`: one for each type that it is about."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        check = checks.get(args.resource_type)
        fault = check(args.props) if check else None
        if fault:
            report(f"{args.name}: {fault}", args.urn)

    return ResourceValidationPolicy(name=name, description=description, validate=validate)


def stack_rule(name: str, description: str, check: StackCheck) -> StackValidationPolicy:
    """A rule about how resources go together; yields (resource, fault)."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for resource, fault in check(args.resources):
            report(f"{resource.name}: {fault}", resource.urn)

    return StackValidationPolicy(name=name, description=description, validate=validate)


def has(properties: Properties, key: str) -> bool:
    """Whether a property is set: to something, or to what only the update will tell."""
    try:
        return bool(properties.get(key))
    except UnknownValueError:
        return True


def of_type(resources: Sequence[PolicyResource], type_: str) -> Iterator[PolicyResource]:
    """Those of one type."""
    return (resource for resource in resources if resource.resource_type == type_)


def belongs_to(resource: PolicyResource, owner: PolicyResource, key: str) -> bool:
    """Whether input `key` of `resource` was read from `owner`, or names it."""
    if any(found.urn == owner.urn for found in resource.property_dependencies.get(key, [])):
        return True
    try:
        return bool(resource.props.get(key)) and resource.props[key] == owner.props.get(key)
    except UnknownValueError:
        return False
