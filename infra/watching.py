"""What there is to watch: the names that the other components made, gathered for the alarms.

A service counts as vital where records are lost while it is away: dataflows and producers. Runs and
what starts them can wait. Logs are watched where the container was told to write our JSON format.
"""

from __future__ import annotations

from collections.abc import Iterable

import pulumi

from components.alarms import Service
from components.containers import Images
from components.environment import variable
from components.monitoring import Log, Watched
from components.orchestration import Orchestration
from components.pools import Pool
from components.producers import Producers
from components.streaming import Streaming
from optional import Optional

LOG_FORMAT = variable("log_format")


def watch_everything(
    images: Images,
    streaming: Streaming,
    producers: Producers,
    prefect: Orchestration,
    *,
    pools: Iterable[Pool],
    optional: Optional,
) -> Watched:
    """Everything of a stack that an alarm looks at."""
    vital = {**streaming.service_names, **producers.service_names}
    batch = {
        "prefect-server": prefect.server_service_name,
        **{f"{pool.name}-worker": pool.worker_service_name for pool in pools},
    }
    services = {name: Service(streaming.cluster_name, at, True) for name, at in vital.items()}
    services |= {name: Service(prefect.batch_cluster.name, at, False) for name, at in batch.items()}
    dead_letters: dict[str, pulumi.Input[str]] = {
        "prefect-observer": prefect.observer.dead_letter_name
    }
    functions: dict[str, pulumi.Input[str]] = {}
    if optional.events is not None:
        dead_letters["lineage"] = optional.events.dead_letter_name
        functions["lineage"] = optional.events.function_name
    if optional.serving is not None:
        functions["api"] = optional.serving.function_name
    return Watched(
        streams=streaming.stream_names,
        services=services,
        logs={
            name: Log(task.logs.name, name in vital)
            for name, task in images.tasks.items()
            if task.container.environment.get(LOG_FORMAT) == "json"
        },
        database=prefect.database_id,
        load_balancer=prefect.load_balancer_suffix,
        target_group=prefect.target_group_suffix,
        dead_letters=dead_letters,
        functions=functions,
        api=optional.serving.api_id if optional.serving else None,
    )
