"""The live road on AWS: a Kinesis stream per feed, and the dataflows that read it.

One ECS service per process of a feed's dataflow, each with a role of its own that reads this stream
and writes this feed's part of the lake. A dataflow of several processes is one Bytewax cluster:
its services find each other by Cloud Map names, process 0 commits, and all restart when one does.

No autoscaling: a process index is one task, never two, and the number of indices is a rescale by
restart, which nobody wants from an alarm at night. A stream on demand grows by itself.

No shard-level metrics of Kinesis: no alarm reads them, and seven of them cost 2.10 USD a shard and
month (67 for prod's 32 shards). Which shard is behind: `headrace lag`, or the dataflow's /metrics.
Not here: who publishes (`producers`), what a task may do to the lake (`data_lake`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from components.containers import Container, Images
from components.data_lake import DataLake
from components.environment import METRICS_PORT, runtime_environment
from components.health import pulse_health
from components.networking import CLUSTER_PORT, Networking
from components.security import Security
from components.services import make_cluster, make_service
from context import Context, Part
from grants import Grant, read_secrets, read_stream, use_key
from stream.feeds import load_feed

NAME_SECONDS = 5
"""Time to live of a process's name: its peers must not dial the task before the last restart."""


class Streaming(Part):
    """Streams, their cluster and their dataflows."""

    stream_arns: dict[str, pulumi.Output[str]]
    stream_names: dict[str, pulumi.Output[str]]
    cluster: aws.ecs.Cluster
    cluster_name: pulumi.Output[str]
    service_names: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        context: Context,
        network: Networking,
        security: Security,
        lake: DataLake,
        images: Images,
    ) -> None:
        super().__init__(context, "streaming")
        self._network, self._security, self._lake, self._images = network, security, lake, images
        streams = {feed: self._stream(feed) for feed in sorted(context.settings.feeds)}
        self.stream_arns = {feed: stream.arn for feed, stream in streams.items()}
        self.stream_names = {feed: stream.name for feed, stream in streams.items()}
        self.cluster = make_cluster(self, security, "stream")
        self.cluster_name = self.cluster.name
        self.service_names = {
            name: service.name for feed in streams for name, service in self._dataflow(feed).items()
        }
        self.register_outputs({"cluster_name": self.cluster_name, "stream_arns": self.stream_arns})

    def _stream(self, feed: str) -> aws.kinesis.Stream:
        settings = self.context.settings.feeds[feed]
        mode = "ON_DEMAND" if settings.shards is None else "PROVISIONED"
        return aws.kinesis.Stream(
            feed,
            name=self.context.name(feed),
            shard_count=settings.shards,
            retention_period=settings.retention_hours,
            stream_mode_details={"stream_mode": mode},
            encryption_type="KMS",
            kms_key_id=self._security.data_key_arn,
            opts=self.kept(),
        )

    def _dataflow(self, feed: str) -> dict[str, aws.ecs.Service]:
        """The services of a feed, by name: `trades-0` and, in a cluster, `trades-1` and so on."""
        settings = self.context.settings.feeds[feed]
        names = [f"{feed}-{index}" for index in range(settings.processes)]
        registered = len(names) > 1
        found: dict[str, aws.ecs.Service] = {}
        for index, name in enumerate(names):
            task = self._images.make_task(
                self,
                name,
                size=settings.task,
                container=self._container(feed, names, index),
                grants=self._grants(feed),
            )
            registry = self._register(name) if registered else None
            found[name] = make_service(
                self, self.cluster, self._network, task, service_registries=registry
            )
        return found

    def _container(self, feed: str, names: list[str], index: int) -> Container:
        size = self.context.settings.feeds[feed].task
        fields: dict[str, object] = {
            "metrics_port": METRICS_PORT,
            # Lines in its log that CloudWatch makes series of: `catalogue` has alarms on them.
            "metrics_export": "emf",
            "task_vcpus": size.cpu / 1024,
            "task_memory_gb": size.memory / 1024,
        }
        if load_feed(feed).pii_columns:
            fields["pii_secret_id"] = self._security.secret_arn("pii/key")
        together = runtime_environment(self.context, self._lake.environment, **fields)
        if len(names) > 1:
            together |= cluster_environment(names, index, self._network.namespace_name)
        return Container(
            name=feed,
            entry_point=("headrace",),
            command=("run", feed),
            environment=together,
            port=CLUSTER_PORT if len(names) > 1 else None,
            health=pulse_health(feed, index),
        )

    def _grants(self, feed: str) -> tuple[Grant, ...]:
        security = self._security
        stream = (*read_stream(self.stream_arns[feed]), use_key(security.data_key_arn))
        if not load_feed(feed).pii_columns:
            return (*stream, *self._lake.stream_grants(feed))
        secret = (
            read_secrets("PiiKey", [security.secret_arn("pii/key")]),
            Grant("DecryptPiiKey", ("kms:Decrypt",), (security.secrets_key_arn,)),
        )
        return (*stream, *secret, *self._lake.stream_grants(feed))

    def _register(self, name: str) -> aws.ecs.ServiceServiceRegistriesArgs:
        service = aws.servicediscovery.Service(
            name,
            name=name,
            description="One process of a dataflow",
            dns_config={
                "namespace_id": self._network.namespace_id,
                "dns_records": [{"ttl": NAME_SECONDS, "type": "A"}],
                "routing_policy": "MULTIVALUE",
            },
            health_check_custom_config={},
            opts=self.below(),
        )
        return aws.ecs.ServiceServiceRegistriesArgs(registry_arn=service.arn)


def cluster_environment(names: list[str], index: int, domain: str) -> Mapping[str, str]:
    """Who is in a feed's cluster. A process binds its own slot on all addresses: it is fatal at
    start if a process cannot resolve its own name, peers are waited for.

    >>> cluster_environment(["trades-0", "trades-1"], 1, "dev.internal")["HEADRACE_ADDRESSES"]
    'trades-0.dev.internal:2101,0.0.0.0:2101'
    """
    slots = [f"{name}.{domain}" for name in names]
    slots[index] = "0.0.0.0"  # noqa: S104 - inside the security group of the tasks
    return {
        "HEADRACE_ADDRESSES": ",".join(f"{slot}:{CLUSTER_PORT}" for slot in slots),
        "HEADRACE_PROCESS_INDEX": str(index),
    }
