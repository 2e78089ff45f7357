"""Bring a Prefect server to what this folder declares: `python deploy/prefect/apply.py`.

Pools, limits, variables, blocks, deployments, automations, in this order: each may refer to those
before it. Everything is compared first and written only where it differs, so a second run says
"unchanged" throughout. The server is the one of PREFECT_API_URL. Only names of fields are
printed, never values: they may be secret. A value "secretsmanager:ARN" is read from there, so that
the values hold no secret. Exit code 0 ok, 1 failed, 2 something to change.
Not here: comparing (`batch.flows.steps`, `batch.flows.registration`), the servers (infra/), a
server that only the stack's own network reaches (`apply_on_ecs.py` runs this there).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# Prefect reads these when it is imported.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from batch.flows import registration, steps
from batch.flows.declared import STACKS, read_resources
from stream.errors import ConfigError, PipelineError
from stream.lake.secret import read_secret

PLANS = {
    "pools": steps.plan_pools,
    "limits": steps.plan_limits,
    "variables": steps.plan_variables,
    "blocks": steps.plan_blocks,
    "deployments": registration.plan_deployments,
    "automations": registration.plan_automations,
    "prune": registration.plan_prune,
}
ALWAYS = [kind for kind in PLANS if kind != "prune"]
SECRET, SECRET_PARTS = "secretsmanager:", 7


def main(arguments: list[str] | None = None) -> int:
    """Apply and print every step; returns the exit code."""
    options = _parse(arguments)
    # It prints a whole address that it cannot parse, and the address of a webhook is its key.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    try:
        values = {**_read_values(options.values), **_read_environment(options.values_env)}
        apply(options.stack, values, _choose(options), options.dry_run)
    except ConfigError as error:
        return _fail(str(error), 2)
    except PipelineError as error:
        return _fail(str(error), 1)
    except httpx.HTTPError as error:
        return _fail(f"{PREFECT_API_URL.value()}: {type(error).__name__} {error}", 1)
    return 0


def apply(stack: str, values: dict[str, Any], kinds: list[str], is_dry: bool) -> None:  # noqa: FBT001 - from the command line
    """Compare kind by kind and write what differs."""
    resources = read_resources(stack, values)
    if not PREFECT_API_URL.value():
        raise ConfigError("PREFECT_API_URL is not set: name the API of a running server")
    counts: Counter[str] = Counter()
    with get_client(sync_client=True) as client:
        for kind in kinds:
            for step in PLANS[kind](client, resources):
                print(step, flush=True)
                counts[step.verb] += 1
                if step.run is not None and not is_dry:
                    step.run()
    would = "would be " if is_dry else ""
    print(
        f"{would}created {counts['create']}, {would}updated {counts['update']}, "
        f"{would}deleted {counts['delete']}, unchanged {counts['unchanged']}"
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", choices=STACKS, default="local")
    parser.add_argument("--values", type=Path, help="JSON file with the values of the stack")
    parser.add_argument(
        "--values-env", action="append", default=[], metavar="NAME", help="the same in a variable"
    )
    parser.add_argument("--only", help=f"some of {','.join(ALWAYS)}")
    parser.add_argument("--prune", action="store_true", help="delete ours that are undeclared")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    return parser.parse_args(arguments)


def _choose(options: argparse.Namespace) -> list[str]:
    kinds = options.only.split(",") if options.only else list(ALWAYS)
    if unknown := sorted(set(kinds) - set(ALWAYS)):
        raise ConfigError(f"--only: no {', '.join(unknown)}; there are {', '.join(ALWAYS)}")
    return [*kinds, *(["prune"] if options.prune else [])]


def _read_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return _parse_values(f"--values {path}", path.read_text())
    except OSError as error:
        raise ConfigError(f"--values {path}: {error.strerror}") from error


def _read_environment(names: list[str]) -> dict[str, Any]:
    if unset := [name for name in names if name not in os.environ]:
        raise ConfigError(f"--values-env: {', '.join(unset)} not set in this environment")
    values: dict[str, Any] = {}
    for name in names:
        values |= _parse_values(f"--values-env {name}", os.environ[name])
    return values


def _parse_values(where: str, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:  # its message may quote a secret
        raise ConfigError(f"{where} is no JSON") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: an object of names and values is expected")
    return {name: _read_value(name, value) for name, value in values.items()}


def _read_value(name: str, value: Any) -> Any:
    """The value, or the text of the secret that it names."""
    if not isinstance(value, str) or not value.startswith(SECRET):
        return value
    arn = value.removeprefix(SECRET)
    parts = arn.split(":")
    if len(parts) < SECRET_PARTS:
        raise ConfigError(f"--values: {name}: {arn!r} is no ARN of a secret")
    return read_secret(arn, parts[3], "url").get_secret_value()


def _fail(message: str, code: int) -> int:
    print(f"apply: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
