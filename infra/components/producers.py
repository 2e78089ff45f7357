"""Producers as services: `headrace produce FEED …`, one per entry of the stack's `producers`.

A producer publishes one venue's products, so two of a kind would publish everything twice. What
cannot be sent waits in its spool on the task's own volume: a task that ends with a spool that is
not empty loses it, which its exit code and its log say.
Not here: streams and who reads them (`streaming`).
"""

from __future__ import annotations

import pulumi

from components.containers import Container, Images
from components.environment import base_environment, variable
from components.networking import Networking
from components.security import Security
from components.services import make_service
from components.streaming import Streaming
from context import Context, Part
from grants import use_key, write_stream
from settings import ProducerSettings

KEY_SETTING = "fmp_api_key"


class Producers(Part):
    """One service per producer, in the cluster of the streams."""

    service_names: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        context: Context,
        network: Networking,
        security: Security,
        streaming: Streaming,
        images: Images,
    ) -> None:
        super().__init__(context, "producers")
        self._security, self._streaming = security, streaming
        self.service_names = {}
        for name, settings in sorted(context.settings.producers.items()):
            key_arn = security.data_key_arn
            grants = [*write_stream(streaming.stream_arns[settings.feed]), use_key(key_arn)]
            task = images.make_task(
                self,
                f"producer-{name}",
                size=settings.task,
                container=self._container(settings),
                grants=grants,
            )
            service = make_service(self, streaming.cluster, network, task)
            self.service_names[task.name] = service.name
        self.register_outputs({"service_names": self.service_names})

    def _container(self, settings: ProducerSettings) -> Container:
        """It knows its stream, not the lake. No health check: it would only repeat what the
        stream's own metrics say (a market may be quiet), and who cannot go on ends by itself.
        """
        secrets: dict[str, pulumi.Input[str]] = {}
        if settings.secret is not None:
            secrets[variable(KEY_SETTING)] = self._security.secret_arn(settings.secret)
        return Container(
            name="producer",
            entry_point=("headrace",),
            command=("produce", settings.feed, *settings.arguments),
            environment=base_environment(self.context),
            secrets=secrets,
        )
