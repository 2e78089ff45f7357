"""Keys, secrets, logs, the boundary, the trail, GitHub's roles: invariants and planted faults."""

from __future__ import annotations

import json
import re

import pytest
import synth
from components.boundary import NEVER
from components.delivery import AUDIENCE, ISSUER, PATH
from components.security import SECRETS
from judges.plant import add_statement, drop, in_json, plant, put, remove

KEY = "aws:kms/key:Key"
ALIAS = "aws:kms/alias:Alias"
SECRET = "aws:secretsmanager/secret:Secret"
LOGS = "aws:cloudwatch/logGroup:LogGroup"
POLICY = "aws:iam/policy:Policy"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
TRAIL = "aws:cloudtrail/trail:Trail"
BUCKET = "aws:s3/bucket:Bucket"
BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
PROVIDER = "pulumi:providers:aws"

BOUNDARY_CHARACTERS = 6_144
ROLE_CHARACTERS = 10_240
"""AWS' own quotas: a managed policy, and all inline policies of a role together."""
UNBOUNDED = {"deploy-role", "images-role", "preview-role", "promote-role"}
"""GitHub's: the boundary is of services (`components.delivery` says what bounds these)."""


def as_list(value):
    return value if isinstance(value, list) else [value]


def statements(resource, key="policy"):
    return as_list(json.loads(resource.inputs[key])["Statement"])


def check_keys(graph):
    """Keys rotate, go slowly, have an alias, and stay when the stack goes."""
    named = {a.inputs["targetKeyId"] for a in graph.of(ALIAS)}
    wanted = {
        "rotates": lambda k: k.inputs.get("enableKeyRotation") is True,
        "waits 30 days before it is gone": lambda k: k.inputs.get("deletionWindowInDays") == 30,
        "has an alias": lambda k: k.outputs["keyId"] in named,
        "is kept": lambda k: k.is_protected and k.is_retained,
    }
    return [
        f"{key.name}: not true that it {what}"
        for key in graph.of(KEY)
        for what, is_true in wanted.items()
        if not is_true(key)
    ]


def check_key_policies(graph):
    """Nobody has all of a key; use needs a service in between, a service needs a condition."""
    found = []
    for key in graph.of(KEY):
        for statement in statements(key):
            actions = set(as_list(statement["Action"]))
            principal, sid = statement["Principal"], f"{key.name}/{statement.get('Sid')}"
            if principal == "*" or "*" in as_list(principal.get("AWS", [])):
                found.append(f"{sid}: anybody")
            if actions & {"*", "kms:*"}:
                found.append(f"{sid}: every action")
            uses = any(re.match(r"kms:(Decrypt|Encrypt|Generate|ReEncrypt)", a) for a in actions)
            condition = json.dumps(statement.get("Condition", {}))
            if uses and "AWS" in principal and "kms:ViaService" not in condition:
                found.append(f"{sid}: used without a service in between")
            if "Service" in principal and not re.search(r"aws:Source|EncryptionContext", condition):
                found.append(f"{sid}: a service without a condition")
    return found


def check_secrets(graph):
    """Names without values, below the stack's path, encrypted, kept."""
    found = [
        f"{r.name}: a value" for r in graph.custom if "ecretString" in json.dumps(dict(r.inputs))
    ]
    found += [f"{r.name}: a version" for r in graph.custom if r.type.endswith(":SecretVersion")]
    for secret in graph.of(SECRET):
        if not secret.inputs["name"].startswith(f"/headrace/{graph.stack}/"):
            found.append(f"{secret.name}: named {secret.inputs['name']}")
        if "kmsKeyId" not in secret.inputs:
            found.append(f"{secret.name}: AWS' own key")
        if not (secret.is_protected and secret.is_retained):
            found.append(f"{secret.name}: goes with the stack")
    return found


def check_log_groups(graph):
    """Encrypted, kept for as long as the stack says, under a name that the key accepts."""
    days = synth.read_stack(graph.stack)["headrace:settings"]["log_days"]
    name = re.compile(rf"/headrace/{graph.stack}/|/aws/[^/]+/.*headrace-{graph.stack}-")
    return [
        f"{group.name}: {dict(group.inputs)}"
        for group in graph.of(LOGS)
        if group.inputs.get("retentionInDays") != days
        or "kmsKeyId" not in group.inputs
        or not name.match(group.inputs["name"])
    ]


def check_boundaries(graph):
    """Every role stands below the boundary, but those of reviewed workflows."""
    arn = graph.one(POLICY, "boundary").outputs["arn"]
    return [
        f"{role.name}: boundary {role.inputs.get('permissionsBoundary')}"
        for role in graph.of(ROLE)
        if (role.inputs.get("permissionsBoundary") != arn) != (role.name in UNBOUNDED)
    ]


def matches(pattern, text):
    """Whether IAM's pattern covers a text; a text's own "*" is covered by a "*" alone."""
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), text, re.IGNORECASE) is not None


