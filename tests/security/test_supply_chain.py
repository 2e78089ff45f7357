"""What is installed: pinned, hashed, from no address that is written down, and by hash alone."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch

import pytest

LOCKS = ("deploy/*.lock", "deploy/tools/*.txt", "infra/policies/requirements.txt", "*.lock")
PIN = re.compile(
    r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==[\w.!+]+( ?; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+"
)
INSTALL = re.compile(r"\bpip3?\b(?:[\w\s\"'/-]*?)\binstall\b(.*)")


@pytest.fixture(scope="module")
def tracked(request):
    """Every tracked text file by its path."""
    root = request.path.parents[2]
    listing = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git working tree")
    found = {}
    for name in listing.stdout.split():
        path = root / name
        if path.is_file() and b"\0" not in (data := path.read_bytes())[:8_000]:
            found[name] = data.decode(errors="replace")
    return found


def requirements_of(text):
    """A lock's requirements, each with its hashes on one line."""
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def faults_of(text):
    """What is no pin with a hash."""
    return [line[:100] for line in requirements_of(text) if not PIN.fullmatch(line)]


def test_every_requirement_of_every_lock_is_pinned_and_has_hashes(tracked):
    locks = [name for name in tracked if any(fnmatch(name, pattern) for pattern in LOCKS)]
    assert len([name for name in locks if name.startswith("deploy/")]) >= 3
    faults = {name: found for name in locks if (found := faults_of(tracked[name]))}
    assert not faults
    assert all(len(requirements_of(tracked[name])) > 0 for name in locks)


@pytest.mark.parametrize(
    "fault",
    [
        *("a==1.0", "a>=1.0 --hash=sha256:" + "0" * 64, "a==1.0 --hash=md5:" + "0" * 32),
        *("a @ git+ssh://x/a", "--find-links somewhere", "-r other.txt", "-e ."),
        "a==1.* --hash=sha256:" + "0" * 64,
    ],
)
def test_requirement_without_a_pin_or_a_hash_would_be_seen(fault):
    good = "a==1.0 ; python_version < '3.12' \\\n    --hash=sha256:" + "0" * 64 + "\n"
    assert faults_of(good) == []
    assert len(faults_of(good + fault + "\n")) == 1


def installs(text):
    """The arguments of every `pip install`, continued lines joined."""
    return [found[1] for found in INSTALL.finditer(re.sub(r"\s*\\\n\s*", " ", text))]


def is_safe(arguments):
    """By hash, or our own tree without what it depends on, or said by version."""
    if {"-r", "--requirement"} & set(arguments.split()):
        return "--require-hashes" in arguments
    return "--no-deps" in arguments or re.search(r"[\w-]+==[\w.]+", arguments) is not None


def test_image_bootstrap_and_workflows_install_by_hash(tracked):
    files = [
        name
        for name in tracked
        if name in {"Makefile", "deploy/bootstrap", ".ci/run"}
        or "Dockerfile" in name
        or name.startswith(".github/workflows/")
    ]
    found = {name: installs(tracked[name]) for name in files}
    assert len(found["deploy/bootstrap"]) >= 4
    assert len(found["deploy/Dockerfile"]) >= 2
    unsafe = [f"{name}: {a}" for name, all_ in found.items() for a in all_ if not is_safe(a)]
    assert not unsafe


@pytest.mark.parametrize("line", ["pip install x", "uv pip install -r a.lock", "pip install x>=1"])
def test_install_without_hashes_would_be_seen(line):
    [arguments] = installs(line)
    assert not is_safe(arguments)


def test_no_tracked_file_names_an_index_a_mirror_or_credentials_in_an_address(tracked):
    # Written in parts, so that this file does not name them either.
    index = re.compile(
        r"(--(extra-)?index" + r"-url|--find" + r"-links|--trusted" + r"-host|PIP_INDEX" + r"_URL"
        r"|UV_INDEX" + r"_URL|index" + r"-url *=|registry *= *http)"
    )
    found = [
        f"{name}: {line.strip()[:80]}"
        for name, text in tracked.items()
        if name != "tests/security/test_supply_chain.py"
        for line in text.splitlines()
        if index.search(line)
    ]
    assert not found


def test_image_base_and_compose_images_are_named_by_version(tracked):
    bases = re.findall(r"^\s*FROM\s+(?:--\S+\s+)?(\S+)", tracked["deploy/Dockerfile"], re.M)
    images = re.findall(r"^\s*image:\s*[\"']?([^\s\"']+)", tracked["docker-compose.yml"], re.M)
    assert bases
    stages = set(re.findall(r"\bAS\s+(\S+)", tracked["deploy/Dockerfile"], re.I))
    loose = [
        image
        for image in (*bases, *images)
        if image not in stages
        and "$" not in image
        and not image.startswith("headrace")
        and (":" not in image or image.endswith(":latest"))
    ]
    assert not loose
