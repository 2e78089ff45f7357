"""Ask checkov what it thinks of a graph, in its own environment and without a network."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
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


def skipped() -> set[str]:
    """The checks of the skip list."""
    return set(yaml.safe_load(SKIPS.read_text())["skip-check"])


def _report(found: dict[str, Any]) -> Report:
    if found["summary"]["parsing_errors"]:
        raise ValueError(f"checkov could not read the plan: {found['summary']}")
    results = found["results"]
    return Report(_pairs(results["passed_checks"]), _pairs(results["failed_checks"]))


def _pairs(checks: list[dict[str, Any]]) -> frozenset[tuple[str, str]]:
    return frozenset((check["check_id"], check["resource"]) for check in checks)
