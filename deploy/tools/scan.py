"""Run the scanners of `make tools` over the tree: `make scan`, or with the tools' own Python
`.venv/tools/bin/python deploy/tools/scan.py [--root DIR] [JUDGE ...]`.

Works offline and reads what git tracks or would add, never what it ignores. Every judge runs, also
after one has found something. Exit code 0 clean, 1 something found, 2 wrong use.
Not here: images and compose (tests/images), infrastructure (tests/infra), advisories, which need
a network (.github/workflows/scan.yml).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
# 13,000 hashes, in a form of their own that tests/ci checks line by line.
LOCKS = re.compile(r"deploy/(requirements[\w-]*\.lock|tools/\w+\.txt)")
ACCEPTED = "deploy/tools/secrets.yaml"
Judge = Callable[[Path, list[str]], list[str]]


def main(arguments: list[str] | None = None) -> int:
    """Run the judges that were asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=HERE.parents[1], help="a git work tree")
    parser.add_argument("judges", nargs="*", metavar="JUDGE", help=", ".join(JUDGES))
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.judges) - set(JUDGES)):
        parser.error(f"no judge {', '.join(unknown)}; there are {', '.join(JUDGES)}")
    files = list_files(options.root)
    is_clean = True
    for name in options.judges or JUDGES:
        found = JUDGES[name](options.root, files)
        is_clean &= not found
        print("\n".join([f"{name}: {len(found)} found" if found else f"{name}: clean", *found]))
    return 0 if is_clean else 1


def list_files(root: Path) -> list[str]:
    """What git tracks or would add. Stops if that is nothing: it would look like a clean tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    files = [name for name in answer.stdout.split("\0") if name and (root / name).is_file()]
    if not files:
        raise SystemExit(f"{root}: git lists no file here ({answer.stderr.strip() or 'empty'})")
    return sorted(set(files))


def judge_workflows(root: Path, files: list[str]) -> list[str]:
    """What GitHub would refuse, and what an attacker would like."""
    kinds = {
        "github-workflows": r"\.github/workflows/[^/]+\.ya?ml",
        "github-actions": r"\.github/actions/.+/action\.ya?ml",
        "dependabot": r"\.github/dependabot\.ya?ml",
    }
    found = _run(root, "zizmor", "--offline", "--no-progress", "--quiet", ".github")
    for schema, pattern in kinds.items():
        if chosen := _matching(files, pattern):
            found += _run(root, "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *chosen)
    return found


def judge_yaml(root: Path, files: list[str]) -> list[str]:
    """Doubled keys, wrong indentation, long lines; the rules are in .yamllint."""
    return _run(
        root, "yamllint", "--strict", "--format", "parsable", *_matching(files, r".*\.ya?ml")
    )


def judge_shell(root: Path, files: list[str]) -> list[str]:
    """Every bash script and every `run` block of a workflow."""
    scripts = [name for name in files if (root / name).read_bytes()[:20].find(b"bash") > 0]
    found = _run(root, "shellcheck", "--format", "gcc", *scripts) if scripts else []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in _run_blocks(root, files):
            # What `defaults.run.shell: bash` makes of it.
            block = Path(folder) / name.replace("/", "_")
            block.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{text}")
            found += _run(root, "shellcheck", "--format", "gcc", str(block))
    return found


def judge_python(root: Path, files: list[str]) -> list[str]:
    """Bandit on what is shipped. Its B608 is ruff's S608: one `noqa` serves both."""
    chosen = _matching(files, r"(stream|batch|infra|deploy|dbt)/.*\.py")
    config = str(HERE / "bandit.yaml")
    report = _read_json(root, "bandit", "-q", "-f", "json", "-c", config, *chosen)
    return [
        f"{item['filename']}:{item['line_number']}: {item['test_id']} {item['issue_text']}"
        for item in report["results"]
        if not _is_reasoned(root / item["filename"], item)
    ] + [f"{item['filename']}: {item['reason']}" for item in report["errors"]]


def judge_secrets(root: Path, files: list[str]) -> list[str]:
    """Whatever looks like a secret and is not accepted with a reason; entries that are stale."""
    chosen = [name for name in files if not LOCKS.fullmatch(name) and name != ACCEPTED]
    report = _read_json(root, "detect-secrets", "scan", *chosen)
    seen = {
        (name, item["hashed_secret"][:12]): f"line {item['line_number']}: {item['type']}"
        for name, items in report["results"].items()
        for item in items
    }
    listed = yaml.safe_load((root / ACCEPTED).read_text())
    known = {
        (name, mark) for group in listed for name, marks in group["in"].items() for mark in marks
    }
    advice = f"remove it and revoke it, or say in {ACCEPTED} what it is"
    return [
        *(f"{f}: {seen[f, mark]}, mark {mark}: {advice}" for f, mark in sorted(set(seen) - known)),
        *(
            f"{ACCEPTED}: {f} no longer holds {mark}: strike it"
            for f, mark in sorted(known - set(seen))
        ),
    ]


JUDGES: dict[str, Judge] = {
    "workflows": judge_workflows,
    "yaml": judge_yaml,
    "shell": judge_shell,
    "python": judge_python,
    "secrets": judge_secrets,
}


def _matching(files: list[str], pattern: str) -> list[str]:
    return [name for name in files if re.fullmatch(pattern, name)]


def _run(root: Path, tool: str, *arguments: str) -> list[str]:
    """The lines that a tool prints if it is not content."""
    answer = _start(root, tool, *arguments)
    if answer.returncode == 0:
        return []
    return (answer.stdout + answer.stderr).strip().splitlines() or [f"{tool}: {answer.returncode}"]


def _read_json(root: Path, tool: str, *arguments: str) -> dict[str, Any]:
    answer = _start(root, tool, *arguments)
    try:
        return dict(json.loads(answer.stdout))
    except ValueError:
        raise SystemExit(
            f"{tool} gave no report, exit code {answer.returncode}: {answer.stderr}"
        ) from None


def _start(root: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not (BIN / tool).is_file():
        raise SystemExit(
            f"{BIN / tool} is missing: `make tools`, then use that environment's Python"
        )
    command = [str(BIN / tool), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - our tools


def _run_blocks(root: Path, files: list[str]) -> Iterator[tuple[str, str]]:
    for name in _matching(files, r"\.github/.*\.ya?ml"):
        content = yaml.safe_load((root / name).read_text())
        groups = [*content.get("jobs", {}).values(), content.get("runs", {})]
        for number, step in enumerate(step for group in groups for step in group.get("steps", ())):
            if "run" in step:
                yield f"{name}.{number}.sh", step["run"]


def _is_reasoned(file: Path, item: dict[str, Any]) -> bool:
    rule = item["test_id"].replace("B", "S", 1)
    first, last = item["line_range"][0], item["line_range"][-1]
    lines = file.read_text().splitlines()[first - 1 : last]
    return any(re.search(rf"noqa: [\w, ]*\b{rule}\b", line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
