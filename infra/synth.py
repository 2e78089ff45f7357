"""Run the real program of a stack without AWS, and record the graph of what it would make.

The program registers its resources with a monitor of ours instead of Pulumi's engine. The graph
holds each resource's type, name, inputs, parent, dependencies, protection and provider. Twice: in
normal mode outputs have values that look real (ARNs, ids); in preview mode every computed output is
unknown, as in `pulumi preview` of a new stack. Both must make the same resources.

What that proves: the program runs and says what it says. What it does not: that a provider or AWS
accepts it (see README.md).
"""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_root_resource, set_root_resource
from pulumi.runtime.stack import Stack
from pulumi.runtime.sync_await import _ensure_event_loop, _sync_await

HERE = Path(__file__).parent
STACKS = ("dev", "staging", "prod")


@dataclass(frozen=True, slots=True)
class Resource:
    """One registered resource. `depends_on`: URNs; `by_property`: input -> URNs it reads."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    parent: str
    provider: str
    is_custom: bool
    is_protected: bool
    is_retained: bool
    depends_on: tuple[str, ...]
    by_property: Mapping[str, tuple[str, ...]]
    secret_outputs: tuple[str, ...] = ()


@dataclass(slots=True)
class Graph:
    """All resources of one stack, sorted by URN (they register in no fixed order), its outputs."""

    stack: str
    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of(self, type_: str) -> list[Resource]:
        """All of one type: "aws:s3/bucket:Bucket"."""
        return [resource for resource in self.resources if resource.type == type_]

    def one(self, type_: str, name: str) -> Resource:
        """The only one of that type and name; KeyError says what there is."""
        found = [resource for resource in self.of(type_) if resource.name == name]
        if len(found) != 1:
            names = sorted(resource.name for resource in self.of(type_))
            raise KeyError(f"{type_} {name!r}: {len(found)} found; there are {names}")
        return found[0]

    @property
    def settings(self) -> dict[str, Any]:
        """The committed settings of its stack, unparsed."""
        found: dict[str, Any] = read_stack(self.stack)["headrace:settings"]
        return found

    @property
    def custom(self) -> list[Resource]:
        """What a provider would make: no components."""
        return [resource for resource in self.resources if resource.is_custom]


def read_stack(stack: str) -> dict[str, Any]:
    """The configuration of `Pulumi.<stack>.yaml`."""
    found: dict[str, Any] = yaml.safe_load((HERE / f"Pulumi.{stack}.yaml").read_text())["config"]
    return found


def synthesise(
    stack: str,
    program: Callable[[], None],
    *,
    is_preview: bool = False,
    config: Mapping[str, Any] | None = None,
) -> Graph:
    """Run `program` for a stack. `config`: instead of the committed one.

    Raises: whatever the program raises.
    """
    graph = Graph(stack)
    monitor = _Recorder(graph, is_preview=is_preview)
    given = config if config is not None else read_stack(stack)
    asyncio.set_event_loop(_event_loop())
    with _no_collection():
        set_root_resource(None)  # pyright: ignore[reportArgumentType]  # or the last stack's stays
        mocks.set_mocks(_NoLookups(), "headrace", stack, is_preview, monitor=monitor)
        set_all_config({key: _text(value) for key, value in given.items()})
        mocks.test(lambda: _run(program, graph))()
    graph.resources.sort(key=lambda resource: resource.urn)
    return graph


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One loop for all runs: whoever called `asyncio.run` before has left the thread without one,
    and the threads of Pulumi's calls, each with a loop of its own, live as long as this one.
    """
    return asyncio.new_event_loop()


@contextmanager
def _no_collection() -> Generator[None]:
    """A run makes 60,000 tasks while all of pulumi_aws is alive: the garbage collector walked that
    again and again, and took 1.4 of 2.2 seconds.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _run(program: Callable[[], None], graph: Graph) -> pulumi.Output[None]:
    program()
    outputs = pulumi.Output.all(**cast("Stack", get_root_resource()).outputs)
    return outputs.apply(graph.outputs.update)


class _NoLookups(mocks.Mocks):
    """The program may not ask AWS anything: what it makes depends on its settings alone."""

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"{args.token}: the program looks something up; make it a setting")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"{args.name}: recorded by the monitor, not here")


class _Recorder(mocks.MockMonitor):
    """Pulumi's resource monitor, as the SDK speaks to it."""

    def __init__(self, graph: Graph, *, is_preview: bool) -> None:
        super().__init__(_NoLookups())
        self._graph, self._is_preview = graph, is_preview

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        _ensure_event_loop()
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        inputs = rpc.deserialize_properties(request.object, keep_unknowns=True)
        made = _outputs(request.type, request.name, inputs) if request.custom else {}
        identifier = made.pop("id", "")
        self._graph.resources.append(
            Resource(
                urn=urn,
                type=request.type,
                name=request.name,
                inputs=inputs,
                outputs={**made, "id": identifier} if request.custom else {},
                parent=request.parent,
                provider=request.provider or ",".join(request.providers.values()),
                is_custom=request.custom,
                is_protected=request.protect,
                is_retained=request.retainOnDelete,
                depends_on=tuple(sorted(request.dependencies)),
                by_property={
                    name: tuple(sorted(found.urns))
                    for name, found in request.propertyDependencies.items()
                },
                secret_outputs=tuple(request.additionalSecretOutputs),
            )
        )
        if self._is_preview and request.custom:
            computed = {name: rpc.UNKNOWN for name in made if name not in inputs}
            answer = _sync_await(rpc.serialize_properties(inputs, {}))
            for name in computed:
                answer[name] = rpc.UNKNOWN
            return resource_pb2.RegisterResourceResponse(urn=urn, id="", object=answer)
        answer = _sync_await(rpc.serialize_properties({**inputs, **made}, {}))
        self.resources[urn] = self.ResourceRegistration(urn, identifier, {**inputs, **made})
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identifier, object=answer)


