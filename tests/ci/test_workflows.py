"""Workflows ask for as little as they need, and everything that they name exists.

The rules are functions from a file's text to its faults; each is shown faults that it must find.
What the scanners know (schemas, injection, shell) is test_scanned_tree.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
STACKS = ("dev", "staging", "prod")
SCOPES = {"contents", "id-token", "attestations", "pull-requests", "actions"}
# The only jobs that write to the repository.
WRITERS = {("promote.yml", "propose")}
# A job with a role names an environment, whose rules decide who gets the role; this one has a role
# that trusts pull requests and can write nothing but databases of its own.
WITHOUT_ENVIRONMENT = {("dbt-slim-ci.yml", "build")}
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
FOLDERS = ("deploy", "infra", "stream", "batch", "dbt", "tests", ".ci", ".github")
PATH = re.compile(rf"(?<![\w/.$*-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*$-]*[\w*]")
MADE = ("infra/policies/.venv",)
"""Named by a workflow and made by it."""


def find_faults(name: str, text: str) -> list[str]:
    """Everything that is wrong with one workflow."""
    flow = yaml.safe_load(text)
    found = [*_top_faults(flow, text), *_use_faults(text)]
    for job_name, job in flow["jobs"].items():
        found += [f"{job_name}: {fault}" for fault in _job_faults(name, job_name, job)]
    return found


def _top_faults(flow: dict[str, Any], text: str) -> Iterator[str]:
    if flow.get("permissions") != {}:
        yield "permissions at the top are not empty"
    if not flow.get("concurrency", {}).get("group"):
        yield "no concurrency group"
    if flow.get("defaults", {}).get("run", {}).get("shell") != "bash":
        yield "defaults.run.shell is not bash: a failing pipe would pass"
    if re.search(r"\bsecrets\.", text):
        yield "names a secret: roles come by OIDC, the rest is variables"
    # YAML reads the word `on` as true.
    for event in {"pull_request_target", "workflow_run", "issue_comment"} & set(flow[True]):
        yield f"starts on {event}: strangers' code beside our token"


def _use_faults(text: str) -> Iterator[str]:
    for use in re.findall(r"uses: (.*)", text):
        if use.startswith("$/"):
            if not (ROOT / use[2:] / "action.yml").is_file():
                yield f"{use}: no such action here"
        elif not PINNED.fullmatch(use):
            yield f"{use}: expected <action>@<40 digits>  # v<major>.<minor>.<patch>"


def _job_faults(name: str, job_name: str, job: dict[str, Any]) -> Iterator[str]:
    if not 1 <= job.get("timeout-minutes", 0) <= 120:
        yield "no timeout-minutes of at most 120"
    if job.get("runs-on", "").endswith("latest"):
        yield "runs-on is not a version"
    granted = job.get("permissions")
    if not isinstance(granted, dict) or not granted or set(granted) - SCOPES:
        yield f"permissions {granted}: expected some of {sorted(SCOPES)}"
        return
    writes = {scope for scope, level in granted.items() if level == "write"}
    if writes - {"id-token", "attestations"} and (name, job_name) not in WRITERS:
        yield f"writes {sorted(writes)}"
    has_role = "id-token" in writes
    if has_role and "environment" not in job and (name, job_name) not in WITHOUT_ENVIRONMENT:
        yield "has a role and no environment"
    if has_role and writes & {"contents", "pull-requests", "actions"}:
        yield "has a role and writes to the repository: split it"
    yield from _step_faults(job["steps"])


def _step_faults(steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        if "${{" in step.get("run", ""):
            yield "an expression in `run`: pass it through env"
        is_checkout = step.get("uses", "").startswith("actions/checkout@")
        if is_checkout and step.get("with", {}).get("persist-credentials") is not False:
            yield "checkout leaves the token in .git: persist-credentials: false"


def find_missing(text: str) -> list[str]:
    """What a workflow names and the tree does not have: files, folders, targets, workflows."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    events = yaml.safe_load(text).get(True, {}).values()
    triggers = {p for event in events if isinstance(event, dict) for p in event.get("paths", ())}
    return [
        *(path for path in sorted({*_paths(code), *triggers}) if not _exists(path)),
        *(f"make {t}" for t in re.findall(r"run: make ([a-z-]+)", code) if t not in targets),
        *(f for f in re.findall(r"gh workflow run (\S+)", code)
          if not (GITHUB / "workflows" / f).is_file()),
    ]  # fmt: skip


def _paths(code: str) -> Iterator[str]:
    for path in sorted(set(PATH.findall(code)) - set(MADE)):
        yield from (path.replace("$STACK", stack) for stack in (STACKS if "$" in path else ("",)))


def _exists(path: str) -> bool:
    return any(ROOT.glob(path.removesuffix("/**"))) if "*" in path else (ROOT / path).exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_asks_for_as_little_as_it_needs(path):
    assert not find_faults(path.name, path.read_text())


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.parent.name)
def test_composite_action_follows_the_rules_for_steps(path):
    text = path.read_text()
    steps = yaml.safe_load(text)["runs"]["steps"]
    assert not [*_use_faults(text), *_step_faults(steps)]
    assert {step["shell"] for step in steps if "run" in step} == {"bash"}


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_everything_that_a_workflow_names_exists(path):
    assert not find_missing(path.read_text())


