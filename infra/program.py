"""The program: settings, then one component after the other, then the stack's outputs.

Each component takes what it needs from those before it, so this page is the order of things.
"""

from __future__ import annotations

import pulumi
from components.data_lake import DataLake
from components.networking import Networking
from components.security import Security
from context import Context, make_provider
from settings import read_settings


def deploy() -> None:
    """Declare everything of the stack that Pulumi runs.

    Raises: ConfigError before any resource is declared if a setting is wrong.
    """
    settings = read_settings()
    context = Context(settings, make_provider(settings))
    network = Networking(context)
    security = Security(context)
    lake = DataLake(context, security)
    pulumi.export("vpc_id", network.vpc_id)
    pulumi.export("private_subnet_ids", network.private_subnet_ids)
    pulumi.export("lake", lake.environment)
