"""deploy/prefect and docker-compose.yml hold together: checked without a server."""

from __future__ import annotations

import inspect
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import Flow
from prefect.utilities.templating import apply_values

from batch.flows import report
from batch.flows.backfill import LIMITS
from batch.flows.dbt_build import LIMIT as GOLD_LIMIT
from batch.flows.declared import ROOT, Declared, read_declared, read_pull_steps, read_resources
from batch.flows.registration import TRIGGERS, load_flow
from stream.errors import ConfigError

AWS = {
    **{
        f"{pool}_{what}": f"arn:aws:x:us-east-1:123456789012:{pool}-{what}"
        for pool, what in product(
            ("ingestion", "transformation", "lightweight", "gpu"),
            ("task_definition_arn", "task_role_arn"),
        )
    },
    "batch_cluster_arn": "arn:aws:ecs:us-east-1:123456789012:cluster/batch",
    "vpc_id": "vpc-1",
    "private_subnet_ids": ["subnet-1", "subnet-2"],
    "batch_security_group_ids": ["sg-1"],
    "prefect_auth_string_secret_arn": "arn:aws:secretsmanager:us-east-1:1:secret:prefect",
    "gpu_capacity_provider": "gpu",
    "results_bucket": "results",
    "alerts_webhook_url": "https://hooks.example.com/T/B/secret",
}
EVENTS = {value for name, value in vars(report).items() if name.isupper() and "." in str(value)}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DECLARED = read_declared()


def name_of(declared: Declared) -> str:
    return f"{load_flow(declared).name}/{declared.name}"


@pytest.mark.parametrize("declared", DECLARED, ids=lambda d: f"{Path(d.entrypoint).stem}-{d.name}")
def test_deployment_names_a_flow_a_pool_and_parameters_that_exist(declared):
    flow = load_flow(declared)
    assert isinstance(flow, Flow)
    assert (ROOT / declared.entrypoint.partition(":")[0]).is_file()
    assert not set(declared.parameters) - set(inspect.signature(flow.fn).parameters)
    flow.validate_parameters({**_required(flow), **declared.parameters})
    assert declared.pool in {pool["name"] for pool in read_resources("local", {}).pools}
    assert "headrace" in declared.tags


def test_deployments_have_names_of_their_own():
    names = [name_of(declared) for declared in DECLARED]
    assert len(names) == len(set(names))


def test_every_flow_of_the_package_has_a_deployment():
    files = {path.name for path in (ROOT / "batch" / "flows").glob("*.py")}
    flows = {f for f in files if "@flow" in (ROOT / "batch" / "flows" / f).read_text()}
    assert flows == {Path(declared.entrypoint.partition(":")[0]).name for declared in DECLARED}


def test_schedules_are_valid_utc_and_keep_their_identity_by_a_slug():
    schedules = [(d, s) for d in DECLARED for s in d.schedules]
    assert {s["slug"] for _, s in schedules} == {d.name for d, _ in schedules}
    for _, schedule in schedules:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert schedule["timezone"] == "UTC"


def test_scheduled_maintenance_applies_and_what_people_start_is_dry():
    takes_apply = [d for d in DECLARED if "apply" in inspect.signature(load_flow(d).fn).parameters]
    for declared in takes_apply:
        by_itself = bool(declared.schedules or declared.triggers)
        assert declared.parameters.get("apply", False) is by_itself, declared
        assert inspect.signature(load_flow(declared).fn).parameters["apply"].default is False


def test_streams_are_never_flows():
    watch = [d for d in DECLARED if "stream" in load_flow(d).name]
    assert [name_of(d) for d in watch] == ["stream-watch/5min"]


def test_pull_step_needs_nothing_but_a_variable_that_is_declared():
    ((step,),) = [list(item.items()) for item in read_pull_steps()]
    assert step[0].endswith("set_working_directory")
    name = step[1]["directory"].removeprefix("{{ prefect.variables.").removesuffix(" }}")
    assert name in {item["name"] for item in read_resources("aws", AWS).variables}


@pytest.mark.parametrize("stack", ["local", "aws"])
def test_automation_is_valid_and_matches_events_that_flows_emit(stack):
    for item in read_resources(stack, AWS).automations:
        actions = [_with_ids(action) for action in item["actions"]]
        AutomationCore.model_validate({**item, "actions": actions})
        wanted = {*item["trigger"].get("expect", ()), *item["trigger"].get("after", ())}
        assert {event for event in wanted if event.startswith("headrace.")} <= EVENTS
        assert not [a for a in item["actions"] if "deployment" in a], "`serve` has none yet then"


def test_trigger_is_valid_and_matches_events_that_flows_emit():
    triggers = [item for declared in DECLARED for item in declared.triggers]
    assert triggers
    for item in triggers:
        assert set(TRIGGERS.validate_python(item).expect) <= EVENTS
        assert item["name"].startswith("headrace-"), "apply.py tells ours by it"


