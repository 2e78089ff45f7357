"""The roles at work, in an account that enforces them: what the code calls, no more and no less."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping

import pytest
from botocore.exceptions import ClientError

from batch import actions
from batch.aws.claim_table import DynamoClaims
from judges.enforced import account_of, granted
from judges.plant import in_json, plant
from stream.clock import ManualClock
from stream.engine import Stop
from stream.errors import ConfigError, PipelineError
from stream.lake.connect import open_lake_store
from stream.lake.layout import BronzeKey
from stream.live import run_feed
from stream.producers.kinesis import open_sender
from stream.producers.pack import Pack
from stream.producers.simulate import Simulator
from stream.settings import load_settings

pytestmark = pytest.mark.slow  # a dataflow, a server and a role: 15 s

HOUR_NS = 3_600 * 10**9
MESSAGES = 500
PATIENCE_SECONDS = 60.0
QUICK = {"window_ms": 300, "grace_ms": 100, "epoch_seconds": 0.3, "poll_ms": 20, "lanes": 4}
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
TASK = "aws:ecs/taskDefinition:TaskDefinition"

BY_AWS = "S3 and Kinesis ask for it with the caller's rights when data is encrypted"
BY_FAULTS = "a large upload that fails is given up"
BY_AGE = "pyiceberg drops a metadata file ten commits after it was replaced"
UNSEEN: Mapping[str, Mapping[str, str]] = {
    "trades-0": {
        "kms:Decrypt": BY_AWS,
        "kms:GenerateDataKey": BY_AWS,
        "s3:AbortMultipartUpload": BY_FAULTS,
        "s3:DeleteObject": BY_AGE,
    },
    "producer-trades-coinbase": {"kms:Decrypt": BY_AWS, "kms:GenerateDataKey": BY_AWS},
}
"""Role -> what it may do and this test does not see it do, with the reason."""


@pytest.fixture(scope="module")
def account(graphs):
    with account_of(graphs.get("prod")) as running:
        yield running


@pytest.fixture
def settings_of(graphs, monkeypatch, tmp_path):
    """The runtime's settings, read from the variables that a task's container gets."""

    def read(task, **options):
        found = graphs.get("prod").one(TASK, task)
        (container, *_) = json.loads(found.inputs["containerDefinitions"])
        for variable in container["environment"]:
            monkeypatch.setenv(variable["name"], variable["value"])
        return load_settings(home=tmp_path, metrics_port=0, **{**QUICK, **options})

    return read


def publish(account, settings, feed, count):
    """Simulated messages to a feed's stream, as its producer sends them."""
    taken = Simulator(feed, seed=3, start_ns=time.time_ns() - 10**10).take(count)
    packs = [Pack(key, line, 1) for key, line in taken]

    async def send():
        name = settings.stream_name(feed)
        async with open_sender(name, region=settings.region, endpoint_url=account.endpoint) as to:
            await to.check()
            return await to.send(packs)

    with account.acting_as("producer-trades-coinbase"):
        assert set(asyncio.run(send())) == {None}


def stream(account, settings, feed="trades", messages=MESSAGES):
    """Run the dataflow of a feed in its task's role until it has committed so much."""
    stop, seen, errors = Stop(), [0], []

    def work():
        try:
            run_feed(settings, feed, stop=stop, on_commit=note)
        except Exception as error:  # noqa: BLE001 - raised by the caller's thread
            errors.append(error)

    def note(tally):
        seen[0] = tally.messages

    with account.acting_as(f"{feed}-0"):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while seen[0] < messages and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.request()
        thread.join(PATIENCE_SECONDS)
    if errors:
        raise errors[0]
    assert seen[0] >= messages


def test_a_producer_calls_exactly_what_it_may(account, settings_of, graphs):
    publish(account, settings_of("trades-0"), "trades", 3)
    unseen = granted(graphs.get("prod"), "producer-trades-coinbase") - account.used
    assert account.refused == set()
    assert unseen == set(UNSEEN["producer-trades-coinbase"])


def test_a_dataflow_calls_exactly_what_it_may(account, settings_of, graphs):
    settings = settings_of("trades-0")
    publish(account, settings, "trades", MESSAGES)
    stream(account, settings)
    assert account.refused == set()
    assert account.used <= granted(graphs.get("prod"), "trades-0")
    assert granted(graphs.get("prod"), "trades-0") - account.used == set(UNSEEN["trades-0"])


