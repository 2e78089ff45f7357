"""Run the policy pack as Pulumi's engine does: start it, read its port, speak its gRPC service.

`pulumi preview --policy-pack infra/policies` starts `python infra/policies`, which prints the port
of an Analyzer; then it calls Analyze for each resource and AnalyzeStack once for all. So do we, so
what the rules see is what they will see: numbers as floats, proxies that refuse unknown values.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from synth import Graph, Resource

PACK = Path(__file__).parents[1] / "policies"
START_SECONDS = 30.0
IN_STACK_RULES = frozenset(
    {
        "aws:ecs/service:Service",
        "aws:ecs/taskDefinition:TaskDefinition",
        "aws:iam/policy:Policy",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:s3/bucket:Bucket",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    }
)
"""Types that rules about the whole look at. Only `judge(since=...)` needs it, which saves half a
minute of planted faults; a rule about another type fails the test of its own planted fault.
"""


@dataclass(frozen=True, slots=True, order=True)
class Verdict:
    """What one rule said of one resource. `is_mandatory`: it would stop the deployment."""

    rule: str
    urn: str
    message: str
    is_mandatory: bool


class PolicyPack(AbstractContextManager["PolicyPack"]):
    """The pack as a process of its own, in its own environment."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [str(python), str(PACK)], stdout=subprocess.PIPE
        )
        try:
            assert self._process.stdout is not None
            port = int(self._process.stdout.readline() or b"0")
            if not port:
                raise RuntimeError(f"{PACK} printed no port: it could not start; see above")
            self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
            grpc.channel_ready_future(self._channel).result(timeout=START_SECONDS)
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        self._analyzer = analyzer_pb2_grpc.AnalyzerStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.communicate(timeout=START_SECONDS)

    def rules(self) -> list[str]:
        """The names of all rules, as the pack tells the engine."""
        info = self._analyzer.GetAnalyzerInfo(empty_pb2.Empty())
        return sorted(policy.name for policy in info.policies)

    def judge(self, graph: Graph, *, since: Graph | None = None) -> list[Verdict]:
        """Everything that the rules find in a graph.

        `since`: a graph that was judged already; only what differs from it is asked about, and the
        whole only if something differs that rules about the whole look at.
        """
        asked = _Asked(graph, since)
        found: list[Verdict] = []
        for resource in asked.resources:
            answer = self._analyzer.Analyze(_request(resource, asked.providers))
            found += _verdicts(answer.diagnostics, resource.urn)
        if asked.whole:
            whole = analyzer_pb2.AnalyzeStackRequest(resources=map(_resource, asked.whole))
            found += _verdicts(self._analyzer.AnalyzeStack(whole).diagnostics, "")
        return sorted(found)


class _Asked:
    """What to ask about: all, or what changed; a changed provider changes all below.

    `whole`: what rules about the whole are shown; empty if nothing of that has changed.
    """

    def __init__(self, graph: Graph, since: Graph | None) -> None:
        self.providers = {r.urn: r for r in graph.custom if _is_provider(r)}
        known = {id(resource) for resource in (since.resources if since else ())}
        is_fresh = any(id(provider) not in known for provider in self.providers.values())
        self.resources = [
            resource
            for resource in graph.custom
            if not _is_provider(resource) and (is_fresh or id(resource) not in known)
        ]
        self.whole = graph.custom
        if since is not None:
            shown = [resource for resource in graph.custom if resource.type in IN_STACK_RULES]
            before = [r for r in since.custom if r.type in IN_STACK_RULES]
            self.whole = [] if list(map(id, shown)) == list(map(id, before)) else shown


def _is_provider(resource: Resource) -> bool:
    return resource.type.startswith("pulumi:providers:")


def _verdicts(diagnostics: Sequence[analyzer_pb2.AnalyzeDiagnostic], urn: str) -> list[Verdict]:
    return [
        Verdict(d.policyName, d.urn or urn, d.message, d.enforcementLevel == analyzer_pb2.MANDATORY)
        for d in diagnostics
    ]


def _request(resource: Resource, providers: Mapping[str, Resource]) -> analyzer_pb2.AnalyzeRequest:
    request = analyzer_pb2.AnalyzeRequest(
        type=resource.type,
        properties=_struct(resource.inputs),
        urn=resource.urn,
        name=resource.name,
        options=analyzer_pb2.AnalyzerResourceOptions(
            protect=resource.is_protected, parent=resource.parent
        ),
    )
    # A reference to a provider is its URN and its id: "urn:...::aws::<id>".
    provider = providers.get(resource.provider.rpartition("::")[0])
    if provider is not None:
        request.provider.CopyFrom(
            analyzer_pb2.AnalyzerProviderResource(
                type=provider.type,
                properties=_struct(provider.inputs),
                urn=provider.urn,
                name=provider.name,
            )
        )
    return request


def _resource(resource: Resource) -> analyzer_pb2.AnalyzerResource:
    """As the engine sends it after its registration: inputs and outputs together."""
    return analyzer_pb2.AnalyzerResource(
        type=resource.type,
        properties=_struct({**resource.outputs, **resource.inputs}),
        urn=resource.urn,
        name=resource.name,
        parent=resource.parent,
        dependencies=resource.depends_on,
        propertyDependencies={
            key: analyzer_pb2.AnalyzerPropertyDependencies(urns=urns)
            for key, urns in resource.by_property.items()
        },
    )


def _struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(_plain(properties), struct_pb2.Struct())


def _plain(value: Any) -> Any:
    """JSON, in which what is unknown is the sentinel that the engine sends."""
    if isinstance(value, Mapping):
        return {str(key): _plain(found) for key, found in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(found) for found in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if type(value).__name__ == "Unknown":
        return rpc.UNKNOWN
    raise TypeError(f"{json.dumps(str(value))}: no value that the engine could send")
