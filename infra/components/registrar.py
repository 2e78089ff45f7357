"""The task that brings Prefect to what the image declares: deploy/prefect/apply.py, run once.

`deploy/prefect/apply_on_ecs.py` starts it after each update of the stack and sends the values
along; of a secret only its ARN, which this task alone may read. No service: it ends by itself.
"""

from __future__ import annotations

import pulumi

from components.containers import Container
from components.environment import DATA, sdk_environment
from components.pools import CONTAINER, Surroundings
from components.security import Security
from context import Context, Part
from grants import Grant, read_secrets
from outputs import ALERTS
from settings import TaskSize

SIZE = TaskSize(cpu=512, memory=1024)


class Registrar(Part):
    """The definition, which the stack's outputs name."""

    definition_arn: pulumi.Output[str]

    def __init__(self, context: Context, around: Surroundings, security: Security) -> None:
        super().__init__(context, "registrar")
        task = around.images.make_task(
            self,
            "prefect-apply",
            size=SIZE,
            container=Container(
                name=CONTAINER,
                entry_point=("/usr/bin/env",),
                command=("python", "deploy/prefect/apply.py", "--help"),
                environment={
                    **sdk_environment(context),
                    **around.prefect.client_environment(),
                    "PREFECT_HOME": f"{DATA}/prefect",
                },
                secrets=around.prefect.client_secrets(),
            ),
            grants=(
                read_secrets("ReadAlertsAddress", [security.secret_arn(ALERTS)]),
                Grant("DecryptSecrets", ("kms:Decrypt",), (security.secrets_key_arn,)),
            ),
        )
        self.definition_arn = task.definition.arn
        self.register_outputs({"definition_arn": self.definition_arn})
