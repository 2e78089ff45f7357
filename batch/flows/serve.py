"""`python -m batch.flows.serve`: run every declared deployment from this process, without pools.

What `headrace up --with-prefect` starts next to a local server. It waits for the server, brings
limits, variables and automations up to date, registers the deployments of prefect.yaml and then
starts each flow run in a process of its own. At SIGTERM it ends them and pauses the schedules, so
that a platform that is down gathers no late runs; the next start resumes them.
Not here: the server (`batch.prefect_server`), work pools and their workers (deploy/prefect).
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentTriggerTypes
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType
from pydantic import TypeAdapter

from batch.flows.declared import ROOT, Declared, read_declared
from batch.flows.guard import start_guard
from batch.prefect_server import START_SECONDS, is_ready
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, PipelineError, StoreUnavailableError

RUNS_AT_ONCE = 4
APPLY = ROOT / "deploy" / "prefect" / "apply.py"


def main() -> int:
    """Serve until SIGTERM; returns 2 when a person must change something, as the supervisor asks.

    Raises: nothing of ours; what went wrong is the last line of the log.
    """
    try:
        wait_for_server(PREFECT_API_URL.value())
        subprocess.run(  # noqa: S603  # nosec B603: our own script
            [sys.executable, APPLY, "--only", "limits,variables,automations"], check=True
        )
        deployments = [build(declared) for declared in read_declared()]
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (PipelineError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"serving {len(deployments)} deployments", flush=True)
    _guard = start_guard()  # held until this process is gone, not until its work is done
    serve(*deployments, limit=RUNS_AT_ONCE, print_starting_message=False)
    return 0


def build(declared: Declared) -> RunnerDeployment:
    """A deployment to serve: as declared, without its pool."""
    flow: Flow[..., Any] = load_flow_from_entrypoint(declared.module_path)
    triggers: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)
    deployment = RunnerDeployment.from_flow(
        flow,
        name=declared.name,
        description=declared.description,
        tags=list(declared.tags),
        parameters=declared.parameters,
        schedules=[
            Cron(item["cron"], timezone=item["timezone"], slug=item["slug"])
            for item in declared.schedules
        ],
        triggers=[triggers.validate_python(item) for item in declared.triggers],
        paused=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Named, because what is not named stays as it was: a server that had pools would keep them.
    deployment.work_pool_name = deployment.work_queue_name = None
    return deployment


def wait_for_server(api_url: str | None, clock: Clock = SYSTEM_CLOCK) -> None:
    """Until the server answers: both are started at once.

    Raises: ConfigError without an address, StoreUnavailableError when it does not answer.
    """
    if not api_url:
        raise ConfigError(
            "PREFECT_API_URL is not set: `headrace up --with-prefect` sets it, or name the API of "
            "a running server, e.g. http://127.0.0.1:4200/api"
        )
    deadline = clock.monotonic() + START_SECONDS
    while not is_ready(f"{api_url}/ready"):
        if clock.monotonic() > deadline:
            raise StoreUnavailableError(f"no Prefect server answers at {api_url}")
        clock.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
