"""What deploy/prefect declares, as values: deployments, and everything else of a server.

`prefect.yaml` is Prefect's own format and the only list of deployments: `serve` starts from it on
a laptop, `prefect deploy` (through deploy/prefect/apply.py) registers it on AWS. `resources.yaml`
holds pools, limits, variables, blocks and automations for every stack, with `${placeholders}` for
what only the infrastructure knows.
Not here: comparing with a server and writing to it (`steps`, `registration`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stream.errors import ConfigError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prefect"
PREFECT_FILE = FOLDER / "prefect.yaml"
RESOURCES_FILE = FOLDER / "resources.yaml"
FLOWS_FOLDER = "batch/flows/"
STACKS = ("local", "aws")
RESOURCE_KINDS = ("pools", "limits", "variables", "blocks", "automations")
PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Declared:
    """One deployment. `entrypoint` is `path/from/the/root.py:function`."""

    name: str
    entrypoint: str
    pool: str
    description: str
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    schedules: tuple[dict[str, Any], ...]
    triggers: tuple[dict[str, Any], ...]

    @property
    def module_path(self) -> str:
        """The entrypoint as something to import, whatever the working directory is.

        >>> Declared("d", "batch/flows/watch.py:stream_watch", "", "", (), {}, (), ()).module_path
        'batch.flows.watch.stream_watch'
        """
        path, _, function = self.entrypoint.partition(":")
        return f"{path.removesuffix('.py').replace('/', '.')}.{function}"


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything else of one stack, with its values filled in, in the words of Prefect."""

    stack: str
    tag: str
    pools: list[dict[str, Any]]
    limits: list[dict[str, Any]]
    variables: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    automations: list[dict[str, Any]]


def read_declared(path: Path = PREFECT_FILE) -> list[Declared]:
    """Every deployment of a prefect.yaml. Raises: ConfigError naming the file and what is wrong."""
    return [_parse_deployment(path, item) for item in _read_yaml(path)["deployments"]]


def read_pull_steps(path: Path = PREFECT_FILE) -> list[dict[str, Any]]:
    """What a worker does before it runs a flow."""
    return list(_read_yaml(path)["pull"])


def read_resources(stack: str, values: Mapping[str, Any], path: Path = RESOURCES_FILE) -> Resources:
    """What a server of a stack holds.

    A paused pool does without the values that the stack lacks: nothing runs in it. A block with an
    empty value does not exist there, e.g. the channel of a stack that has none.

    Raises: ConfigError listing every value that is missing.
    """
    raw = _read_yaml(path)
    given = {"root": str(ROOT) if stack == "local" else "/app", **values}
    missing: set[str] = set()
    kept = {
        kind: [_fill(_of_stack(item, stack, given), given, missing) for item in raw.get(kind, [])
               if stack in item.get("stacks", STACKS)]
        for kind in RESOURCE_KINDS
    }  # fmt: skip
    if missing:
        raise ConfigError(
            f"the values of stack {stack!r} lack {', '.join(sorted(missing))}; give them with "
            "--values outputs.json (`pulumi stack output --json`)"
        )
    kept["pools"] = [_build_pool(item, stack) for item in kept["pools"]]
    kept["blocks"] = [item for item in kept["blocks"] if "" not in item["values"].values()]
    return Resources(stack=stack, tag=raw["tag"], **kept)


def _of_stack(item: dict[str, Any], stack: str, values: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {"stacks"} if stack == "aws" else {"stacks", "ecs"}
    kept = {key: value for key, value in item.items() if key not in hidden}
    if not (kept.get("is_paused") and "ecs" in kept):
        return kept
    known = {
        name: default
        for name, default in kept["ecs"]["defaults"].items()
        if values.keys() >= set(PLACEHOLDER.findall(json.dumps(default)))
    }
    return {**kept, "ecs": {**kept["ecs"], "defaults": known}}


def _fill(node: Any, values: Mapping[str, Any], missing: set[str]) -> Any:
    """Replace placeholders; one that is a whole text keeps its value's type, e.g. a list."""
    if isinstance(node, dict):
        return {key: _fill(value, values, missing) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, values, missing) for value in node]
    if not isinstance(node, str):
        return node
    missing.update(name for name in PLACEHOLDER.findall(node) if name not in values)
    if whole := PLACEHOLDER.fullmatch(node):
        return values.get(whole[1])
    return PLACEHOLDER.sub(lambda match: str(values.get(match[1])), node)


def _build_pool(item: dict[str, Any], stack: str) -> dict[str, Any]:
    """Of type process, with Prefect's own template, or of type ecs with ours, defaults set."""
    pool = {
        "name": item["name"],
        "type": "process",
        "description": item["description"],
        "concurrency_limit": item["concurrency_limit"],
        "is_paused": item.get("is_paused", False),
    }
    if stack == "local":
        return pool
    template = json.loads((FOLDER / "pools" / item["ecs"]["template"]).read_text())
    properties = template["variables"]["properties"]
    for name, value in item["ecs"]["defaults"].items():
        if name not in properties:
            raise ConfigError(
                f"pool {item['name']!r}: {item['ecs']['template']} has no variable {name!r}; "
                f"it has {', '.join(properties)}"
            )
        properties[name]["default"] = value
    return {**pool, "type": "ecs", "base_job_template": template}


def _parse_deployment(path: Path, item: dict[str, Any]) -> Declared:
    missing = sorted({"name", "entrypoint", "work_pool", "description"} - set(item))
    if missing:
        raise ConfigError(f"{path}: deployment {item.get('name')!r} lacks {', '.join(missing)}")
    if not item["entrypoint"].startswith(FLOWS_FOLDER) or ":" not in item["entrypoint"]:
        raise ConfigError(
            f"{path}: entrypoint {item['entrypoint']!r} is none; write {FLOWS_FOLDER}file.py:flow"
        )
    return Declared(
        name=str(item["name"]),
        entrypoint=item["entrypoint"],
        pool=item["work_pool"]["name"],
        description=item["description"],
        tags=tuple(item.get("tags", ())),
        parameters=item.get("parameters", {}),
        schedules=tuple(item.get("schedules", ())),
        triggers=tuple(item.get("triggers", ())),
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}. What Prefect runs is declared in a checkout "
            "of headrace or in its image, not in an installed package."
        ) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no YAML mapping: {error}") from error
