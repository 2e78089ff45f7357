"""What bounds the roles: the boundary, quotas, trust, the deployer's limits; and planted faults."""

from __future__ import annotations

import json
import re

import pytest

import synth
from components.boundary import NEVER
from components.delivery import AUDIENCE, ISSUER, PATH
from judges.documents import (
    as_list,
    compact,
    covers,
    drop_conditions,
    matches,
    named,
    statements_of,
    without,
)
from judges.plant import add_statement, drop, in_json, plant, put

POLICY = "aws:iam/policy:Policy"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"

BOUNDARY_CHARACTERS = 6_144
ROLE_CHARACTERS = 10_240
"""AWS' own quotas: a managed policy, and all inline policies of a role together."""
UNBOUNDED = {"deploy-role", "images-role", "preview-role", "promote-role"}
"""GitHub's: the boundary is of services (`components.delivery` says what bounds these)."""


def check_boundaries(graph):
    """Every role stands below the boundary, but those of reviewed workflows."""
    arn = graph.one(POLICY, "boundary").outputs["arn"]
    return [
        f"{role.name}: boundary {role.inputs.get('permissionsBoundary')}"
        for role in graph.of(ROLE)
        if (role.inputs.get("permissionsBoundary") != arn) != (role.name in UNBOUNDED)
    ]


def check_grants_inside(graph):
    """The boundary cuts off nothing that a role's own policy allows: no action, no resource."""
    ceiling = statements_of(graph.one(POLICY, "boundary"))
    allowed = [s for s in ceiling if s["Effect"] == "Allow"]
    denied = [p for s in ceiling if s.get("Sid") == "Never" for p in s["Action"]]
    bounded = {r.outputs["id"]: r.name for r in graph.of(ROLE) if r.name not in UNBOUNDED}
    found = []
    for policy in graph.of(ROLE_POLICY):
        if policy.inputs["role"] not in bounded:
            continue
        for statement in statements_of(policy):
            for action in as_list(statement["Action"]):
                if any(matches(pattern, action) for pattern in denied):
                    found.append(f"{policy.name}: {action} is denied")
                found += [
                    f"{policy.name}: {action} on {resource} is outside"
                    for resource in as_list(statement["Resource"])
                    if not any(covers(s, action, resource) for s in allowed)
                ]
    return sorted(set(found))


def check_boundary_itself(graph):
    """It fits into AWS' quota, allows no change of IAM, and nothing outside of the region."""
    boundary = graph.one(POLICY, "boundary")
    text = compact(boundary)
    found = [f"{len(text)} characters"] if len(text) > BOUNDARY_CHARACTERS else []
    by_sid = {s["Sid"]: s for s in statements_of(boundary)}
    found += [
        f"{p} is not denied" for p in NEVER if p not in by_sid.get("Never", {}).get("Action", [])
    ]
    elsewhere = by_sid.get("NotElsewhere", {})
    if (elsewhere.get("Effect"), "aws:RequestedRegion" in json.dumps(elsewhere)) != ("Deny", True):
        found.append("other regions are open")
    for sid, statement in by_sid.items():
        if statement["Effect"] == "Allow":
            found += [
                f"{sid}: {a}"
                for a in statement["Action"]
                if re.match(r"\*|iam:(?!PassRole|GetRole)", a)
            ]
            own = re.compile(
                r"headrace|arn:aws:(glue|events|athena|servicediscovery):|rds!db-|:key/"
            )
            if statement["Resource"] != ["*"]:
                found += [f"{sid}: {r}" for r in statement["Resource"] if not own.search(r)]
    return found


def check_role_policies(graph):
    """Sids are unique, and the policies of a role fit into AWS' quota."""
    found, sizes = [], {}
    for policy in graph.of(ROLE_POLICY):
        sids = [s["Sid"] for s in statements_of(policy)]
        found += [f"{policy.name}: {sid} twice" for sid in set(sids) if sids.count(sid) > 1]
        text = compact(policy)
        role = policy.inputs["role"]
        sizes[role] = sizes.get(role, 0) + len(text)
    return found + [f"{r}: {n} characters" for r, n in sizes.items() if n > ROLE_CHARACTERS]


def check_trust(graph):
    """A service for this account alone, GitHub for one subject alone, people by a tag."""
    found = []
    account = synth.ACCOUNT
    for role in graph.of(ROLE):
        for statement in statements_of(role, "assumeRolePolicy"):
            principal = statement["Principal"]
            (kind,) = principal
            equal = statement.get("Condition", {}).get("StringEquals", {})
            is_bound = {
                "Service": equal.get("aws:SourceAccount") == account,
                "AWS": principal.get("AWS") == f"arn:aws:iam::{account}:root"
                and any(key.startswith("aws:PrincipalTag/") for key in equal),
                "Federated": equal.get(f"{ISSUER}:aud") == AUDIENCE
                and re.fullmatch(
                    r"repo:example/headrace:(environment:[a-z-]+|pull_request)",
                    str(equal.get(f"{ISSUER}:sub")),
                ),
            }
            if not is_bound[kind]:
                found.append(f"{role.name}: trusts {principal} if {equal}")
    return found


