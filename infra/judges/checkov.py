"""Ask checkov what it thinks of a graph, in its own environment and without a network."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth import Graph

from judges.environment import program
from judges.terraform import plan

SKIPS = Path(__file__).parents[1] / ".checkov.yaml"


@dataclass(frozen=True, slots=True)
class Report:
    """Checks that passed and failed: (check, address of the resource)."""

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
    return _report(json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Skip:
    """One line of the skip list: a check, where it may fail, and why."""

    check: str
    where: str
    reason: str

    def covers(self, failure: tuple[str, str]) -> bool:
        """Whether that failure is the one that is meant."""
        check, address = failure
        return check == self.check and self.where in address


def read_skips() -> list[Skip]:
    """The skip list. checkov itself reads only the checks' names.

    Raises: ValueError if a line has no place or no reason.
    """
    lines = [line for line in SKIPS.read_text().splitlines() if re.match(r"\s+- CKV", line)]
    found = [re.fullmatch(r"\s+- (\w+)\s+# only (\w+): (.+)", line) for line in lines]
    bad = [line for line, match in zip(lines, found, strict=True) if match is None]
    if bad:
        raise ValueError(f'{SKIPS.name}: expected "- CHECK  # only WHERE: REASON", found {bad}')
    return [Skip(*match.groups()) for match in found if match]


def _report(found: dict[str, Any]) -> Report:
    if found["summary"]["parsing_errors"]:
        raise ValueError(f"checkov could not read the plan: {found['summary']}")
    results = found["results"]
    return Report(_pairs(results["passed_checks"]), _pairs(results["failed_checks"]))


def _pairs(checks: list[dict[str, Any]]) -> frozenset[tuple[str, str]]:
    return frozenset((check["check_id"], check["resource"]) for check in checks)
