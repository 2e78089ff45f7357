"""Components that a stack may do without: off by default, and what they must be when on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import synth
from components.data_lake import DataLake
from components.functions import Site
from components.networking import Networking
from components.options.quicksight import TYPES, gold_columns
from components.security import Security
from context import Context, make_provider
from optional import declare_options
from settings import parse_settings, read_settings
from stream.errors import ConfigError
from stream.feeds import streamed_feeds
from stream.lake.layout import BRONZE
from synth import Graph

TAP = "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream"
SOURCE = "aws:quicksight/dataSource:DataSource"
SET = "aws:quicksight/dataSet:DataSet"
WAREHOUSE = "aws:redshiftserverless/workgroup:Workgroup"
NAMESPACE = "aws:redshiftserverless/namespace:Namespace"
CDN = "aws:cloudfront/distribution:Distribution"
BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"

KINDS: Mapping[str, str] = {
    "firehose": TAP,
    "quicksight": SET,
    "redshift": WAREHOUSE,
    "cloudfront": CDN,
}
DIGEST = "sha256:" + "0" * 64


def failed(checks: Mapping[str, bool]) -> list[str]:
    return [what for what, is_so in checks.items() if not is_so]


def tap_faults(graph: Graph) -> list[str]:
    faults = []
    streams = {s.name: s.outputs["arn"] for s in graph.of("aws:kinesis/stream:Stream")}
    for tap in graph.of(TAP):
        feed = tap.name.removeprefix("tap-")
        target = tap.inputs["extendedS3Configuration"]
        prefixes = (target["prefix"], target["errorOutputPrefix"])
        faults += failed(
            {
                f"{feed}: its own stream": tap.inputs["kinesisSourceConfiguration"][
                    "kinesisStreamArn"
                ]
                == streams[feed],
                f"{feed}: not in Bronze": "bronze" not in target["bucketArn"]
                and not any(prefix.startswith(BRONZE) for prefix in prefixes),
                f"{feed}: a folder of its own": all(p.startswith(f"tap/{feed}") for p in prefixes),
                f"{feed}: failures elsewhere": not prefixes[1].startswith(f"tap/{feed}/"),
                f"{feed}: our key": "key/" in target.get("kmsKeyArn", ""),
                f"{feed}: buffered": target["bufferingSize"] >= 64,
                f"{feed}: says why it fails": target["cloudwatchLoggingOptions"]["enabled"],
            }
        )
    return faults


def sight_faults(graph: Graph) -> list[str]:
    source, data = graph.one(SOURCE, "gold").inputs, graph.one(SET, "daily-bars").inputs
    table = data["physicalTableMaps"][0]["relationalTable"]
    owners = {p["principal"] for p in (*source["permissions"], *data["permissions"])}
    return failed(
        {
            "asks in a capped workgroup": source["parameters"]["athena"]["workGroup"]
            in {w.inputs["name"] for w in graph.of("aws:athena/workgroup:Workgroup")},
            "TLS": source["sslProperties"] == {"disableSsl": False},
            "one owner": len(owners) == 1 and all(":user/" in owner for owner in owners),
            "the published Gold": table["schema"] == "gold",
            "the model's columns": [(c["name"], c["type"]) for c in table["inputColumns"]]
            == gold_columns(),
        }
    )


def warehouse_faults(graph: Graph) -> list[str]:
    group, name = graph.one(WAREHOUSE, "warehouse").inputs, graph.one(NAMESPACE, "warehouse")
    limits = graph.of("aws:redshiftserverless/usageLimit:UsageLimit")
    door = graph.one("aws:ec2/securityGroup:SecurityGroup", "warehouse").inputs["ingress"][0]
    vpc = graph.of("aws:ec2/vpc:Vpc")[0].inputs["cidrBlock"]
    return failed(
        {
            "private": group["publiclyAccessible"] is False and group["enhancedVpcRouting"],
            "three zones": len(group["subnetIds"]) >= 3,
            "TLS": {"parameterKey": "require_ssl", "parameterValue": "true"}
            in group.get("configParameters", []),
            "from the VPC alone": door["cidrBlocks"] == [vpc],
            "capped": any(limit.inputs["breachAction"] == "deactivate" for limit in limits),
            "our key": "key/" in name.inputs.get("kmsKeyId", ""),
            "no password here": name.inputs.get("manageAdminPassword") is True
            and "adminUserPassword" not in name.inputs,
            "logged": len(name.inputs.get("logExports", [])) == 3,
        }
    )


def cdn_faults(graph: Graph) -> list[str]:
    cdn = graph.one(CDN, "exports")
    behaviour, certificate = cdn.inputs["defaultCacheBehavior"], cdn.inputs["viewerCertificate"]
    bucket = graph.one("aws:s3/bucket:Bucket", "exports")
    policy = json.loads(graph.one(BUCKET_POLICY, "exports").inputs["policy"])["Statement"]
    allowed = [s for s in policy if s["Effect"] == "Allow"]
    blocks = graph.one("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "exports").inputs
    sources = graph.of("aws:cloudwatch/logDeliverySource:LogDeliverySource")
    return failed(
        {
            "TLS 1.2": certificate.get("minimumProtocolVersion") == "TLSv1.2_2021"
            and behaviour["viewerProtocolPolicy"] == "https-only",
            "signed addresses": bool(behaviour.get("trustedKeyGroups")),
            "reads only": set(behaviour["allowedMethods"]) == {"GET", "HEAD"},
            "origin access control": bool(cdn.inputs["origins"][0].get("originAccessControlId")),
            "its own bucket": cdn.inputs["origins"][0]["domainName"]
            == bucket.outputs["bucketRegionalDomainName"],
            "this distribution alone reads": [s["Condition"] for s in allowed]
            == [{"StringEquals": {"aws:SourceArn": cdn.outputs["arn"]}}],
            "nothing public": all(v is True for k, v in blocks.items() if k != "bucket"),
            "logged": [s.inputs["resourceArn"] for s in sources] == [cdn.outputs["arn"]]
            and all(s.inputs["region"] == "us-east-1" for s in sources),
        }
    )


Judge = Callable[[Graph], list[str]]
JUDGES: Mapping[str, Judge] = {
    "firehose": tap_faults,
    "quicksight": sight_faults,
    "redshift": warehouse_faults,
    "cloudfront": cdn_faults,
}


def test_no_stack_has_any_of_them(graph):
    assert [kind for kind in KINDS.values() if graph.of(kind)] == []


def declare_them() -> None:
    """The program as far as options need it: a synthesis of all of it costs three times as much."""
    settings = read_settings()
    context = Context(settings, make_provider(settings))
    security = Security(context)
    lake, site = DataLake(context, security), Site(Networking(context), security, "image")
    streams = {feed: f"arn:aws:kinesis:eu-west-1:1:stream/{feed}" for feed in settings.feeds}
    declare_options(context, site, lake, streams, "https://prefect.example.com/api")


@pytest.mark.parametrize("option", sorted(KINDS))
def test_one_flag_brings_one_component_alone(option, graphs):
    config = copy.deepcopy(synth.read_stack("prod"))
    wanted = {key: value for key, value in graphs.every_option.items() if value is not True}
    config["headrace:settings"]["options"] = {**wanted, option: True}
    graph = synth.synthesise("prod", declare_them, config=config)
    assert [name for name, kind in KINDS.items() if graph.of(kind)] == [option]
    assert {part.name for part in graph.resources if not part.is_custom} == {
        "data-lake",
        "networking",
        "security",
        option,
    }


@pytest.mark.parametrize("option", sorted(KINDS))
def test_all_together_are_what_each_is_alone(option, graphs):
    assert JUDGES[option](graphs.everything()) == []


def test_every_stream_has_its_tap(graphs):
    taps = {tap.name for tap in graphs.everything().of(TAP)}
    assert taps == {f"tap-{feed}" for feed in streamed_feeds()}


def _tap(**changes: Any) -> Callable[[Graph], dict[str, Any]]:
    def change(graph: Graph) -> dict[str, Any]:
        found = graph.one(TAP, "tap-news").inputs["extendedS3Configuration"]
        return {"extendedS3Configuration": {**found, **changes}}

    return change


def _cdn(part: str, **changes: Any) -> Callable[[Graph], dict[str, Any]]:
    return lambda graph: {part: {**graph.one(CDN, "exports").inputs[part], **changes}}


def _just(**inputs: Any) -> Callable[[Graph], dict[str, Any]]:
    return lambda _graph: inputs


ANYBODY = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Condition": {}}]})


@pytest.mark.parametrize(
    ("option", "type_", "name", "change"),
    [
        ("firehose", TAP, "tap-news", _tap(bucketArn="arn:aws:s3:::headrace-prod-bronze-1")),
        ("firehose", TAP, "tap-news", _tap(prefix=f"{BRONZE}source=news/")),
        ("firehose", TAP, "tap-news", _tap(errorOutputPrefix="tap/news/failed/")),
        ("firehose", TAP, "tap-news", _tap(kmsKeyArn="")),
        ("firehose", TAP, "tap-news", _tap(bufferingSize=1)),
        (
            "firehose",
            TAP,
            "tap-news",
            _just(kinesisSourceConfiguration={"kinesisStreamArn": "another"}),
        ),
        ("quicksight", SOURCE, "gold", _just(sslProperties={"disableSsl": True})),
        ("quicksight", SOURCE, "gold", _just(parameters={"athena": {"workGroup": "primary"}})),
        ("quicksight", SET, "daily-bars", _just(permissions=[{"principal": "*"}])),
        ("redshift", WAREHOUSE, "warehouse", _just(publiclyAccessible=True)),
        ("redshift", WAREHOUSE, "warehouse", _just(subnetIds=["subnet-1", "subnet-2"])),
        ("redshift", WAREHOUSE, "warehouse", _just(configParameters=[])),
        ("redshift", NAMESPACE, "warehouse", _just(kmsKeyId="")),
        ("redshift", NAMESPACE, "warehouse", _just(adminUserPassword="hunter2")),
        (
            "redshift",
            "aws:redshiftserverless/usageLimit:UsageLimit",
            "daily",
            _just(breachAction="log"),
        ),
        (
            "redshift",
            "aws:ec2/securityGroup:SecurityGroup",
            "warehouse",
            _just(ingress=[{"cidrBlocks": ["0.0.0.0/0"]}]),
        ),
        ("cloudfront", CDN, "exports", _cdn("viewerCertificate", minimumProtocolVersion="TLSv1")),
        ("cloudfront", CDN, "exports", _cdn("defaultCacheBehavior", trustedKeyGroups=[])),
        (
            "cloudfront",
            CDN,
            "exports",
            _cdn("defaultCacheBehavior", viewerProtocolPolicy="allow-all"),
        ),
        ("cloudfront", CDN, "exports", _cdn("defaultCacheBehavior", allowedMethods=["PUT"])),
        ("cloudfront", CDN, "exports", _just(origins=[{"domainName": "x"}])),
        ("cloudfront", BUCKET_POLICY, "exports", _just(policy=ANYBODY)),
        (
            "cloudfront",
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            "exports",
            _just(blockPublicAcls=False),
        ),
        (
            "cloudfront",
            "aws:cloudwatch/logDeliverySource:LogDeliverySource",
            "exports",
            _just(region="eu-west-1"),
        ),
    ],
)
def test_a_planted_fault_is_found(option, type_, name, change, graphs):
    everything = graphs.everything()
    planted = graphs.broken(everything, type_, name, **change(everything))
    assert JUDGES[option](planted)


def test_types_of_gold_have_one_in_quicksight():
    columns = dict(gold_columns())
    assert columns["event_day"] == "DATETIME"
    assert columns["close"] == "DECIMAL"
    assert columns["trades"] == "INTEGER"
    assert set(columns.values()) <= set(TYPES.values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quicksight": True}, "set quicksight_user_arn"),
        ({"cloudfront": True}, "set cloudfront_domain, cloudfront_certificate_arn"),
        (
            {"cloudfront_certificate_arn": "arn:aws:acm:eu-west-1:1:certificate/x"},
            "us-east-1",
        ),
        ({"redshift": True}, "needs subnets in 3 zones"),
        ({"redshfit": True}, "options.redshfit: no such setting, did you mean 'redshift'"),
        ({"api_requests_per_second": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_refuse_an_option_that_could_not_work(options, says, settings_of):
    settings = {**settings_of("staging"), "options": options}
    with pytest.raises(ConfigError, match=says):
        parse_settings("staging", settings, DIGEST)