def check_deployer(graph):
    """It may give a role permissions only below the boundary, and has no way to its own role."""
    boundary = graph.one(POLICY, "boundary").outputs["arn"]
    own = f"arn:aws:iam::{synth.ACCOUNT}:role{PATH}headrace-{graph.stack}-deploy"
    found = []
    for statement in statements_of(graph.one(ROLE_POLICY, "deploy-policy")):
        for action in as_list(statement["Action"]):
            gives = re.match(r"iam:(CreateRole$|Attach|PutRole)", action)
            equal = statement.get("Condition", {}).get("StringEquals", {})
            if gives and equal.get("iam:PermissionsBoundary") != boundary:
                found.append(f"{action} without the boundary")
            if re.match(r"iam:(\*|CreatePolicy|DeletePolicy|DeleteRolePermissionsB)", action):
                found.append(f"{action}: the boundary could be changed")
            if action.startswith("iam:") and covers(statement, action, own):
                found.append(f"{action} on itself")
    never = {s["Sid"] for s in statements_of(graph.one(ROLE_POLICY, "deploy-never-reads"))}
    paths = {r.name: r.inputs.get("path") for r in graph.of(ROLE) if r.name in UNBOUNDED}
    found += [f"{name}: path {path}" for name, path in paths.items() if path != PATH]
    return found + [f"reads {what}" for what in {"Messages", "Secrets"} - never]


CHECKS = (
    check_boundaries,
    check_grants_inside,
    check_boundary_itself,
    check_role_policies,
    check_trust,
    check_deployer,
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_stack_keeps_its_invariants(graph, check):
    assert check(graph) == []


@pytest.mark.parametrize("check", CHECKS)
def test_a_stack_with_every_option_keeps_its_invariants(graphs, check):
    assert check(graphs.everything()) == []


def planted(action, resource="*", **more):
    return {"Sid": "Planted", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust_any_branch(document):
    document["Statement"][0]["Condition"]["StringEquals"][f"{ISSUER}:sub"] = (
        "repo:example/headrace:*"
    )


FAULTS = {
    "a role without a boundary": (
        check_boundaries,
        lambda g: plant(g, ROLE, drop("permissionsBoundary"), lambda r: r.name not in UNBOUNDED),
    ),
    "a role under another boundary": (
        check_boundaries,
        lambda g: plant(
            g,
            ROLE,
            put("permissionsBoundary", "arn:aws:iam::aws:policy/AdministratorAccess"),
            lambda r: r.name not in UNBOUNDED,
        ),
    ),
    "a grant that the boundary cuts off": (
        check_grants_inside,
        lambda g: plant(
            g,
            ROLE_POLICY,
            add_statement("policy", planted("s3:GetObject", "arn:aws:s3:::elsewhere/*")),
            named("analyst-policy"),
        ),
    ),
    "a grant that the boundary denies": (
        check_grants_inside,
        lambda g: plant(
            g,
            ROLE_POLICY,
            add_statement("policy", planted("s3:PutBucketPolicy", "arn:aws:s3:::headrace-prod-x")),
            named("analyst-policy"),
        ),
    ),
    "a boundary that allows a role to be made": (
        check_boundary_itself,
        lambda g: plant(
            g,
            POLICY,
            add_statement("policy", planted(["iam:CreateRole"], ["*"])),
            named("boundary"),
        ),
    ),
    "a boundary that leaves the region": (
        check_boundary_itself,
        lambda g: plant(g, POLICY, in_json("policy", without("NotElsewhere")), named("boundary")),
    ),
    "a boundary that denies nothing": (
        check_boundary_itself,
        lambda g: plant(g, POLICY, in_json("policy", without("Never")), named("boundary")),
    ),
    "a boundary over everybody's buckets": (
        check_boundary_itself,
        lambda g: plant(
            g,
            POLICY,
            add_statement("policy", planted(["s3:GetObject"], ["arn:aws:s3:::*"])),
            named("boundary"),
        ),
    ),
    "a boundary that is too long": (
        check_boundary_itself,
        lambda g: plant(
            g,
            POLICY,
            add_statement("policy", planted(["s3:GetObject"], ["arn:aws:s3:::headrace"] * 100)),
            named("boundary"),
        ),
    ),
    "a sid twice": (
        check_role_policies,
        lambda g: plant(
            g,
            ROLE_POLICY,
            lambda inputs: [
                add_statement("policy", planted("s3:GetObject"))(inputs) for _ in range(2)
            ],
        ),
    ),
    "a role that every account's service may assume": (
        check_trust,
        lambda g: plant(
            g, ROLE, in_json("assumeRolePolicy", drop_conditions), named("flow-logs-role")
        ),
    ),
    "a role for every branch": (
        check_trust,
        lambda g: plant(
            g, ROLE, in_json("assumeRolePolicy", trust_any_branch), named("images-role")
        ),
    ),
    "an analyst without a tag": (
        check_trust,
        lambda g: plant(
            g, ROLE, in_json("assumeRolePolicy", drop_conditions), named("analyst-role")
        ),
    ),
    "a deployer that gives what it likes": (
        check_deployer,
        lambda g: plant(g, ROLE_POLICY, in_json("policy", drop_conditions), named("deploy-policy")),
    ),
    "a deployer that changes itself": (
        check_deployer,
        lambda g: plant(
            g,
            ROLE_POLICY,
            add_statement(
                "policy",
                planted("iam:UpdateAssumeRolePolicy", "arn:aws:iam::123456789012:role/*"),
            ),
            named("deploy-policy"),
        ),
    ),
    "a deployer beside the roles that it may change": (
        check_deployer,
        lambda g: plant(g, ROLE, put("path", "/"), named("deploy-role")),
    ),
    "a deployer that reads secrets": (
        check_deployer,
        lambda g: plant(
            g, ROLE_POLICY, in_json("policy", without("Secrets")), named("deploy-never-reads")
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


def test_patterns_of_iam_are_understood():
    assert matches("s3:Get*", "s3:getobject")
    assert matches("arn:aws:s3:::headrace-dev-*", "arn:aws:s3:::headrace-dev-silver/silver/*")
    assert not matches("arn:aws:s3:::headrace-dev-*", "arn:aws:s3:::headrace-prod-silver/*")
    assert not matches("arn:aws:s3:::headrace-dev-lake/*", "arn:aws:s3:::headrace-dev-*")
