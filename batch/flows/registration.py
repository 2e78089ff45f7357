"""Compare deployments and automations of a Prefect server with what is declared.

Deployments are written by `prefect deploy` itself, only those that differ: it makes their triggers
anew each time. Automations are known by their names. `plan_prune` finds what carries our tag and
is declared no longer.
Not here: pools and the other small things (`steps`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import DeploymentTriggerTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter, ValidationError

from batch.flows.declared import (
    PREFECT_FILE,
    ROOT,
    Declared,
    Resources,
    read_declared,
    read_pull_steps,
)
from batch.flows.steps import Fields, Step, block_id, build_step, compare, find, load_block
from stream.errors import ConfigError, RetryableError

DO_NOTHING = {"type": "do-nothing"}
TRIGGERS: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)


def load_flow(declared: Declared) -> Flow[..., Any]:
    """The flow of a deployment. Raises: ConfigError if there is none at its entrypoint."""
    try:
        return load_flow_from_entrypoint(declared.module_path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{PREFECT_FILE}: {declared.entrypoint}: {error}") from error


def plan_deployments(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Deployments with their triggers; those that differ are deployed together at the end."""
    pull = read_pull_steps()
    changed: list[str] = []
    for declared in read_declared():
        flow = load_flow(declared)
        name = f"{flow.name}/{declared.name}"
        found = find(partial(client.read_deployment_by_name, name))
        want = declared_fields(declared, flow, pull, found)
        verb, fields = compare(found_fields(client, found, resources.tag) if found else None, want)
        is_same = verb == "unchanged"
        yield Step(
            "deployment", name, verb, fields, None if is_same else partial(changed.append, name)
        )
    if changed:
        deploy(changed)


