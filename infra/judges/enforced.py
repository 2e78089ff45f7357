"""The recorded roles at work: moto as an account that holds them, and that says no.

Buckets, streams, tables and roles of a graph are made in moto, which then checks every request
against the policies of the role that signed it, as IAM would: S3 to the object, other services to
the action (moto passes "*" as their resource, so theirs is widened to "*" here; that the ARNs are
right is judged by `iam`). Every request is noted, whichever client sent it, boto3 or not.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from unittest import mock

import boto3
from moto.core.authorization import enable_iam_authentication
from moto.iam.access_control import IAMRequestBase
from moto.server import ThreadedMotoServer

from synth import REGION, Graph

ROLE = "aws:iam/role:Role"
SERVICES = ("dynamodb", "glue", "iam", "kinesis", "s3", "secretsmanager", "sts")
ADMIN = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin"}


@dataclass(slots=True)
class Asked:
    """One request: who may have been refused. `resource`: an ARN for S3, "*" else."""

    action: str
    resource: str
    is_allowed: bool


@dataclass(slots=True)
class Account:
    """A running moto. `asked`: requests of the last `acting_as`."""

    endpoint: str
    graph: Graph
    asked: list[Asked] = field(default_factory=list)

    def client(self, service: str) -> Any:
        """A client of whoever the environment says."""
        session: Any = boto3.Session()  # the default one keeps the first caller's credentials
        return session.client(service, region_name=REGION, endpoint_url=self.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        """What sends every SDK here."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": REGION} | {
            f"AWS_ENDPOINT_URL_{service.upper()}": self.endpoint for service in SERVICES
        }

    @contextmanager
    def acting_as(self, role: str) -> Generator[None]:
        """Assume a role of the graph, by its logical name; permissions are enforced inside."""
        name = self.graph.one(ROLE, f"{role}-role").inputs["name"]
        with mock.patch.dict(os.environ, {**ADMIN, **self.environment}):
            found = self.client("sts").assume_role(
                RoleArn=f"arn:aws:iam::123456789012:role/{name}", RoleSessionName="judge"
            )["Credentials"]
        session = {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }
        self.asked.clear()
        with (
            mock.patch.dict(os.environ, {**session, **self.environment}),
            enable_iam_authentication(),
            self._noting(),
        ):
            yield

    @contextmanager
    def _noting(self) -> Generator[None]:
        check = IAMRequestBase.check_action_permitted

        def noted(request: Any, resource: str) -> None:
            for arn in _objects(request, resource):
                found = Asked(request._action, arn, is_allowed=False)  # noqa: SLF001 - moto's
                self.asked.append(found)
                check(request, arn)
                found.is_allowed = True

        with mock.patch.object(IAMRequestBase, "check_action_permitted", noted):
            yield

    @property
    def used(self) -> set[str]:
        """The actions that were asked for and allowed."""
        return {found.action for found in self.asked if found.is_allowed}

    @property
    def refused(self) -> set[str]:
        """What was asked for in vain: "s3:PutObject arn:..."."""
        return {f"{found.action} {found.resource}" for found in self.asked if not found.is_allowed}


@contextmanager
def account_of(graph: Graph) -> Generator[Account]:
    """An account with the graph's buckets, streams, claims table, Glue databases and roles."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        urllib.request.urlopen(
            urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
        ).close()
        account = Account(f"http://{host}:{port}", graph)
        with mock.patch.dict(os.environ, {**ADMIN, **account.environment}):
            _make_places(account)
            _make_roles(account)
        yield account
    finally:
        server.stop()


def _objects(request: Any, resource: str) -> list[str]:
    """What a request is about. Many deletions in one request (obstore deletes so): AWS asks for
    each of the objects, moto for the bucket.
    """
    if request._action != "s3:DeleteObject" or "/" in resource:  # noqa: SLF001 - moto's
        return [resource]
    body = request._body or b""  # noqa: SLF001 - moto's
    text = body.decode() if isinstance(body, bytes) else body
    return [f"{resource}/{unescape(key)}" for key in re.findall(r"<Key>(.*?)</Key>", text)]


def granted(graph: Graph, role: str) -> set[str]:
    """The actions that a role's inline policy allows."""
    return {
        action
        for statement in _statements(graph, role)
        if statement["Effect"] == "Allow"
        for action in _list(statement["Action"])
    }


def _make_places(account: Account) -> None:
    graph, s3 = account.graph, account.client("s3")
    for bucket in graph.of("aws:s3/bucket:Bucket"):
        place = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket=bucket.inputs["bucket"], CreateBucketConfiguration=place)
    for stream in graph.of("aws:kinesis/stream:Stream"):
        account.client("kinesis").create_stream(StreamName=stream.inputs["name"], ShardCount=1)
    for database in graph.of("aws:glue/catalogDatabase:CatalogDatabase"):
        account.client("glue").create_database(DatabaseInput={"Name": database.inputs["name"]})
    for table in graph.of("aws:dynamodb/table:Table"):
        _make_table(account, table.inputs)


def _make_table(account: Account, inputs: Mapping[str, Any]) -> None:
    keys = [("hashKey", "HASH"), ("rangeKey", "RANGE")]
    account.client("dynamodb").create_table(
        TableName=inputs["name"],
        KeySchema=[
            {"AttributeName": inputs[key], "KeyType": kind} for key, kind in keys if key in inputs
        ],
        AttributeDefinitions=[
            {"AttributeName": found["name"], "AttributeType": found["type"]}
            for found in inputs["attributes"]
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _make_roles(account: Account) -> None:
    iam = account.client("iam")
    for role in account.graph.of(ROLE):
        anyone = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
        iam.create_role(RoleName=role.inputs["name"], AssumeRolePolicyDocument=trust)
    for policy in account.graph.of("aws:iam/rolePolicy:RolePolicy"):
        document = json.loads(policy.inputs["policy"])
        for statement in document["Statement"]:
            _widen(statement)
        iam.put_role_policy(
            RoleName=policy.inputs["role"],
            PolicyName=policy.name,
            PolicyDocument=json.dumps(document),
        )


def _widen(statement: dict[str, Any]) -> None:
    """What moto cannot tell apart: resources of other services than S3, and conditions."""
    statement.pop("Condition", None)
    if not all(action.startswith("s3:") for action in _list(statement["Action"])):
        statement["Resource"] = "*"


def _statements(graph: Graph, role: str) -> Iterator[Mapping[str, Any]]:
    name = graph.one(ROLE, f"{role}-role").inputs["name"]
    for policy in graph.of("aws:iam/rolePolicy:RolePolicy"):
        if policy.inputs["role"] == name:
            yield from json.loads(policy.inputs["policy"])["Statement"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
