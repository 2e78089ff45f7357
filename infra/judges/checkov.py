"""Ask checkov what it thinks of a graph, in its own environment and without a network."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judges.environment import program
from judges.terraform import plan
from synth import Graph

SKIPS = Path(__file__).parents[1] / ".checkov.yaml"


@dataclass(frozen=True, slots=True)
class Report:
    """Checks that passed and failed: (check, address of the resource)."""

    stack: str
    passed: frozenset[tuple[str, str]]
    failed: frozenset[tuple[str, str]]

    @property
    def checks(self) -> set[str]:
        """Which checks had something to look at."""
        return {check for check, _ in self.passed | self.failed}


def scan(graph: Graph, folder: Path) -> Report:
    """Everything that checkov says, the skip list not applied. `folder`: for the plan's file."""
    path = folder / f"{graph.stack}.json"
    path.write_text(json.dumps(plan(graph)))
    command = [str(program("checkov", "checkov")), "--file", str(path)]
    options = [
        "--framework",
        "terraform_plan",
        "--skip-download",
        "--output",
        "json",
        "--soft-fail",
    ]
    done = subprocess.run(  # noqa: S603 - a pinned tool of ours
        [*command, *options], check=True, capture_output=True, text=True
    )
    return _report(graph.stack, json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Skip:
    """One line of the skip list: a check, where it may fail, and why."""

    check: str
    where: str
    stacks: str | None
    reason: str

    def covers(self, report: Report) -> set[tuple[str, str]]:
        """The failures that are meant."""
        if self.stacks and report.stack not in self.stacks.split(", "):
            return set()
        return {(c, place) for c, place in report.failed if c == self.check and self.where in place}


LINE = r"\s+- (\w+)\s+# only (\w+)(?: in ([a-z, ]+))?: (.+)"


def read_skips() -> list[Skip]:
    """The skip list. checkov itself reads only the checks' names.

    Raises: ValueError if a line has no place or no reason.
    """
    lines = [line for line in SKIPS.read_text().splitlines() if re.match(r"\s+- CKV", line)]
    found = [re.fullmatch(LINE, line) for line in lines]
    bad = [line for line, match in zip(lines, found, strict=True) if match is None]
    if bad:
        raise ValueError(f'{SKIPS.name}: expected "- CHECK  # only WHERE: REASON", found {bad}')
    return [Skip(*match.groups()) for match in found if match]


def _report(stack: str, found: dict[str, Any]) -> Report:
    if found["summary"]["parsing_errors"]:
        raise ValueError(f"checkov could not read the plan: {found['summary']}")
    results = found["results"]
    return Report(stack, _pairs(results["passed_checks"]), _pairs(results["failed_checks"]))


def _pairs(checks: list[dict[str, Any]]) -> frozenset[tuple[str, str]]:
    return frozenset((check["check_id"], check["resource"]) for check in checks)