def test_an_action_has_one_version_everywhere():
    uses = {use for path in [*WORKFLOWS, *ACTIONS] for use in PINNED.findall(path.read_text())}
    assert len({use.split("@")[0] for use in uses}) == len(uses) > 5


def test_stacks_are_updated_one_after_the_other_from_main_alone():
    jobs = yaml.safe_load((GITHUB / "workflows" / "infra.yml").read_text())["jobs"]
    assert jobs["up"]["strategy"]["max-parallel"] == 1
    assert jobs["up"]["strategy"]["fail-fast"] is True
    assert tuple(jobs["up"]["strategy"]["matrix"]["stack"]) == STACKS
    assert "github.ref == 'refs/heads/main'" in jobs["up"]["if"]
    assert jobs["preview"]["environment"] != jobs["up"]["environment"]


def test_only_main_is_built_promoted_and_applied():
    for name, job in (("images", "plan"), ("promote", "tag"), ("prefect-apply", "apply")):
        jobs = yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())["jobs"]
        assert jobs[job]["if"] == "github.ref == 'refs/heads/main'"
        # The others come after it and do not run if it did not.
        assert all("needs" in other for key, other in jobs.items() if key != job)


def test_every_variable_and_environment_is_explained_in_the_readme():
    text = "".join(path.read_text() for path in WORKFLOWS)
    readme = (ROOT / "deploy" / "README.md").read_text()
    variables = set(re.findall(r"vars\.(\w+)", text))
    assert {"PULUMI_ROLE_ARN", "ECR_REPOSITORY"} <= variables
    assert not [name for name in variables if f"`{name}`" not in readme]
    assert all(
        f"`{name}`" in readme for name in ("build", *STACKS, *(f"{s}-preview" for s in STACKS))
    )


def test_pulumi_has_the_version_of_its_sdk():
    locks = "".join(path.read_text() for path in (ROOT / "deploy").glob("*.lock"))
    locked = set(re.findall(r"^pulumi==(\S+)", locks, re.MULTILINE))
    (action,) = [p for p in ACTIONS if p.parent.name == "stack"]
    assert {re.search(r"pulumi-version: (\S+)", action.read_text())[1]} == locked


PLANTED = [
    ("ci.yml", "permissions: {}", "permissions: read-all", "permissions at the top"),
    ("ci.yml", "  group: ci-", "  grop: ci-", "no concurrency group"),
    ("ci.yml", "    shell: bash", "    shell: sh", "a failing pipe would pass"),
    ("ci.yml", "  pull_request:", "  pull_request_target:", "pull_request_target"),
    ("ci.yml", "    timeout-minutes: 90\n", "", "timeout-minutes"),
    ("ci.yml", "timeout-minutes: 90", "timeout-minutes: 360", "timeout-minutes"),
    ("ci.yml", "ubuntu-24.04", "ubuntu-latest", "runs-on"),
    ("ci.yml", "      contents: read", "      contents: write", "writes ['contents']"),
    ("ci.yml", "      contents: read", "      packages: read", "expected some of"),
    ("ci.yml", "persist-credentials: false", "persist-credentials: true", "token in .git"),
    ("ci.yml", "@08c6903cd8c0fde910a37f88322edcfb5dd907a8  # v5.0.0", "@v5", "40 digits"),
    ("ci.yml", "  # v5.0.0", "", "40 digits"),
    ("ci.yml", "run: .ci/run", "run: .ci/run ${{ github.head_ref }}", "an expression in `run`"),
    ("infra.yml", "    environment: ${{ matrix.stack }}\n", "", "no environment"),
    ("infra.yml", "id-token: write", "id-token: write\n      actions: write", "split it"),
    ("infra.yml", "$/.github/actions/stack", "$/.github/actions/stak", "no such action"),
    ("scan.yml", "${{ github.token }}", "${{ secrets.PAT }}", "names a secret"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "fault"), PLANTED)
def test_planted_fault_is_found(name, old, new, fault):
    text = (GITHUB / "workflows" / name).read_text()
    assert old in text
    assert any(fault in found for found in find_faults(name, text.replace(old, new)))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ci.yml", ".ci/run", ".ci/rum"),
        ("scan.yml", "make tools", "make tulls"),
        ("images.yml", "deploy/Dockerfile", "deploy/Dockerfiles"),
        ("images.yml", "- stream/**", "- steam/**"),
        ("infra.yml", "deploy/stack up", "deploy/stacks up"),
        ("infra.yml", "prefect/apply_on_ecs.py", "prefect/apply_on_ec2.py"),
        ("promote.yml", "gh workflow run ci.yml", "gh workflow run check.yml"),
        ("promote.yml", "infra/Pulumi.$STACK.yaml", "infra/Pulumi-$STACK.yaml"),
    ],
)
def test_planted_name_of_nothing_is_found(name, old, new):
    text = (GITHUB / "workflows" / name).read_text()
    assert old in text
    assert set(find_missing(text.replace(old, new))) - set(find_missing(text))