def test_maintenance_rewrites_and_deletes_in_silver_with_its_role_alone(account, settings_of):
    settings = settings_of("trades-0")
    publish(account, settings, "trades", MESSAGES)
    stream(account, settings)
    later = ManualClock(time.time_ns() + 100 * HOUR_NS)
    with account.acting_as("lightweight"):
        actions.compact(settings, apply=True, clock=later)
        actions.expire_snapshots(settings, keep_hours=0, keep_last=1, apply=True, clock=later)
        actions.remove_orphans(settings, apply=True, clock=later)
    assert account.refused == set()
    assert {"s3:DeleteObject", "glue:UpdateTable"} <= account.used
    deleted = [found.resource for found in account.asked if found.action == "s3:DeleteObject"]
    assert all("-silver-" in resource for resource in deleted), "nothing but Silver"


def test_a_backfill_claims_with_its_role_alone(account, settings_of):
    settings = settings_of("ingestion")
    with account.acting_as("ingestion"):
        claims = DynamoClaims(settings.claims_table, region=settings.region)
        assert claims.plan(["job/a", "job/b"]) == 2
        first, second = claims.claim("job/a", "me", 60), claims.claim("job/b", "me", 60)
        assert claims.renew(first)
        assert claims.complete(first, {"rows": 1})
        assert claims.fail(second, "planted")
        assert [row.key for row in claims.read("job/")] == ["job/a", "job/b"]
    assert account.refused == set()
    used = {action for action in account.used if action.startswith("dynamodb:")}
    allowed = {a for a in granted(account.graph, "ingestion") if a.startswith("dynamodb:")}
    # GetItem reads back what became of a write whose answer was lost.
    assert allowed - used == {"dynamodb:GetItem"}


def test_a_dataflow_writes_its_own_prefix_alone_and_deletes_no_message(account, settings_of):
    settings = settings_of("trades-0")
    own, other = f"{BronzeKey.prefix('trades')}x.parquet", f"{BronzeKey.prefix('news')}x.parquet"
    with account.acting_as("trades-0"):
        store = open_lake_store(settings)
        assert store.put_once(own, b"x")
        assert store.get(own) == b"x"
        with pytest.raises(ConfigError):
            store.put_once(other, b"x")
        with pytest.raises(ConfigError, match="Allow this role"):
            store.delete(own)
        bucket = settings.bronze_lake.removeprefix("s3://")
        with pytest.raises(ClientError, match="AccessDenied"):
            account.client("s3").delete_object(Bucket=bucket, Key=own)
        with pytest.raises(ClientError, match="AccessDenied"):
            account.client("s3").put_bucket_policy(Bucket=bucket, Policy="{}")
    assert {line.split()[0] for line in account.refused} == {
        "s3:DeleteObject",
        "s3:PutBucketPolicy",
        "s3:PutObject",
    }


def test_a_producer_can_read_nothing(account, settings_of):
    settings = settings_of("trades-0")
    with account.acting_as("producer-trades-coinbase"):
        with pytest.raises(ClientError, match="not authorized"):
            account.client("kinesis").list_shards(StreamName=settings.stream_name("trades"))
        with pytest.raises(ConfigError):
            open_lake_store(settings).get(f"{BronzeKey.prefix('trades')}x.parquet")
    assert account.used == set()


def change_actions(document, sid, change):
    (found,) = [statement for statement in document["Statement"] if statement["Sid"] == sid]
    change(found["Action"])


@pytest.mark.parametrize("action", ["kinesis:GetRecords", "glue:UpdateTable"])
def test_a_grant_that_is_missing_stops_the_dataflow(graphs, settings_of, action):
    def take(document):
        for statement in document["Statement"]:
            statement["Action"] = [a for a in statement["Action"] if a != action]

    def is_of_trades(policy):
        return policy.name == "trades-0-policy"

    poorer = plant(graphs.get("prod"), ROLE_POLICY, in_json("policy", take), is_of_trades)
    settings = settings_of("trades-0")
    with account_of(poorer) as account:
        publish(account, settings, "trades", 10)
        # moto answers in XML where AWS answers in JSON, so the code of the error is lost on us.
        with pytest.raises((PipelineError, ClientError), match=action.partition(":")[2]):
            stream(account, settings, messages=10)
        assert {line.split()[0] for line in account.refused} == {action}


def test_a_grant_that_nothing_uses_is_seen(account, settings_of, graphs):
    """The comparison of the tests above, with one action too many."""

    def add(document):
        change_actions(document, "WriteStream", lambda actions: actions.append("kinesis:PutRecord"))

    def is_of_the_producer(policy):
        return policy.name == "producer-trades-coinbase-policy"

    richer = plant(graphs.get("prod"), ROLE_POLICY, in_json("policy", add), is_of_the_producer)
    publish(account, settings_of("trades-0"), "trades", 3)
    unseen = granted(richer, "producer-trades-coinbase") - account.used
    assert unseen - set(UNSEEN["producer-trades-coinbase"]) == {"kinesis:PutRecord"}
