"""Grants over the lake against what the runtime does: keys that it builds, calls that it makes."""

from __future__ import annotations

import json
from datetime import date

import boto3
import botocore.client
import moto
import pyarrow as pa
import pytest

from judges.documents import as_list, covers, statements_of
from judges.plant import add_statement, plant
from stream.bars import TABLE as BARS
from stream.feeds import load_feed, load_feeds, streamed_feeds
from stream.lake.connect import connect_lake
from stream.lake.layout import BronzeKey, ClosedShardKey, LedgerKey, QuarantineKey, SilverKey
from stream.lake.pii_key import PiiKey, check_key
from stream.settings import Settings
from stream.slices import ShardRef

BUCKET = "aws:s3/bucket:Bucket"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"


def role_statements(graph, name):
    """What a role may do: that of the first process of a feed is "<feed>-0"."""
    role = graph.one(ROLE, f"{name}-role")
    policies = [p for p in graph.of(ROLE_POLICY) if p.inputs["role"] == role.outputs["id"]]
    return [s for policy in policies for s in statements_of(policy) if s["Effect"] == "Allow"]


def may(graph, role, action, arn):
    return any(covers(s, action, arn) for s in role_statements(graph, role))


def keys_of(feed):
    """(bucket, key) of everything that a dataflow writes."""
    shard = ShardRef(feed, "headrace-x.0a1b2c3d", "shardId-000000000000")
    silver = [SilverKey(feed, date(2026, 11, 29), "s-1", "0" * 16).path]
    if load_feed(feed).has_bars:
        silver.append(SilverKey(BARS, date(2026, 11, 29), "s-1", "0" * 16).path)
    metadata = [f"{path.partition('year=')[0]}metadata/00001-x.metadata.json" for path in silver]
    yield "bronze", BronzeKey.of(shard, "1", 0).path
    for path in (
        *silver,
        *metadata,
        QuarantineKey.of(shard, "1", 0, "0" * 16).path,
        LedgerKey(feed, 1, "0" * 16).path,
        ClosedShardKey(feed, shard.stream, shard.shard).path,
    ):
        yield "silver", path


@pytest.mark.parametrize("feed", streamed_feeds())
def test_a_dataflow_may_write_its_own_keys_and_no_other_feeds(graph, feed):
    role = f"{feed}-0"
    for other in streamed_feeds():
        for zone, key in keys_of(other):
            arn = f"{graph.one(BUCKET, zone).outputs['arn']}/{key}"
            assert may(graph, role, "s3:PutObject", arn) == (feed == other), key
            assert may(graph, role, "s3:GetObject", arn) == (feed == other), key
            drops = feed == other and "/metadata/" in key
            assert may(graph, role, "s3:DeleteObject", arn) == drops, key


@pytest.mark.parametrize("feed", streamed_feeds())
def test_a_dataflow_may_list_the_whole_of_its_buckets(graph, feed):
    """S3 answers 403 for a missing object to who may list only below a prefix."""
    for zone in ("bronze", "silver"):
        arn = graph.one(BUCKET, zone).outputs["arn"]
        lists = [s for s in role_statements(graph, f"{feed}-0") if covers(s, "s3:ListBucket", arn)]
        assert any("Condition" not in statement for statement in lists)


def check_bronze_stays(graph):
    """No role of any service may delete in Bronze, or write over what another wrote."""
    bronze = graph.one(BUCKET, "bronze").outputs["arn"]
    verbs = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutLifecycleConfiguration")
    return [
        f"{policy.name}/{statement['Sid']}: {verb}"
        for policy in graph.of(ROLE_POLICY)
        for statement in statements_of(policy)
        for verb in verbs
        if statement["Effect"] == "Allow"
        and (covers(statement, verb, f"{bronze}/bronze/x") or covers(statement, verb, bronze))
    ]


def test_nobody_deletes_in_bronze(graph):
    assert check_bronze_stays(graph) == []


@pytest.mark.parametrize("resource", ["*", "arn:aws:s3:::headrace-prod-bronze-123456789012/*"])
def test_who_deletes_in_bronze_is_found(graphs, resource):
    wrong = {"Sid": "X", "Effect": "Allow", "Action": "s3:Delete*", "Resource": resource}
    broken = plant(graphs.get("prod"), ROLE_POLICY, add_statement("policy", wrong))
    assert check_bronze_stays(broken) != []


@pytest.fixture
def glue_calls(monkeypatch):
    """Every call to Glue of the block, as IAM names it, against moto."""
    calls = []
    real = botocore.client.BaseClient._make_api_call

    def record(client, operation, arguments):
        if client.meta.service_model.service_name == "glue":
            calls.append(f"glue:{operation}")
        return real(client, operation, arguments)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with moto.mock_aws():
        # After moto's own patch, so that we see what it answers.
        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
        yield calls


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_dataflow_may_make_every_call_to_glue_that_it_makes(
    graph, glue_calls, tmp_path, is_declared
):
    if is_declared:  # as here, by Pulumi
        boto3.client("glue", region_name="eu-west-1").create_database(
            DatabaseInput={"Name": "silver"}
        )
        glue_calls.clear()
    contract = load_feed("news")
    lake = connect_lake(Settings(lake=f"file://{tmp_path}", catalog="glue", region="eu-west-1"))
    table = lake.table(contract)
    table.append([], {"headrace.x": "1"}, {})
    table.refresh()
    check_key(lake, PiiKey.of("x" * 32, None))
    wider = pa.schema([*contract.silver_schema, pa.field("more", pa.string())])
    lake.catalog.open_or_create("news", wider, contract.order, {})

    granted = {
        action
        for statement in role_statements(graph, "news-0")
        for action in as_list(statement["Action"])
        if action.startswith("glue:")
    }
    assert granted == set(glue_calls), "all of them, and no other"
    for action in set(glue_calls):
        tables = "*" if action == "glue:GetTables" else "news"
        arns = ("catalog", "database/silver", f"table/silver/{tables}")
        assert all(
            may(graph, "news-0", action, f"arn:aws:glue:eu-west-1:123456789012:{arn}")
            for arn in arns
        ), json.dumps([action, arns])


def test_who_masks_may_ask_every_masked_table_for_its_key(graph):
    silver = graph.one(BUCKET, "silver").outputs["arn"]
    for feed, contract in load_feeds().items():
        metadata = f"{silver}/silver/entity={feed}/metadata/00001-x.metadata.json"
        table = f"arn:aws:glue:eu-west-1:123456789012:table/silver/{feed}"
        is_masked = bool(contract.pii_columns)
        assert may(graph, "news-0", "s3:GetObject", metadata) == is_masked, feed
        assert may(graph, "news-0", "glue:GetTable", table) == is_masked, feed
        assert may(graph, "quotes-0", "glue:GetTable", table) == (feed == "quotes"), feed


def test_a_dataflow_may_not_touch_another_feeds_table(graph):
    table = "arn:aws:glue:eu-west-1:123456789012:table/silver/trades"
    assert not may(graph, "news-0", "glue:UpdateTable", table)
    assert may(graph, "trades-0", "glue:UpdateTable", table)
