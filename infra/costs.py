"""What a stack costs a month before a single record moves, computed from its graph.

    python infra/costs.py           a table for the three stacks

Fixed costs only. What is paid by use (requests, bytes stored, sent and scanned, NAT per GB, logs)
depends on the market, not on the program. Prices are estimates (`prices`). Every type of resource
is either priced here or said to be free or paid by use; another one is an error, so that a new
resource cannot slip by.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prices
from stream.telemetry.catalogue import CATALOGUE, COST_PARTS, STAGES
from synth import STACKS, Graph, Resource


@dataclass(frozen=True, slots=True)
class Line:
    """Part of the bill: `quantity` times `usd` a month."""

    area: str
    quantity: float
    usd: float

    @property
    def total(self) -> float:
        """USD a month."""
        return self.quantity * self.usd


Pricing = Callable[[Resource, Graph], Iterable[Line]]


class UnpricedError(Exception):
    """Resources whose cost nobody has thought of."""


def fixed_costs(graph: Graph) -> list[Line]:
    """Every line of a stack's bill.

    Raises: UnpricedError naming types that are neither priced nor said to cost nothing.
    """
    if unknown := unpriced_types(graph):
        raise UnpricedError(
            f"{', '.join(unknown)}: add each to PRICED or to UNPRICED in infra/costs.py, with what "
            "it costs or why it costs nothing by itself"
        )
    return [
        line
        for resource in graph.custom
        if resource.type in PRICED
        for line in PRICED[resource.type](resource, graph)
    ]


def unpriced_types(graph: Graph) -> list[str]:
    """Types of the graph that this file does not know."""
    return sorted({resource.type for resource in graph.custom} - set(PRICED) - set(UNPRICED))


def totals(lines: Iterable[Line]) -> dict[str, float]:
    """USD a month by area, the largest first."""
    found: dict[str, float] = {}
    for line in lines:
        found[line.area] = found.get(line.area, 0) + line.total
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def table(by_stack: Mapping[str, Mapping[str, float]]) -> str:
    """Areas by stacks, in Markdown."""
    areas = dict.fromkeys(area for found in reversed(list(by_stack.values())) for area in found)
    rows: list[Sequence[str]] = [
        ["USD a month", *by_stack],
        ["---", *("---:" for _ in by_stack)],
    ]
    rows += [
        [area, *(f"{found.get(area, 0):,.0f}" for found in by_stack.values())] for area in areas
    ]
    sums = (sum(found.values()) for found in by_stack.values())
    rows.append(["**all fixed costs**", *(f"**{total:,.0f}**" for total in sums)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _flat(area: str, usd: float) -> Pricing:
    return lambda _resource, _graph: [Line(area, 1, usd)]


def _endpoint(resource: Resource, _graph: Graph) -> Iterator[Line]:
    if resource.inputs.get("vpcEndpointType") == "Interface":
        zones = len(resource.inputs["subnetIds"])
        yield Line("private endpoints", zones, prices.INTERFACE_ENDPOINT_ZONE)


def _stream(resource: Resource, _graph: Graph) -> Iterator[Line]:
    """On demand, reading and keeping are paid by the byte; its shards are AWS's affair."""
    shards = int(resource.inputs.get("shardCount") or 0)
    area = "Kinesis"
    if not shards:
        yield Line(area, 1, prices.KINESIS_ON_DEMAND_STREAM)
        return
    yield Line(area, shards, prices.KINESIS_SHARD)
    if resource.inputs.get("retentionPeriod", 24) > 24:
        yield Line(area, shards, prices.KINESIS_EXTENDED_SHARD)
    kinds = len(resource.inputs.get("shardLevelMetrics") or ())
    yield Line("CloudWatch", shards * kinds, prices.CUSTOM_METRIC)


def _service(resource: Resource, graph: Graph) -> Iterator[Line]:
    definition = _task_definition(graph, resource.inputs["taskDefinition"])
    strategies = resource.inputs.get("capacityProviderStrategies") or ()
    is_spot = any(found["capacityProvider"] == "FARGATE_SPOT" for found in strategies)
    tasks = float(resource.inputs["desiredCount"])
    share = prices.FARGATE_SPOT_SHARE if is_spot else 1.0
    vcpu, gb = float(definition["cpu"]) / 1024, float(definition["memory"]) / 1024
    task = vcpu * prices.FARGATE_ARM_VCPU + gb * prices.FARGATE_ARM_GB
    yield Line("Fargate", tasks, task * share)
    kept = prices.INSIGHTS_METRICS["service"] + prices.INSIGHTS_METRICS["family"]
    yield Line("CloudWatch", kept, prices.CUSTOM_METRIC)
    (container,) = json.loads(definition["containerDefinitions"])
    if {"name": "HEADRACE_METRICS_EXPORT", "value": "emf"} in container["environment"]:
        yield Line("CloudWatch", series_of_a_dataflow(), prices.CUSTOM_METRIC)


