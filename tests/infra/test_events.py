"""Lineage and the API: how they are locked, what they may do, what their handlers are told."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern

import batch.aws.lineage_table
import handlers
import stream.lake.athena
from batch.aws.lineage import Environment
from batch.aws.lineage_event import Landed, parse_message
from batch.aws.lineage_table import Row, build_item
from components.serving import ACCESS_LOG
from stream.feeds import streamed_feeds
from stream.lake.layout import BronzeKey
from stream.settings import load_settings
from stream.shard import ShardRef
from synth import Graph

QUEUE = "aws:sqs/queue:Queue"
POLICY = "aws:sqs/queuePolicy:QueuePolicy"
MAPPING = "aws:lambda/eventSourceMapping:EventSourceMapping"
FUNCTION = "aws:lambda/function:Function"
TABLE = "aws:dynamodb/table:Table"
ROUTE = "aws:apigatewayv2/route:Route"
STAGE = "aws:apigatewayv2/stage:Stage"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"

SLICE = BronzeKey.of(
    ShardRef("trades", "headrace-prod-trades.0123abcd", "shardId-000000000000"), "1", 0
)
OBJECT_CREATED: dict[str, Any] = {
    "version": "0",
    "time": "2026-11-20T14:30:00Z",
    "source": "aws.s3",
    "detail-type": "Object Created",
    "detail": {
        "version": "0",
        "bucket": {"name": "headrace-prod-bronze-123456789012"},
        "object": {"key": SLICE.path, "size": 1, "etag": "0f", "sequencer": "0A"},
        "reason": "PutObject",
    },
}
"""What EventBridge sends of a slice that was put."""


def queue_faults(graph: Graph) -> list[str]:
    """What would lose a message, or let a stranger put one."""
    queue, dead = graph.one(QUEUE, "lineage"), graph.one(QUEUE, "lineage-dead")
    rule = graph.one("aws:cloudwatch/eventRule:EventRule", "bronze-objects")
    target = graph.one("aws:cloudwatch/eventTarget:EventTarget", "lineage").inputs
    wanted = {"deadLetterTargetArn": dead.outputs["arn"], "maxReceiveCount": 5}
    (send, plain) = json.loads(graph.one(POLICY, "lineage").inputs["policy"])["Statement"]
    checks = {
        "tried five times, then set aside": json.loads(queue.inputs["redrivePolicy"]) == wanted,
        "set aside for a fortnight": dead.inputs["messageRetentionSeconds"] == 14 * 86_400,
        "encrypted by our key": all("key/" in q.inputs["kmsMasterKeyId"] for q in (queue, dead)),
        "hidden for six times the function's time": queue.inputs["visibilityTimeoutSeconds"]
        >= 6 * graph.one(FUNCTION, "lineage").inputs["timeout"],
        "the rule's target": target["arn"] == queue.outputs["arn"],
        "undeliverable events are kept": target["deadLetterConfig"]["arn"] == dead.outputs["arn"],
        "only the rule sends": send["Condition"]["ArnEquals"]["aws:SourceArn"]
        == rule.outputs["arn"],
        "TLS": plain["Effect"] == "Deny" and "SecureTransport" in json.dumps(plain),
    }
    return [what for what, is_so in checks.items() if not is_so]


def mapping_faults(graph: Graph) -> list[str]:
    """One poisonous message must not fail a batch, nor a burst take more than its share."""
    mapping, function = graph.one(MAPPING, "lineage").inputs, graph.one(FUNCTION, "lineage").inputs
    most = mapping.get("scalingConfig", {}).get("maximumConcurrency", 1000)
    checks = {
        "partial failures": mapping.get("functionResponseTypes") == ["ReportBatchItemFailures"],
        "share": most <= function["reservedConcurrentExecutions"],
    }
    return [what for what, is_so in checks.items() if not is_so]


def table_faults(graph: Graph) -> list[str]:
    table = graph.one(TABLE, "lineage")
    checks = {
        "restorable": table.inputs.get("pointInTimeRecovery") == {"enabled": True},
        "our key": "key/" in table.inputs.get("serverSideEncryption", {}).get("kmsKeyArn", ""),
        "rows end": table.inputs.get("ttl", {}).get("enabled") is True,
        "kept": table.is_protected and table.is_retained,
    }
    return [what for what, is_so in checks.items() if not is_so]


def function_faults(graph: Graph, name: str) -> list[str]:
    function = graph.one(FUNCTION, name).inputs
    variables = function["environment"]["variables"]
    checks = {
        "by digest": "@sha256:" in function["imageUri"],
        "our entry": function["imageConfig"]["entryPoints"] == ["python", "-m", "awslambdaric"],
        "in the network": bool(function.get("vpcConfig", {}).get("subnetIds")),
        "share of concurrency": function.get("reservedConcurrentExecutions", 0) > 0,
        "secrets by name alone": not any(
            "SECRET" in k and "arn:" not in v for k, v in variables.items()
        ),
        "encrypted environment": "key/" in function.get("kmsKeyArn", ""),
    }
    return [what for what, is_so in checks.items() if not is_so]


def api_faults(graph: Graph) -> list[str]:
    """Ways in without a token, without a limit or without a trace."""
    stage = graph.one(STAGE, "live").inputs
    limits, log = stage.get("defaultRouteSettings", {}), stage.get("accessLogSettings", {})
    groups = {g.outputs["arn"]: g.inputs for g in graph.of("aws:cloudwatch/logGroup:LogGroup")}
    group = groups.get(log.get("destinationArn"), {})
    permission = graph.one("aws:lambda/permission:Permission", "gateway").inputs
    execution = graph.one("aws:apigatewayv2/api:Api", "api").outputs["executionArn"]
    checks = {
        "token": all(
            r.inputs.get("authorizationType") == "JWT" and r.inputs.get("authorizerId")
            for r in graph.of(ROUTE)
        ),
        "limits": 0 < limits.get("throttlingRateLimit", 0) <= limits.get("throttlingBurstLimit", 0),
        "trace": bool(group.get("kmsKeyId")) and group.get("retentionInDays", 0) >= 365,
        "no tokens in the trace": "header" not in log.get("format", "header").lower(),
        "only this API calls": permission["sourceArn"].startswith(f"{execution}/"),
    }
    return [what for what, is_so in checks.items() if not is_so]


def statements_of(graph: Graph, role: str) -> list[dict[str, Any]]:
    text = graph.one(ROLE_POLICY, f"{role}-policy").inputs["policy"]
    found: list[dict[str, Any]] = json.loads(text)["Statement"]
    return found


def test_both_are_off_until_they_are_asked_for(graph):
    assert not graph.of(FUNCTION)
    assert not graph.of("aws:apigatewayv2/api:Api")
    assert "lineage" not in {table.name for table in graph.of(TABLE)}


def test_the_way_of_an_event_loses_nothing_and_lets_nobody_else_in(graphs):
    everything = graphs.everything()
    assert queue_faults(everything) == []
    assert mapping_faults(everything) == []
    assert table_faults(everything) == []


@pytest.mark.parametrize(
    ("judge", "type_", "name", "inputs"),
    [
        (queue_faults, QUEUE, "lineage", {"redrivePolicy": "{}"}),
        (queue_faults, QUEUE, "lineage", {"visibilityTimeoutSeconds": 30}),
        (queue_faults, QUEUE, "lineage-dead", {"messageRetentionSeconds": 3600}),
        (queue_faults, QUEUE, "lineage-dead", {"kmsMasterKeyId": ""}),
        (
            queue_faults,
            "aws:cloudwatch/eventTarget:EventTarget",
            "lineage",
            {"arn": "arn:aws:sqs:eu-west-1:123456789012:other"},
        ),
        (mapping_faults, MAPPING, "lineage", {"functionResponseTypes": []}),
        (mapping_faults, MAPPING, "lineage", {"scalingConfig": {}}),
        (table_faults, TABLE, "lineage", {"pointInTimeRecovery": {"enabled": False}}),
        (table_faults, TABLE, "lineage", {"serverSideEncryption": {}}),
        (table_faults, TABLE, "lineage", {"ttl": {}}),
        (api_faults, ROUTE, "everything", {"authorizationType": "NONE"}),
        (api_faults, ROUTE, "everything", {"authorizerId": None}),
        (api_faults, STAGE, "live", {"defaultRouteSettings": {}}),
        (api_faults, STAGE, "live", {"accessLogSettings": {}}),
        (
            api_faults,
            "aws:lambda/permission:Permission",
            "gateway",
            {"sourceArn": "arn:aws:execute-api:eu-west-1:123456789012:*"},
        ),
    ],
)
def test_a_planted_fault_is_found(judge, type_, name, inputs, graphs):
    assert judge(graphs.broken(graphs.everything(), type_, name, **inputs))


@pytest.mark.parametrize("name", ["lineage", "api"])
def test_a_function_is_the_platforms_image_in_the_private_network(name, graphs):
    everything = graphs.everything()
    assert function_faults(everything, name) == []
    for planted in (
        {"imageUri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/headrace:latest"},
        {"vpcConfig": {}},
        {"reservedConcurrentExecutions": 0},
        {"environment": {"variables": {"API_SECRET": "hunter2"}}},
    ):
        assert function_faults(graphs.broken(everything, FUNCTION, name, **planted), name)


def test_the_rule_takes_objects_of_bronze_and_no_others(graphs):
    (rule,) = (
        r
        for r in graphs.everything().of("aws:cloudwatch/eventRule:EventRule")
        if "bronze" in r.name
    )
    pattern, event = EventPattern.load(rule.inputs["eventPattern"]), OBJECT_CREATED
    assert pattern.matches_event(event)
    assert not pattern.matches_event({**event, "detail-type": "Object Deleted"})
    other = {**event["detail"], "bucket": {"name": "headrace-prod-gold-123456789012"}}
    assert not pattern.matches_event({**event, "detail": other})


def test_bronze_sends_its_events(graph):
    (notification,) = graph.of("aws:s3/bucketNotification:BucketNotification")
    assert (
        notification.inputs["bucket"] == graph.one("aws:s3/bucket:Bucket", "bronze").outputs["id"]
    )
    assert notification.inputs["eventbridge"] is True


def test_the_api_and_its_access_log_have_no_way_around(graphs):
    assert api_faults(graphs.everything()) == []
    assert not any("header" in field for field in ACCESS_LOG.values())


def test_the_api_reads_the_lake_and_writes_results_alone(graphs):
    written = {
        resource
        for statement in statements_of(graphs.everything(), "api")
        for resource in statement["Resource"]
        if any(a.startswith(("s3:Put", "s3:Delete", "s3:Abort")) for a in statement["Action"])
    }
    assert written == {
        "arn:aws:s3:::headrace-prod-artifacts-123456789012/athena-results/interactive/*"
    }
    glue = {
        action
        for statement in statements_of(graphs.everything(), "api")
        for action in statement["Action"]
        if action.startswith("glue:")
    }
    assert glue
    assert all(action.startswith("glue:Get") for action in glue)


def test_lineage_may_put_rows_and_nothing_else_in_one_table(graphs):
    everything = graphs.everything()
    table = everything.one(TABLE, "lineage").outputs["arn"]
    data = [
        (statement["Action"], statement["Resource"])
        for statement in statements_of(everything, "lineage")
        if any(a.startswith(("dynamodb:", "s3:")) for a in statement["Action"])
    ]
    assert data == [(["dynamodb:PutItem"], [table])]


def variables_of(graph: Graph, name: str) -> dict[str, str]:
    found: dict[str, str] = graph.one(FUNCTION, name).inputs["environment"]["variables"]
    return found


@pytest.mark.parametrize(
    ("name", "handler"), [("lineage", handlers.LINEAGE), ("api", handlers.API)]
)
def test_the_handler_is_in_the_image_and_takes_an_event_and_its_context(name, handler, graphs):
    assert graphs.everything().one(FUNCTION, name).inputs["imageConfig"]["commands"] == [handler]
    module, _, function = handler.rpartition(".")
    handle = getattr(import_module(module), function)
    inspect.signature(handle).bind({}, None)


def test_lineage_is_told_what_its_handler_reads_and_nothing_else(graphs):
    graph = graphs.everything()
    told = variables_of(graph, "lineage")
    read = Environment.read(told)
    assert read.table == graph.one(TABLE, "lineage").inputs["name"]
    assert read.prefect_url.startswith("https://")
    assert read.auth_secret == told["PREFECT_AUTH_SECRET_ARN"]
    assert read.buckets == {graph.one("aws:s3/bucket:Bucket", "bronze").inputs["bucket"]}
    ours = {name for name in told if not name.startswith("HEADRACE_")}
    assert ours == {
        "LINEAGE_BUCKETS",
        "LINEAGE_TABLE",
        "PREFECT_API_URL",
        "PREFECT_AUTH_SECRET_ARN",
    }


def test_the_api_is_told_fields_of_the_runtime_alone_and_they_say_athena(graphs):
    graph = graphs.everything()
    fields = {
        name.removeprefix("HEADRACE_").lower(): value
        for name, value in variables_of(graph, "api").items()
    }
    settings = load_settings(**fields)
    workgroups = {w.inputs["name"] for w in graph.of("aws:athena/workgroup:Workgroup")}
    assert settings.api_workgroup in workgroups
    assert settings.api_cursor_secret_id
    assert ":secret:" in settings.api_cursor_secret_id
    streams = {stream.inputs["name"] for stream in graph.of("aws:kinesis/stream:Stream")}
    assert {settings.stream_name(feed) for feed in streamed_feeds()} == streams


@pytest.mark.parametrize("name", ["lineage", "api"])
def test_a_function_is_told_no_variable_that_lambda_keeps_for_itself(name, graphs):
    kept = {n for n in variables_of(graphs.everything(), name) if n.startswith(("AWS_", "LAMBDA_"))}
    assert kept == set()


def test_the_key_of_the_lineage_table_is_the_handlers(graphs):
    table = graphs.everything().one(TABLE, "lineage").inputs
    landed = parse_message(json.dumps(OBJECT_CREATED))
    assert isinstance(landed, Landed)
    item = build_item(landed, Row("batch"))
    assert {table["hashKey"], table["rangeKey"], table["ttl"]["attributeName"]} <= set(item)
    assert list(item[table["hashKey"]]) == ["S"]


@pytest.mark.parametrize(
    ("role", "service", "module", "is_local"),
    [
        ("api", "athena", stream.lake.athena, ()),
        # Made by infra on AWS, by the code for local use.
        ("lineage", "dynamodb", batch.aws.lineage_table, ("CreateTable",)),
    ],
)
def test_a_role_may_do_what_the_module_calls_and_no_more(role, service, module, is_local, graphs):
    called = re.findall(r"_client\.([a-z_]+)\(", Path(module.__file__).read_text())
    wanted = {"".join(word.capitalize() for word in name.split("_")) for name in called}
    allowed = {
        action.removeprefix(f"{service}:")
        for statement in statements_of(graphs.everything(), role)
        for action in statement["Action"]
        if action.startswith(f"{service}:")
    }
    assert allowed == wanted - set(is_local)


def test_the_api_asks_every_stream_for_its_tip_and_cannot_write_one(graphs):
    graph = graphs.everything()
    asked = {
        action: resource
        for statement in statements_of(graph, "api")
        for action in statement["Action"]
        for resource in [sorted(statement["Resource"])]
        if action.startswith("kinesis:")
    }
    streams = sorted(s.outputs["arn"] for s in graph.of("aws:kinesis/stream:Stream"))
    assert asked["kinesis:GetRecords"] == streams
    assert not any("Put" in action for action in asked)
