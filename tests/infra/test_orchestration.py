"""Prefect on AWS, against Prefect itself: its settings, its worker, and what apply.py asks for."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.events.models import EventPattern

import program
import synth
from batch.flows.declared import FOLDER, PLACEHOLDER, ROOT, read_resources
from components.pools import CONTAINER, declared_pools
from stream.errors import ConfigError

DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
POLICY = "aws:iam/rolePolicy:RolePolicy"
QUEUE = "aws:sqs/queue:Queue"
DATABASE = "aws:rds/instance:Instance"
BALANCER = "aws:lb/loadBalancer:LoadBalancer"
LISTENER = "aws:lb/listener:Listener"
TARGETS = "aws:lb/targetGroup:TargetGroup"
POOLS = ("ingestion", "transformation", "lightweight")


def container(graph: synth.Graph, name: str) -> dict[str, Any]:
    """The one container of a definition."""
    (found,) = json.loads(graph.one(DEFINITION, name).inputs["containerDefinitions"])
    return found


def variables(graph: synth.Graph, name: str) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in container(graph, name)["environment"]}


def secrets(graph: synth.Graph, name: str) -> dict[str, str]:
    return {pair["name"]: pair["valueFrom"] for pair in container(graph, name)["secrets"]}


def check_database(graph: synth.Graph) -> list[str]:
    """Private, encrypted, TLS alone, its password unknown to the stack, backed up, kept."""
    found = graph.one(DATABASE, "database")
    parameters = graph.one("aws:rds/parameterGroup:ParameterGroup", "database")
    forced = {"name": "rds.force_ssl", "value": "1"} in parameters.inputs["parameters"]
    is_open = found.inputs.get("publiclyAccessible") is not False
    wanted = {
        "public": not is_open,
        "plain": found.inputs.get("storageEncrypted") is True and forced,
        "password": found.inputs.get("manageMasterUserPassword") is True
        and "password" not in found.inputs,
        "backups": found.inputs.get("backupRetentionPeriod", 0) >= 1,
        "kept": found.is_protected and not found.inputs.get("skipFinalSnapshot"),
        "standby": graph.stack != "prod" or found.inputs.get("multiAz") is True,
        "deletable": graph.stack == "dev" or found.inputs.get("deletionProtection") is True,
    }
    return [name for name, is_good in wanted.items() if not is_good]


def check_front(graph: synth.Graph) -> list[str]:
    """Internal, TLS 1.2 or newer, its log kept, patient with quiet WebSockets."""
    balancer = graph.one(BALANCER, "prefect").inputs
    listeners = [listener.inputs for listener in graph.of(LISTENER)]
    wanted = {
        "internal": balancer.get("internal") is True,
        "tls": [(x["protocol"], x.get("sslPolicy")) for x in listeners]
        == [("HTTPS", "ELBSecurityPolicy-TLS13-1-2-2021-06")],
        "logs": balancer["accessLogs"].get("enabled") is True,
        "idle": balancer["idleTimeout"] > 60,
        "ready": graph.one(TARGETS, "prefect").inputs["healthCheck"]["path"] == "/api/ready",
    }
    return [name for name, is_good in wanted.items() if not is_good]


def check_queues(graph: synth.Graph) -> list[str]:
    """A queue is encrypted and hands what fails to a queue of the dead, which keeps it longer."""
    arns = {queue.outputs["arn"]: queue for queue in graph.of(QUEUE)}
    bad = []
    for queue in graph.of(QUEUE):
        if not queue.inputs.get("kmsMasterKeyId"):
            bad.append(queue.name)
        if "dead" in queue.name:
            continue
        redrive = json.loads(queue.inputs.get("redrivePolicy") or "{}")
        dead = arns.get(redrive.get("deadLetterTargetArn"))
        kept = queue.inputs["messageRetentionSeconds"]
        if dead is None or dead.inputs["messageRetentionSeconds"] <= kept:
            bad.append(queue.name)
    return bad


def put(type_: str, name: str, **inputs: Any) -> Callable[[synth.Graph], None]:
    """Change inputs of one resource."""

    def plant(graph: synth.Graph) -> None:
        old = graph.one(type_, name)
        where = graph.resources.index(old)
        graph.resources[where] = replace(old, inputs={**old.inputs, **inputs})

    return plant


RULES = {"database": check_database, "front": check_front, "queues": check_queues}
FAULTS = {
    "public database": (put(DATABASE, "database", publiclyAccessible=True), "database"),
    "one zone in prod": (put(DATABASE, "database", multiAz=False), "database"),
    "plain storage": (put(DATABASE, "database", storageEncrypted=False), "database"),
    "password in the state": (put(DATABASE, "database", password="x"), "database"),
    "no backups": (put(DATABASE, "database", backupRetentionPeriod=0), "database"),
    "gone with the stack": (put(DATABASE, "database", skipFinalSnapshot=True), "database"),
    "deletable": (put(DATABASE, "database", deletionProtection=False), "database"),
    "connections in clear": (
        put("aws:rds/parameterGroup:ParameterGroup", "database", parameters=[]),
        "database",
    ),
    "public load balancer": (put(BALANCER, "prefect", internal=False), "front"),
    "old TLS": (put(LISTENER, "prefect", sslPolicy="ELBSecurityPolicy-2016-08"), "front"),
    "HTTP": (put(LISTENER, "prefect", protocol="HTTP"), "front"),
    "no access log": (put(BALANCER, "prefect", accessLogs={"enabled": False}), "front"),
    "cuts WebSockets": (put(BALANCER, "prefect", idleTimeout=60), "front"),
    "alive is not ready": (
        put(TARGETS, "prefect", healthCheck={"path": "/api/health"}),
        "front",
    ),
    "queue without a queue of the dead": (put(QUEUE, "observer", redrivePolicy=None), "queues"),
    "the dead are forgotten first": (
        put(QUEUE, "observer-dead", messageRetentionSeconds=60),
        "queues",
    ),
    "plain queue": (put(QUEUE, "observer", kmsMasterKeyId=None), "queues"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_stack_keeps_the_rule(rule, graph):
    assert rule(graph) == []


@pytest.mark.parametrize(("plant", "caught_by"), FAULTS.values(), ids=FAULTS)
def test_planted_fault_is_caught_by_its_rule_alone(plant, caught_by, graphs):
    graph = copy.copy(graphs.get("prod"))
    graph.resources = list(graph.resources)
    plant(graph)
    assert [name for name, rule in RULES.items() if rule(graph)] == [caught_by]


def test_outputs_are_exactly_what_the_running_pools_ask_for(graphs, monkeypatch):
    told: dict[str, Any] = {}
    values = program.prefect_values

    def remember(*parts: Any) -> dict[str, Any]:
        told.update(values(*parts))
        return told

    monkeypatch.setattr(program, "prefect_values", remember)
    graph = graphs.mutated("staging", lambda settings: None)
    text = [
        line
        for line in (FOLDER / "resources.yaml").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    asked = set(PLACEHOLDER.findall("\n".join(text))) - {"root"}
    paused = [name for name, pool in declared_pools().items() if pool.get("is_paused")]
    off = {name for name in asked if name.partition("_")[0] in paused}
    assert off == {"gpu_task_definition_arn", "gpu_task_role_arn", "gpu_capacity_provider"}
    assert set(told) == asked - off
    assert set(told) <= set(graph.outputs)


def test_the_server_takes_the_stack_s_values(graph):
    resources = read_resources("aws", json.loads(json.dumps(graph.outputs)))
    by_name = {pool["name"]: pool for pool in resources.pools}
    for name in POOLS:
        properties = by_name[name]["base_job_template"]["variables"]["properties"]
        definition = graph.one(DEFINITION, name)
        assert properties["task_definition_arn"]["default"] == definition.outputs["arn"]
        assert properties["task_role_arn"]["default"] == definition.inputs["taskRoleArn"]
        assert properties["container_name"]["default"] == CONTAINER
        size = (properties["cpu"]["default"], properties["memory"]["default"])
        assert size == (int(definition.inputs["cpu"]), int(definition.inputs["memory"]))
        network = properties["network_configuration"]["default"]
        assert network["subnets"] == graph.outputs["private_subnet_ids"]
        secret = properties["prefect_api_auth_string_secret_arn"]["default"]
        assert secrets(graph, name)["PREFECT_API_AUTH_STRING"] == secret
    has_channel = [block["name"] for block in resources.blocks] == ["results", "alerts"]
    assert has_channel is (graph.stack != "dev"), "dev has no channel, so no block"


def test_no_output_holds_a_secret(graph):
    webhook = graph.outputs["alerts_webhook_url"]
    assert webhook == "" or webhook.startswith("secretsmanager:arn:aws:secretsmanager:")


@pytest.fixture(scope="module")
def apply_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("apply_script", FOLDER / "apply.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_apply_reads_a_secret_that_a_value_names(apply_script, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    file = tmp_path / "outputs.json"
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-west-1")
        url = "https://hooks.example.com/T/B/x"
        arn = client.create_secret(Name="/headrace/prod/monitoring/slack", SecretString=url)["ARN"]
        file.write_text(json.dumps({"alerts_webhook_url": f"secretsmanager:{arn}", "vpc_id": "v"}))
        assert apply_script._read_values(file) == {"alerts_webhook_url": url, "vpc_id": "v"}
    file.write_text(json.dumps({"alerts_webhook_url": "secretsmanager:slack"}))
    with pytest.raises(ConfigError, match="alerts_webhook_url: 'slack' is no ARN"):
        apply_script._read_values(file)


def known_to_prefect() -> set[str]:
    from prefect.settings import Settings  # noqa: PLC0415 - two seconds
    from prefect.settings.legacy import _get_valid_setting_names  # noqa: PLC0415
    from prefect_aws.settings import AwsSettings  # noqa: PLC0415

    return _get_valid_setting_names(Settings) | _get_valid_setting_names(AwsSettings)


def test_every_prefect_variable_is_one_that_prefect_reads(graph):
    """An unknown one would be ignored: a misspelt name is a server without a password."""
    known = known_to_prefect()
    assert "PREFECT_SERVER_CRSF_PROTECTION_ENABLED" not in known
    for definition in graph.of(DEFINITION):
        told = {*variables(graph, definition.name), *secrets(graph, definition.name)}
        assert {name for name in told if name.startswith("PREFECT_")} <= known, definition.name


def test_the_server_finds_its_database_and_asks_for_a_password(graph, monkeypatch):
    from prefect.settings import Settings  # noqa: PLC0415 - two seconds

    told, secret = variables(graph, "prefect-server"), secrets(graph, "prefect-server")
    database = graph.one(DATABASE, "database")
    (master,) = database.outputs["masterUserSecrets"]
    assert secret["PREFECT_SERVER_DATABASE_PASSWORD"] == f"{master['secretArn']}:password::"
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_PASSWORD", "p@ss/word")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "user:x")
    server = Settings().server
    assert server.database.connection_url is not None
    assert server.database.connection_url.get_secret_value() == (
        f"postgresql+asyncpg://prefect:p%40ss%2Fword@{database.outputs['address']}:5432/prefect"
    )
    assert server.api.csrf_protection_enabled
    assert server.api.auth_string is not None
    assert server.database.sqlalchemy.pool_recycle == 300
    assert not server.analytics_enabled


def test_a_worker_command_is_one_that_prefect_has():
    from prefect.cli.worker import start  # noqa: PLC0415 - two seconds

    flags = {
        option
        for parameter in inspect.signature(start, eval_str=True).parameters.values()
        for note in getattr(parameter.annotation, "__metadata__", ())
        for option in (note.name or ())
    }
    assert {"--pool", "--type", "--with-healthcheck"} <= flags


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_starts_its_own_pool_s_runs_and_passes_their_roles_alone(pool, graph):
    worker = f"{pool}-worker"
    command = container(graph, worker)["command"]
    assert command[:4] == ["worker", "start", "--pool", pool]
    assert (
        variables(graph, worker)["PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME"]
        == (graph.one(QUEUE, "observer").inputs["name"])
    )
    document = json.loads(graph.one(POLICY, f"{worker}-policy").inputs["policy"])
    by_action = {a: s for s in document["Statement"] for a in s["Action"]}
    runs = graph.one(DEFINITION, pool).inputs
    assert set(by_action["iam:PassRole"]["Resource"]) == {
        runs["taskRoleArn"],
        runs["executionRoleArn"],
    }
    assert by_action["iam:PassRole"]["Condition"] == {
        "StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    }
    family = runs["family"]
    assert by_action["ecs:RunTask"]["Resource"][0].endswith(f":task-definition/{family}:*")
    assert "ecs:RegisterTaskDefinition" not in by_action


def test_the_observer_hears_of_flow_runs_and_not_of_services(graph):
    rule = graph.one("aws:cloudwatch/eventRule:EventRule", "observer")
    pattern = json.loads(rule.inputs["eventPattern"])
    judge = EventPattern.load(json.dumps(pattern))
    cluster = graph.one("aws:ecs/cluster:Cluster", "batch").outputs["arn"]

    def event(group: str, cluster_arn: str = cluster) -> Any:
        detail = {"clusterArn": cluster_arn, "group": group, "lastStatus": "STOPPED"}
        return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}

    assert judge.matches_event(event("family:headrace-dev-ingestion"))
    assert not judge.matches_event(event("service:headrace-dev-prefect-server"))
    assert not judge.matches_event(event("family:x", cluster.replace("batch", "stream")))
    target = graph.one("aws:cloudwatch/eventTarget:EventTarget", "observer").inputs
    assert target["arn"] == graph.one(QUEUE, "observer").outputs["arn"]
    policy = json.loads(graph.one("aws:sqs/queuePolicy:QueuePolicy", "observer").inputs["policy"])
    (allow,) = [s for s in policy["Statement"] if s["Effect"] == "Allow"]
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": rule.outputs["arn"]}}


def test_only_the_load_balancer_reaches_the_server_and_only_the_server_its_database(graph):
    rules = {
        rule.name: rule
        for rule in graph.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    }
    chain = {"front-in": "tasks", "server-in": "prefect-front", "database-in": "prefect-server"}
    for name, source in chain.items():
        (urn,) = rules[name].by_property["referencedSecurityGroupId"]
        assert urn == graph.one("aws:ec2/securityGroup:SecurityGroup", source).urn
        assert "cidrIpv4" not in rules[name].inputs
    targets = [rule.by_property["securityGroupId"] for rule in rules.values()]
    guarded = [rules[name].by_property["securityGroupId"] for name in chain]
    assert all(targets.count(group) == 1 for group in guarded), "no second way in"


def test_nobody_but_ingestion_reads_the_secrets_of_sources(graph):
    readers = set()
    for policy in graph.of(POLICY):
        for statement in json.loads(policy.inputs["policy"])["Statement"]:
            named = " ".join(map(str, statement["Resource"]))
            if "mongodb/connection-string" in named:
                readers.add(policy.name)
    assert readers == {"ingestion-policy"}


def test_no_pool_may_delete_from_bronze(graph):
    for pool in POOLS:
        for statement in json.loads(graph.one(POLICY, f"{pool}-policy").inputs["policy"])[
            "Statement"
        ]:
            if "s3:DeleteObject" in statement["Action"]:
                assert not [arn for arn in statement["Resource"] if "-bronze-" in arn], pool


def test_a_task_applies_what_the_image_declares_and_reads_one_secret_for_it(graph):
    """What deploy/prefect/apply_on_ecs.py starts; its overrides replace the command alone."""
    definition = graph.one("aws:ecs/taskDefinition:TaskDefinition", "prefect-apply")
    assert graph.outputs["prefect_apply_task_definition_arn"] == definition.outputs["arn"]
    (container,) = json.loads(definition.inputs["containerDefinitions"])
    assert (container["name"], container["entryPoint"]) == ("prefect", ["/usr/bin/env"])
    assert container["logConfiguration"]["options"]["awslogs-stream-prefix"]
    (policy,) = [
        json.loads(found.inputs["policy"])
        for found in graph.of("aws:iam/rolePolicy:RolePolicy")
        if found.name == "prefect-apply-policy"
    ]
    (read,) = [s for s in policy["Statement"] if s["Sid"] == "ReadAlertsAddress"]
    alerts = graph.one("aws:secretsmanager/secret:Secret", "monitoring-slack")
    assert read["Resource"] == [alerts.outputs["arn"]]


def test_gold_is_built_in_the_workgroup_that_its_role_may_use(graph):
    (container,) = json.loads(
        graph.one("aws:ecs/taskDefinition:TaskDefinition", "transformation").inputs[
            "containerDefinitions"
        ]
    )
    told = {item["name"]: item["value"] for item in container["environment"]}
    assert "env_var('DBT_ATHENA_WORKGROUP'" in (ROOT / "dbt" / "profiles.yml").read_text()
    workgroup = graph.one("aws:athena/workgroup:Workgroup", "workgroup-gold").inputs["name"]
    assert told["DBT_ATHENA_WORKGROUP"] == workgroup
    (policy,) = [
        found.inputs["policy"]
        for found in graph.of("aws:iam/rolePolicy:RolePolicy")
        if found.name == "transformation-policy"
    ]
    assert f"workgroup/{workgroup}" in policy