def covers(statement, action, resource):
    return any(matches(p, action) for p in as_list(statement["Action"])) and any(
        matches(p, resource) for p in as_list(statement["Resource"])
    )


def check_grants_inside(graph):
    """The boundary cuts off nothing that a role's own policy allows: no action, no resource."""
    ceiling = statements(graph.one(POLICY, "boundary"))
    allowed = [s for s in ceiling if s["Effect"] == "Allow"]
    denied = [p for s in ceiling if s.get("Sid") == "Never" for p in s["Action"]]
    bounded = {r.outputs["id"]: r.name for r in graph.of(ROLE) if r.name not in UNBOUNDED}
    found = []
    for policy in graph.of(ROLE_POLICY):
        if policy.inputs["role"] not in bounded:
            continue
        for statement in statements(policy):
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
    text = json.dumps(json.loads(boundary.inputs["policy"]), separators=(",", ":"))
    found = [f"{len(text)} characters"] if len(text) > BOUNDARY_CHARACTERS else []
    by_sid = {s["Sid"]: s for s in statements(boundary)}
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
        sids = [s["Sid"] for s in statements(policy)]
        found += [f"{policy.name}: {sid} twice" for sid in set(sids) if sids.count(sid) > 1]
        text = json.dumps(json.loads(policy.inputs["policy"]), separators=(",", ":"))
        role = policy.inputs["role"]
        sizes[role] = sizes.get(role, 0) + len(text)
    return found + [f"{r}: {n} characters" for r, n in sizes.items() if n > ROLE_CHARACTERS]


def check_trust(graph):
    """A service for this account alone, GitHub for one subject alone, people by a tag."""
    found = []
    account = synth.ACCOUNT
    for role in graph.of(ROLE):
        for statement in statements(role, "assumeRolePolicy"):
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


def check_trail(graph):
    """All regions and Bronze's objects, signed, encrypted, into a bucket of its own."""
    trails = graph.of(TRAIL)
    bronze = graph.one(BUCKET, "bronze").outputs["arn"]
    wanted = {
        "enableLogFileValidation": True,
        "isMultiRegionTrail": True,
        "includeGlobalServiceEvents": True,
        "s3BucketName": graph.one(BUCKET, "audit").inputs["bucket"],
        "kmsKeyId": graph.one(KEY, "logs-key").outputs["arn"],
    }
    found = [] if len(trails) == 1 else [f"{len(trails)} trails"]
    for trail in trails:
        found += [
            f"{k}: {trail.inputs.get(k)}" for k, v in wanted.items() if trail.inputs.get(k) != v
        ]
        selectors = json.dumps(trail.inputs.get("advancedEventSelectors", []))
        found += [
            f"{text}: not recorded"
            for text in ("Management", f'"{bronze}/"')
            if text not in selectors
        ]
    return found


def check_deployer(graph):
    """It may give a role permissions only below the boundary, and has no way to its own role."""
    boundary = graph.one(POLICY, "boundary").outputs["arn"]
    own = f"arn:aws:iam::{synth.ACCOUNT}:role{PATH}headrace-{graph.stack}-deploy"
    found = []
    for statement in statements(graph.one(ROLE_POLICY, "deploy-policy")):
        for action in as_list(statement["Action"]):
            gives = re.match(r"iam:(CreateRole$|Attach|PutRole)", action)
            equal = statement.get("Condition", {}).get("StringEquals", {})
            if gives and equal.get("iam:PermissionsBoundary") != boundary:
                found.append(f"{action} without the boundary")
            if re.match(r"iam:(\*|CreatePolicy|DeletePolicy|DeleteRolePermissionsB)", action):
                found.append(f"{action}: the boundary could be changed")
            if action.startswith("iam:") and covers(statement, action, own):
                found.append(f"{action} on itself")
    never = {s["Sid"] for s in statements(graph.one(ROLE_POLICY, "deploy-never-reads"))}
    paths = {r.name: r.inputs.get("path") for r in graph.of(ROLE) if r.name in UNBOUNDED}
    found += [f"{name}: path {path}" for name, path in paths.items() if path != PATH]
    return found + [f"reads {what}" for what in {"Messages", "Secrets"} - never]


def check_provider(graph):
    """Everything is tagged, and no other account is touched."""
    (provider,) = graph.of(PROVIDER)
    tags = json.loads(as_text(provider.inputs.get("defaultTags", {}))).get("tags", {})
    wanted = {"project": "headrace", "stack": graph.stack, "managed-by": "pulumi"}
    found = [f"tag {k}: {tags.get(k)}" for k, v in wanted.items() if tags.get(k) != v]
    accounts = json.loads(as_text(provider.inputs.get("allowedAccountIds")))
    found += [] if tags.get("cost-allocation") else ["no cost allocation"]
    return found + ([] if accounts == [synth.ACCOUNT] else [f"accounts {accounts}"])


def as_text(value):
    """A provider's inputs are JSON texts."""
    return value if isinstance(value, str) else json.dumps(value)


