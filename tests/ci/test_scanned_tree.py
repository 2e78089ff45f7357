"""The scanners of `make tools` find nothing in the tree, and find what is planted in a copy of it.

TOOLS names their environment if it is not .venv/tools. They run as in `make scan`, without a
network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("TOOLS", ROOT / ".venv" / "tools"))
CHECKOV = TOOLS.with_name("checkov")
LOCK_LINE = re.compile(r"([\w.-]+==[\w.!+]+( ; .+?)?|    --hash=sha256:[0-9a-f]{64})( \\)?")


def locks() -> list[Path]:
    return [*(ROOT / "deploy").glob("*.lock"), *(ROOT / "deploy" / "tools").glob("*.txt")]


@pytest.mark.parametrize("path", locks(), ids=lambda path: path.name)
def test_lock_holds_versions_and_hashes_and_nothing_else(path):
    lines = path.read_text().splitlines()
    assert not [line for line in lines if not LOCK_LINE.fullmatch(line)]
    assert sum("==" in line for line in lines) <= sum("--hash" in line for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        "requests==2.0 --index" + "-url https://example.com",
        "--extra-index" + "-url https://example.com",
        "requests @ https://example.com/requests.whl",
        "aws-key==AKIA/0123456789",
        "requests>=2",
    ],
)
def test_planted_line_is_no_line_of_a_lock(line):
    assert not LOCK_LINE.fullmatch(line)


@pytest.mark.parametrize("name", ["requirements", "checkov"])
def test_scanners_are_locked_at_the_versions_that_are_asked_for(name):
    folder = ROOT / "deploy" / "tools"
    pin = re.compile(r"^([\w.-]+==[\w.]+)", re.MULTILINE)
    asked = set(pin.findall((folder / f"{name}.in").read_text()))
    assert asked
    assert asked <= set(pin.findall((folder / f"{name}.txt").read_text()))


def scan(root: Path, *judges: str) -> subprocess.CompletedProcess[str]:
    python = TOOLS / "bin" / "python"
    assert python.exists(), f"{python} is missing: run `make tools`"
    command = [python, ROOT / "deploy" / "tools" / "scan.py", "--root", root, *judges]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A git work tree with our settings of the scanners and no file to complain of."""
    for name in (".yamllint", ".github", "deploy/tools", "deploy/stack"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (tmp_path / "deploy" / "tools" / "secrets.yaml").write_text("[]\n")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("judge", ["workflows", "yaml", "shell", "python", "secrets"])
def test_tree_is_clean(judge):
    answer = scan(ROOT, judge)
    assert (answer.returncode, answer.stdout) == (0, f"{judge}: clean\n"), answer.stderr


@pytest.mark.slow
def test_copy_without_a_fault_is_clean(copy):
    answer = scan(copy)
    assert answer.returncode == 0, answer.stdout + answer.stderr


CI, INFRA = ".github/workflows/ci.yml", ".github/workflows/infra.yml"
SCAN, STACK = "deploy/tools/scan.py", "deploy/stack"
CHECKOUT = "@08c6903cd8c0fde910a37f88322edcfb5dd907a8  # v5.0.0"
PLANTED = {
    "workflows": [
        (CI, "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        (CI, "run: .ci/run", "run: echo ${{ github.head_ref }}", "template-injection"),
        (CI, CHECKOUT, "@v5", "unpinned-uses"),
        (CI, "persist-credentials: false", "fetch-depth: 1", "artipacked"),
        (
            CI,
            "permissions:\n      contents: read",
            "permissions: write-all",
            "excessive-permissions",
        ),
        (
            CI,
            "    timeout-minutes: 90",
            "    timeout-minute: 90",
            "is not valid under any of the given schemas",
        ),
    ],
    "yaml": [
        (CI, "permissions: {}", "permissions: {}\npermissions: {}", "duplication of key"),
        (CI, "permissions: {}", "permissions:  {}", "too many spaces"),
        (CI, "  check:", "   check:", "wrong indentation"),
    ],
    "shell": [
        (STACK, '"$root/infra" --non', "$root/infra --non", "SC2086"),
        (STACK, "set -euo pipefail", "cd infra", "SC2164"),
        (INFRA, 'deploy/stack up "$STACK"', "deploy/stack up $STACK", "SC2086"),
    ],
    "python": [
        (SCAN, "HERE = ", "import pickle\npickle.loads(b'')\nHERE = ", "B301"),
        (SCAN, "HERE = ", "QUERY = 'SELECT * FROM t WHERE a = %s' % BIN\nHERE = ", "B608"),
        (SCAN, "HERE = ", "subprocess.run('ls ' + sys.argv[1], shell=True)\nHERE = ", "B602"),
        (SCAN, "HERE = ", "import httpx\nhttpx.get('x', verify=False, timeout=1)\nHERE = ", "B501"),
    ],
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("judge", PLANTED)
def test_every_planted_fault_is_found(copy, judge):
    """Each in a file of its own, all in one run: starting a scanner takes longer than its work."""
    planted = {}
    for number, (name, old, new, fault) in enumerate(PLANTED[judge]):
        text = (copy / name).read_text()
        assert old in text
        path = (copy / name).with_stem(f"planted{number}")
        path.write_text(text.replace(old, new, 1))
        planted[path.name] = fault
    answer = scan(copy, judge)
    assert answer.returncode == 1, answer.stderr
    for name, fault in planted.items():
        near = rf"{name}[^\n]*{re.escape(fault)}|{re.escape(fault)}.{{0,200}}{name}"
        assert re.search(near, answer.stdout, re.DOTALL), f"{name}: {fault}\n{answer.stdout}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (".github/dependabot.yml", "interval: weekly", "interval: sometimes"),
        (".github/actions/stack/action.yml", "  using: composite", "  uses: composite"),
    ],
)
def test_file_that_github_would_refuse_is_found(copy, name, old, new):
    (copy / name).write_text((copy / name).read_text().replace(old, new, 1))
    answer = scan(copy, "workflows")
    assert answer.returncode == 1, answer.stderr
    assert f"{name}::$" in answer.stdout


# Put together here, so that this file holds none.
SECRETS = {
    "AWS Access Key": "key = '" + "AKIA" + "QYLPMN5HFIQR7XYA" + "'\n",
    "Private Key": "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEow\n",
    "Secret Keyword": "pass" + "word: 'Tr0ub4dor&3'\n",
    "Slack Token": "token = 'xox" + "b-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx'\n",
    "Basic Auth Credentials": "url = 'postgresql://user:" + "hunter22@db.example/prod'\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SECRETS)
def test_planted_secret_is_found_also_in_a_file_that_git_does_not_know_yet(copy, kind):
    (copy / "deploy" / "notes.yaml").write_text(SECRETS[kind])
    answer = scan(copy, "secrets")
    assert answer.returncode == 1, answer.stderr
    assert f"deploy/notes.yaml: line 1: {kind}" in answer.stdout


@pytest.mark.slow
def test_secret_is_accepted_with_a_reason_and_only_as_long_as_it_is_there(copy):
    planted = copy / "deploy" / "notes.yaml"
    planted.write_text(SECRETS["Secret Keyword"])
    mark = re.search(r"mark (\w{12})", scan(copy, "secrets").stdout)[1]
    listed = copy / "deploy" / "tools" / "secrets.yaml"
    listed.write_text(json.dumps([{"is": "an example", "in": {"deploy/notes.yaml": [mark]}}]))
    assert scan(copy, "secrets").returncode == 0
    planted.write_text("nothing: here\n")
    answer = scan(copy, "secrets")
    assert answer.returncode == 1
    assert f"deploy/notes.yaml no longer holds {mark}" in answer.stdout


@pytest.mark.slow
def test_folder_that_git_does_not_know_is_no_clean_tree(tmp_path):
    (tmp_path / "notes.yaml").write_text(SECRETS["Secret Keyword"])
    answer = scan(tmp_path, "secrets")
    assert answer.returncode == 1
    assert "git lists no file here" in answer.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "command",
    [
        ["tools/bin/basedpyright", "--version"],
        ["tools/bin/cfn-lint", "--version"],
        ["tools/bin/compose-lint", "--version"],
        ["tools/bin/hadolint", "--version"],
        ["tools/bin/policy_sentry", "--version"],
        ["tools/bin/pip-audit", "--version"],
        ["checkov/bin/checkov", "--version"],
    ],
    ids=lambda command: Path(command[0]).name,
)
def test_tool_for_other_judges_starts_without_a_network(command):
    program = {"tools": TOOLS, "checkov": CHECKOV}[command[0].partition("/")[0]]
    path = program / command[0].partition("/")[2]
    assert path.exists(), f"{path} is missing: run `make tools`"
    offline = {
        **os.environ,
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    answer = subprocess.run([path, *command[1:]], env=offline, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_sbom_names_everything_that_can_be_imported_and_nothing_else(tmp_path):
    command = [ROOT / "deploy" / "sbom", tmp_path / "sbom.json", sys.executable]
    environment = {**os.environ, "TOOLS": str(TOOLS)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    bill = json.loads((tmp_path / "sbom.json").read_text())
    named = {(one["name"].lower(), one["version"]) for one in bill["components"]}
    installed = {(one.name.lower(), one.version) for one in distributions()}
    assert named == {one for one in installed if one[0] != "headrace"}
    assert bill["metadata"]["component"]["name"] == "headrace"
