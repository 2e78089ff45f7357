"""Prefect on AWS: one server with its database, behind an internal load balancer.

Everything that waits or watches runs here; streams never do. One server only: its message broker
is in memory, two would schedule everything twice. Its leases are files of the task and end with it,
so no deployment has a concurrency limit (deploy/prefect/resources.yaml says why).
Not here: pools and their workers (`pools`), what the server holds (deploy/prefect/apply.py).
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.containers import Container, Images
from components.data_lake import DataLake
from components.database import DATABASE, PORT, RENEW_SECONDS, USER, Database
from components.environment import DATA, telemetry_off
from components.front import Front
from components.health import http_health
from components.networking import Networking
from components.observer import Observer
from components.security import Security
from components.services import make_cluster, make_service
from context import Context, Part

SERVER_PORT = 4200
START_SECONDS = 300
"""A fresh database takes 19 s of migrations on a fast machine; an upgrade may take minutes."""
AUTH = "prefect/auth-string"


class Orchestration(Part):
    """Server, database, load balancer, the cluster of flow runs and the queue about them."""

    api_url: str
    batch_cluster: aws.ecs.Cluster
    batch_cluster_arn: pulumi.Output[str]
    observer: Observer
    observer_queue_name: str
    auth_secret_arn: pulumi.Output[str]
    load_balancer_suffix: pulumi.Output[str]
    target_group_suffix: pulumi.Output[str]
    database_id: str
    server_service_name: pulumi.Output[str]

    def __init__(
        self,
        context: Context,
        network: Networking,
        security: Security,
        lake: DataLake,
        images: Images,
    ) -> None:
        super().__init__(context, "orchestration")
        self.api_url = f"https://{context.settings.prefect.domain}/api"
        self.auth_secret_arn = security.secret_arn(AUTH)
        self.batch_cluster = make_cluster(self, security, "batch")
        self.batch_cluster_arn = self.batch_cluster.arn
        self.observer = Observer(self, self.batch_cluster_arn, security.data_key_arn)
        self.observer_queue_name = self.observer.queue_name
        front = Front(self, network, lake, SERVER_PORT)
        self.load_balancer_suffix = front.suffix
        self.target_group_suffix = front.target_group.arn_suffix
        database = Database(self, network, security, front.server_group_id)
        self.database_id = database.identifier
        self.server_service_name = self._server(network, images, front, database).name
        self.register_outputs(
            {"api_url": self.api_url, "batch_cluster_arn": self.batch_cluster_arn}
        )

    def client_environment(self) -> dict[str, pulumi.Input[str]]:
        """What a program needs to reach the server, besides the secret."""
        return {**telemetry_off(), "PREFECT_API_URL": self.api_url}

    def client_secrets(self) -> dict[str, pulumi.Input[str]]:
        """The secret of clients."""
        return {"PREFECT_API_AUTH_STRING": self.auth_secret_arn}

    def _server(
        self, network: Networking, images: Images, front: Front, database: Database
    ) -> aws.ecs.Service:
        container = Container(
            name="prefect-server",
            entry_point=("prefect",),
            command=("server", "start", "--host", "0.0.0.0", "--port", str(SERVER_PORT)),  # noqa: S104 - the load balancer reaches it by address
            environment=server_environment(self.api_url, database.address),
            secrets={
                "PREFECT_SERVER_API_AUTH_STRING": self.auth_secret_arn,
                "PREFECT_SERVER_DATABASE_PASSWORD": pulumi.Output.concat(
                    database.secret_arn, ":password::"
                ),
            },
            port=SERVER_PORT,
            health=http_health(SERVER_PORT, "/api/health", start_seconds=START_SECONDS),
        )
        size = self.context.settings.prefect.server
        task = images.make_task(self, "prefect-server", size=size, container=container, grants=())
        return make_service(
            self,
            self.batch_cluster,
            network,
            task,
            may_be_spot=False,  # its end is an outage of all pools
            groups=[front.server_group_id],
            health_check_grace_period_seconds=START_SECONDS,
            load_balancers=[
                {
                    "target_group_arn": front.target_group.arn,
                    "container_name": container.name,
                    "container_port": SERVER_PORT,
                }
            ],
        )


def server_environment(
    api_url: str, database_address: pulumi.Input[str]
) -> dict[str, pulumi.Input[str]]:
    """Settings of the server; Prefect builds the address of its database from these parts."""
    return {
        **telemetry_off(),
        "PREFECT_HOME": f"{DATA}/prefect",
        "PREFECT_SERVER_UI_API_URL": api_url,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": api_url.removesuffix("/api"),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Flow runs are not vacuumed unless they are named; the database grows by 27 KB a task run.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
        "PREFECT_SERVER_DATABASE_HOST": database_address,
        "PREFECT_SERVER_DATABASE_PORT": str(PORT),
        "PREFECT_SERVER_DATABASE_NAME": DATABASE,
        "PREFECT_SERVER_DATABASE_USER": USER,
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_RECYCLE": str(RENEW_SECONDS),
    }
