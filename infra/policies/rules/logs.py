"""Logs end some day, and everything says whose it is."""

from __future__ import annotations

import json

from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from rules.rule import Properties, rule

SHORTEST_DAYS, LONGEST_DAYS = 30, 731
TAGS = frozenset({"cost-allocation", "managed-by", "project", "stack"})


def _retention(properties: Properties) -> str | None:
    days = properties.get("retentionInDays") or 0
    if SHORTEST_DAYS <= days <= LONGEST_DAYS:
        return None
    return f"retentionInDays {days:g} (0: for ever); expected {SHORTEST_DAYS} to {LONGEST_DAYS}"


def _tags(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """The provider tags what it makes, so it is the provider that is asked."""
    if args.provider is None or args.provider.resource_type != "pulumi:providers:aws":
        return
    given = args.provider.props.get("defaultTags") or {}
    # The SDK sends what is nested in a provider's inputs as JSON text.
    tags = (json.loads(given) if isinstance(given, str) else given).get("tags") or {}
    missing = sorted(TAGS - set(tags))
    if missing:
        report(f"{args.name}: its provider's defaultTags lack {missing}", args.urn)


RULES = [
    rule(
        "logs-end",
        "Logs are kept for a month at least, and not for ever.",
        {"aws:cloudwatch/logGroup:LogGroup": _retention},
    ),
    ResourceValidationPolicy(
        name="everything-is-tagged",
        description="Every resource says which project, stack and budget it belongs to.",
        validate=_tags,
    ),
]