def series_of_a_dataflow() -> int:
    """Series that a dataflow exports while nothing goes wrong (`stream.telemetry.emf`): one a
    metric, and one for each stage or part of the bill. Those by reason come with the reason.
    """
    known = {"stage": len(STAGES), "part": len(COST_PARTS)}
    total = 0
    for metric in CATALOGUE:
        labelled = sum(known.get(label, 0) for label in metric.labels)
        is_summed = metric.kind == "counter" or not labelled
        total += labelled + is_summed
    return total


def _task_definition(graph: Graph, arn: str) -> Mapping[str, Any]:
    kind = "aws:ecs/taskDefinition:TaskDefinition"
    return next(found.inputs for found in graph.of(kind) if found.outputs["arn"] == arn)


def _cluster(_resource: Resource, _graph: Graph) -> Iterator[Line]:
    yield Line("CloudWatch", prices.INSIGHTS_METRICS["cluster"], prices.CUSTOM_METRIC)


def _database(resource: Resource, _graph: Graph) -> Iterator[Line]:
    copies = 2 if resource.inputs.get("multiAz") else 1
    instance = prices.RDS_INSTANCE.get(resource.inputs["instanceClass"])
    if instance is None:
        raise UnpricedError(
            f"{resource.inputs['instanceClass']}: no price; add it to prices.RDS_INSTANCE "
            f"(there are {sorted(prices.RDS_INSTANCE)})"
        )
    yield Line("PostgreSQL", copies, instance)
    yield Line("PostgreSQL", copies * resource.inputs["allocatedStorage"], prices.RDS_GP3_GIB)
    if resource.inputs.get("manageMasterUserPassword"):
        yield Line("keys and secrets", 1, prices.SECRET)


def _alarm(resource: Resource, _graph: Graph) -> Iterator[Line]:
    queries = resource.inputs.get("metricQueries") or ()
    metrics = sum("metric" in query for query in queries) or 1
    yield Line("CloudWatch", metrics, prices.ALARM_METRIC)


NETWORK, KEYS = "NAT and addresses", "keys and secrets"
PRICED: Mapping[str, Pricing] = {
    "aws:cloudwatch/dashboard:Dashboard": _flat("CloudWatch", prices.DASHBOARD),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": _flat("CloudWatch", prices.CUSTOM_METRIC),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:ec2/eip:Eip": _flat(NETWORK, prices.PUBLIC_IPV4),
    "aws:ec2/natGateway:NatGateway": _flat(NETWORK, prices.NAT_GATEWAY),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:ecs/cluster:Cluster": _cluster,
    "aws:ecs/service:Service": _service,
    "aws:kinesis/stream:Stream": _stream,
    "aws:kms/key:Key": _flat(KEYS, prices.KMS_KEY),
    "aws:lb/loadBalancer:LoadBalancer": _flat("load balancer", prices.LOAD_BALANCER),
    "aws:rds/instance:Instance": _database,
    "aws:route53/zone:Zone": _flat("names", prices.HOSTED_ZONE),
    "aws:secretsmanager/secret:Secret": _flat(KEYS, prices.SECRET),
    "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace": _flat(
        "names", prices.HOSTED_ZONE
    ),
    "aws:servicediscovery/service:Service": _flat("names", prices.CLOUD_MAP_INSTANCE),
}
"""What costs something while nothing happens."""