CHECKS = (
    check_keys,
    check_key_policies,
    check_secrets,
    check_log_groups,
    check_boundaries,
    check_grants_inside,
    check_boundary_itself,
    check_role_policies,
    check_trust,
    check_trail,
    check_deployer,
    check_provider,
)


@pytest.mark.parametrize("check", CHECKS)
def test_a_stack_keeps_its_invariants(graph, check):
    assert check(graph) == []


@pytest.mark.parametrize("check", [check_grants_inside, check_role_policies, check_trust])
def test_a_stack_with_every_option_keeps_its_invariants(graphs, check):
    assert check(graphs.everything()) == []


def named(name):
    return lambda resource: resource.name == name


def in_statement(number, **changes):
    return lambda document: document["Statement"][number].update(changes)


def planted(action, resource="*", **more):
    return {"Sid": "Planted", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def drop_condition(document):
    for statement in document["Statement"]:
        statement.pop("Condition", None)


def without(sid):
    def change(document):
        document["Statement"] = [s for s in document["Statement"] if s["Sid"] != sid]

    return change


def trust_any_branch(document):
    document["Statement"][0]["Condition"]["StringEquals"][f"{ISSUER}:sub"] = (
        "repo:example/headrace:*"
    )


FAULTS = {
    "a key that never rotates": (check_keys, lambda g: plant(g, KEY, drop("enableKeyRotation"))),
    "a key that is gone in a week": (
        check_keys,
        lambda g: plant(g, KEY, put("deletionWindowInDays", 7)),
    ),
    "a key without a name": (check_keys, lambda g: remove(g, ALIAS)),
    "a key for anybody": (
        check_key_policies,
        lambda g: plant(g, KEY, add_statement("policy", planted("kms:Decrypt", Principal="*"))),
    ),
    "a key that an account has all of": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", in_statement(0, Action="kms:*"))),
    ),
    "a key that is used directly": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", drop_condition), named("secrets-key")),
    ),
    "a key for every customer's logs": (
        check_key_policies,
        lambda g: plant(g, KEY, in_json("policy", drop_condition), named("logs-key")),
    ),
    "a secret with AWS' own key": (check_secrets, lambda g: plant(g, SECRET, drop("kmsKeyId"))),
    "a secret of another stack": (
        check_secrets,
        lambda g: plant(g, SECRET, put("name", "/headrace/dev/pii/key")),
    ),
    "a secret's value": (check_secrets, lambda g: plant(g, SECRET, put("secretString", "hunter2"))),
    "logs for ever": (check_log_groups, lambda g: plant(g, LOGS, drop("retentionInDays"))),
    "logs for a week": (check_log_groups, lambda g: plant(g, LOGS, put("retentionInDays", 7))),
    "logs in the clear": (check_log_groups, lambda g: plant(g, LOGS, drop("kmsKeyId"))),
    "a name that the key refuses": (
        check_log_groups,
        lambda g: plant(g, LOGS, put("name", "/elsewhere/x")),
    ),
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
            g, ROLE, in_json("assumeRolePolicy", drop_condition), named("flow-logs-role")
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
            g, ROLE, in_json("assumeRolePolicy", drop_condition), named("analyst-role")
        ),
    ),
    "a trail that anybody may edit": (
        check_trail,
        lambda g: plant(g, TRAIL, put("enableLogFileValidation", False)),
    ),
    "a trail that does not see Bronze": (
        check_trail,
        lambda g: plant(g, TRAIL, lambda inputs: inputs["advancedEventSelectors"].pop()),
    ),
    "no trail": (check_trail, lambda g: remove(g, TRAIL)),
    "a deployer that gives what it likes": (
        check_deployer,
        lambda g: plant(g, ROLE_POLICY, in_json("policy", drop_condition), named("deploy-policy")),
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
    "resources without a tag": (check_provider, lambda g: plant(g, PROVIDER, drop("defaultTags"))),
    "any account": (check_provider, lambda g: plant(g, PROVIDER, put("allowedAccountIds", "[]"))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


def test_every_secret_has_a_place_and_nothing_else_has(graph):
    paths = {s.inputs["name"].removeprefix(f"/headrace/{graph.stack}/") for s in graph.of(SECRET)}
    assert paths >= set(SECRETS)


def test_a_stack_may_do_without_the_reads_of_bronze(graphs):
    quiet = graphs.mutated("dev", lambda s: s.update(options={"cloudtrail_data_events": False}))
    (selector,) = quiet.of(TRAIL)[0].inputs["advancedEventSelectors"]
    assert selector["fieldSelectors"] == [{"field": "eventCategory", "equals": ["Management"]}]


def test_patterns_of_iam_are_understood():
    assert matches("s3:Get*", "s3:getobject")
    assert matches("arn:aws:s3:::headrace-dev-*", "arn:aws:s3:::headrace-dev-silver/silver/*")
    assert not matches("arn:aws:s3:::headrace-dev-*", "arn:aws:s3:::headrace-prod-silver/*")
    assert not matches("arn:aws:s3:::headrace-dev-lake/*", "arn:aws:s3:::headrace-dev-*")
