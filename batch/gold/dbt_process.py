"""Run dbt in a process of its own: one invocation, its progress, and what it left behind.

dbt keeps global state and takes a gigabyte for a while, so it never runs inside ours. It writes
one JSON line per event to a log; progress is read from there. If we die, it is killed.
Not here: which arguments make a build (`build`), what the results mean (`results`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import PipelineError
from stream.local.process import reap, spawn

DBT = (sys.executable, "-m", "batch.gold.dbt_main")
DBT_PAGE = "static_index.html"
POLL_SECONDS = 0.1
NODES_FAILED = 1
"""dbt's exit code when a model or a test of severity error failed; 2: dbt itself did."""

Progress = Callable[[int, int, str], None]
"""How many nodes have begun, of how many, and what the last one is."""


@dataclass(frozen=True, slots=True)
class DbtRun:
    """One finished invocation. `manifest` and `results` are dbt's own JSON."""

    exit_code: int
    manifest: dict[str, Any]
    results: dict[str, Any]


def run_dbt(
    project: Path,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    progress: Progress = lambda _begun, _total, _what: None,
    clock: Clock = SYSTEM_CLOCK,
) -> DbtRun:
    """Run `dbt <arguments>`; `folder` takes its log and artifacts.

    Raises: PipelineError with dbt's own words when it did not get as far as running nodes.
    """
    folder = folder.absolute()  # what is relative, dbt looks for below its project
    log, target = folder / "dbt.jsonl", folder / "target"
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    command = [
        *DBT, "--log-format", "json", "--no-use-colors", *arguments,
        "--project-dir", str(project), "--profiles-dir", str(project),
        "--target-path", str(target), "--log-path", str(folder), "--log-level-file", "none",
        "--no-partial-parse",
    ]  # fmt: skip
    quiet = {"DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    child = spawn(command, log, {**environment, **quiet})
    try:
        with log.open() as lines:
            while child.poll() is None:
                _report(lines, progress)
                clock.sleep(POLL_SECONDS)
            _report(lines, progress)
    finally:
        exit_code = reap(child)
    results, manifest = (_read(target / name) for name in ("run_results.json", "manifest.json"))
    if exit_code not in (0, NODES_FAILED) or not results.get("results"):
        raise PipelineError(f"dbt {arguments[0]} failed (log {log}): {_last_words(log)}")
    return DbtRun(exit_code, manifest, results)


def _read(artifact: Path) -> dict[str, Any]:
    """An artifact's JSON; empty if dbt did not come to write it."""
    return dict(json.loads(artifact.read_bytes())) if artifact.is_file() else {}


def _report(lines: Iterator[str], progress: Progress) -> None:
    for line in lines:
        event = _parse(line)
        if event.get("info", {}).get("name") == "LogStartLine":
            data = event["data"]
            progress(data["index"], data["total"], data["description"])


def _last_words(log: Path) -> str:
    """The messages of the errors, or else whatever came last."""
    events = [_parse(line) for line in log.read_text().splitlines()]
    said = [e["info"]["msg"].strip() for e in events if e.get("info", {}).get("msg", "").strip()]
    errors = [e["info"]["msg"].strip() for e in events if e.get("info", {}).get("level") == "error"]
    return "\n".join(errors or said[-1:] or ["it said nothing"])


def _parse(line: str) -> dict[str, Any]:
    """One event; what is none (a warning on stderr) is its own message."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"info": {"msg": line, "level": "info"}}
    return found