NAME_OF_ID = ("bucket", "name", "functionName", "family", "registryName")
ARNS: Mapping[str, str] = {
    "aws:s3/bucket:Bucket": "arn:aws:s3:::{name}",
    "aws:kinesis/stream:Stream": "arn:aws:kinesis:{place}:stream/{name}",
    "aws:iam/role:Role": "arn:aws:iam::{account}:role/{name}",
    "aws:iam/policy:Policy": "arn:aws:iam::{account}:policy/{name}",
    "aws:kms/key:Key": "arn:aws:kms:{place}:key/{uuid}",
    "aws:secretsmanager/secret:Secret": "arn:aws:secretsmanager:{place}:secret:{name}-AbCdEf",
    "aws:sqs/queue:Queue": "arn:aws:sqs:{place}:{name}",
    "aws:sns/topic:Topic": "arn:aws:sns:{place}:{name}",
    "aws:dynamodb/table:Table": "arn:aws:dynamodb:{place}:table/{name}",
    "aws:ecs/cluster:Cluster": "arn:aws:ecs:{place}:cluster/{name}",
    "aws:ecs/taskDefinition:TaskDefinition": "arn:aws:ecs:{place}:task-definition/{name}:1",
    "aws:lambda/function:Function": "arn:aws:lambda:{place}:function:{name}",
    "aws:ecr/repository:Repository": "arn:aws:ecr:{place}:repository/{name}",
    "aws:cloudwatch/eventRule:EventRule": "arn:aws:events:{place}:rule/{name}",
    "aws:cloudwatch/logGroup:LogGroup": "arn:aws:logs:{place}:log-group:{name}",
    "aws:glue/registry:Registry": "arn:aws:glue:{place}:registry/{name}",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "arn:aws:cloudwatch:{place}:alarm:{name}",
    "aws:cloudfront/distribution:Distribution": "arn:aws:cloudfront::{account}:distribution/{name}",
    "aws:glue/catalogDatabase:CatalogDatabase": "arn:aws:glue:{place}:database/{name}",
    "aws:athena/workgroup:Workgroup": "arn:aws:athena:{place}:workgroup/{name}",
}
ACCOUNT, REGION = "123456789012", "eu-west-1"


def _outputs(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What AWS would add: an id, an ARN, and the few computed values that the program reads."""
    physical = next((inputs[key] for key in NAME_OF_ID if isinstance(inputs.get(key), str)), name)
    unique = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{type_}/{name}"))
    place = f"{REGION}:{ACCOUNT}"
    service = type_.split(":")[1].split("/", maxsplit=1)[0]
    short = type_.rsplit(":", 1)[-1].lower()
    # With the kind: a balancer and its target group of one name must not share an ARN.
    pattern = ARNS.get(type_, f"arn:aws:{service}:{{place}}:{short}/{{name}}")
    arn = pattern.format(name=physical, place=place, account=ACCOUNT, uuid=unique)
    is_named = type_ in ARNS and "{name}" in ARNS[type_]
    made = {"id": physical if is_named else f"{short}-{unique[:8]}", "arn": arn}
    return made | _computed(type_, physical, unique)


def _computed(type_: str, physical: str, unique: str) -> dict[str, Any]:
    """Computed outputs by type; a component that reads another one adds it here."""
    found: dict[str, dict[str, Any]] = {
        "aws:s3/bucket:Bucket": {
            "bucketDomainName": f"{physical}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{physical}.s3.{REGION}.amazonaws.com",
        },
        "aws:kms/key:Key": {"keyId": unique},
        "aws:sqs/queue:Queue": {"url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{physical}"},
        "aws:ecr/repository:Repository": {
            "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{physical}"
        },
        "aws:lb/loadBalancer:LoadBalancer": {
            "dnsName": f"internal-{physical}.{REGION}.elb.amazonaws.com",
            "zoneId": "Z32O12XQLNTSW2",
            "arnSuffix": f"app/{physical}/{unique[:16]}",
        },
        "aws:lb/targetGroup:TargetGroup": {"arnSuffix": f"targetgroup/{physical}/{unique[:16]}"},
        "aws:rds/instance:Instance": {
            "address": f"{physical}.abc.{REGION}.rds.amazonaws.com",
            "endpoint": f"{physical}.abc.{REGION}.rds.amazonaws.com:5432",
            "port": 5432,
            "masterUserSecrets": [
                {"secretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-{unique}"}
            ],
        },
        "aws:ec2/eip:Eip": {"allocationId": f"eipalloc-{unique[:8]}"},
        "aws:ec2/vpc:Vpc": {"defaultSecurityGroupId": f"sg-{unique[:8]}"},
        "aws:lambda/function:Function": {
            "invokeArn": f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
            f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{physical}/invocations"
        },
        "aws:apigatewayv2/api:Api": {
            "apiEndpoint": f"https://{unique[:10]}.execute-api.{REGION}.amazonaws.com",
            "executionArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{unique[:10]}",
        },
    }
    return dict(found.get(type_, {}))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
