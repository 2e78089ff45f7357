"""What a build of Gold says of itself: models with seconds and rows, tests with failing rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["published", "rejected", "unchanged", "built"]


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model or seed. `rows`: of its whole table; None for a view or where nobody counts."""

    name: str
    status: str
    seconds: float
    rows: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class TestFailure:
    """One test that found rows. `severity` "error" keeps the build from being published.

    `samples`: some of the `failures` rows; all of them (up to dbt's limit) are in `kept_in`.
    """

    name: str
    model: str
    severity: str
    failures: int
    message: str
    kept_in: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class GoldReport:
    """One build. `days` None: all of them. `numbers`: the ledger entries that it includes.
    `file`: the DuckDB file that holds it, kept until the next build if it was rejected.
    """

    verdict: Verdict
    target: str
    number: int | None
    slot: str | None
    days: tuple[str, ...] | None
    reason: str
    seconds: float = 0.0
    models: tuple[ModelResult, ...] = ()
    tests_passed: int = 0
    failures: tuple[TestFailure, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    file: str | None = None

    @property
    def errors(self) -> list[TestFailure]:
        """What stopped it."""
        return [failure for failure in self.failures if failure.severity == "error"]

    @property
    def is_ok(self) -> bool:
        """Whether readers now see what they should."""
        return self.verdict != "rejected"

    def __str__(self) -> str:
        built = sum(model.status == "success" for model in self.models)
        warned = len(self.failures) - len(self.errors)
        return (
            f"{self.verdict}: {self.reason}; {built} models, {self.tests_passed} tests passed, "
            f"{len(self.errors)} failed, {warned} warned, {self.seconds:.1f} s"
        )