FREE, BY_USE = "free", "by use"
UNPRICED: Mapping[str, str] = {
    "aws:apigatewayv2/api:Api": BY_USE,
    "aws:apigatewayv2/authorizer:Authorizer": FREE,
    "aws:apigatewayv2/integration:Integration": FREE,
    "aws:apigatewayv2/route:Route": FREE,
    "aws:apigatewayv2/stage:Stage": FREE,
    "aws:athena/workgroup:Workgroup": BY_USE,
    "aws:budgets/budget:Budget": FREE,
    "aws:chatbot/slackChannelConfiguration:SlackChannelConfiguration": FREE,
    "aws:cloudformation/stack:Stack": FREE,
    "aws:cloudfront/distribution:Distribution": BY_USE,
    "aws:cloudfront/keyGroup:KeyGroup": FREE,
    "aws:cloudfront/originAccessControl:OriginAccessControl": FREE,
    "aws:cloudfront/publicKey:PublicKey": FREE,
    "aws:cloudtrail/trail:Trail": BY_USE,
    "aws:cloudwatch/eventRule:EventRule": FREE,
    "aws:cloudwatch/eventTarget:EventTarget": FREE,
    "aws:cloudwatch/logDelivery:LogDelivery": BY_USE,
    "aws:cloudwatch/logDeliveryDestination:LogDeliveryDestination": FREE,
    "aws:cloudwatch/logDeliverySource:LogDeliverySource": FREE,
    "aws:cloudwatch/logGroup:LogGroup": BY_USE,
    "aws:cloudwatch/logStream:LogStream": FREE,
    "aws:costexplorer/anomalyMonitor:AnomalyMonitor": FREE,
    "aws:costexplorer/anomalySubscription:AnomalySubscription": FREE,
    "aws:dynamodb/table:Table": BY_USE,
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": FREE,
    "aws:ec2/flowLog:FlowLog": BY_USE,
    "aws:ec2/internetGateway:InternetGateway": FREE,
    "aws:ec2/route:Route": FREE,
    "aws:ec2/routeTable:RouteTable": FREE,
    "aws:ec2/routeTableAssociation:RouteTableAssociation": FREE,
    "aws:ec2/securityGroup:SecurityGroup": FREE,
    "aws:ec2/subnet:Subnet": FREE,
    "aws:ec2/vpc:Vpc": FREE,
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": FREE,
    "aws:ecr/repository:Repository": BY_USE,
    "aws:ecs/clusterCapacityProviders:ClusterCapacityProviders": FREE,
    "aws:ecs/taskDefinition:TaskDefinition": BY_USE,
    "aws:glue/catalogDatabase:CatalogDatabase": BY_USE,
    "aws:glue/registry:Registry": FREE,
    "aws:glue/schema:Schema": FREE,
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": FREE,
    "aws:iam/policy:Policy": FREE,
    "aws:iam/role:Role": FREE,
    "aws:iam/rolePolicy:RolePolicy": FREE,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": FREE,
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": BY_USE,
    "aws:kms/alias:Alias": FREE,
    "aws:lakeformation/dataCellsFilter:DataCellsFilter": FREE,
    "aws:lakeformation/dataLakeSettings:DataLakeSettings": FREE,
    "aws:lakeformation/lfTag:LfTag": FREE,
    "aws:lakeformation/optIn:OptIn": FREE,
    "aws:lakeformation/permissions:Permissions": FREE,
    "aws:lakeformation/resource:Resource": FREE,
    "aws:lakeformation/resourceLfTags:ResourceLfTags": FREE,
    "aws:lambda/eventSourceMapping:EventSourceMapping": FREE,
    "aws:lambda/function:Function": BY_USE,
    "aws:lambda/permission:Permission": FREE,
    "aws:lb/listener:Listener": FREE,
    "aws:lb/targetGroup:TargetGroup": FREE,
    "aws:quicksight/dataSet:DataSet": BY_USE,
    "aws:quicksight/dataSource:DataSource": FREE,
    "aws:rds/parameterGroup:ParameterGroup": FREE,
    "aws:rds/subnetGroup:SubnetGroup": FREE,
    "aws:redshiftserverless/namespace:Namespace": BY_USE,
    "aws:redshiftserverless/usageLimit:UsageLimit": FREE,
    "aws:redshiftserverless/workgroup:Workgroup": BY_USE,
    "aws:route53/record:Record": FREE,
    "aws:s3/bucket:Bucket": BY_USE,
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": FREE,
    "aws:s3/bucketLogging:BucketLogging": FREE,
    "aws:s3/bucketNotification:BucketNotification": FREE,
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": FREE,
    "aws:s3/bucketPolicy:BucketPolicy": FREE,
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": FREE,
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": FREE,
    "aws:s3/bucketVersioning:BucketVersioning": FREE,
    "aws:secretsmanager/secretRotation:SecretRotation": FREE,
    "aws:sns/topic:Topic": BY_USE,
    "aws:sns/topicPolicy:TopicPolicy": FREE,
    "aws:sns/topicSubscription:TopicSubscription": BY_USE,
    "aws:sqs/queue:Queue": BY_USE,
    "aws:sqs/queuePolicy:QueuePolicy": FREE,
    "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy": FREE,
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": FREE,
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": FREE,
    "pulumi:providers:aws": FREE,
}
"""What costs nothing while nothing happens: free for good, or paid by use alone."""


def main() -> None:
    """Print the table; needs the project's environment, no account."""
    sys.path.append(str(Path(__file__).parents[1]))
    from program import deploy  # noqa: PLC0415 - the path is set above
    from synth import synthesise  # noqa: PLC0415 - as above

    by_stack = {name: totals(fixed_costs(synthesise(name, deploy))) for name in STACKS}
    sys.stdout.write(
        f"Fixed costs, {prices.REGION}, list prices of {prices.AS_OF} from general knowledge: "
        f"estimates to be checked.\n\n{table(by_stack)}\n"
    )


if __name__ == "__main__":
    main()