def deploy(names: Sequence[str]) -> None:
    """Run `prefect deploy` for some deployments. Raises: RetryableError with what it said."""
    chosen = [part for name in names for part in ("--name", name)]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *chosen]
    answer = subprocess.run(  # noqa: S603  # nosec B603: the tool of this environment
        [*command, "--prefect-file", str(PREFECT_FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RetryableError(f"`prefect deploy` failed:\n{answer.stdout}\n{answer.stderr}".strip())


def declared_fields(
    declared: Declared,
    flow: Flow[..., Any],
    pull: list[dict[str, Any]],
    found: DeploymentResponse | None,
) -> Fields:
    """A declared deployment in the words of `found_fields`."""
    triggers = [TRIGGERS.validate_python(item) for item in declared.triggers]
    if found:
        for trigger in triggers:
            trigger.set_deployment_id(found.id)
    return {
        "entrypoint": declared.entrypoint,
        "parameters": declared.parameters,
        "tags": sorted(declared.tags),
        "description": declared.description,
        "work_pool_name": declared.pool,
        "pull_steps": pull,
        "schedules": {
            item["slug"]: (item["cron"], item["timezone"]) for item in declared.schedules
        },
        "parameter_schema": _without_empty(parameter_schema(flow).model_dump()),
        "triggers": _by_name(t.as_automation() for t in triggers) if found else [],
    }


def found_fields(client: SyncPrefectClient, found: DeploymentResponse, tag: str) -> Fields:
    """What is compared of a deployment on the server: its version changes with every file.

    The server does not tell which automations are triggers of a deployment: ours are named like
    all our automations, and carry no tag as those of resources.yaml do.
    """
    related = client.read_resource_related_automations(f"prefect.deployment.{found.id}")
    triggers = [a for a in related if a.name.startswith(f"{tag}-") and tag not in a.tags]
    return {
        "entrypoint": found.entrypoint,
        "parameters": found.parameters,
        "tags": sorted(found.tags),
        "description": found.description,
        "work_pool_name": found.work_pool_name,
        "pull_steps": found.pull_steps,
        "schedules": {
            item.slug: tuple(getattr(item.schedule, name, None) for name in ("cron", "timezone"))
            for item in found.schedules
        },
        "parameter_schema": _without_empty(found.parameter_openapi_schema or {}),
        "triggers": _by_name(triggers),
    }


def _by_name(automations: Iterable[AutomationCore]) -> list[Fields]:
    """The server lists them in no order."""
    return sorted(map(automation_fields, automations), key=lambda fields: str(fields["name"]))


def plan_automations(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Automations by name. Raises: ConfigError for one that Prefect would refuse."""
    for item in resources.automations:
        name = item["name"]
        waits_for = _missing_deployments(client, item)
        if waits_for and item.get("enabled", True):
            raise ConfigError(
                f"automation {name!r} runs {waits_for[0]}, which is not deployed: deploy it, or "
                "set `enabled: false` until it exists"
            )
        if waits_for:
            yield Step("automation", name, "skip", note=f"off until {waits_for[0]} exists")
            continue
        want = build_automation(client, item, resources)
        have = next(iter(client.read_automations_by_name(name)), None)
        yield build_step(
            "automation",
            name,
            automation_fields(have) if have else None,
            automation_fields(want),
            create=partial(client.create_automation, want),
            update=partial(client.update_automation, have.id, want) if have else _never,
        )


def build_automation(
    client: SyncPrefectClient, item: Fields, resources: Resources
) -> AutomationCore:
    """A declared automation with its blocks and deployments as ids."""
    actions = [_resolve(client, action, resources) for action in item["actions"]]
    fields = {**item, "tags": [resources.tag], "actions": actions}
    try:
        return AutomationCore.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"automation {item['name']!r}: {error}") from error


def automation_fields(automation: AutomationCore) -> Fields:
    """What is compared: all but the ids that the server gave, sets in order."""
    fields = automation.model_dump(mode="json", exclude={"id", "owner_resource"})
    return {name: _in_order(value) for name, value in fields.items()}


def plan_prune(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Deployments, variables and automations with our tag that nothing declares any more."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[resources.tag]))
    wanted = {f"{load_flow(item).name}/{item.name}" for item in read_declared()}
    for deployment in client.read_deployments(deployment_filter=ours):
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name not in wanted:
            yield _delete("deployment", name, partial(client.delete_deployment, deployment.id))
    wanted = {item["name"] for item in resources.variables}
    for variable in client.read_variables():
        if resources.tag in variable.tags and variable.name not in wanted:
            remove = partial(client.delete_variable_by_name, variable.name)
            yield _delete("variable", variable.name, remove)
    wanted = {item["name"] for item in resources.automations}
    for automation in client.read_automations():
        if resources.tag in automation.tags and automation.name not in wanted:
            remove = partial(client.delete_automation, automation.id)
            yield _delete("automation", automation.name, remove)


def _delete(kind: str, name: str, run: partial[Any]) -> Step:
    return Step(kind, name, "delete", run=run)


def _missing_deployments(client: SyncPrefectClient, item: Fields) -> list[str]:
    named = [action["deployment"] for action in item["actions"] if "deployment" in action]
    return [n for n in named if find(partial(client.read_deployment_by_name, n)) is None]


def _resolve(client: SyncPrefectClient, action: Fields, resources: Resources) -> Fields:
    """Names to ids. A block that the stack does not have makes an action that does nothing."""
    resolved = {key: value for key, value in action.items() if key not in {"block", "deployment"}}
    if "deployment" in action:
        deployment = client.read_deployment_by_name(action["deployment"])
        return {**resolved, "deployment_id": deployment.id}
    if "block" in action:
        kind, _, name = action["block"].partition("/")
        has_block = (kind, name) in {(b["type"], b["name"]) for b in resources.blocks}
        block = load_block(kind, name) if has_block else None
        # A dry run on an empty server has no block yet; the real run makes it first.
        return {**resolved, "block_document_id": block_id(block)} if block else DO_NOTHING
    return resolved


def _without_empty(schema: Fields) -> Fields:
    """The server leaves out parts of a schema that are empty."""
    return {name: value for name, value in schema.items() if value}


def _in_order(value: Any) -> Any:
    """Lists of texts were sets: their order means nothing."""
    if isinstance(value, dict):
        return {key: _in_order(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_in_order(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value


def _never() -> None:
    raise AssertionError("only what exists is updated")
