"""Streams, dataflows and producers, against the runtime that they start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import settings as stack_settings
import synth
from components.environment import HOME
from components.streaming import cluster_environment
from stream.cli.produce import choose_source, produce
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.heartbeat import pulse_path
from stream.settings import load_settings

SERVICE = "aws:ecs/service:Service"
DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
STREAM = "aws:kinesis/stream:Stream"
POLICY = "aws:iam/rolePolicy:RolePolicy"
STREAMED = sorted(name for name, contract in load_feeds().items() if contract.has_stream)


def container(graph: synth.Graph, name: str) -> dict[str, Any]:
    """The one container of a definition."""
    (found,) = json.loads(graph.one(DEFINITION, name).inputs["containerDefinitions"])
    return found


def variables(graph: synth.Graph, name: str) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in container(graph, name)["environment"]}


def actions(graph: synth.Graph, name: str) -> dict[str, list[str]]:
    """What a role may do: action -> resources."""
    document = json.loads(graph.one(POLICY, f"{name}-policy").inputs["policy"])
    found: dict[str, list[str]] = {}
    for statement in document["Statement"]:
        for action in statement["Action"]:
            found.setdefault(action, []).extend(statement["Resource"])
    return found


def check_streams(graph: synth.Graph) -> list[str]:
    """Encrypted with our key, kept when the stack goes, no metrics per shard that nobody reads."""
    return [
        stream.name
        for stream in graph.of(STREAM)
        if stream.inputs.get("encryptionType") != "KMS"
        or ":key/" not in str(stream.inputs.get("kmsKeyId"))
        or not (stream.is_protected and stream.is_retained)
        or stream.inputs.get("shardLevelMetrics")
    ]


def test_every_feed_with_a_stream_has_one_and_a_dataflow(graph):
    assert sorted(stream.name for stream in graph.of(STREAM)) == STREAMED
    names = {service.name for service in graph.of(SERVICE)}
    assert {f"{feed}-0" for feed in STREAMED} <= names
    assert check_streams(graph) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"encryptionType": "NONE"},
        {"kmsKeyId": None},
        {"shardLevelMetrics": ["IteratorAgeMilliseconds"]},
    ],
)
def test_a_stream_in_clear_or_with_metrics_that_cost_is_caught(fault, graphs):
    graph = graphs.get("prod")
    stream = graph.of(STREAM)[0]
    bad = synth.Graph("prod", [replace(stream, inputs={**stream.inputs, **fault})])
    assert check_streams(bad) == [stream.name]


def test_capacity_is_what_the_settings_say(graph, settings_of):
    for feed, wanted in settings_of(graph.stack)["feeds"].items():
        stream = graph.one(STREAM, feed).inputs
        shards = wanted.get("shards")
        assert stream.get("shardCount") == shards
        mode = "PROVISIONED" if shards else "ON_DEMAND"
        assert stream["streamModeDetails"] == {"streamMode": mode}
        assert stream["retentionPeriod"] == wanted.get("retention_hours", 48)


@pytest.mark.parametrize("feed", STREAMED)
def test_the_runtime_accepts_the_environment_and_names_the_same_stream(feed, graph, monkeypatch):
    told = variables(graph, f"{feed}-0")
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.stream_name(feed) == graph.one(STREAM, feed).inputs["name"]
    assert (settings.aws, settings.catalog) == ("account", "glue")
    assert settings.metrics_host == "127.0.0.1", "nobody outside of the task asks"
    assert bool(settings.pii_secret_id) is bool(load_feeds()[feed].pii_columns)


@pytest.mark.parametrize("feed", STREAMED)
def test_a_dataflow_reads_its_own_stream_and_publishes_nothing(feed, graph):
    granted = actions(graph, f"{feed}-0")
    assert granted["kinesis:GetRecords"] == [graph.one(STREAM, feed).outputs["arn"]]
    assert "kinesis:PutRecords" not in granted
    assert container(graph, f"{feed}-0")["command"] == ["run", feed]


def test_producers_publish_what_the_real_command_accepts(graph, settings_of):
    wanted = settings_of(graph.stack)["producers"]
    assert wanted
    for name, producer in wanted.items():
        command = container(graph, f"producer-{name}")["command"]
        assert command[0] == "produce"
        parsed = produce.make_context("produce", command[1:], resilient_parsing=False).params
        assert parsed["feed"] == producer["feed"]
        assert choose_source(parsed) == "live", "a simulated market is no service"
        granted = actions(graph, f"producer-{name}")
        assert granted["kinesis:PutRecords"] == [graph.one(STREAM, parsed["feed"]).outputs["arn"]]
        assert not [action for action in granted if action.startswith(("s3:", "glue:"))]


def test_a_producer_that_the_command_refuses_is_noticed(graphs):
    def misspell(settings: dict[str, Any]) -> None:
        settings["producers"]["trades-coinbase"]["arguments"] = ["--venues", "coinbase"]

    command = container(graphs.mutated("dev", misspell), "producer-trades-coinbase")["command"]
    with pytest.raises(Exception, match="No such option"):
        produce.make_context("produce", command[1:])


def test_the_fmp_key_reaches_its_producer_as_a_secret_alone(graph):
    secrets = {s["name"]: s["valueFrom"] for s in container(graph, "producer-news-fmp")["secrets"]}
    assert list(secrets) == ["HEADRACE_FMP_API_KEY"]
    assert ":secret:/headrace/" in secrets["HEADRACE_FMP_API_KEY"]
    assert container(graph, "producer-trades-coinbase")["secrets"] == []


def test_more_processes_than_the_runtime_can_form_are_refused(settings_of):
    lanes = load_settings().lanes
    given = settings_of("staging")
    given["feeds"]["trades"] |= {"processes": lanes + 1, "shards": 100}
    with pytest.raises(ConfigError, match=rf"trades\.processes: .* equal to {lanes} "):
        stack_settings.parse_settings("staging", given, "sha256:" + "0" * 64)


def test_a_cluster_is_a_service_per_process_with_names_that_last(graphs):
    def grow(settings: dict[str, Any]) -> None:
        settings["feeds"]["trades"]["processes"] = 3

    graph = graphs.mutated("staging", grow)
    names = [f"trades-{index}" for index in range(3)]
    registered = graph.of("aws:servicediscovery/service:Service")
    assert [service.name for service in registered] == names
    for index, name in enumerate(names):
        assert graph.one(SERVICE, name).inputs["serviceRegistries"]["registryArn"]
        told = variables(graph, name)
        addresses = told["HEADRACE_ADDRESSES"].split(",")
        assert told["HEADRACE_PROCESS_INDEX"] == str(index)
        pulse = pulse_path(Path(HOME), "trades", index)
        assert str(pulse) in container(graph, name)["healthCheck"]["command"][1]
        assert addresses[index].startswith("0.0.0.0:")
        others = [a for i, a in enumerate(addresses) if i != index]
        domain = "headrace-staging.internal"
        assert others == [f"{n}.{domain}:2101" for n in names if n != name]


def test_addresses_of_a_cluster_are_those_that_the_dataflow_reads():
    told = cluster_environment(["trades-0", "trades-1"], 1, "x.internal")
    settings = load_settings(
        process_index=int(told["HEADRACE_PROCESS_INDEX"]), addresses=told["HEADRACE_ADDRESSES"]
    )
    assert settings.process_addresses == ("trades-0.x.internal:2101", "0.0.0.0:2101")
    known = {f"HEADRACE_{name.upper()}" for name in type(settings).model_fields}
    assert told.keys() <= known


def test_spot_outside_dev_is_refused(settings_of):
    given = {**settings_of("prod"), "spot": True}
    with pytest.raises(ConfigError, match="only in dev"):
        stack_settings.parse_settings("prod", given, "sha256:" + "0" * 64)