def test_every_limit_that_a_flow_asks_for_is_declared():
    declared = {item["name"] for item in read_resources("local", {}).limits}
    assert {*LIMITS.values(), GOLD_LIMIT} == declared


def test_values_that_are_missing_are_listed_all_at_once():
    given = {name: value for name, value in AWS.items() if name not in {"vpc_id", "results_bucket"}}
    with pytest.raises(ConfigError, match="lack results_bucket, vpc_id; give them"):
        read_resources("aws", given)


def test_every_stack_has_the_same_pools_and_gpu_is_off():
    local, aws = read_resources("local", {}), read_resources("aws", AWS)
    assert [pool["name"] for pool in local.pools] == [pool["name"] for pool in aws.pools]
    assert {pool["type"] for pool in local.pools} == {"process"}
    assert {pool["type"] for pool in aws.pools} == {"ecs"}
    for stack in (local, aws):
        assert [pool["name"] for pool in stack.pools if pool["is_paused"]] == ["gpu"]


@pytest.mark.parametrize("pool", read_resources("aws", AWS).pools, ids=lambda pool: pool["name"])
def test_ecs_template_runs_our_definition_in_private_subnets_and_names_the_run(pool):
    from prefect_aws.workers.ecs_worker import ECSJobConfiguration  # noqa: PLC0415 - 3 s

    template = pool["base_job_template"]
    defaults = {
        k: v["default"] for k, v in template["variables"]["properties"].items() if "default" in v
    }
    assert set(template["variables"]["required"]) <= set(defaults)
    values = apply_values(template["job_configuration"], defaults, remove_notset=True)
    job = ECSJobConfiguration(**values)

    request = job.task_run_request
    (container,) = request["overrides"]["containerOverrides"]
    assert request["taskDefinition"] == AWS[f"{pool['name']}_task_definition_arn"]
    assert request["overrides"]["taskRoleArn"] == AWS[f"{pool['name']}_task_role_arn"]
    assert job.network_configuration == {
        "subnets": AWS["private_subnet_ids"],
        "securityGroups": AWS["batch_security_group_ids"],
        "assignPublicIp": "DISABLED",
    }
    assert job.prefect_api_auth_string_secret_arn == AWS["prefect_auth_string_secret_arn"]
    assert 'LOG_CORRELATION_ID="$PREFECT__FLOW_RUN_ID"' in container["command"]
    assert container["environment"]["HEADRACE_LOG_FORMAT"] == "json"
    assert container["environment"]["DO_NOT_TRACK"] == "1"
    assert container["name"] == "prefect", "the observer looks for this container's exit code"
    is_fargate = request.get("launchType") == "FARGATE"
    assert is_fargate is ("capacityProviderStrategy" not in request) is (pool["name"] != "gpu")


def test_no_secret_is_written_into_the_environment_of_a_pool():
    for pool in read_resources("aws", AWS).pools:
        env = pool["base_job_template"]["variables"]["properties"]["env"]["default"]
        assert not [
            n for n in env if any(w in n for w in ("SECRET", "PASSWORD", "AUTH", "API_KEY"))
        ]


def test_compose_publishes_on_loopback_alone():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_service_is_bounded_checked_and_tells_nobody(name):
    service = COMPOSE["services"][name]
    assert {"mem_limit", "cpus", "logging"} <= set(service)
    is_one_shot = service["restart"] == "no"
    assert is_one_shot or "healthcheck" in service
    if service["image"] == "headrace:local":
        assert service["environment"]["DO_NOT_TRACK"] == "1"
        assert service["environment"]["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_compose_has_a_worker_for_every_pool_that_is_on():
    pools = {pool["name"] for pool in read_resources("local", {}).pools if not pool["is_paused"]}
    commands = [service.get("command", []) for service in COMPOSE["services"].values()]
    assert {c[c.index("--pool") + 1] for c in commands if "--pool" in c} == pools


def _required(flow: Flow[..., Any]) -> dict[str, Any]:
    examples = {
        "source": "fmp", "dataset": "quotes", "feed": "trades",
        "start_date": "2026-01-01", "end_date": "2026-01-02",
        "start": "2026-01-01", "end": "2026-01-02",
        "hours": [{"source": "trades", "hour": "2026-01-01T00:00:00+00:00"}],
    }  # fmt: skip
    parameters = inspect.signature(flow.fn).parameters.values()
    return {p.name: examples[p.name] for p in parameters if p.default is p.empty}


def _with_ids(action: dict[str, Any]) -> dict[str, Any]:
    """What apply.py does with the names of blocks and deployments."""
    known = {key: value for key, value in action.items() if key not in {"block", "deployment"}}
    identity = "00000000-0000-0000-0000-000000000001"
    for name, target in (("block", "block_document_id"), ("deployment", "deployment_id")):
        if name in action:
            known[target] = identity
    return known
