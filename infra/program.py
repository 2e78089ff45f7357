"""The program: settings, then one component after the other, then the stack's outputs.

Each component takes what it needs from those before it, so this page is the order of things.
"""

from __future__ import annotations

import pulumi

from components.audit import Audit
from components.budgets import Budgets
from components.containers import Images
from components.data_lake import DataLake
from components.delivery import Delivery
from components.functions import Site
from components.governance import Governance
from components.ingestion import Ingestion
from components.monitoring import Monitoring
from components.networking import Networking
from components.orchestration import Orchestration
from components.paging import Paging
from components.pools import Surroundings
from components.producers import Producers
from components.registrar import Registrar
from components.security import Security
from components.streaming import Streaming
from components.transformation import Transformation
from context import Context, make_provider
from optional import declare_options
from outputs import prefect_values
from settings import read_settings
from watching import watch_everything


def deploy() -> None:
    """Declare everything of the stack that Pulumi runs.

    Raises: ConfigError before any resource is declared if a setting is wrong.
    """
    settings = read_settings()
    context = Context(settings, make_provider(settings))
    network = Networking(context)
    security = Security(context)
    lake = DataLake(context, security)
    audit = Audit(context, network, security, lake)
    delivery = Delivery(context, security, lake)
    governance = Governance(context, security, lake, delivery.deploy_role_arn)
    images = Images(context, security)
    streaming = Streaming(context, network, security, lake, images)
    producers = Producers(context, network, security, streaming, images)
    prefect = Orchestration(context, network, security, lake, images)
    around = Surroundings(network, lake, images, prefect)
    ingestion = Ingestion(context, around, security, streaming.stream_arns)
    transformation = Transformation(context, around, security, streaming.stream_arns)
    registrar = Registrar(context, around, security)
    pools = (ingestion.pool, transformation.transformation, transformation.lightweight)
    optional = declare_options(
        context, Site(network, security, images.uri), lake, streaming.stream_arns, prefect.api_url
    )
    paging = Paging(context, security)
    Budgets(context, paging.topic_arns["p3"])
    watched = watch_everything(
        images, streaming, producers, prefect, pools=pools, optional=optional
    )
    monitoring = Monitoring(context, paging.topic_arns, watched)
    for name, value in prefect_values(network, security, lake, prefect, *pools).items():
        pulumi.export(name, value)
    pulumi.export("prefect_apply_task_definition_arn", registrar.definition_arn)
    pulumi.export("image_repository", images.repository_name)
    pulumi.export("prefect_api_url", prefect.api_url)
    pulumi.export("lake", lake.environment)
    pulumi.export("audit_bucket", audit.bucket.name)
    pulumi.export("analyst_role_arn", governance.analyst_role_arn)
    pulumi.export("github_role_arns", delivery.role_arns)
    pulumi.export("alert_topic_arns", monitoring.topic_arns)
